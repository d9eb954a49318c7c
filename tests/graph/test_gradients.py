"""Gradients added to a graph, against central differences."""

from __future__ import annotations

import numpy as np
import pytest

from dualgraph_compiler import Dim, Graph, TensorType, gradients, interpret, parse_graph, verify
from dualgraph_compiler.dtypes import float64, int64
from dualgraph_compiler.errors import AutogradError, ShapeError
from dualgraph_compiler.ops import f

TEXT = """\
graph g(%x: f64[n, 3], %w: f64[3]):
  %1: f64[n, 3] = mul(%x, %w)
  %2: f64[n, 3] = exp(%1)
  %3: f64[n, 3] = add(%2, %x)
  %4: f64[n, 3] = mul(%3, %3)
  %5: f64[] = sum(%4, axes=(0, 1), keepdims=False)
  return %5 as loss"""


def numeric(graph: Graph, inputs: list[np.ndarray], which: int, step: float = 1e-6) -> np.ndarray:
    x = inputs[which]
    out = np.zeros_like(x)
    for i in np.ndindex(x.shape):
        ends = []
        for sign in (1, -1):
            moved = x.copy()
            moved[i] += sign * step
            ends.append(interpret(graph, [*inputs[:which], moved, *inputs[which + 1 :]])[0])
        out[i] = (ends[0] - ends[1]) / (2 * step)
    return out


@pytest.fixture
def arrays():
    rng = np.random.default_rng(0)
    return [rng.normal(size=(4, 3)), rng.normal(size=3)]


def test_first_and_second_order(arrays):
    graph = parse_graph(TEXT)
    loss = graph.outputs[0]
    gx, gw = gradients(graph, [loss], graph.inputs)
    assert gx is not None
    assert gw is not None
    assert gx.type == graph.inputs[0].type
    graph.set_outputs([loss, gx, gw])
    verify(graph)
    _, dx, dw = interpret(graph, arrays)
    np.testing.assert_allclose(dx, numeric(graph, arrays, 0), rtol=1e-6)
    np.testing.assert_allclose(dw, numeric(graph, arrays, 1), rtol=1e-6)
    # The sum of the squares of gw, differentiated again.
    total = f.sum(gw * gw, [0])
    (second,) = gradients(graph, [total], [graph.inputs[1]])
    assert second is not None
    graph.set_outputs([total, second])
    verify(graph)
    np.testing.assert_allclose(
        interpret(graph, arrays)[1], numeric(graph, arrays, 1), rtol=1e-5, atol=1e-5
    )


def test_with_respect_to_an_intermediate_value(arrays):
    graph = parse_graph(TEXT)
    third = list(graph.nodes)[2].output
    gradient, gx = gradients(graph, graph.outputs, [third, graph.inputs[0]])
    graph.set_outputs([third, gradient, gx])
    value, found, dx = interpret(graph, arrays)
    np.testing.assert_allclose(found, 2 * value)
    np.testing.assert_allclose(dx, numeric(parse_graph(TEXT), arrays, 0), rtol=1e-6)


def test_no_dependence_gives_none():
    graph = parse_graph(TEXT)
    other = graph.add_input(TensorType(float64, (2,)), "other")
    assert gradients(graph, graph.outputs, [other]) == [None]


def test_given_output_gradients_and_repeated_outputs(arrays):
    graph = parse_graph(TEXT)
    second = list(graph.nodes)[1].output
    weight = graph.constant(np.full((1, 1), 3.0))
    seed = f.expand(weight, second.shape)
    (gx,) = gradients(graph, [second, second], [graph.inputs[0]], [seed, seed])
    graph.set_outputs([gx])
    x, w = arrays
    np.testing.assert_allclose(interpret(graph, arrays)[0], 6 * w * np.exp(x * w))


def test_refusals():
    graph = parse_graph(TEXT)
    n = graph.add_input(TensorType(int64, (Dim("k"),)), "n")
    with pytest.raises(AutogradError, match="only floating-point values have gradients"):
        gradients(graph, [n], [n])
    with pytest.raises(ShapeError, match="must have type"):
        gradients(graph, graph.outputs, graph.inputs, [graph.inputs[0]])


def test_gradient_nodes_carry_the_source_line_of_what_they_differentiate():
    text = TEXT.replace("exp(%1)", "exp(%1)  # model.py:12")
    graph = parse_graph(text)
    before = len(graph)
    gradients(graph, graph.outputs, graph.inputs)
    added = list(graph.nodes)[before:]
    assert any(node.loc is not None and node.loc.line == 12 for node in added)
