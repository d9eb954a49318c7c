"""LSTM, GRU and RNN in every form, against ONNX Runtime."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper

import dualgraph_runtime as rt
from dualgraph_compiler.errors import OnnxError
from dualgraph_compiler.graph import gradients, interpret, verify
from dualgraph_compiler.onnx import import_model
from tests.onnx.helpers import make_model, run_onnxruntime

STEPS, BATCH, FEATURES, HIDDEN = 5, 3, 4, 6
GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
FUNCTIONS = {"LSTM": 3, "GRU": 2, "RNN": 1}
ACTIVATIONS = [
    "Relu",
    "Tanh",
    "Sigmoid",
    "Affine",
    "LeakyRelu",
    "ThresholdedRelu",
    "ScaledTanh",
    "HardSigmoid",
    "Elu",
    "Softsign",
    "Softplus",
]


def case(
    name: str, *, lens: bool = False, initial: bool = True, bias: bool = True, **attributes: Any
) -> tuple[onnx.ModelProto, dict[str, np.ndarray]]:
    """A model of one layer, whose weights are constants, and its inputs."""
    rng = np.random.default_rng(len(name))
    both = attributes.get("direction") == "bidirectional"
    rows, ways = GATES[name] * HIDDEN, 2 if both else 1
    peepholes = attributes.pop("peepholes", False)

    def draw(*shape: int) -> np.ndarray:
        return rng.normal(size=shape, scale=0.7).astype(np.float32)

    weights = {"w": draw(ways, rows, FEATURES), "r": draw(ways, rows, HIDDEN)}
    feeds = {"x": draw(STEPS, BATCH, FEATURES)}
    if bias:
        weights["b"] = draw(ways, 2 * rows)
    if lens:
        feeds["lens"] = np.array([2, 5, 4], np.int32)
    if initial:
        feeds["h0"] = draw(ways, BATCH, HIDDEN)
        if name == "LSTM":
            feeds["c0"] = draw(ways, BATCH, HIDDEN)
    if peepholes:
        weights["p"] = draw(ways, 3 * HIDDEN)
    given = {*weights, *feeds}
    operands = [n if n in given else "" for n in ("x", "w", "r", "b", "lens", "h0", "c0", "p")]
    operands = operands[: 8 if name == "LSTM" else 6]
    results = ["y", "h", "c"][: 3 if name == "LSTM" else 2]
    node = helper.make_node(name, operands, results, hidden_size=HIDDEN, **attributes)
    shapes = {n: list(a.shape) for n, a in feeds.items()}
    dtypes = {"lens": onnx.TensorProto.INT32}
    return make_model([node], shapes, results, initializers=weights, dtypes=dtypes), feeds


def options(name: str, direction: str) -> list[dict[str, Any]]:
    """Forms of a layer: each option alone and some together."""
    ways = 2 if direction == "bidirectional" else 1
    found: list[dict[str, Any]] = [{}, {"lens": True}, {"clip": 0.4}, {"clip": 0.4, "lens": True}]
    found += [{"initial": False}, {"bias": False, "initial": False}]
    if name == "LSTM":
        found += [{"peepholes": True}, {"input_forget": 1}]
        found += [{"peepholes": True, "clip": 0.5, "input_forget": 1, "lens": True}]
    if name == "GRU":
        found += [{"linear_before_reset": 1}, {"linear_before_reset": 1, "clip": 0.3, "lens": True}]
    own = (["Softsign", "Sigmoid", "Elu"] * 2)[: FUNCTIONS[name]] * ways
    found.append({"activations": own, "lens": True})
    return found


@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize("name", ["LSTM", "GRU", "RNN"])
def test_options(name: str, direction: str) -> None:
    for given in options(name, direction):
        model, feeds = case(name, direction=direction, **given)
        graph = import_model(model)
        verify(graph)
        expected = run_onnxruntime(model, feeds)
        for found, wanted in zip(interpret(graph, list(feeds.values())), expected, strict=True):
            np.testing.assert_allclose(found, wanted, 1e-5, 1e-5, err_msg=str(given))


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_activations(activation: str) -> None:
    """With default parameters and, where there are any, with stated ones for each direction."""
    needs_alpha = activation in ("Affine", "LeakyRelu", "ThresholdedRelu", "ScaledTanh", "Elu")
    needs_alpha |= activation == "HardSigmoid"
    needs_beta = activation in ("Affine", "ScaledTanh", "HardSigmoid")
    for name, count in FUNCTIONS.items():
        for stated in (True, False):
            functions = [*["Sigmoid"] * (count - 1), activation]
            attributes: dict[str, Any] = {"activations": functions * 2}
            if stated:
                attributes["activation_alpha"] = [0.3, 0.6] if needs_alpha else []
                attributes["activation_beta"] = [0.2, 0.4] if needs_beta else []
            elif activation in ("Affine", "ScaledTanh", "ThresholdedRelu"):
                continue  # no defaults are stated, or ONNX Runtime has another
            attributes = {k: v for k, v in attributes.items() if v}
            model, feeds = case(name, direction="bidirectional", **attributes)
            found = interpret(import_model(model), list(feeds.values()))
            for y, wanted in zip(found, run_onnxruntime(model, feeds), strict=True):
                np.testing.assert_allclose(y, wanted, 1e-4, 1e-5, err_msg=f"{name} {attributes}")


@pytest.mark.parametrize("name", ["LSTM", "GRU", "RNN"])
def test_batch_first(name: str) -> None:
    """ONNX Runtime does not know `layout`: the answer is that of the other layout, turned."""
    for given in ({}, {"clip": 0.4}):
        plain, feeds = case(name, direction="bidirectional", lens=True, **given)
        expected = run_onnxruntime(plain, feeds)
        model, _ = case(name, direction="bidirectional", lens=True, layout=1, **given)
        turned = {n: a if a.ndim == 1 else a.swapaxes(0, 1) for n, a in feeds.items()}
        for info in model.graph.input:
            del info.type.tensor_type.shape.dim[:]
            for size in turned[info.name].shape:
                info.type.tensor_type.shape.dim.add().dim_value = size
        y, *last = interpret(import_model(model), list(turned.values()))
        np.testing.assert_allclose(y, expected[0].transpose(2, 0, 1, 3), 1e-5, 1e-5)
        for state, wanted in zip(last, expected[1:], strict=True):
            np.testing.assert_allclose(state, wanted.swapaxes(0, 1), 1e-5, 1e-5)


@pytest.mark.compiler
def test_rare_forms_run_as_native_code_and_differentiate() -> None:
    model, feeds = case("GRU", lens=True)
    graph = import_model(model, input_shapes={"x": ("steps", BATCH, FEATURES)})
    (slope,) = gradients(graph, [graph.outputs[1]], [graph.inputs[0]])
    graph.set_outputs([*graph.outputs, slope])
    x = feeds["x"].astype(np.float64)
    *_, h, g = interpret(graph, list(feeds.values()))
    rng = np.random.default_rng(0)
    way, eps = rng.normal(size=x.shape), 1e-2
    sides = [
        interpret(graph, [(x + s * eps * way).astype(np.float32), *list(feeds.values())[1:]])[1]
        for s in (1, -1)
    ]
    np.testing.assert_allclose(
        (sides[0] - sides[1]).sum() / (2 * eps), (g * way).sum(), rtol=2e-2, atol=1e-3
    )
    assert h.shape == (1, BATCH, HIDDEN)
    options = rt.SessionOptions()
    options.execution = "native"
    session = rt.InferenceSession(model, options)
    for found, wanted in zip(session.run(None, feeds), run_onnxruntime(model, feeds), strict=True):
        np.testing.assert_allclose(found, wanted, 1e-5, 1e-5)
    assert "interpreted" not in session.report()


def test_refusals() -> None:
    for attributes in ({"activations": ["Tanh"]}, {"activations": ["Cube", "Tanh", "Tanh"]}):
        with pytest.raises(OnnxError, match="activation"):
            import_model(case("LSTM", **attributes)[0])
    with pytest.raises(OnnxError, match="direction"):
        import_model(case("LSTM", direction="sideways")[0])
