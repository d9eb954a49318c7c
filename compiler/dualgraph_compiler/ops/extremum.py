"""Magnitude, sign, and the larger or smaller of operands."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np

from ..dtypes import BOOL, COMPLEX, FLOAT, INT, REAL_OF, DType, dtype_of
from ..types import TensorType
from . import f
from .base import Array, Grad, Onnx, op
from .onnx_rules import Export, Import, from_onnx
from .onnx_types import emit
from .pointwise import Add, Pointwise, zero_grad


@op
class Abs(Pointwise):
    """|x|; the real magnitude of a complex x. The gradient at 0 is 0. Source: ONNX Abs-13."""

    categories = (INT, FLOAT, COMPLEX)
    onnx = Onnx("Abs", 6)
    ufunc = "absolute"

    def infer(self, x: TensorType) -> TensorType:
        x = Pointwise.infer(self, x)
        return x.with_dtype(REAL_OF.get(x.dtype, x.dtype))

    def eager(self, xp: Any, x: Array) -> Array:
        return xp.absolute(x)

    def vjp(self, g: Array, _y: Array, x: Array) -> tuple[Grad, ...]:
        return (lambda: f.cast(g, dtype_of(x)) * Sign()(x),)


@op
class Sign(Pointwise):
    """-1, 0 or 1; 0 for NaN; x / |x| of a complex x (PyTorch's sgn). Source: ONNX Sign-13."""

    onnx = Onnx("Sign", 9)

    def eager(self, xp: Any, x: Array) -> Array:
        if x.dtype.kind == "b":
            return x.copy()
        if x.dtype.kind == "c":  # spelled out: array libraries differ
            magnitude = xp.absolute(x)
            return xp.where(magnitude == 0, x.dtype.type(0), x / magnitude)
        y = xp.sign(x)
        return y if x.dtype.kind in "iu" else xp.where(y == y, y, y.dtype.type(0))

    def vjp(self, g: Array, y: Array, x: Array) -> tuple[Grad, ...]:
        if not dtype_of(x).is_complex:
            return zero_grad(g)
        return (lambda: _direction_slope(g, y, x),)

    def to_onnx(self, ctx: Export, x: str) -> str:
        dtype = ctx.type(x).dtype
        return x if dtype.category == BOOL else emit(ctx, dtype, "Sign", x)


def _direction_slope(g: Array, y: Array, x: Array) -> Array:
    """Only the part of `g` across the direction y turns it, the less the larger |x|; 0 at 0."""
    magnitude = Abs()(x)
    along = f.real(f.conj(y) * g)
    across = (g - y * f.cast(along, dtype_of(g))) / f.cast(magnitude, dtype_of(g))
    return f.where(f.equal(magnitude, 0), 0, across)


class Extremum(Pointwise):
    """The larger or smaller of two real operands; NaN wins. Ties share the gradient."""

    __slots__ = ()
    categories = (BOOL, INT, FLOAT)

    def _grads(self, loses: Callable[..., Array], g: Array, a: Array, b: Array) -> tuple[Grad, ...]:
        def grad(own: Array, other: Array) -> Array:
            share = f.where(f.equal(own, other), g * f.like(g, 0.5), g)
            return f.unbroadcast(f.where(loses(own, other), 0, share), own.shape)

        return lambda: grad(a, b), lambda: grad(b, a)


@op
class Maximum(Extremum):
    """The larger of two operands; NaN where either is. Source: ONNX Max-13."""

    onnx = Onnx("Max", 8)
    ufunc = "maximum"

    def eager(self, xp: Any, a: Array, b: Array) -> Array:
        return xp.maximum(a, b)

    def vjp(self, g: Array, _y: Array, a: Array, b: Array) -> tuple[Grad, ...]:
        return self._grads(f.less, g, a, b)


@op
class Minimum(Extremum):
    """The smaller of two operands; NaN where either is. Source: ONNX Min-13."""

    onnx = Onnx("Min", 8)
    ufunc = "minimum"

    def eager(self, xp: Any, a: Array, b: Array) -> Array:
        return xp.minimum(a, b)

    def vjp(self, g: Array, _y: Array, a: Array, b: Array) -> tuple[Grad, ...]:
        return self._grads(f.greater, g, a, b)


def _fold(binary: Callable[..., Any]) -> Callable[..., Any]:
    """The import rule of a variadic operator."""
    return lambda ctx, first, *rest: functools.reduce(binary, rest, first)


from_onnx("Max")(_fold(lambda a, b: Maximum()(a, b)))
from_onnx("Min")(_fold(lambda a, b: Minimum()(a, b)))
from_onnx("Sum")(_fold(lambda a, b: Add()(a, b)))


@from_onnx("Mean")
def _import_mean(ctx: Import, *xs: Any) -> Any:
    total = functools.reduce(lambda a, b: a + b, xs)
    return total / f.like(total, len(xs))


@op
class Clip(Pointwise):
    """x limited to [min, max]; None leaves an end open, and max wins where min > max.

    NaN stays NaN. The gradient passes at the bounds themselves. Limits of integer operands are
    rounded into their range. Source: ONNX Clip-13; PyTorch clamp.
    """

    min: float | None = None
    max: float | None = None
    categories: ClassVar[tuple[int, ...]] = (INT, FLOAT)

    def eager(self, xp: Any, x: Array) -> Array:
        return limit(xp, x, self.min, self.max)

    def vjp(self, g: Array, _y: Array, x: Array) -> tuple[Grad, ...]:
        return (lambda: f.where(self._inside(x), g, 0),)

    def _inside(self, x: Array) -> Array:
        if self.min is None:
            return f.less_equal(x, math.inf if self.max is None else self.max)
        above = f.greater_equal(x, self.min)
        return above if self.max is None else above & f.less_equal(x, self.max)

    def to_onnx(self, ctx: Export, x: str) -> str:
        dtype = ctx.type(x).dtype
        low, high = (None if v is None else in_range(dtype, v) for v in (self.min, self.max))
        if low is not None and high is not None and low > high:
            low = high  # ONNX leaves this case open
        ends = ["" if v is None else ctx.constant(v, dtype) for v in (low, high)]
        return emit(ctx, dtype, "Clip", x, *ends)


def in_range(dtype: DType, value: float) -> float:
    """`value` within what an integer type holds, towards zero; as it is for a floating type."""
    if dtype.category == FLOAT:
        return value
    info = np.iinfo(dtype.np)
    return min(max(value, int(info.min)), int(info.max)).__trunc__()


def limit(xp: Any, x: Array, low: float | None, high: float | None) -> Array:
    """`x` limited to [low, high], in x's dtype; NaN stays."""
    dtype = dtype_of(x)
    if low is not None:
        x = xp.maximum(x, x.dtype.type(in_range(dtype, low)))
    if high is not None:
        x = xp.minimum(x, x.dtype.type(in_range(dtype, high)))
    return x.copy() if low is None and high is None else x


@from_onnx("Clip")
def _import_clip(ctx: Import, x: Any, low: Any = None, high: Any = None) -> Any:
    ends = [None if v is None else ctx.array(v) for v in (low, high)]
    if all(v is None or a is not None for v, a in zip((low, high), ends)):
        return Clip(*(None if a is None else a.item() for a in ends))(x)
    x = x if low is None else Maximum()(x, low)
    return x if high is None else Minimum()(x, high)
