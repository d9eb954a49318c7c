"""Recurrent layers against PyTorch and ONNX Runtime, and in graphs of unknown sizes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from dualgraph_compiler.dims import Dim
from dualgraph_compiler.dtypes import float64, int64
from dualgraph_compiler.errors import OnnxError
from dualgraph_compiler.graph import Graph, gradients, interpret, verify
from dualgraph_compiler.onnx import export_graph, import_model
from dualgraph_compiler.ops.gru import GRU
from dualgraph_compiler.ops.lstm import LSTM
from dualgraph_compiler.ops.recurrent import RNN
from dualgraph_compiler.types import TensorType, type_of

INPUTS, HIDDEN = 3, 4
LAYERS: dict[str, tuple[Any, int, int]] = {
    "rnn_tanh": (lambda r: RNN("tanh", r), 1, 1),
    "rnn_relu": (lambda r: RNN("relu", r), 1, 1),
    "lstm": (LSTM, 4, 2),
    "gru": (GRU, 3, 1),
}


def operands(gates: int, states: int, dtype: Any, steps: int = 5, batch: int = 3) -> list[Any]:
    rng = np.random.default_rng(steps)
    rows = gates * HIDDEN
    shapes = [(steps, batch, INPUTS), *[(batch, HIDDEN)] * states]
    shapes += [(rows, INPUTS), (rows, HIDDEN), (rows,), (rows,)]
    return [rng.normal(size=s).astype(dtype) * dtype(0.7) for s in shapes]


def concrete(grads: Any) -> list[Any]:
    return [g() if callable(g) else g for g in grads]


@pytest.mark.parametrize("lens", [None, [5, 2, 4]], ids=str)
@pytest.mark.parametrize("name", LAYERS)
def test_against_pytorch(name: str, lens: list[int] | None) -> None:
    torch = pytest.importorskip("torch")
    make, gates, states = LAYERS[name]
    ins = operands(gates, states, np.float64)
    kinds = {"lstm": torch.nn.LSTM, "gru": torch.nn.GRU}
    options = {} if name in kinds else {"nonlinearity": name[4:]}
    module = kinds.get(name, torch.nn.RNN)(INPUTS, HIDDEN, **options).double()
    tensors = [torch.tensor(v, requires_grad=True) for v in ins]
    x, *initial = tensors[: 1 + states]
    names = ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")
    weights = dict(zip(names, tensors[1 + states :]))
    hidden = tuple(s[None] for s in initial) if states == 2 else initial[0][None]
    given = x
    if lens is not None:
        given = torch.nn.utils.rnn.pack_padded_sequence(x, lens, enforce_sorted=False)
    y, last = torch.func.functional_call(module, weights, (given, hidden))
    if lens is not None:
        y, _ = torch.nn.utils.rnn.pad_packed_sequence(y, total_length=x.shape[0])
    last = last if states == 2 else (last,)

    more = [] if lens is None else [np.array(lens)]
    op = make(False)
    results = op.eager(np, *ins, *more)
    for got, want in zip(results, (y, *(s[0] for s in last))):
        np.testing.assert_allclose(got, want.detach().numpy(), rtol=1e-9, atol=1e-12)

    rng = np.random.default_rng(7)
    weight = [rng.normal(size=v.shape) for v in results[: 1 + states]]
    loss = sum((a * torch.tensor(b)).sum() for a, b in zip((y, *(s[0] for s in last)), weight))
    loss.backward()
    g = (*weight, *[None] * (len(results) - 1 - states))
    for got, want in zip(concrete(op.vjp(g, results, *ins, *more)), tensors):
        np.testing.assert_allclose(got, want.grad.numpy(), rtol=1e-9, atol=1e-12)


def plain_graph(name: str, reverse: bool, ins: list[Any], lens: Any) -> tuple[Graph, list[Any]]:
    """A graph that gives y and the last states only."""
    make, _, states = LAYERS[name]
    graph = Graph(name)
    data = [*ins, *([] if lens is None else [lens])]
    values = [graph.add_input(type_of(v), f"x{i}") for i, v in enumerate(data)]
    results = graph.call(make(reverse), values)
    graph.set_outputs(results[: 1 + states])
    return graph, data


@pytest.mark.parametrize("lens", [None, [5, 1, 3]], ids=str)
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("name", LAYERS)
def test_export_as_one_operator(name: str, reverse: bool, lens: list[int] | None) -> None:
    ort = pytest.importorskip("onnxruntime")
    _, gates, states = LAYERS[name]
    ins = operands(gates, states, np.float32)
    graph, data = plain_graph(name, reverse, ins, None if lens is None else np.array(lens))
    model = export_graph(graph)
    kinds = [n.op_type for n in model.graph.node]
    assert kinds.count(name.split("_")[0].upper()) == 1
    assert "MatMul" not in kinds
    want = interpret(graph, data)
    session = ort.InferenceSession(model.SerializeToString())
    feeds = {f"x{i}": v for i, v in enumerate(data)}
    for got in (session.run(None, feeds), interpret(import_model(model), data)):
        for a, b in zip(got, want):
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def onnx_layer(kind: str, gates: int, layout: int = 0, **attributes: Any) -> Any:
    """A bidirectional layer with neither biases nor initial states nor lengths."""
    import onnx
    from onnx import TensorProto, helper

    shapes = {
        "x": (5, 3, INPUTS),
        "w": (2, gates * HIDDEN, INPUTS),
        "r": (2, gates * HIDDEN, HIDDEN),
    }
    if layout:
        shapes["x"] = (3, 5, INPUTS)
    node = helper.make_node(
        kind, ["x", "w", "r"], ["y", "h"], hidden_size=HIDDEN, direction="bidirectional",
        layout=layout, **attributes,
    )  # fmt: skip
    inputs = [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in shapes.items()]
    ranks = {"y": 4, "h": 3}
    outputs = [
        helper.make_tensor_value_info(n, TensorProto.FLOAT, [None] * r) for n, r in ranks.items()
    ]
    graph = helper.make_graph([node], "g", inputs, outputs)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    onnx.checker.check_model(model)
    rng = np.random.default_rng(3)
    return model, {n: rng.normal(size=s).astype(np.float32) * 0.7 for n, s in shapes.items()}


@pytest.mark.parametrize(
    ("kind", "gates", "attributes"),
    [
        ("LSTM", 4, {}),
        ("GRU", 3, {"linear_before_reset": 1}),
        ("RNN", 1, {}),
        ("RNN", 1, {"activations": ["Relu", "Tanh"]}),
    ],
    ids=str,
)
def test_import_bidirectional(kind: str, gates: int, attributes: dict[str, Any]) -> None:
    ort = pytest.importorskip("onnxruntime")
    model, feeds = onnx_layer(kind, gates, **attributes)
    want = ort.InferenceSession(model.SerializeToString()).run(None, feeds)
    got = interpret(import_model(model), list(feeds.values()))
    for a, b in zip(got, want):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("kind", "gates"), [("LSTM", 4), ("RNN", 1)])
def test_import_batch_first(kind: str, gates: int) -> None:
    first, feeds = onnx_layer(kind, gates)
    second, _ = onnx_layer(kind, gates, layout=1)
    y, h = interpret(import_model(first), list(feeds.values()))
    feeds["x"] = feeds["x"].swapaxes(0, 1)
    y1, h1 = interpret(import_model(second), list(feeds.values()))
    np.testing.assert_allclose(y1, y.transpose(2, 0, 1, 3))
    np.testing.assert_allclose(h1, h.swapaxes(0, 1))


@pytest.mark.parametrize(
    ("kind", "gates", "attributes", "match"),
    [
        ("LSTM", 4, {"activations": ["Cube", "Tanh", "Tanh"] * 2}, "Cube"),
        ("RNN", 1, {"activations": ["Tanh"] * 3}, "activations"),
    ],
)
def test_import_refuses(kind: str, gates: int, attributes: dict[str, Any], match: str) -> None:
    model, _ = onnx_layer(kind, gates, **attributes)
    with pytest.raises(OnnxError, match=match):
        import_model(model)


def differentiated(name: str, sizes: tuple[Any, Any], lens: bool, reverse: bool) -> Graph:
    """The layer's gradients for weighted results, then the gradients of the sum of their squares.

    Inputs: the operands, the lengths if any, and the weights of all results.
    """
    make, gates, states = LAYERS[name]
    ins = operands(gates, states, np.float64)
    steps, batch = sizes
    shapes = [(steps, batch, INPUTS), *[(batch, HIDDEN)] * states]
    shapes += [v.shape for v in ins[1 + states :]]
    graph = Graph(name)
    xs = [graph.add_input(TensorType(float64, s), f"x{i}") for i, s in enumerate(shapes)]
    more = [graph.add_input(TensorType(int64, (batch,)), "lens")] if lens else []
    ys = list(graph.call(make(reverse), [*xs, *more]))
    given = [graph.add_input(y.type, f"g{i}") for i, y in enumerate(ys)]
    first = gradients(graph, ys, xs, given)
    second = gradients(graph, [g * g for g in first], xs)
    graph.set_outputs([*first, *second])
    verify(graph)
    return graph


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("lens", [False, True])
@pytest.mark.parametrize("name", LAYERS)
def test_gradients_over_a_symbolic_number_of_steps(name: str, lens: bool, reverse: bool) -> None:
    make, gates, states = LAYERS[name]
    graph = differentiated(name, (Dim("steps"), Dim("batch")), lens, reverse)
    for steps in (5, 1):
        ins = operands(gates, states, np.float64, steps)
        ins += [np.array([steps, 1, 1])] if lens else []
        ys = make(reverse).eager(np, *ins)
        rng = np.random.default_rng(1)
        weights = tuple(rng.normal(size=y.shape) for y in ys)
        got = interpret(graph, [*ins, *weights])
        for a, b in zip(got, concrete(make(reverse).vjp(weights, ys, *ins))):
            if b is not None:
                np.testing.assert_array_equal(a, b)
        want = interpret(differentiated(name, (steps, 3), lens, reverse), [*ins, *weights])
        for a, b in zip(got, want, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-9)
    none = [x[:0] if x.ndim == 3 else x for x in (*ins, *weights)]
    if lens:
        none[len(ins) - 1] = np.zeros(3, np.int64)
    for a in interpret(graph, none):
        assert np.isfinite(a).all()


@pytest.mark.parametrize("name", LAYERS)
def test_symbolic_sizes(name: str) -> None:
    """Any number of steps and sequences runs, empty ones among them."""
    make, gates, states = LAYERS[name]
    batch, steps = Dim("batch"), Dim("steps")
    ins = operands(gates, states, np.float64)
    g = Graph(name)
    x = g.add_input(TensorType(float64, (steps, batch, INPUTS)), "x")
    lengths = g.add_input(TensorType(int64, (batch,)), "lens")
    initial = [g.add_input(TensorType(float64, (batch, HIDDEN)), f"s{i}") for i in range(states)]
    weights = [g.constant(v) for v in ins[1 + states :]]
    y, *_ = g.call(make(True), [x, *initial, *weights, lengths])
    (gx,) = gradients(g, [y], [x])
    g.set_outputs([y, gx])
    verify(g)
    lens = np.array([5, 0, 2])
    got, slope = interpret(g, [ins[0], lens, *ins[1 : 1 + states]])
    np.testing.assert_allclose(got, make(True).eager(np, *ins, lens)[0])
    assert slope.shape == ins[0].shape
    assert not slope[:, 1].any()
    assert slope[:2, 2].any()
    assert not slope[2:, 2].any()
