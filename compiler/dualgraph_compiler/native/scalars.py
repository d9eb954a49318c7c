"""Scalar expressions: short ways to build them.

Narrow floats (float16, bfloat16) are float32 in registers: a value of such a dtype is a float32
that the dtype can hold, and "cast" to it rounds.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..dims import DimLike
from ..dtypes import FLOAT, DType, bfloat16, bool_, float16, float32, int64
from .index import Index
from .loops import Call, Const, Expr, Guard, Holds, Load, Position

NARROW = (float16, bfloat16)


def const(value: Any, dtype: DType) -> Const:
    """A literal, rounded to `dtype`."""
    with np.errstate(all="ignore"):
        return Const(np.asarray(value).astype(dtype.np).item(), dtype)


def like(x: Expr, value: Any) -> Const:
    """A literal beside `x`."""
    return const(value, x.dtype)


def call(fn: str, *args: Expr) -> Call:
    """A primitive whose result has the dtype of its operands."""
    return Call(fn, args, args[0].dtype)


def test(fn: str, *args: Expr) -> Call:
    """A primitive whose result is bool."""
    return Call(fn, args, bool_)


def cast(x: Expr, dtype: DType) -> Expr:
    """`x` converted."""
    if x.dtype is dtype:
        return x
    return const(x.value, dtype) if isinstance(x, Const) else Call("cast", (x,), dtype)


def where(cond: Expr, a: Expr, b: Expr) -> Expr:
    """`a` where `cond` holds, else `b`."""
    return Call("where", (cond, a, b), a.dtype)


def truth(x: Expr) -> Expr:
    """Whether `x` is not zero."""
    return x if x.dtype is bool_ else test("ne", x, like(x, 0))


def size(d: DimLike, dtype: DType) -> Expr:
    """A size as a number."""
    return const(d, dtype) if isinstance(d, int) else cast(Position(Index((), d), int64), dtype)


def guarded(guards: tuple[Guard, ...], x: Expr, other: Expr) -> Expr:
    """`x`, read under `guards`, where they hold, else `other`."""
    if not guards:
        return x
    zero = isinstance(other, Const) and not other.value and math.copysign(1, other.value) > 0
    if zero and isinstance(x, Load):
        return x  # which is 0 elsewhere by itself
    return where(Holds(guards, bool_), x, other)


def widen(x: Expr) -> Expr:
    """`x` in the dtype that arithmetic on it is done in."""
    return cast(x, float32) if x.dtype in NARROW else x


def is_float(x: Expr) -> bool:
    """Whether `x` is a real floating-point number."""
    return x.dtype.category == FLOAT
