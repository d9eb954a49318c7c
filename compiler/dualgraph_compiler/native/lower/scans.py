"""Ops that go along an axis step by step: running sums, recurrences, what a mask selects."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ...dims import Shape, product
from ...dtypes import DType, bool_, int64
from ...graph import Node
from ..index import Axis, Index, of_axis, reshaped
from ..loops import (
    Assign,
    Checked,
    Declare,
    Expr,
    Let,
    Position,
    Ref,
    Stmt,
    Update,
    When,
    taken,
)
from ..scalars import call, cast, const, size, test, where, widen
from .nests import Nest, counters, filled, over, rule
from .registry import EXACT

_LONG_ROW = 2048  # bytes


def along(
    shape: Shape,
    axis: int,
    before: Callable[[], list[Stmt]],
    step: Callable[[list[Index]], list[Stmt]],
    *,
    reverse: bool = False,
) -> list[Stmt]:
    """Loops over all axes but one, and inside them `before`, then `step` along that one.

    The last of the others, if it comes after that one, is the loop of vectors: its elements are
    adjacent.
    """
    axes, at = counters(shape)
    if any(a.extent == 0 for a in axes):
        return []
    if reverse:
        at[axis] = -at[axis] + (shape[axis] - 1)
    inside = [*before(), *over([axes[axis]], step(at), serial=True)]
    rest = [a for i, a in enumerate(axes) if i != axis and a.extent != 1]
    return over(rest, inside, lanes=bool(rest) and rest[-1].number > axis)


def _from_zero(node: Node) -> str:
    of_floats = node.op.name == "cumsum" and node.output.dtype.kind in "fV"
    return "its sums begin with +0, so one of -0 is +0" if of_floats else EXACT


@rule("cumsum", "cumprod", inexact=_from_zero)
def _running(op: Any, node: Node, nest: Nest) -> list[Stmt]:
    fold = "sum" if op.name == "cumsum" else "prod"
    exclusive = op.name == "cumsum" and op.exclusive
    out = node.output
    if out.ndim == 0:
        return [nest.store((), const(0, out.dtype) if exclusive else nest.read(0, ()))]
    kind = _wide(out.dtype)
    if kind is out.dtype and _has_long_rows(out.shape, op.axis, kind):
        return _running_rows(op, nest, "add" if fold == "sum" else "mul")

    def step(at: list[Index]) -> list[Stmt]:
        update = Update("total", fold, widen(nest.read(0, at)))
        store = nest.store(at, cast(Ref("total", kind), out.dtype))
        return [store, update] if exclusive else [update, store]

    return along(
        out.shape,
        op.axis,
        lambda: [Declare("total", fold, kind)],
        step,
        reverse=op.name == "cumsum" and op.reverse,
    )


def _has_long_rows(shape: Shape, axis: int, dtype: DType) -> bool:
    """Whether going along an axis would go from page to page of memory; not if it may be empty."""
    row, n = product(shape[axis + 1 :]) * dtype.itemsize, shape[axis]
    return isinstance(row, int) and row >= _LONG_ROW and isinstance(n, int) and n > 0


def _running_rows(op: Any, nest: Nest, fn: str) -> list[Stmt]:
    """Running sums row by row, each from the one before, which is still in a cache."""
    out = nest.node.output
    axis, n = op.axis, out.shape[op.axis]
    is_sum = op.name == "cumsum"
    exclusive, reverse = is_sum and op.exclusive, is_sum and op.reverse
    axes, at = counters(out.shape)
    later = Axis(axis, n - 1)
    neutral = const(0 if fn == "add" else 1, out.dtype)

    def row(i: Index) -> list[Index]:
        return [*at[:axis], -i + (n - 1) if reverse else i, *at[axis + 1 :]]

    first, before, now = row(Index()), row(of_axis(later)), row(of_axis(later) + 1)
    begin = neutral if exclusive else call(fn, neutral, nest.read(0, first))
    go_on = call(fn, nest.load(before), nest.read(0, before if exclusive else now))
    inner = axes[axis + 1 :]
    return over(
        axes[:axis],
        [
            *over(inner, [nest.store(first, begin)], lanes=True),
            *over([later], over(inner, [nest.store(now, go_on)], lanes=True), serial=True),
        ],
    )


def _wide(dtype: DType) -> DType:
    return widen(const(0, dtype)).dtype


@rule("linear_scan", inexact=EXACT)
def _linear_scan(op: Any, node: Node, nest: Nest) -> list[Stmt]:
    out = node.output
    kind = _wide(out.dtype)

    def step(at: list[Index]) -> list[Stmt]:
        a, b = (widen(nest.read(i, at)) for i in range(2))
        last = Ref("y", kind)
        first = out.shape[op.axis] - 1 if op.reverse else 0
        begins = test("eq", Position(at[op.axis], int64), size(first, int64))
        # A choice: the first factor, which may be infinite, counts for nothing.
        now = where(begins, b, call("add", b, call("mul", a, last)))
        return [Assign("y", now), nest.store(at, cast(last, out.dtype))]

    return along(out.shape, op.axis, lambda: [Declare("y", "sum", kind)], step, reverse=op.reverse)


@rule("prod_others")
def _prod_others(op: Any, node: Node, nest: Nest) -> list[Stmt]:
    out = node.output

    def start(name: str) -> Callable[[], list[Stmt]]:
        return lambda: [Declare(name, "prod", out.dtype)]

    def before(at: list[Index]) -> list[Stmt]:
        y = Ref("before", out.dtype)
        return [nest.store(at, y), Update("before", "prod", nest.read(0, at))]

    def after(at: list[Index]) -> list[Stmt]:
        y = call("mul", nest.load(at), Ref("after", out.dtype))
        return [nest.store(at, y), Update("after", "prod", nest.read(0, at))]

    last = out.ndim - 1
    return [
        *along(out.shape, last, start("before"), before),
        *along(out.shape, last, start("after"), after, reverse=True),
    ]


# -- what a mask selects --------------------------------------------------------------------------


def _selected(
    nest: Nest, mask: int, step: Callable[[list[Index], Expr, Expr], list[Stmt]]
) -> list[Stmt]:
    """Goes through a mask's elements in order, `step` knowing how many held before."""
    shape = nest.node.inputs[mask].shape
    (axis,), (flat,) = counters((product(shape),))
    at = list(reshaped([flat], (axis.extent,), shape))
    held, count = Ref("held", bool_), Ref("count", int64)
    body = [
        Let("held", nest.read(mask, at)),
        *step(at, held, count),
        Update("count", "sum", cast(held, int64)),
    ]
    loops = over([axis], body, serial=True)
    return [Declare("count", "sum", int64), *loops] if loops else []


@rule("masked_scatter", inexact=EXACT)
def _masked_scatter(op: Any, node: Node, nest: Nest) -> list[Stmt]:
    n = node.inputs[2].shape[0]

    def step(at: list[Index], held: Expr, count: Expr) -> list[Stmt]:
        place = Checked(count, n, False, "masked_scatter: place in the source", int64)
        source = nest.read(2, [taken(place, n)])
        return [nest.store(at, where(held, source, nest.read(0, at)))]

    return _selected(nest, 1, step)


@rule("masked_gather", inexact=EXACT)
def _masked_gather(op: Any, node: Node, nest: Nest) -> list[Stmt]:
    n = node.output.shape[0]

    def step(at: list[Index], held: Expr, count: Expr) -> list[Stmt]:
        fits = test("and", held, test("lt", count, size(n, int64)))
        return [When(fits, (nest.store([taken(count, n)], nest.read(0, at)),))]

    zeros = filled(nest, lambda at: const(0, node.output.dtype))
    return [*zeros, *_selected(nest, 1, step)] if n != 0 else []
