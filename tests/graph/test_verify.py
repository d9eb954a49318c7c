"""The verifier finds each way a graph can be broken."""

from __future__ import annotations

import numpy as np
import pytest

from dualgraph_compiler import TensorType, parse_graph, verify
from dualgraph_compiler.dtypes import float32, float64
from dualgraph_compiler.errors import GraphError
from dualgraph_compiler.graph import Value
from dualgraph_compiler.ops.pointwise import Add, Neg

TEXT = """\
graph g(%x: f32[n, 3]):
  param %w: f32[3] = [1.0, 2.0, 3.0]
  const %c0: f32[] = 2.0
  %1: f32[n, 3] = mul(%x, %w)
  %2: f32[n, 3] = add(%1, %1)
  %3: f32[n, 3] = mul(%2, %c0)
  return %3 as y"""


@pytest.fixture
def graph():
    g = parse_graph(TEXT)
    verify(g)
    return g


def test_use_before_definition(graph):
    _, second, third = graph.nodes
    graph.set_inputs(second, [third.output, third.output])
    with pytest.raises(GraphError, match="before it is defined"):
        verify(graph)


def test_a_value_of_another_graph(graph):
    other = parse_graph(TEXT)
    graph.set_inputs(next(graph.nodes), [other.inputs[0], graph.params[0]])
    with pytest.raises(GraphError, match="before it is defined"):
        verify(graph)


def test_an_output_of_another_graph(graph):
    graph.outputs = parse_graph(TEXT).outputs
    with pytest.raises(GraphError, match="not defined in the graph"):
        verify(graph)


def test_an_output_whose_node_is_gone(graph):
    *_, last = graph.nodes
    gone = last.output
    graph.replace_uses(gone, last.inputs[0])
    graph.erase(last)
    verify(graph)
    graph.outputs = [gone]
    with pytest.raises(GraphError, match="not defined in the graph"):
        verify(graph)


def test_a_wrong_type(graph):
    first = next(graph.nodes)
    first.output.type = TensorType(float64, first.output.shape)
    with pytest.raises(GraphError, match="mul declares f64.* but infers f32"):
        verify(graph)


def test_an_op_that_refuses_its_inputs(graph):
    graph.params[0].type = TensorType(float32, (4,))
    with pytest.raises(GraphError, match="mul refuses its inputs"):
        verify(graph)


def test_a_wrong_number_of_operands(graph):
    first = next(graph.nodes)
    graph.set_inputs(first, first.inputs[:1])
    with pytest.raises(GraphError, match="mul takes 2 operands, got 1"):
        verify(graph)


def test_a_wrong_use_list(graph):
    first = next(graph.nodes)
    first.output.uses.clear()
    with pytest.raises(GraphError, match="use list .* is wrong"):
        verify(graph)


def test_a_use_counted_once_too_often(graph):
    _, second, _ = graph.nodes
    assert second.inputs[0].uses == {second: 2}
    second.inputs[0].uses[second] = 1
    with pytest.raises(GraphError, match="use list .* is wrong"):
        verify(graph)


def test_a_value_declared_twice(graph):
    graph.params.append(graph.inputs[0])
    with pytest.raises(GraphError, match="declared twice"):
        verify(graph)


def test_repeated_names(graph):
    graph.inputs.append(Value(graph, TensorType(float32, ()), name="w"))
    with pytest.raises(GraphError, match="must be unique; repeated: w"):
        verify(graph)


def test_a_count_that_is_wrong(graph):
    graph._count += 1
    with pytest.raises(GraphError, match="lists 3 nodes but counts 4"):
        verify(graph)


def test_outputs_that_do_not_point_back(graph):
    first, second, _ = graph.nodes
    first.output.node = second
    with pytest.raises(GraphError, match="point back"):
        verify(graph)


def test_outputs_and_names_that_differ_in_number(graph):
    graph.output_names.append("more")
    with pytest.raises(GraphError, match="1 outputs but 2 output names"):
        verify(graph)


def test_param_data_of_another_type(graph):
    graph.params[0].data = np.ones(4, np.float32)
    with pytest.raises(GraphError, match="declares f32\\[3\\] but holds f32\\[4\\]"):
        verify(graph)


def test_mutation_keeps_graphs_valid():
    g = parse_graph(TEXT)
    first, second, third = g.nodes
    with g.inserting_before(third):
        negated = Neg()(second.output)
    g.set_inputs(third, [negated, third.inputs[1]])
    verify(g)
    g.replace_uses(first.output, g.inputs[0])
    with pytest.raises(GraphError, match="still used"):
        g.erase(second)
    g.erase(first)
    verify(g)
    assert g.drop_unused() == 1  # the param
    verify(g)
    assert [n.op.name for n in g.nodes] == ["add", "neg", "mul"]


def test_operands_of_two_graphs_are_refused():
    g, h = parse_graph(TEXT), parse_graph(TEXT)
    with pytest.raises(GraphError, match="belongs to graph"):
        Add()(g.inputs[0], h.inputs[0])


def test_copies_are_independent():
    g = parse_graph(TEXT)
    copy, new = g.copy_with_map()
    verify(copy)
    assert str(copy) == str(g)
    assert new[g.inputs[0]] is copy.inputs[0]
    copy.freeze()
    for node in copy.reversed_nodes():
        copy.replace_uses(node.output, copy.inputs[0])
        copy.erase(node)
    verify(copy)
    verify(g)
    assert len(g) == 3
    assert len(g.params) == 1
