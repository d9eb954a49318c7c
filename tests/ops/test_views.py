"""Views share memory with their operand, copies never do, and writes go through views."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from dualgraph_compiler.graph import Graph, interpret, verify
from dualgraph_compiler.ops import f
from dualgraph_compiler.ops.movement import Expand, Permute, Reshape
from dualgraph_compiler.ops.padding import Pad, PadMode
from dualgraph_compiler.ops.rearrange import Diagonal, Flip, Tril
from dualgraph_compiler.ops.slicing import Slice, SliceUpdate
from dualgraph_compiler.types import type_of

VIEWS: list[tuple[Any, tuple[int, ...]]] = [
    (Reshape((6, 2)), (2, 6)),
    (Permute((2, 0, 1)), (2, 3, 4)),
    (Slice((0, 1), (2, 3), (1, 2)), (2, 4)),
    (Diagonal(0, 0, 1), (3, 3)),
    (Diagonal(1, 2, 0), (3, 2, 4)),
    (Diagonal(-1, 0, 1), (3, 4)),
]
COPIES: list[tuple[Any, tuple[int, ...]]] = [
    (Flip((0,)), (3, 2)),
    (Flip((0,)), (1,)),
    (Flip(()), (3,)),
    (Pad(((0, 0),)), (3,)),
    (PadMode(((0, 0),), "replicate"), (3,)),
    (Tril(9), (2, 2)),
]


@pytest.mark.parametrize(("op", "shape"), VIEWS, ids=str)
def test_writing_to_a_view_writes_to_its_base(op: Any, shape: tuple[int, ...]) -> None:
    assert op.is_view
    base = np.random.default_rng(0).normal(size=shape)
    untouched = base.copy()
    new = np.random.default_rng(1).normal(size=op.eager(np, base).shape)
    functional = op.unview(untouched, new)
    op.eager(np, base)[...] = new
    np.testing.assert_array_equal(base, functional)
    np.testing.assert_array_equal(op.eager(np, functional), new)


@pytest.mark.parametrize(("op", "shape"), VIEWS, ids=str)
def test_unview_in_a_graph(op: Any, shape: tuple[int, ...]) -> None:
    base = np.random.default_rng(0).normal(size=shape)
    new = np.random.default_rng(1).normal(size=op.eager(np, base).shape)
    graph = Graph("unview")
    x, v = graph.add_input(type_of(base), "x"), graph.add_input(type_of(new), "v")
    graph.set_outputs([op.unview(x, v)])
    verify(graph)
    np.testing.assert_array_equal(interpret(graph, [base, new])[0], op.unview(base, new))


@pytest.mark.parametrize(("op", "shape"), COPIES, ids=str)
def test_copies_do_not_alias(op: Any, shape: tuple[int, ...]) -> None:
    assert not op.is_view
    x = np.ones(shape)
    assert not np.shares_memory(op.eager(np, x), x)


def test_expand_is_a_view() -> None:
    x = np.ones((3, 1))
    assert Expand.is_view
    assert np.shares_memory(Expand((3, 5)).eager(np, x), x)


def test_slice_update_of_a_scalar() -> None:
    assert SliceUpdate((), (), ()).eager(np, np.float32(1), np.float32(2)) == 2


@pytest.mark.parametrize("shift", [-7, -1, 0, 2, 5, 11])
def test_roll(shift: int) -> None:
    x = np.arange(10).reshape(2, 5)
    np.testing.assert_array_equal(f.roll(x, shift, 1), np.roll(x, shift, 1))


@pytest.mark.parametrize("repeats", [(1,), (2, 3), (2, 1, 3), (0, 2)])
def test_tile(repeats: tuple[int, ...]) -> None:
    x = np.arange(3)
    np.testing.assert_array_equal(f.tile(x, repeats), np.tile(x, repeats))


def test_split_and_stack() -> None:
    x = np.arange(12).reshape(3, 4)
    parts = [f.select(x, 1, i) for i in range(4)]
    np.testing.assert_array_equal(f.stack(parts, 1), x)
    np.testing.assert_array_equal(f.stack(parts, 0), x.T)
