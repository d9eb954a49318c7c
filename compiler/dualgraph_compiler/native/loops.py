"""The loop IR: what one kernel computes, as loops over typed scalars.

A `Kernel` reads and writes flat buffers. Its body is a list of statements: loops, definitions of
scalars, accumulators, stores. Everything is written for one element; `lanes` marks the loop whose
steps the renderer carries out several at a time, as vectors.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from ..dims import DimLike, product
from ..dtypes import DType
from .index import Axis, Index


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
    """An index as a number, int64."""

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


Expr: TypeAlias = Const | Load | Position | Holds | Ref | Call


def walk(expr: Expr) -> Iterator[Expr]:
    """The expression and everything in it."""
    yield expr
    if isinstance(expr, Call):
        for a in expr.args:
            yield from walk(a)


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
    is `within`, runs over those.
    """

    axis: Axis
    body: tuple[Stmt, ...]
    lanes: bool = False
    block: int = 0
    within: bool = False


@dataclass(frozen=True, slots=True)
class Tasks:
    """Loops that may be run in parts, by several threads; only at the top of a kernel.

    Runs `body` for each step of each of `axes`, the last of which is innermost. With `block` it
    takes so many steps of that last axis at a time, and a loop inside, which is `within`, runs over
    them. No step may read what another one writes.
    """

    axes: tuple[Axis, ...]
    body: tuple[Stmt, ...]
    block: int = 0

    @property
    def number(self) -> DimLike:
        """How many parts there are."""
        extents = [a.extent for a in self.axes]
        if self.block:
            extents[-1] = (extents[-1] + (self.block - 1)) // self.block
        return product(tuple(extents))


Stmt: TypeAlias = Let | Store | Declare | Update | Finish | Loop | Tasks


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
        if isinstance(s, Loop | Tasks):
            yield from expressions(s.body)
        elif isinstance(s, Let | Store | Update):
            yield from walk(s.expr)
