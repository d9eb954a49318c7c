"""Ops that read where an index tensor says: what stands where is computed from data.

As in `movement`, nothing is computed ahead. Every index is checked as it is read, before anything
is read by it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ...dims import DimLike, product
from ...dtypes import int64
from ...graph import Node
from ...ops.base import REGISTRY
from ..classes import Pick, Spread
from ..index import Index, unflatten
from ..loops import Checked, Const, Expr, Position, taken
from ..scalars import call, cast, const, like, test, where
from .movement import RULES, Coords, Reader, _rule


def checked(index: Expr, size: DimLike, what: str, *, negative: bool = True) -> Expr:
    """`index` within [0, size), or an error that names it `what`."""
    if isinstance(index, Const) and isinstance(size, int):
        least = -size if negative else 0
        if least <= index.value < size:
            return const(index.value % size, int64)
    return Checked(cast(index, int64), size, negative, what, int64)


def _row(node: Node, index: Expr, size: DimLike, what: str, *, negative: bool = True) -> Index:
    """The place that operand 1 says, checked unless all of its numbers are known to be in range."""
    given = node.inputs[1]
    known = given.is_constant and isinstance(size, int) and given.data.size > 0
    if known and given.data.min() >= 0 and given.data.max() < size:
        return taken(cast(index, int64), size)
    return _at(index, size, what, negative=negative)


def _at(index: Expr, size: DimLike, what: str, *, negative: bool = True) -> Index:
    return taken(checked(index, size, what, negative=negative), size)


@_rule("gather")
def _gather(op: Any, node: Node, at: Coords, read: Reader) -> Expr:
    x = node.inputs[0]
    if x.ndim == 0:
        x_only = read(0, ())
        first = checked(read(1, ()), 1, "gather: index", negative=False)
        return where(test("eq", first, const(0, int64)), x_only, like(x_only, 0))
    inner = list(at)
    inner[op.axis] = _row(node, read(1, at), x.shape[op.axis], "gather: index")
    return read(0, inner)


@_rule("index_select", "embedding")
def _index_select(op: Any, node: Node, at: Coords, read: Reader) -> Expr:
    x, index = node.inputs
    axis = op.axis if op.name == "index_select" else 0
    stop = axis + index.ndim
    size = x.shape[axis]
    what = f"{op.name}: index"
    index_of = read(1, at[axis:stop])
    row = _row(node, index_of, size, what, negative=op.name == "index_select")
    return read(0, [*at[:axis], row, *at[stop:]])


def picked_places(op: Any, node: Node, at: Coords, read: Reader, first: int) -> list[Index]:
    """Coordinates in x of the element at `at` of ``x[index]``; indices are operands `first` on."""
    x, indices = node.inputs[0], node.inputs[first:]
    rank = max(i.ndim for i in indices)
    lead = op.axes[0] if op.adjacent else 0
    rest = [*at[:lead], *at[lead + rank :]]
    inner = iter(rest)
    places = {a: _indexed(node, read, first + i, at, lead, rank) for i, a in enumerate(op.axes)}
    return [
        _at(places[a], x.shape[a], f"{op.name}: index of dimension {a}")
        if a in places
        else next(inner)
        for a in range(x.ndim)
    ]


def _indexed(node: Node, read: Reader, operand: int, at: Coords, lead: int, rank: int) -> Expr:
    """An index tensor, broadcast against the others, at the coordinates of the result."""
    shape = node.inputs[operand].shape
    own = at[lead + rank - len(shape) : lead + rank]
    return read(operand, [Index() if d == 1 else c for c, d in zip(own, shape, strict=True)])


@_rule("index")
def _index(op: Any, node: Node, at: Coords, read: Reader) -> Expr:
    return read(0, picked_places(op, node, at, read, 1))


@_rule("max_pool_gather")
def _max_pool_gather(op: Any, node: Node, at: Coords, read: Reader) -> Expr:
    sizes = node.inputs[0].shape[2:]
    place = _at(read(1, at), product(sizes), "max_pool_gather: index", negative=False)
    return read(0, [*at[:2], *unflatten(place, sizes)])


# -- compared with an index -----------------------------------------------------------------------


@_rule("one_hot")
def _one_hot(op: Any, node: Node, at: Coords, read: Reader) -> Expr:
    index = checked(read(0, at[:-1]), op.depth, "one_hot: index", negative=False)
    return cast(test("eq", index, Position(at[-1], int64)), op.dtype)


@_rule("sequence_mask")
def _sequence_mask(op: Any, node: Node, at: Coords, read: Reader) -> Expr:
    return test("lt", Position(at[0], int64), read(0, at[1:]))


@_rule("reverse_sequence")
def _reverse_sequence(op: Any, node: Node, at: Coords, read: Reader) -> Expr:
    steps = node.inputs[0].shape[0]
    length = Checked(read(1, at[1:2]), steps, False, "reverse_sequence: length", int64, True)
    here = Position(at[0], int64)
    mirrored = call("sub", call("sub", length, const(1, int64)), here)
    source = where(test("lt", here, length), mirrored, here)
    return read(0, [taken(source, steps), *at[1:]])


# -- classes --------------------------------------------------------------------------------------


def _target(op: Any, index: Expr, classes: DimLike) -> Expr:
    """A class index; 0 where it is the one to ignore."""
    index = cast(index, int64)
    if op.ignored is not None:
        skip = test("eq", index, const(op.ignored, int64))
        index = where(skip, const(0, int64), index)
    return checked(index, classes, "nll_loss: target", negative=False)


def _pick(op: Any, node: Node, at: Sequence[Index], read: Reader) -> Expr:
    classes = node.inputs[0].shape[op.axis]
    target = taken(_target(op, read(1, at), classes), classes)
    return read(0, [*at[: op.axis], target, *at[op.axis :]])


def _spread(op: Any, node: Node, at: Sequence[Index], read: Reader) -> Expr:
    rest = [*at[: op.axis], *at[op.axis + 1 :]]
    hit = test("eq", _target(op, read(1, rest), op.classes), Position(at[op.axis], int64))
    y = read(0, rest)
    return where(hit, y, like(y, 0))


RULES[Pick] = _pick
RULES[Spread] = _spread

# Ops whose result is an error where an index is out of range.
CHECKING = {Pick, Spread} | {
    REGISTRY[name]
    for name in (
        "gather",
        "index_select",
        "embedding",
        "index",
        "one_hot",
        "reverse_sequence",
        "max_pool_gather",
    )
}
