"""Constant folding, common subexpressions, dead code, decomposition, and the manager."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest

from dualgraph_compiler import Graph, TensorType, parse_graph
from dualgraph_compiler.dtypes import float32
from dualgraph_compiler.errors import GraphError
from dualgraph_compiler.ops.base import Kind
from dualgraph_compiler.ops.creation import Full
from dualgraph_compiler.ops.movement import Expand, Permute
from dualgraph_compiler.ops.unary import Exp
from dualgraph_compiler.passes import (
    Decompose,
    FoldConstants,
    MergeCommon,
    PassManager,
    RemoveDeadCode,
)

from .helpers import assert_same_results, check, run_pass

# -- constant folding ----------------------------------------------------------------------------


def test_what_depends_on_constants_alone_is_computed():
    check(
        FoldConstants(),
        """\
graph g(%x: f32[n]):
  const %c0: f32[2] = [1.0, 2.0]
  const %c1: f32[] = 3.0
  %1: f32[2] = mul(%c0, %c1)
  %2: f32[] = sum(%1, axes=(0,), keepdims=False)
  %3: f32[n] = mul(%x, %2)
  return %3 as y, %1 as c""",
        """\
graph g(%x: f32[n]):
  const %c0: f32[2] = [3.0, 6.0]
  const %c1: f32[] = 9.0
  %1: f32[n] = mul(%x, %c1)
  return %1 as y, %c0 as c""",
    )


def test_params_are_folded_only_once_frozen():
    text = """\
graph g(%x: f32[3]):
  param %w: f32[] = 2.0
  %1: f32[] = mul(%w, %w)
  %2: f32[3] = mul(%x, %1)
  return %2 as y"""
    assert run_pass(FoldConstants(), text)[1] is False
    graph = parse_graph(text)
    graph.freeze()
    assert [n.op.name for n in run_pass(FoldConstants(), graph)[0].nodes] == ["mul"]


def test_nothing_grows_out_of_proportion():
    graph = Graph("g")
    big = graph.call(Full((1 << 40,), 1.0, float32), ())
    small = graph.call(Full((8,), 1.0, float32), ())
    row = graph.constant(np.ones((1, 1000), np.float32))
    wide = Expand((1000, 1000))(row)
    turned = Permute((1, 0))(graph.constant(np.ones((300, 300), np.float32)))
    graph.set_outputs([big, small, wide, turned])
    out, _ = run_pass(FoldConstants(), graph)
    assert [n.op.name for n in out.nodes] == ["full", "expand"]
    assert out.outputs[3].data.shape == (300, 300)


def test_symbolic_attributes_are_left_alone():
    text = """\
graph g(%x: f32[n, 3]):
  const %c0: f32[3] = [1.0, 2.0, 3.0]
  %1: f32[n, 3] = expand(%c0, shape=(n, 3))
  return %1 as y"""
    assert run_pass(FoldConstants(), text)[1] is False


def test_what_fails_is_left_to_the_run():
    # A gather out of range is an error of the run, not of the compiler.
    text = """\
graph g(%x: f32[3]):
  const %c0: i64[1] = [7]
  const %c1: f32[3] = [1.0, 2.0, 3.0]
  %1: f32[1] = gather(%c1, %c0, axis=0)
  return %1 as y"""
    assert run_pass(FoldConstants(), text)[1] is False


# -- common subexpressions -----------------------------------------------------------------------


def test_equal_work_is_done_once():
    check(
        MergeCommon(),
        """\
graph g(%x: f32[3], %y: f32[3]):
  %1: f32[3] = add(%x, %y)  # a.py:1
  %2: f32[3] = add(%y, %x)  # a.py:2
  %3: f32[3] = sub(%x, %y)
  %4: f32[3] = sub(%y, %x)
  %5: f32[3] = exp(%1)
  %6: f32[3] = exp(%2)
  %7: f32[3] = mul(%5, %6)
  return %7 as p, %3 as q, %4 as r, %6 as s""",
        """\
graph g(%x: f32[3], %y: f32[3]):
  %1: f32[3] = add(%x, %y)  # a.py:1
  %2: f32[3] = sub(%x, %y)
  %3: f32[3] = sub(%y, %x)
  %4: f32[3] = exp(%1)
  %5: f32[3] = mul(%4, %4)
  return %5 as p, %2 as q, %3 as r, %4 as s""",
    )


def test_attributes_tell_nodes_apart():
    text = """\
graph g(%x: f32[3, 3]):
  %1: f32[3] = sum(%x, axes=(0,), keepdims=False)
  %2: f32[3] = sum(%x, axes=(1,), keepdims=False)
  %3: f32[2] = full(shape=(2,), value=0.0, dtype=f32)
  %4: f32[2] = full(shape=(2,), value=-0.0, dtype=f32)
  return %1 as a, %2 as b, %3 as c, %4 as d"""
    assert run_pass(MergeCommon(), text)[1] is False


def test_equal_constants_are_one():
    graph = Graph("g")
    x = graph.add_input(TensorType(float32, (100,)), "x")
    first = x + graph.constant(np.ones(100, np.float32))
    second = x + graph.constant(np.ones(100, np.float32))
    third = x + graph.constant(-np.zeros(100, np.float32))
    fourth = x + graph.constant(np.zeros(100, np.float32))
    graph.set_outputs([first, second, third, fourth])
    out, changed = run_pass(MergeCommon(), graph)
    assert changed
    assert len(out) == 3
    assert_same_results(graph, out)


def test_what_is_not_pure_is_neither_merged_nor_folded(monkeypatch):
    monkeypatch.setattr(Exp, "is_pure", False)
    text = """\
graph g(%x: f32[3]):
  const %c0: f32[] = 2.0
  %1: f32[3] = exp(%x)
  %2: f32[3] = exp(%x)
  %3: f32[] = exp(%c0)
  return %1 as a, %2 as b, %3 as c"""
    assert run_pass(MergeCommon(), text)[1] is False
    assert run_pass(FoldConstants(), text)[1] is False


# -- dead code -----------------------------------------------------------------------------------


def test_what_nothing_reads_goes_and_inputs_stay():
    check(
        RemoveDeadCode(),
        """\
graph g(%x: f32[3], %unused: f32[3]):
  param %w: f32[3] = [1.0, 2.0, 3.0]
  param %v: f32[3] = [1.0, 2.0, 3.0]
  const %c0: f32[] = 2.0
  const %c1: f32[] = 3.0
  %1: f32[3] = mul(%x, %w)
  %2: f32[3] = mul(%unused, %c0)
  %3: f32[3] = exp(%2)
  %4: f32[3] = mul(%1, %c1)
  return %4 as y""",
        """\
graph g(%x: f32[3], %unused: f32[3]):
  param %w: f32[3] = [1.0, 2.0, 3.0]
  const %c0: f32[] = 3.0
  %1: f32[3] = mul(%x, %w)
  %2: f32[3] = mul(%1, %c0)
  return %2 as y""",
        ignore_dead=False,
    )


# -- decomposition -------------------------------------------------------------------------------


def test_composites_become_simpler_ops():
    text = """\
graph g(%x: f32[n, 4], %w: f32[3, 4], %b: f32[3]):
  %1: f32[n, 3] = linear(%x, %w, %b)  # model.py:5
  return %1 as y"""
    graph = parse_graph(text)
    out, changed = run_pass(Decompose(), graph)
    assert changed
    assert all(n.op.kind is not Kind.COMPOSITE for n in out.nodes)
    assert all(n.loc is not None and n.loc.line == 5 for n in out.nodes)
    assert_same_results(graph, out, tol=1e-6)


# -- the manager ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Vandal:
    """Leaves a graph that is not valid, or says that it did nothing."""

    silent: bool
    name: ClassVar[str] = "vandal"

    def run(self, graph: Graph) -> bool:
        node = next(graph.nodes)
        if self.silent:
            graph.replace_uses(node.output, graph.inputs[0])
            return False
        node.output.uses.clear()
        return True


TEXT = """\
graph g(%x: f32[3]):
  %1: f32[3] = neg(%x)
  %2: f32[3] = exp(%1)
  return %2 as y"""


def test_the_pass_that_breaks_a_graph_is_named(monkeypatch):
    with pytest.raises(GraphError, match="the pass 'vandal' broke the graph: the use list"):
        PassManager([RemoveDeadCode(), Vandal(False)], verify=True).run(parse_graph(TEXT))
    with pytest.raises(GraphError, match="'vandal' changed the graph and reported no change"):
        PassManager([Vandal(True)], verify=True).run(parse_graph(TEXT))
    monkeypatch.setenv("DUALGRAPH_VERIFY", "1")
    with pytest.raises(GraphError, match="vandal"):
        PassManager([Vandal(False)]).run(parse_graph(TEXT))
    monkeypatch.setenv("DUALGRAPH_VERIFY", "0")
    PassManager([Vandal(False)]).run(parse_graph(TEXT))


def test_records():
    graph = parse_graph(TEXT.replace("return %2", "return %1"))
    passes = [FoldConstants(), RemoveDeadCode()]
    fold, dead = PassManager(passes, snapshots=True).run(graph)
    assert (fold.name, fold.before, fold.after, fold.changed) == ("fold constants", 2, 2, False)
    assert (dead.before, dead.after, dead.changed) == (2, 1, True)
    assert dead.text == str(graph)
    assert "exp" in fold.text
    assert dead.seconds >= 0
