"""The whole pipeline."""

from __future__ import annotations

import numpy as np
import pytest

from dualgraph_compiler import Graph, TensorType, gradients, parse_graph
from dualgraph_compiler.compile import optimize, optimize_with_report, pipeline
from dualgraph_compiler.dtypes import float32
from dualgraph_compiler.errors import ArgumentError
from dualgraph_compiler.ops.base import Kind
from dualgraph_compiler.ops.pointwise import Mul

from .helpers import assert_same_results

TEXT = """\
graph net(%x: f32[batch, 3]):
  param %weight: f32[2, 3] = [[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]
  param %scale: f32[2] = [2.0, 0.5]
  param %unused: f32[1] = [1.0]
  const %c0: f32[] = 1.0
  const %c1: f32[] = 3.0
  %1: f32[batch, 2] = linear(%x, %weight)  # net.py:4
  %2: f32[batch, 2] = mul(%1, %scale)  # net.py:5
  %3: f32[] = mul(%c1, %c1)  # net.py:6
  %4: f32[batch, 2] = mul(%2, %c0)  # net.py:7
  %5: f32[batch, 2] = add(%4, %3)  # net.py:8
  %6: f32[batch, 2] = add(%3, %2)  # net.py:9
  %7: f32[batch, 2] = mul(%5, %6)  # net.py:10
  %8: f32[batch, 2] = exp(%7)  # net.py:11
  %9: f32[batch, 2] = relu(%7)  # net.py:12
  return %9 as y"""


def test_what_it_does():
    graph = parse_graph(TEXT)
    out = optimize(graph, verify=True)
    assert str(graph) == TEXT.replace(" = [[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]", "").replace(
        " = [2.0, 0.5]", ""
    ).replace(" = [1.0]", "")
    assert (
        str(out)
        == """\
graph net(%x: f32[batch, 3]):
  param %weight: f32[2, 3]
  param %scale: f32[2]
  const %c0: f32[] = 9.0
  %1: f32[batch, 2] = linear(%x, %weight)  # net.py:4
  %2: f32[batch, 2] = mul(%1, %scale)  # net.py:5
  %3: f32[batch, 2] = add(%2, %c0)  # net.py:8
  %4: f32[batch, 2] = mul(%3, %3)  # net.py:10
  %5: f32[batch, 2] = relu(%4)  # net.py:12
  return %5 as y"""
    )
    assert_same_results(graph, out)


def test_frozen():
    graph = parse_graph(TEXT)
    out = optimize(graph, freeze=True, verify=True)
    assert [n.op.name for n in out.nodes] == ["linear", "mul", "relu"]
    assert_same_results(graph, out, tol=1e-5)


def test_the_report():
    out, report = optimize_with_report(parse_graph(TEXT), freeze=True, snapshots=True)
    assert report.nodes == 9
    assert report.passes[-1].after == len(out) == 3
    assert report.frozen == ("weight", "scale", "unused")
    assert report.seconds > 0
    assert report.passes[0].text is not None
    text = str(report)
    assert "fold batch norm" in text
    assert "3 params taken as constants" in text
    assert "3 nodes in 2 kernels" in text
    assert max(map(len, text.splitlines())) < 80
    assert report.grouping.graph is out


def test_decomposed():
    graph = parse_graph(TEXT)
    out = optimize(graph, decompose=True, verify=True)
    assert not any(n.op.kind is Kind.COMPOSITE for n in out.nodes)
    assert_same_results(graph, out, tol=1e-5)


def test_strict_leaves_out_what_rounds_differently():
    names = [p.name for p in pipeline(numerics="strict")]
    assert "fold batch norm" not in names
    with pytest.raises(ArgumentError, match="'standard' or 'strict', got 'fast'"):
        optimize(parse_graph(TEXT), numerics="fast")


def test_a_training_step():
    graph = parse_graph("""\
graph step(%x: f32[batch, 3], %w: f32[2, 3], %b: f32[2], %t: f32[batch, 2]):
  %1: f32[batch, 2] = linear(%x, %w, %b)
  %2: f32[batch, 2] = tanh(%1)
  %3: f32[batch, 2] = sub(%2, %t)
  %4: f32[batch, 2] = mul(%3, %3)
  %5: f32[] = sum(%4, axes=(0, 1), keepdims=False)
  return %5 as loss""")
    grads = gradients(graph, graph.outputs, graph.inputs[1:3])
    graph.set_outputs([*graph.outputs, *(g for g in grads if g is not None)])
    out, report = optimize_with_report(graph, verify=True)
    assert len(out) < len(graph)
    assert_same_results(graph, out, tol=1e-5)
    assert len(report.grouping.kernels) < len(out)


def test_deep_graphs_do_not_overflow_the_stack():
    graph = Graph("deep")
    x = one = graph.add_input(TensorType(float32, ()), "x")
    for _ in range(3000):
        x = Mul()(Mul()(x, graph.constant(np.float32(1))), one)
    graph.set_outputs([x])
    assert len(optimize(graph)) == 3000
