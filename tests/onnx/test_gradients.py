"""Gradients of imported models and of traces, to any order, checked numerically."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, parser

import dualgraph as dg
import dualgraph.nn.functional as F
from dualgraph import nn
from dualgraph_compiler.compile import optimize
from dualgraph_compiler.graph import Graph, interpret, verify
from dualgraph_compiler.onnx import import_model

E = 1e-6


def double(name: str, shape: list[Any]) -> Any:
    return helper.make_tensor_value_info(name, TensorProto.DOUBLE, shape)


def built(nodes: list[Any], inputs: list[Any], outputs: list[Any], weights: Any = ()) -> Graph:
    graph = helper.make_graph(nodes, "g", inputs, outputs, initializer=list(weights))
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    onnx.checker.check_model(model)
    return import_model(model)


def parsed(text: str) -> Graph:
    return import_model(parser.parse_model(f'<ir_version: 8, opset_import: ["": 21]>\n{text}'))


def weight(name: str, *shape: int) -> Any:
    data = np.random.default_rng(len(name)).normal(size=shape)
    return helper.make_tensor(name, TensorProto.DOUBLE, shape, data.ravel())


def mlp() -> Graph:
    return built(
        [
            helper.make_node("Gemm", ["x", "w", "b"], ["h"], transB=1),
            helper.make_node("Tanh", ["h"], ["t"]),
            helper.make_node("Gemm", ["t", "v", "c"], ["u"]),
            helper.make_node("Softmax", ["u"], ["y"], axis=-1),
        ],
        [double("x", ["batch", 3])],
        [double("y", ["batch", 2])],
        [weight("w", 4, 3), weight("b", 4), weight("v", 4, 2), weight("c", 2)],
    )


def convolution() -> Graph:
    return built(
        [
            helper.make_node("Conv", ["x", "w"], ["h"], pads=[1, 1, 1, 1]),
            helper.make_node("Sigmoid", ["h"], ["s"]),
            helper.make_node("AveragePool", ["s"], ["p"], kernel_shape=[2, 2], strides=[2, 2]),
            helper.make_node("ReduceMean", ["p"], ["y"], keepdims=0),
        ],
        [double("x", ["n", 2, 4, 4])],
        [double("y", [])],
        [weight("w", 3, 2, 3, 3)],
    )


def normed() -> Graph:
    return built(
        [
            helper.make_node("LayerNormalization", ["x", "s", "b"], ["h"], axis=-1),
            helper.make_node("Gelu", ["h"], ["g"]),
            helper.make_node("Transpose", ["x"], ["t"], perm=[1, 0]),
            helper.make_node("MatMul", ["g", "t"], ["y"]),
        ],
        [double("x", ["n", 4])],
        [double("y", ["n", "n"])],
        [weight("s", 4), weight("b", 4)],
    )


def branches() -> Graph:
    return parsed("""
        agraph (double[n] x) => (double[n] y) {
            s = ReduceSum<keepdims=0>(x)
            zero = Constant<value = double[1] {0.0}>()
            z = Squeeze(zero)
            c = Greater(s, z)
            y = If (c) <
                then_branch = t () => (double[n] a) { e = Exp(x)  a = Mul(e, x) },
                else_branch = f () => (double[n] b) { s2 = Sin(x)  b = Mul(s2, s2) }
            >
        }""")


def scanned() -> Graph:
    return parsed("""
        agraph (double[3] start, double[t, 3] x) => (double[3] last, double[t, 3] all) {
            last, all = Scan <num_scan_inputs = 1, body = step (double[3] h, double[3] v)
                => (double[3] next, double[3] out) {
                    m = Mul(h, v)
                    next = Tanh(m)
                    out = Mul(next, v)
                }>(start, x)
        }""")


def nested() -> Graph:
    return parsed("""
        agraph (double[2] start, double[t, 2] x) => (double[2] last) {
            last = Scan <num_scan_inputs = 1, body = step (double[2] h, double[2] v)
                => (double[2] next) {
                    s = ReduceSum<keepdims=0>(v)
                    zero = Constant<value = double[1] {0.0}>()
                    z = Squeeze(zero)
                    c = Greater(s, z)
                    next = If (c) <
                        then_branch = t () => (double[2] a) { a = Mul(h, v) },
                        else_branch = f () => (double[2] b) { e = Exp(v)  b = Sub(h, e) }
                    >
                }>(start, x)
        }""")


MODELS = {
    f.__name__: (f, shapes)
    for f, shapes in [
        (mlp, [(2, 3)]),
        (convolution, [(1, 2, 4, 4)]),
        (normed, [(2, 4)]),
        (branches, [(3,)]),
        (scanned, [(3,), (4, 3)]),
        (nested, [(2,), (3, 2)]),
    ]
}


def slopes(graph: Graph, feeds: list[Any], i: int) -> Any:
    """Of the sum of a graph's outputs along a direction of input i, by central differences."""
    d = np.random.default_rng(7).normal(size=feeds[i].shape)
    values = []
    for e in (E, -E):
        moved = [x + e * d if k == i else x for k, x in enumerate(feeds)]
        values.append(sum(y.sum() for y in interpret(graph, moved)))
    return d, (values[0] - values[1]) / (2 * E)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_imported_models_to_third_order(name: str, sign: float) -> None:
    make, shapes = MODELS[name]
    graph = make()
    rng = np.random.default_rng(1)
    feeds = [sign * abs(rng.normal(size=s)) for s in shapes]
    for _ in range(3):
        before = graph.copy()
        found = dg.gradients(graph.outputs, graph.inputs)
        present = [i for i, g in enumerate(found) if g is not None]
        graph.set_outputs([found[i] for i in present])
        graph = optimize(graph, numerics="strict", verify=True)
        verify(graph)
        values = interpret(graph, feeds)
        for i, g in zip(present, values, strict=True):
            d, slope = slopes(before, feeds, i)
            assert (g * d).sum() == pytest.approx(slope, rel=1e-4, abs=1e-5)
        # Of the next order: of a weighted sum, as that of some gradients is constant.
        weights = [graph.constant(rng.normal(size=v.shape)) if all(
            isinstance(n, int) for n in v.shape) else None for v in graph.outputs]  # fmt: skip
        graph.set_outputs(
            [v * v if w is None else v * w for v, w in zip(graph.outputs, weights, strict=True)]
        )


def test_traces_with_symbolic_sizes_and_parameters() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.GELU(), nn.Linear(4, 2)).double()
    x = dg.randn(5, 3, dtype=dg.float64)
    graph = dg.trace(lambda x: F.softmax(model(x), -1).square(), x, dynamic_shapes={"x": {0: "n"}})
    gx, gw = dg.gradients(graph.outputs, [graph.inputs[0], graph.params[0]])
    (gg,) = dg.gradients([(gx * gx)], [graph.inputs[0]])
    graph.set_outputs([gx, gw, gg])
    verify(graph)
    for n in (1, 4):
        x = dg.randn(n, 3, dtype=dg.float64, requires_grad=True)
        y = F.softmax(model(x), -1).square().sum()
        ex, ew = dg.autograd.grad(y, [x, model[0].weight], create_graph=True)
        (eg,) = dg.autograd.grad((ex * ex).sum(), x)
        for a, b in zip(interpret(graph, [x.detach().numpy()]), (ex, ew, eg), strict=True):
            np.testing.assert_allclose(a, b.detach().numpy(), rtol=1e-9, atol=1e-12)


def test_given_gradients_and_what_does_not_matter() -> None:
    graph = dg.trace(lambda x, y: x * x, dg.ones(2), dg.ones(2))
    x, y = graph.inputs
    g = graph.add_input(x.type, "g")
    gx, gy = dg.gradients(graph.outputs, [x, y], [g])
    assert gy is None
    graph.set_outputs([gx])
    one = np.ones(2, np.float32)
    assert interpret(graph, [3 * one, one, 2 * one])[0].tolist() == [12, 12]
