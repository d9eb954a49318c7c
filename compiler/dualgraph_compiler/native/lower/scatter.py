"""Ops that write where an index tensor says.

First the result is filled, then elements are written or added one after the other, in the order of
the index: so what repeated indices give is the same at every run, and what the eager op gives.
Columns that no index chooses between are independent: those are shared among threads.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ...dims import DimLike, Shape
from ...dtypes import BOOL, INT, bool_, int64
from ...graph import Node, Value
from ..index import Axis, Index, of_axis
from ..loops import Expr, Let, Loop, Ref, Stmt, taken
from ..scalars import call, const, like, test, where
from .nests import Nest, counters, filled, over, rule
from .registry import EXACT, ORDER
from .taking import checked, picked_places

_BLOCK = 64  # columns that go through the index together
_LONG_RUN = 8  # adjacent places of an index that are worth a loop of their own


def _scattered(
    nest: Nest,
    shape: Shape,
    indexed: Sequence[int],
    places: Callable[[list[Index]], list[Index]],
    value: Callable[[list[Index]], Expr],
    *,
    fold: str,
) -> list[Stmt]:
    """Loops that write the elements `value` of `shape`, each at its place in the result.

    `indexed` are the axes that an index chooses between places for: their order counts. `fold` says
    how an element and what is there become one; where it is empty, the element takes the place.
    """
    axes, at = counters(shape)
    if any(a.extent == 0 for a in axes):
        return []
    rest = [a for i, a in enumerate(axes) if i not in indexed and a.extent != 1]
    last = [a for a in axes if a.extent != 1][-1:]
    row = rest[-1] if rest and rest[-1:] == last else None  # elements beside each other
    target = places(at)
    lets: list[Stmt] = []
    inside: list[Stmt] = []
    for i, c in enumerate(target):  # an index is looked at once for all that is done with it
        for t in c.taken():
            name = f"p{i}"
            across = row is not None and row in t.counters
            (inside if across else lets).append(Let(name, t.value))
            target[i] = taken(Ref(name, int64), t.extent, t.counters)
    x = value(at)
    if fold:
        x = _folded(fold, nest.load(target), x)
    inside.append(nest.store(target, x))
    serial = [axes[i] for i in indexed]
    if row is None:
        return over(rest, over(serial, [*lets, *inside], serial=True))
    if len(rest) > 1:
        stmts = over(serial, [*lets, *over([row], inside, lanes=True)], serial=True)
        return over(rest[:-1], stmts)
    columns = Loop(row, tuple(inside), lanes=True, within=True)
    stmts = over(serial, [*lets, columns], serial=True)
    return [Loop(row, tuple(stmts), block=_BLOCK)]


def _folded(fold: str, a: Expr, b: Expr) -> Expr:
    return call("or" if fold == "add" and a.dtype is bool_ else fold, a, b)


def _zeros(nest: Nest) -> list[Stmt]:
    return filled(nest, lambda at: const(0, nest.node.output.dtype))


def _copied(nest: Nest) -> list[Stmt]:
    return filled(nest, lambda at: nest.read(0, at))


def _accumulating(node: Node) -> str:
    """Only floats depend on the order in which they are added."""
    op: Any = node.op
    adds = op.accumulate if op.name == "index_put" else op.name != "scatter"
    floats = node.output.dtype.category not in (BOOL, INT)
    return ORDER if adds and floats else EXACT


@rule("index_select_grad", "embedding_grad", inexact=_accumulating)
def _add_slices(op: Any, node: Node, nest: Nest) -> list[Stmt]:
    g, index = node.inputs
    embeds = op.name == "embedding_grad"
    axis = 0 if embeds else op.axis
    stop = axis + index.ndim
    rows = node.output.shape[axis]
    what = f"{'embedding' if embeds else op.name}: index"

    def row(at: Sequence[Index]) -> Expr:
        return checked(nest.read(1, at[axis:stop]), rows, what, negative=not embeds)

    def places(at: list[Index]) -> list[Index]:
        return [*at[:axis], taken(row(at), rows), *at[stop:]]

    def value(at: list[Index]) -> Expr:
        x = nest.read(0, at)
        if not embeds or op.padding_idx is None:
            return x
        skipped = test("eq", nest.read(1, at[axis:stop]), const(op.padding_idx, int64))
        return where(skipped, like(x, 0), x)

    indexed = range(axis, stop)
    run = 0 if embeds or stop != g.ndim else _run_of(index, rows)
    if run >= _LONG_RUN:
        return [*_zeros(nest), *_added_runs(nest, axis, run, rows)]
    return [*_zeros(nest), *_scattered(nest, g.shape, indexed, places, value, fold="add")]


def _run_of(index: Value, rows: DimLike) -> int:
    """The length of the equal runs of adjacent places that a constant index is made of; 0 if none.

    Windows over an image are such runs, a row of each.
    """
    if not index.is_constant or index.ndim != 1 or not isinstance(rows, int) or not index.size:
        return 0
    at = index.data
    if at.min() < 0 or at.max() >= rows:
        return 0
    ends = np.flatnonzero(np.diff(at) != 1) + 1
    run = int(ends[0]) if len(ends) else len(at)
    return run if len(at) % run == 0 and not np.any(ends % run) else 0


def _added_runs(nest: Nest, axis: int, run: int, rows: DimLike) -> list[Stmt]:
    """Adds runs of adjacent elements to where each begins."""
    g = nest.node.inputs[0]
    axes, at = counters(g.shape)
    runs, within = Axis(axis, g.shape[axis] // run), Axis(axis + 1, run)
    source = of_axis(runs) * run + of_axis(within)
    place = taken(nest.read(1, [of_axis(runs) * run]), rows) + of_axis(within)
    lead = at[:axis]
    total = _folded("add", nest.load([*lead, place]), nest.read(0, [*lead, source]))
    inside = over([within], [nest.store([*lead, place], total)], lanes=True)
    return over(axes[:axis], over([runs], inside, serial=True))


def _fold_of(op: Any) -> str:
    """What a scatter does where it writes."""
    return {"scatter": "", "scatter_add": "add"}.get(op.name, getattr(op, "reduction", ""))


@rule("scatter", "scatter_add", "scatter_reduce", inexact=_accumulating)
def _scatter(op: Any, node: Node, nest: Nest) -> list[Stmt]:
    x, index, _ = node.inputs
    if x.ndim == 0:
        return _one(op, nest)
    size = x.shape[op.axis]

    def places(at: list[Index]) -> list[Index]:
        place = taken(checked(nest.read(1, at), size, f"{op.name}: index"), size)
        return [place if i == op.axis else c for i, c in enumerate(at)]

    fold = _fold_of(op)
    stmts = _scattered(nest, index.shape, [op.axis], places, lambda at: nest.read(2, at), fold=fold)
    return [*_copied(nest), *stmts]


def _one(op: Any, nest: Nest) -> list[Stmt]:
    """Into a 0-d operand, whose only index is 0 or -1."""
    y = nest.read(2, ())
    if _fold_of(op):
        y = _folded(_fold_of(op), nest.read(0, ()), y)
    index = checked(nest.read(1, ()), 1, f"{op.name}: index")
    return [nest.store((), where(test("eq", index, const(0, int64)), y, like(y, 0)))]


@rule("index_put", inexact=_accumulating)
def _index_put(op: Any, node: Node, nest: Nest) -> list[Stmt]:
    values = node.inputs[1]
    rank = max(i.ndim for i in node.inputs[2:])
    lead = op.axes[0] if op.adjacent else 0

    def places(at: list[Index]) -> list[Index]:
        return picked_places(op, node, at, nest.read, 2)

    stmts = _scattered(
        nest,
        values.shape,
        range(lead, lead + rank),
        places,
        lambda at: nest.read(1, at),
        fold="add" if op.accumulate else "",
    )
    return [*_copied(nest), *stmts]
