"""Ops that move elements, and ops that make them from their place: what stands where.

A rule says which element of which operand stands at given coordinates of the result. Nothing is
computed ahead: whoever reads the result reads through the rule, and only what the caller or a
library call needs in memory is ever copied.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeAlias

from ...dims import Dim, Shape, product
from ...dtypes import bool_, float64, int32, int64
from ...graph import Node
from ...ops.base import Op
from ..index import Index, Part, known_less, reshaped
from ..loops import Expr, Guard, Holds, Position
from ..scalars import cast, const, guarded, size, where
from ..windows import Windows
from .registry import EXACT, registering, unlisted

Coords: TypeAlias = Sequence[Index]


class Reader(Protocol):
    """Gives the elements of a node's operands."""

    def __call__(self, operand: int, coords: Coords, guards: tuple[Guard, ...] = ()) -> Expr:
        """The element of an operand at `coords`, which need to exist where `guards` hold only."""
        ...


Rule: TypeAlias = Callable[[Any, Node, Coords, Reader], Expr]
RULES: dict[type[Op], Rule] = {}
_rule = registering(RULES, EXACT)


def why_not(node: Node) -> str | None:
    """Why a node cannot be read through; None where it can."""
    op: Any = node.op
    if op.name == "pad_mode" and sum(any(p) for p in op.pads) > 2:
        return "padding of more than two axes with its own elements has no native form yet"
    return unlisted(node, RULES)


def _shape(node: Node, operand: int = 0) -> Shape:
    return node.inputs[operand].shape


# -- views ----------------------------------------------------------------------------------------


@_rule("reshape")
def _reshape(op: Any, node: Node, at: Coords, read: Reader) -> Expr:
    return read(0, reshaped(at, node.output.shape, _shape(node)))


@_rule("expand")
def _expand(op: Any, node: Node, at: Coords, read: Reader) -> Expr:
    old = _shape(node)
    tail = list(at)[len(at) - len(old) :]
    return read(0, [Index() if d == 1 else c for c, d in zip(tail, old, strict=True)])


@_rule("permute")
def _permute(op: Any, node: Node, at: Coords, read: Reader) -> Expr:
    return read(0, [at[op.axes.index(a)] for a in range(len(op.axes))])


@_rule("slice")
def _slice(op: Any, node: Node, at: Coords, read: Reader) -> Expr:
    return read(0, [c * s + a for c, s, a in zip(at, op.steps, op.starts, strict=True)])


@_rule("flip")
def _flip(op: Any, node: Node, at: Coords, read: Reader) -> Expr:
    shape = _shape(node)
    axes = op.axes if shape else ()
    return read(0, [-c + (shape[i] - 1) if i in axes else c for i, c in enumerate(at)])


@_rule("diagonal")
def _diagonal(op: Any, node: Node, at: Coords, read: Reader) -> Expr:
    inner = list(at[:-1])
    ends = sorted(
        [(op.axis1, at[-1] + max(-op.offset, 0)), (op.axis2, at[-1] + max(op.offset, 0))],
        key=lambda e: e[0],
    )
    for axis, c in ends:
        inner.insert(axis, c)
    return read(0, inner)


def _window(op: Any, node: Node, at: Coords, read: Reader) -> Expr:
    rank = len(op.kernel)
    lead, places, within = at[: -2 * rank], at[-2 * rank : -rank], at[-rank:]
    guards: list[Guard] = []
    inner: list[Index] = []
    for d in range(rank):
        n = _shape(node)[len(lead) + d]
        c = places[d] * op.stride[d] + within[d] * op.dilation[d] + -op.before[d]
        low, high = c.bounds()
        if not (known_less(-1, low) and known_less(high, n)):
            guards.append(Guard(c, 0, n))
        inner.append(c)
    kept = tuple(guards)
    return guarded(kept, read(0, [*lead, *inner], kept), const(op.fill, node.output.dtype))


RULES[Windows] = _window


@_rule("barrier")
def _barrier(op: Any, node: Node, at: Coords, read: Reader) -> Expr:
    return read(0, at)


# -- parts replaced or masked ---------------------------------------------------------------------


def _inside(op: Any, at: Coords) -> tuple[tuple[Guard, ...], list[Index]]:
    """For a slice: when coordinates are within it, and then their coordinates in it."""
    guards: list[Guard] = []
    inner: list[Index] = []
    for c, start, stop, step in zip(at, op.starts, op.stops, op.steps, strict=True):
        offset = c + -start
        guards.append(Guard(c, start, stop))
        if step > 1:
            guards.append(Guard(Index(((Part(offset, step, True), 1),)), 0, 1))
            offset = Index(((Part(offset, step, False), 1),))
        inner.append(offset)
    return tuple(guards), inner


def _needed(guards: Sequence[Guard], shape: Shape, at: Coords) -> tuple[Guard, ...]:
    """Without those that hold for all coordinates of `shape`."""
    whole = {Guard(c, 0, d) for c, d in zip(at, shape, strict=True)}
    return tuple(g for g in guards if g not in whole)


@_rule("slice_grad")
def _slice_grad(op: Any, node: Node, at: Coords, read: Reader) -> Expr:
    guards, inner = _inside(op, at)
    guards = _needed(guards, node.output.shape, at)
    return guarded(guards, read(0, inner, guards), const(0, node.output.dtype))


@_rule("slice_update")
def _slice_update(op: Any, node: Node, at: Coords, read: Reader) -> Expr:
    guards, inner = _inside(op, at)
    guards = _needed(guards, node.output.shape, at)
    if not guards:
        return read(1, inner)
    return where(Holds(guards, bool_), read(1, inner, guards), read(0, at))


@_rule("pad")
def _pad(op: Any, node: Node, at: Coords, read: Reader) -> Expr:
    guards: list[Guard] = []
    inner: list[Index] = []
    for c, (lo, hi), d in zip(at, op.pads, _shape(node), strict=True):
        inner.append(c + -lo)
        least, most = c.bounds()
        within = known_less(lo - 1, least) and known_less(most, lo + d)
        if not within and not (lo == 0 and hi == 0):
            guards.append(Guard(c, lo, lo + d))
    kept = tuple(guards)
    return guarded(kept, read(0, inner, kept), const(op.value, node.output.dtype))


@_rule("pad_mode")
def _pad_mode(op: Any, node: Node, at: Coords, read: Reader) -> Expr:
    shape = _shape(node)

    def along(axis: int, inner: list[Index], guards: tuple[Guard, ...]) -> Expr:
        if axis == len(shape):
            return read(0, inner, guards)
        (lo, hi), n, c = op.pads[axis], shape[axis], at[axis]
        middle = c + -lo
        if lo == 0 and hi == 0:
            return along(axis + 1, [*inner, middle], guards)
        before, after = {
            "reflect": (-middle, -middle + (2 * n - 2)),
            "replicate": (Index(), Index((), n - 1)),
            "circular": (middle + n, middle + -n),
        }[op.mode]
        first, last = Guard(c, None, lo), Guard(c, lo + n, None)
        inside = Guard(c, lo, lo + n)
        y = along(axis + 1, [*inner, middle], (*guards, inside))
        if hi != 0:
            edge = along(axis + 1, [*inner, after], (*guards, last))
            y = where(Holds((last,), bool_), edge, y)
        if lo != 0:
            edge = along(axis + 1, [*inner, before], (*guards, first))
            y = where(Holds((first,), bool_), edge, y)
        return y

    return along(0, [], ())


@_rule("diagonal_update")
def _diagonal_update(op: Any, node: Node, at: Coords, read: Reader) -> Expr:
    row, column = at[op.axis1], at[op.axis2]
    guards = (Guard(column + -row, op.offset, op.offset + 1),)
    inner = [c for i, c in enumerate(at) if i not in (op.axis1, op.axis2)]
    inner.append(row + -max(-op.offset, 0))
    return where(Holds(guards, bool_), read(1, inner, guards), read(0, at))


@_rule("tril", "triu")
def _triangle(op: Any, node: Node, at: Coords, read: Reader) -> Expr:
    across = at[-1] + -at[-2]
    keep = (
        Guard(across, op.diagonal, None)
        if op.name == "triu"
        else Guard(across, None, op.diagonal + 1)
    )
    return guarded((keep,), read(0, at, (keep,)), const(0, node.output.dtype))


# -- made from their place ------------------------------------------------------------------------


@_rule("full")
def _full(op: Any, node: Node, at: Coords, read: Reader) -> Expr:
    return const(op.value, op.dtype)


@_rule("arange")
def _arange(op: Any, node: Node, at: Coords, read: Reader) -> Expr:
    if isinstance(op.start, float) or isinstance(op.step, float):
        from ..scalars import call

        steps = call("mul", cast(Position(at[0], int64), float64), const(op.step, float64))
        start = size(op.start, float64) if isinstance(op.start, Dim) else const(op.start, float64)
        return cast(call("add", steps, start), op.dtype)
    place = at[0] * op.step + op.start
    if op.dtype is int32 and all(isinstance(d, int) and abs(d) < 2**31 for d in place.bounds()):
        return Position(place, int32)
    return cast(Position(place, int64), op.dtype)


@_rule("eye")
def _eye(op: Any, node: Node, at: Coords, read: Reader) -> Expr:
    return cast(Holds((Guard(at[1] + -at[0], op.diagonal, op.diagonal + 1),), bool_), op.dtype)


@_rule("dim_value")
def _dim_value(op: Any, node: Node, at: Coords, read: Reader) -> Expr:
    return size(op.dim, int64)


@_rule("num_elements")
def _num_elements(op: Any, node: Node, at: Coords, read: Reader) -> Expr:
    shape = _shape(node)
    return size(product(tuple(shape[a] for a in op.axes)), node.output.dtype)
