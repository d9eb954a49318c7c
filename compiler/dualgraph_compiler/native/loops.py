"""The loop IR: what one kernel computes, as loops over typed scalars.

A `Kernel` reads and writes flat buffers. Its body is a list of statements: loops, definitions of
scalars, accumulators, stores. Everything is written for one element; `lanes` marks the loop whose
steps the renderer carries out several at a time, as vectors.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

from ..dims import DimLike, product
from ..dtypes import DType
from .index import Axis, Index, Taken


@dataclass(frozen=True, slots=True, eq=False)
class Buffer:
    """Memory that holds `size` elements of a dtype; `name` says which value, for comments."""

    dtype: DType
    size: DimLike
    name: str


# -- scalars --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Guard:
    """Holds where ``low <= index < high``; None leaves an end open."""

    index: Index
    low: DimLike | None
    high: DimLike | None


@dataclass(frozen=True, slots=True)
class Const:
    """A literal."""

    value: Any
    dtype: DType


@dataclass(frozen=True, slots=True)
class Load:
    """An element of a buffer; 0 where a guard does not hold, and then memory is not touched."""

    buffer: Buffer
    at: Index
    guards: tuple[Guard, ...]
    dtype: DType


@dataclass(frozen=True, slots=True)
class Position:
    """An index as a number, int64 or an integer type that holds it."""

    at: Index
    dtype: DType


@dataclass(frozen=True, slots=True)
class Holds:
    """Whether all guards hold, as a bool."""

    guards: tuple[Guard, ...]
    dtype: DType


@dataclass(frozen=True, slots=True)
class Ref:
    """A scalar defined by a `Let` or `Finish` before."""

    name: str
    dtype: DType


@dataclass(frozen=True, slots=True)
class Call:
    """A primitive of `scalars.PRIMITIVES`, or "cast" to `dtype`."""

    fn: str
    args: tuple[Expr, ...]
    dtype: DType


@dataclass(frozen=True, slots=True)
class Checked:
    """`index`, an int64, if it is within [0, size); else the program ends with an error.

    Where `negative` holds, one within [-size, 0) counts from the end. `what` names it in the error:
    "gather: index". `inclusive`: `size` itself is within the range.
    """

    index: Expr
    size: DimLike
    negative: bool
    what: str
    dtype: DType
    inclusive: bool = False


Expr: TypeAlias = Const | Load | Position | Holds | Ref | Call | Checked


def walk(expr: Expr, *, indices: bool = True) -> Iterator[Expr]:
    """The expression and everything in it; with `indices` also what its indices are made of."""
    yield expr
    if isinstance(expr, Call):
        for a in expr.args:
            yield from walk(a, indices=indices)
    elif isinstance(expr, Checked):
        yield from walk(expr.index, indices=indices)
    elif indices:
        for index in indices_of(expr):
            for t in index.taken():
                yield from walk(t.value)


def indices_of(expr: Expr) -> list[Index]:
    """The indices of a load, a position or guards."""
    found = [expr.at] if isinstance(expr, Load | Position) else []
    return found + [g.index for g in expr.guards] if isinstance(expr, Load | Holds) else found


def taken(value: Expr, extent: DimLike, along: Iterable[Axis] = ()) -> Index:
    """An index that is computed from data: `value` is an int64 within [0, extent).

    `along` are counters that scalars defined before, to which `value` refers, depend on.
    """
    if isinstance(value, Const):
        return Index((), value.value)
    counters = set(along)
    for e in walk(value):
        for index in indices_of(e):
            counters |= index.axes()
    return Index(((Taken(value, extent, frozenset(counters)), 1),))


def substituted(expr: Expr, new: Mapping[Axis, Index]) -> Expr:
    """`expr` with counters replaced by indices."""
    if isinstance(expr, Call):
        return replace(expr, args=tuple(substituted(a, new) for a in expr.args))
    if isinstance(expr, Checked):
        return replace(expr, index=substituted(expr.index, new))
    if isinstance(expr, Position):
        return replace(expr, at=expr.at.substitute(new))
    if isinstance(expr, Load | Holds):
        guards = tuple(Guard(g.index.substitute(new), g.low, g.high) for g in expr.guards)
        if isinstance(expr, Holds):
            return replace(expr, guards=guards)
        return replace(expr, at=expr.at.substitute(new), guards=guards)
    return expr


# -- statements -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Let:
    """Defines a scalar; `note` says which node it is."""

    name: str
    expr: Expr
    note: str = ""


@dataclass(frozen=True, slots=True)
class Store:
    """Writes one element."""

    buffer: Buffer
    at: Index
    expr: Expr


@dataclass(frozen=True, slots=True)
class Declare:
    """An accumulator at the identity of `fold`: sum, prod, max, min, any, all."""

    name: str
    fold: str
    dtype: DType


@dataclass(frozen=True, slots=True)
class Update:
    """Folds a scalar into an accumulator."""

    name: str
    fold: str
    expr: Expr


@dataclass(frozen=True, slots=True)
class Assign:
    """Gives an accumulator another value."""

    name: str
    expr: Expr


@dataclass(frozen=True, slots=True)
class Finish:
    """Defines `name` as the value of an accumulator, once its loops have run."""

    name: str
    accumulator: str
    fold: str
    dtype: DType


@dataclass(frozen=True, slots=True)
class Loop:
    """Runs `body` for each step of `axis`; `lanes`: steps may be taken several at a time.

    With `block` it runs `body` for each so many steps, and a loop over the same axis inside, which
    is `within`, runs over those. `serial`: a step needs what the step before has done.
    """

    axis: Axis
    body: tuple[Stmt, ...]
    lanes: bool = False
    block: int = 0
    within: bool = False
    serial: bool = False


@dataclass(frozen=True, slots=True)
class Words:
    """Defines the four words of a block of a random stream (Philox4x32-10): uint64 below 2^32.

    `seed` and `offset` are uint64; the block is number ``offset + block`` of the stream.
    """

    names: tuple[str, str, str, str]
    seed: Expr
    offset: Expr
    block: Index


@dataclass(frozen=True, slots=True)
class When:
    """Runs `body` where `cond` holds; not inside a loop of vectors."""

    cond: Expr
    body: tuple[Stmt, ...]


@dataclass(frozen=True, slots=True)
class Tasks:
    """Loops that may be run in parts, by several threads; only at the top of a kernel.

    Runs `body` for each step of each of `axes`, the last of which is innermost. With `block` it
    takes so many steps of that last axis at a time, and a loop inside, which is `within`, runs over
    them. No step may read what another one writes.
    """

    axes: tuple[Axis, ...]
    body: tuple[Stmt, ...]
    block: DimLike = 0

    @property
    def counter(self) -> Axis:
        """The counter of the last axis; of its blocks, if it is taken in blocks."""
        last = self.axes[-1]
        if self.block == 0:
            return last
        return Axis(_BLOCKS + last.number, (last.extent + (self.block - 1)) // self.block)

    @property
    def number(self) -> DimLike:
        """How many parts there are."""
        if not self.axes:
            return 1
        return product(tuple(a.extent for a in (*self.axes[:-1], self.counter)))


_BLOCKS = 1000  # the number of the first counter of blocks

Stmt: TypeAlias = Let | Store | Declare | Update | Assign | Words | Finish | Loop | When | Tasks


@dataclass(frozen=True, slots=True)
class Kernel:
    """`reads` and `writes` are its buffers, `scratch` memory that each thread has for itself."""

    body: tuple[Stmt, ...]
    reads: tuple[Buffer, ...]
    writes: tuple[Buffer, ...]
    scratch: tuple[Buffer, ...] = ()
    notes: tuple[str, ...] = field(default=())


def expressions(body: tuple[Stmt, ...]) -> Iterator[Expr]:
    """Every expression of the statements, parts included."""
    for s in body:
        if isinstance(s, When):
            yield from walk(s.cond)
        if isinstance(s, Words):
            yield from (*walk(s.seed), *walk(s.offset))
        if isinstance(s, Loop | When | Tasks):
            yield from expressions(s.body)
        elif isinstance(s, Let | Store | Update | Assign):
            yield from walk(s.expr)
        if isinstance(s, Store):
            for t in s.at.taken():
                yield from walk(t.value)


def moved(body: Sequence[Stmt], new: Mapping[Axis, Index]) -> tuple[Stmt, ...]:
    """Pointwise statements with counters replaced by indices."""
    found: list[Stmt] = []
    for s in body:
        if isinstance(s, Loop):
            found.append(replace(s, body=moved(s.body, new)))
        elif isinstance(s, Let):
            found.append(replace(s, expr=substituted(s.expr, new)))
        else:
            assert isinstance(s, Store)
            found.append(replace(s, at=s.at.substitute(new), expr=substituted(s.expr, new)))
    return tuple(found)
