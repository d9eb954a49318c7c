"""Modules of files that are no single graph: what they give, their gradients, training, export."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import dualgraph as dg
from dualgraph import optim
from dualgraph.onnx.stepped import SteppedModule
from dualgraph.tracing.failure import EagerFallbackWarning
from dualgraph_compiler.errors import ArgumentError, FeedError, OnnxError
from dualgraph_runtime import InferenceSession
from tests.onnx.helpers import suite

node = helper.make_node
FLOAT, INT, BOOL = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL


def floats(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def tensor(name: str, kind: int, shape: Any) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, shape)


def model_of(
    nodes: list[onnx.NodeProto], inputs: Any, outputs: Any, weights: dict[str, np.ndarray]
) -> onnx.ModelProto:
    held = [numpy_helper.from_array(a, name) for name, a in weights.items()]
    graph = helper.make_graph(nodes, "g", inputs, outputs, held)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


def fed_axes() -> onnx.ModelProto:
    """A layer whose result is summed over axes that are fed."""
    return model_of(
        [
            node("MatMul", ["x", "layer.weight"], ["h"]),
            node("Tanh", ["h"], ["t"]),
            node("ReduceSum", ["t", "axes"], ["y"], keepdims=0),
        ],
        [tensor("x", FLOAT, ["n", 3]), tensor("axes", INT, [1])],
        [tensor("y", FLOAT, ["m"])],
        {"layer.weight": floats(3, 4)},
    )


def in_a_sequence() -> onnx.ModelProto:
    """Pieces of a product, put together in another order."""
    return model_of(
        [
            node("MatMul", ["x", "w"], ["h"]),
            node("SplitToSequence", ["h", "two"], ["s"], axis=0),
            node("SequenceAt", ["s", "last"], ["a"]),
            node("SequenceErase", ["s", "last"], ["rest"]),
            node("SequenceInsert", ["rest", "a", "first"], ["again"]),
            node("ConcatFromSequence", ["again"], ["y"], axis=0),
        ],
        [tensor("x", FLOAT, ["n", 3])],
        [tensor("y", FLOAT, ["n", 4])],
        {"w": floats(3, 4), "two": np.array(2), "last": np.array(-1), "first": np.array(0)},
    )


def grown_in_a_loop() -> onnx.ModelProto:
    """A loop that collects products in a sequence, as long as it is told."""
    body = helper.make_graph(
        [
            node("Identity", ["going"], ["still"]),
            node("Mul", ["h", "factor"], ["next"]),
            node("SequenceInsert", ["s", "next"], ["longer"]),
        ],
        "body",
        [
            tensor("i", INT, []),
            tensor("going", BOOL, []),
            tensor("h", FLOAT, None),
            helper.make_tensor_sequence_value_info("s", FLOAT, None),
        ],
        [
            tensor("still", BOOL, []),
            tensor("next", FLOAT, None),
            helper.make_tensor_sequence_value_info("longer", FLOAT, None),
        ],
    )
    return model_of(
        [
            node("SequenceEmpty", [], ["none"]),
            node("Loop", ["times", "", "x", "none"], ["h", "s"], body=body),
            node("ConcatFromSequence", ["s"], ["y"], axis=0, new_axis=1),
        ],
        [tensor("x", FLOAT, ["n"]), tensor("times", INT, [])],
        [tensor("y", FLOAT, None)],
        {"factor": floats(1)},
    )


def stepped(model: onnx.ModelProto) -> SteppedModule:
    net = dg.onnx.load(model)
    assert isinstance(net, SteppedModule)
    return net


CASES = {
    "fed axes": (fed_axes, [floats(5, 3), np.array([0])]),
    "sequence": (in_a_sequence, [floats(5, 3)]),
    "loop": (grown_in_a_loop, [floats(4), np.array(3)]),
}


@pytest.mark.parametrize("case", CASES.values(), ids=list(CASES))
def test_values_and_gradients(case: Any) -> None:
    make, arrays = case
    model = make()
    net = stepped(model)
    inputs = [dg.from_numpy(a.copy()) for a in arrays]
    inputs[0].requires_grad_()
    y = net(*inputs)
    names = [i.name for i in model.graph.input]
    (wanted,) = InferenceSession(model).run(None, dict(zip(names, arrays, strict=True)))
    np.testing.assert_allclose(y.detach().numpy(), wanted, rtol=1e-5, atol=1e-6)

    # The derivative in one direction, of all that can be trained and of the input.
    held = [inputs[0], *net.parameters()]
    assert len(held) == 2
    gradients = dg.autograd.grad((y * y).sum(), held)
    directions = [floats(*t.shape, seed=1 + i) for i, t in enumerate(held)]
    slope = sum(float((g.numpy() * d).sum()) for g, d in zip(gradients, directions, strict=True))

    def moved(step: float) -> float:
        with dg.no_grad():
            for t, d in zip(held, directions, strict=True):
                t += step * dg.from_numpy(d)
            found = float((net(*inputs) ** 2).sum())
            for t, d in zip(held, directions, strict=True):
                t -= step * dg.from_numpy(d)
        return found

    assert (moved(1e-3) - moved(-1e-3)) / 2e-3 == pytest.approx(slope, rel=2e-2)


def test_training_and_export(tmp_path: Path) -> None:
    net = stepped(fed_axes())
    assert [name for name, _ in net.named_parameters()] == ["layer.weight"]
    x, axes = dg.from_numpy(floats(8, 3)), dg.tensor([1])
    target = dg.from_numpy(floats(8, seed=2))
    sgd = optim.SGD(net.parameters(), lr=0.05)
    losses = []
    for _ in range(20):
        sgd.zero_grad()
        loss = ((net(x, axes) - target) ** 2).mean()
        loss.backward()
        sgd.step()
        losses.append(float(loss))
    assert losses[-1] < 0.7 * losses[0]

    path = tmp_path / "trained.onnx"
    written = dg.onnx.export(net, (x, axes), path)
    assert [n.op_type for n in written.graph.node] == ["MatMul", "Tanh", "ReduceSum"]
    (y,) = InferenceSession(path).run(None, {"x": x.numpy(), "axes": axes.numpy()})
    np.testing.assert_allclose(y, net(x, axes).detach().numpy(), rtol=1e-5)
    again = dg.onnx.load(path, trainable=False)
    assert not any(p.requires_grad for p in again.parameters())
    held, own = again.state_dict()["layer.weight"], net.state_dict()["layer.weight"]
    np.testing.assert_array_equal(held.numpy(), own.numpy())


def test_compiled_calls_run_eagerly() -> None:
    net = stepped(fed_axes())
    x = dg.from_numpy(floats(2, 3))
    compiled = dg.compile(net)
    with pytest.warns(EagerFallbackWarning, match="a model that runs in steps needs the data"):
        found = [compiled(x, dg.tensor([axis])) for axis in (0, 1)]
    for axis, y in enumerate(found):
        np.testing.assert_array_equal(y.detach(), net(x, dg.tensor([axis])).detach())


def test_strings_and_statistics() -> None:
    model = model_of(
        [
            node("StringNormalizer", ["words"], ["upper"], case_change_action="UPPER"),
            node("BatchNormalization", ["x", "scale", "bias", "mean", "var"], ["y"]),
        ],
        [tensor("words", TensorProto.STRING, ["k"]), tensor("x", FLOAT, ["n", 2])],
        [tensor("upper", TensorProto.STRING, ["k"]), tensor("y", FLOAT, ["n", 2])],
        {n: np.abs(floats(2, seed=i)) for i, n in enumerate(["scale", "bias", "mean", "var"])},
    )
    net = stepped(model)
    assert [n for n, _ in net.named_parameters()] == ["scale", "bias"]
    assert [n for n, _ in net.named_buffers()] == ["mean", "var"]
    words, y = net(["ein", "wort"], dg.from_numpy(floats(3, 2)))
    assert words.tolist() == ["EIN", "WORT"]
    assert y.requires_grad


def test_what_is_refused() -> None:
    net = stepped(fed_axes())
    x, axes = dg.from_numpy(floats(2, 3)), dg.tensor([1])
    with pytest.raises(FeedError, match=r"expected 2 inputs \(x, axes\), got 1"):
        net(x)
    with pytest.raises(FeedError, match="expected dtype float32"):
        net(x.double(), axes)
    with pytest.raises(ArgumentError, match="opset_version: a model that runs in steps cannot"):
        dg.onnx.export(net, (x, axes), opset_version=18)
    with pytest.raises(OnnxError, match="operators that are not supported: Mystery"):
        dg.onnx.load(model_of([node("Mystery", ["x"], ["y"])], [], [], {"x": floats(2)}))


PARTS = ("sequence_", "split_to_sequence", "loop", "scan", "if_", "optional_", "identity_")


def test_agrees_with_sessions() -> None:
    """On those models of ONNX's own suite that hold sequences or control flow."""
    cases = [c for c in suite("node") if c.name.removeprefix("test_").startswith(PARTS)]
    kinds = set()
    for case in cases:
        for inputs, _ in case.data_sets:
            wanted = InferenceSession(case.model).run(
                None, dict(zip([i.name for i in case.model.graph.input], inputs, strict=True))
            )
            net = dg.onnx.load(case.model)
            kinds.add(type(net))
            made = [_with_tensors(x) for x in inputs]
            outputs = net(*made)
            outputs = outputs if isinstance(outputs, tuple) else (outputs,)
            for a, b in zip(outputs, wanted, strict=True):
                np.testing.assert_equal(_plain(a), _plain(b), err_msg=case.name)
    assert len(cases) > 30
    assert len(kinds) == 2


def _with_tensors(value: Any) -> Any:
    if isinstance(value, list):
        return [_with_tensors(v) for v in value]
    array = np.asarray(value)
    return value if value is None or array.dtype == object else dg.from_numpy(array.copy())


def _plain(value: Any) -> Any:
    if isinstance(value, list):
        return [_plain(v) for v in value]
    return value.detach().numpy() if isinstance(value, dg.Tensor) else value
