"""Splitting a joint graph into forward and backward: what is kept, and that nothing changes."""

from __future__ import annotations

from typing import Any

import networkx as nx
import numpy as np
import pytest

from dualgraph_compiler import Dim, Graph, TensorType, gradients, interpret, parse_graph, verify
from dualgraph_compiler.dtypes import bool_, float32, uint64
from dualgraph_compiler.ops import f
from dualgraph_compiler.ops.activation import Relu
from dualgraph_compiler.ops.linalg import Linear
from dualgraph_compiler.ops.random import RandomBernoulli
from dualgraph_compiler.passes.min_cut import FlowNetwork
from dualgraph_compiler.passes.partition import Partition, partition

from .helpers import random_inputs


def joint(text: str) -> tuple[Graph, int, set[Any]]:
    """A graph, its one result, and gradients of all inputs behind it; the gradient is fed as g."""
    graph = parse_graph(text)
    results = len(graph.outputs)
    xs = [v for v in graph.inputs if v.dtype.is_differentiable]
    gs = [graph.add_input(v.type, f"g{i}") for i, v in enumerate(graph.outputs)]
    found = [g for g in gradients(graph, graph.outputs, xs, gs) if g is not None]
    graph.set_outputs([*graph.outputs, *found])
    verify(graph)
    return graph, results, set(gs)


def run(graph: Graph, results: int, parts: Partition, feeds: list[Any]) -> list[Any]:
    """What the two graphs give, one after the other."""
    verify(parts.forward)
    verify(parts.backward)
    by_name = {v.name: a for v, a in zip(graph.inputs, feeds, strict=True)}
    first = interpret(parts.forward, [by_name[v.name] for v in parts.forward.inputs])
    kept = [first[i] for i in parts.kept]
    return first[:results] + interpret(parts.backward, [*feeds, *kept])


def check(text: str, free: tuple[str, ...] = ()) -> Partition:
    """Split, and compare with the whole; `free` names inputs, or "result" """
    graph, results, late = joint(text)
    named = {v.name: v for v in graph.inputs} | {"result": graph.outputs[0]}
    parts = partition(graph, results, late, {named[n] for n in free})
    feeds = random_inputs(graph)
    for a, b in zip(interpret(graph, feeds), run(graph, results, parts, feeds), strict=True):
        np.testing.assert_array_equal(a, b)
    return parts


def names(graph: Graph) -> list[str]:
    return [node.op.name for node in graph.nodes]


def test_costly_values_are_kept_and_cheap_ones_made_again():
    parts = check("""\
graph g(%x: f32[8]):
  %1: f32[8] = exp(%x)
  %2: f32[8] = mul(%1, %1)
  %3: f32[8] = mul(%2, %2)
  %4: f32[8] = mul(%3, %3)
  return %4 as y""")
    assert names(parts.forward) == ["exp", "mul", "mul", "mul"]
    assert len(parts.forward.outputs) == 2  # the result, and exp(x)
    assert "exp" not in names(parts.backward)


def test_what_the_caller_holds_is_not_kept_twice():
    text = """\
graph g(%x: f32[8], %w: f32[8]):
  %1: f32[8] = mul(%x, %w)
  %2: f32[8] = exp(%1)
  return %2 as y"""
    parts = check(text, ("x", "w", "result"))
    assert len(parts.forward.outputs) == 1
    assert parts.kept == [0]
    parts = check(text)
    assert len(parts.forward.outputs) == 4  # with copies of x, w and the result
    assert parts.kept == [1, 2, 3]


def test_the_smaller_value_is_kept():
    # The mask is an eighth of the rows; both would do.
    parts = check("""\
graph g(%x: f32[64, 64], %b: bool[64, 64]):
  %1: f32[64, 64] = cast(%b, dtype=f32)
  %2: f32[64, 64] = mul(%x, %1)
  return %2 as y""")
    (kept,) = parts.forward.outputs[1:]
    assert kept.type == TensorType(bool_, (64, 64))
    assert "cast" in names(parts.backward)


def test_random_draws_never_run_again():
    graph = Graph("g")
    seed = graph.add_input(TensorType(uint64, ()), "seed")
    offset = graph.add_input(TensorType(uint64, ()), "offset")
    x = graph.add_input(TensorType(float32, (16,)), "x")
    mask = graph.call(RandomBernoulli((16,), 0.5), (seed, offset))
    y = x * f.cast(mask, float32) * 2
    g = graph.add_input(y.type, "g")
    (dx,) = gradients(graph, [y], [x], [g])
    graph.set_outputs([y, dx])
    parts = partition(graph, 1, {g}, {seed, offset})
    assert "random_bernoulli" in names(parts.forward)
    assert "random_bernoulli" not in names(parts.backward)
    assert [v.type.dtype.name for v in parts.forward.outputs[1:]] == ["bool"]


def test_work_for_the_backward_alone_waits_for_it():
    parts = check("""\
graph g(%x: f32[4, 4]):
  %1: f32[4, 4] = gelu(%x)
  return %1 as y""", ("x",))  # fmt: skip
    assert names(parts.forward) == ["gelu"]
    assert "exp" in names(parts.backward)
    assert len(parts.forward.outputs) == 1


def test_sizes_that_only_a_run_tells_and_symbolic_ones():
    check("""\
graph g(%x: f32[n, 3]):
  %1: f32[n, 3] = tanh(%x)
  %2: f32[n*3] = reshape(%1, shape=(n*3,))
  %3: f32[n*3] = exp(%2)
  %4: f32[] = sum(%3, axes=(0,), keepdims=False)
  return %4 as y""")


def test_long_cheap_chains_are_cut():
    graph = Graph("g")
    x = graph.add_input(TensorType(float32, (8,)), "x")
    h = f.exp(x)
    for _ in range(100):
        h = h * h
    g = graph.add_input(h.type, "g")
    (dx,) = gradients(graph, [h], [x], [g])
    graph.set_outputs([h, dx])
    parts = partition(graph, 1, {g}, set())
    again = len(parts.backward) - (len(graph) - len(parts.forward))
    assert 0 < again < 100
    assert 3 < len(parts.forward.outputs) < 12


def deep(layers: int) -> tuple[Graph, Any]:
    graph = Graph("deep")
    x = h = graph.add_input(TensorType(float32, (Dim("batch"), 8)), "x")
    rng = np.random.default_rng(0)
    for i in range(layers):
        w = graph.add_param(rng.normal(size=(8, 8)).astype(np.float32), f"w{i}")
        h = h + Relu()(Linear()(h, w)) * 0.5
    g = graph.add_input(h.type, "g")
    found = gradients(graph, [h], [x, *graph.params], [g])
    graph.set_outputs([h, *found])
    return graph, g


def test_a_large_residual_network_keeps_what_eager_code_does():
    graph, g = deep(800)
    assert len(graph) > 9_000
    parts = partition(graph, 1, {g}, set(graph.params) | {graph.inputs[0]})
    verify(parts.forward)
    verify(parts.backward)
    assert names(parts.forward).count("linear") == 800
    total = names(graph).count("linear")
    assert names(parts.backward).count("linear") == total - 800
    # Of each layer its input and the activation's output or mask, at most.
    assert len(parts.forward.outputs) <= 1 + 2 * 800


@pytest.mark.parametrize("seed", range(20))
def test_min_cut_agrees_with_networkx(seed: int):
    rng = np.random.default_rng(seed)
    n = int(rng.integers(4, 14))
    reference = nx.DiGraph()
    reference.add_nodes_from(range(n))
    network = FlowNetwork(n)
    for a in range(n):
        for b in range(n):
            if a != b and rng.random() < 0.35:
                capacity = int(rng.integers(0, 9))
                network.add_arc(a, b, capacity)
                reference.add_edge(a, b, capacity=capacity)
    late = network.cut(0, n - 1)
    value = sum(d["capacity"] for a, b, d in reference.edges(data=True) if not late[a] and late[b])
    assert not late[0]
    assert late[n - 1]
    assert value == nx.minimum_cut_value(reference, 0, n - 1)
