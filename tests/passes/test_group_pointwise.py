"""Which pointwise nodes one kernel computes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dualgraph_compiler import Graph, TensorType, parse_graph
from dualgraph_compiler.dtypes import float32
from dualgraph_compiler.ops.movement import Permute, Reshape
from dualgraph_compiler.ops.pointwise import Add, Mul, Neg
from dualgraph_compiler.ops.reduction import Sum
from dualgraph_compiler.passes.group_pointwise import Grouping, Kernel, group_pointwise


def grouped(text: str) -> list[str]:
    """Each kernel as the names of its ops."""
    grouping = group_pointwise(parse_graph(text))
    check_grouping(grouping)
    return [" ".join(n.op.name for n in k.nodes) for k in grouping.kernels]


def check_grouping(grouping: Grouping) -> None:
    """Every node stands in one place, and kernels can run in the order given."""
    graph = grouping.graph
    placed = [n for k in grouping.kernels for n in k.nodes] + list(grouping.views)
    assert sorted(map(id, placed)) == sorted(map(id, graph.nodes))
    ready = {*graph.inputs, *graph.params, *graph.constants}

    def available(v):
        # A view is there as soon as what it shows is.
        while v.node is not None and v.node in grouping.views:
            v = v.node.inputs[0]
        return v in ready

    for kernel in grouping.kernels:
        assert all(available(v) for v in kernel.inputs)
        inside = set()
        for node in kernel.nodes:
            assert all(v in inside or v in kernel.inputs for v in node.inputs)
            inside.update(node.outputs)
        if kernel.is_fused:
            assert all(v.shape == kernel.shape for v in kernel.outputs)
        ready.update(kernel.outputs)
    assert all(available(v) for v in graph.outputs)


def test_chains_with_broadcasting_operands():
    assert grouped("""\
graph g(%x: f32[n, 3], %y: f32[3], %z: f32[n, 1]):
  %1: f32[n, 3] = mul(%x, %y)
  %2: f32[n, 3] = add(%1, %z)
  %3: f32[n, 3] = exp(%2)
  %4: f32[n, 3] = div(%3, %2)
  return %4 as out""") == ["mul add exp div"]


def test_a_reduction_stands_between():
    assert grouped("""\
graph g(%x: f32[n, 3]):
  %1: f32[n, 3] = exp(%x)
  %2: f32[n, 1] = sum(%1, axes=(1,), keepdims=True)
  %3: f32[n, 3] = div(%1, %2)
  return %3 as out""") == ["exp", "sum", "div"]


def test_a_node_moves_to_its_readers_where_that_saves_storing_it():
    # exp is not needed by the sum: it is computed beside the division that reads it.
    assert grouped("""\
graph g(%x: f32[n, 3]):
  %1: f32[n, 3] = neg(%x)
  %2: f32[n, 3] = exp(%1)
  %3: f32[n, 1] = sum(%1, axes=(1,), keepdims=True)
  %4: f32[n, 3] = div(%2, %3)
  return %4 as out""") == ["neg", "sum", "exp div"]


def test_scalars_are_computed_once_before_the_loop():
    assert grouped("""\
graph g(%x: f32[n, 3], %s: f32[]):
  %1: f32[] = exp(%s)
  %2: f32[] = neg(%1)
  %3: f32[n, 3] = mul(%x, %2)
  return %3 as out""") == ["exp neg mul"]


def test_shapes_that_differ_stay_apart():
    grouping = group_pointwise(
        parse_graph("""\
graph g(%x: f32[n, 3], %y: f32[3]):
  %1: f32[3] = exp(%y)
  %2: f32[n, 3] = mul(%x, %1)
  %3: f32[n, 3] = neg(%2)
  return %3 as out""")
    )
    assert len(grouping.kernels) == 2
    assert list(grouping.boundaries.values()) == ["its reader, kernel 1, has another shape"]
    assert grouping.summary() == "3 nodes in 2 kernels"
    assert (
        str(grouping)
        == """\
# kernel 0
  %1: f32[3] = exp(%y)
# kernel 1: [n, 3], reads %x, %1, writes %3
  %2: f32[n, 3] = mul(%x, %1)
  %3: f32[n, 3] = neg(%2)
# %1 is stored: its reader, kernel 1, has another shape
# 3 nodes in 2 kernels"""
    )


def test_what_is_read_outside_is_written():
    (kernel,) = group_pointwise(
        parse_graph("""\
graph g(%x: f32[3]):
  %1: f32[3] = exp(%x)
  %2: f32[3] = neg(%1)
  %3: f32[3] = abs(%2)
  return %3 as a, %1 as b""")
    ).kernels
    assert [v.node.op.name for v in kernel.outputs] == ["exp", "abs"]
    assert isinstance(kernel, Kernel)


def test_views_are_free_and_copies_are_not():
    grouping = group_pointwise(
        parse_graph("""\
graph g(%x: f32[2, 6]):
  %1: f32[2, 6] = exp(%x)
  %2: f32[6, 2] = permute(%1, axes=(1, 0))
  %3: f32[6, 2] = neg(%2)
  %4: f32[12] = reshape(%3, shape=(12,))
  %5: f32[12] = exp(%4)
  %6: f32[4, 3] = reshape(%2, shape=(4, 3))
  return %5 as a, %6 as b""")
    )
    check_grouping(grouping)
    assert [n.op.name for n in grouping.views] == ["permute", "reshape"]
    # The reshape of the transposed value has to copy.
    assert [k.nodes[0].op.name for k in grouping.kernels] == ["exp", "neg", "exp", "reshape"]
    assert grouping.summary() == "4 nodes in 4 kernels, 2 views"


def test_no_circle_through_another_kernel():
    # add reads neg directly and through the sum; grouping neg with add would wait for itself.
    assert grouped("""\
graph g(%x: f32[3, 3]):
  %1: f32[3, 3] = neg(%x)
  %2: f32[3, 3] = exp(%1)
  %3: f32[3] = sum(%2, axes=(0,), keepdims=False)
  %4: f32[3, 3] = add(%1, %3)
  %5: f32[3, 3] = mul(%4, %2)
  return %5 as out""") == ["neg exp", "sum", "add mul"]


@st.composite
def graphs(draw):
    """Graphs of pointwise ops, reductions and views over [3, 3], rows and scalars."""
    graph = Graph("random")
    values = [graph.add_input(TensorType(float32, s), f"x{i}") for i, s in enumerate([(3, 3), ()])]
    for _ in range(draw(st.integers(1, 25))):
        a, b = (values[draw(st.integers(0, len(values) - 1))] for _ in range(2))
        choice = draw(st.sampled_from("nnaammsvr"))
        if choice == "n":
            values.append(Neg()(a))
        elif choice in "am":
            values.append((Add() if choice == "a" else Mul())(a, b))
        elif a.ndim == 0:
            continue
        elif choice == "s":
            axes = tuple(range(draw(st.integers(1, a.ndim))))
            values.append(Sum(axes, draw(st.booleans()))(a))
        elif choice == "v":
            values.append(Permute(tuple(reversed(range(a.ndim))))(a))
        else:
            values.append(Reshape(a.shape)(Reshape((a.size,))(a)))
    picks = draw(st.lists(st.sampled_from(values), min_size=1, max_size=3))
    graph.set_outputs(picks, [f"o{i}" for i in range(len(picks))])
    return graph


@given(graphs())
def test_groupings_of_random_graphs_are_legal(graph):
    check_grouping(group_pointwise(graph))


@pytest.mark.parametrize("count", [1, 1000])
def test_long_chains_are_one_kernel(count):
    graph = Graph("chain")
    value = graph.add_input(TensorType(float32, (4,)), "x")
    for _ in range(count):
        value = Add()(value, graph.constant(np.float32(1)))
    graph.set_outputs([value])
    assert len(group_pointwise(graph).kernels) == 1
