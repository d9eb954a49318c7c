"""Functions of one operand: roots, exponentials, logarithms, erf, rounding."""

from __future__ import annotations

import math
from typing import Any

from ..dtypes import FLOAT, INT
from ..kernels import special
from ..kernels.arrays import narrow, widen
from . import f
from .base import Array, Grad, Onnx, op
from .onnx_rules import Export
from .onnx_types import Writer
from .pointwise import FloatPointwise, Pointwise, RealPointwise, power, zero_grad
from .quotient import emit_trunc

# -- roots ---------------------------------------------------------------------------------------


@op
class Sqrt(FloatPointwise):
    """The square root; its gradient at 0 is infinite. Source: ONNX Sqrt-13."""

    is_costly = False
    onnx = Onnx("Sqrt", 6)
    ufunc = "sqrt"

    def eager(self, xp: Any, x: Array) -> Array:
        return xp.sqrt(x)

    def vjp(self, g: Array, y: Array, _x: Array) -> tuple[Grad, ...]:
        return (g / f.conj(y + y),)


@op
class Rsqrt(FloatPointwise):
    """1 / sqrt(x). Source: PyTorch rsqrt; ONNX Sqrt-13 and Reciprocal-13."""

    is_costly = False

    def eager(self, xp: Any, x: Array) -> Array:
        return narrow(xp.reciprocal(xp.sqrt(widen(x))), x.dtype)

    def vjp(self, g: Array, y: Array, _x: Array) -> tuple[Grad, ...]:
        return (lambda: g * f.conj(y * y * y * f.like(y, -0.5)),)

    def to_onnx(self, ctx: Export, x: str) -> str:
        w = Writer(ctx, ctx.type(x).dtype)
        return w("Reciprocal", w("Sqrt", x))


# -- exponentials and logarithms -----------------------------------------------------------------


@op
class Exp(FloatPointwise):
    """e**x. Source: ONNX Exp-13."""

    onnx = Onnx("Exp", 6)
    ufunc = "exp"

    def eager(self, xp: Any, x: Array) -> Array:
        return xp.exp(x)

    def vjp(self, g: Array, y: Array, _x: Array) -> tuple[Grad, ...]:
        return (g * f.conj(y),)


@op
class Exp2(FloatPointwise):
    """2**x. Source: PyTorch exp2; ONNX Pow-15."""

    ufunc = "exp2"

    def eager(self, xp: Any, x: Array) -> Array:
        return xp.exp2(x)

    def vjp(self, g: Array, y: Array, _x: Array) -> tuple[Grad, ...]:
        return (lambda: g * f.conj(y * f.like(y, math.log(2))),)

    def to_onnx(self, ctx: Export, x: str) -> str:
        w = Writer(ctx, ctx.type(x).dtype)
        return power(ctx, w.dtype, w.number(2), x)


@op
class Expm1(FloatPointwise):
    """e**x - 1, accurate near 0. Source: PyTorch expm1."""

    ufunc = "expm1"

    def eager(self, xp: Any, x: Array) -> Array:
        return xp.expm1(x)

    def vjp(self, g: Array, y: Array, _x: Array) -> tuple[Grad, ...]:
        return (lambda: g * f.conj(y + f.like(y, 1)),)

    def to_onnx(self, ctx: Export, x: str) -> str:
        # tanh(x/2) (e**x + 1) is the same function and does not cancel near 0.
        w = Writer(ctx, ctx.type(x).dtype)
        half = w("Tanh", w("Mul", x, w.number(0.5)))
        return w("Mul", half, w("Add", w("Exp", x), w.number(1)))


@op
class Log(FloatPointwise):
    """The natural logarithm; -inf at 0. Source: ONNX Log-13."""

    onnx = Onnx("Log", 6)
    ufunc = "log"

    def eager(self, xp: Any, x: Array) -> Array:
        return xp.log(x)

    def vjp(self, g: Array, _y: Array, x: Array) -> tuple[Grad, ...]:
        return (lambda: g / f.conj(x),)


@op
class Log2(FloatPointwise):
    """The logarithm to base 2. Source: PyTorch log2; ONNX Log-13."""

    ufunc = "log2"

    def eager(self, xp: Any, x: Array) -> Array:
        return xp.log2(x)

    def vjp(self, g: Array, _y: Array, x: Array) -> tuple[Grad, ...]:
        return (lambda: g / f.conj(x * f.like(x, math.log(2))),)

    def to_onnx(self, ctx: Export, x: str) -> str:
        return _emit_log(Writer(ctx, ctx.type(x).dtype), x, 2)


@op
class Log10(FloatPointwise):
    """The logarithm to base 10. Source: PyTorch log10; ONNX Log-13."""

    ufunc = "log10"

    def eager(self, xp: Any, x: Array) -> Array:
        return xp.log10(x)

    def vjp(self, g: Array, _y: Array, x: Array) -> tuple[Grad, ...]:
        return (lambda: g / f.conj(x * f.like(x, math.log(10))),)

    def to_onnx(self, ctx: Export, x: str) -> str:
        return _emit_log(Writer(ctx, ctx.type(x).dtype), x, 10)


def _emit_log(w: Writer, x: str, base: int) -> str:
    return w("Div", w("Log", x), w.number(math.log(base)))


@op
class Log1p(FloatPointwise):
    """log(1 + x), accurate near 0. Source: PyTorch log1p."""

    ufunc = "log1p"

    def eager(self, xp: Any, x: Array) -> Array:
        return xp.log1p(x)

    def vjp(self, g: Array, _y: Array, x: Array) -> tuple[Grad, ...]:
        return (lambda: g / f.conj(x + f.like(x, 1)),)

    def to_onnx(self, ctx: Export, x: str) -> str:
        # Near 0 what 1 + x rounds away is put back: log(u) x / (u - 1), and x where u is 1.
        w = Writer(ctx, ctx.type(x).dtype)
        u = w("Add", x, w.number(1))
        log, rest = w("Log", u), w("Sub", u, w.number(1))
        near = w("Where", w("Equal", rest, w.number(0)), x, w("Div", w("Mul", log, x), rest))
        return w("Where", w("Less", w("Abs", x), w.number(0.5)), near, log)


@op
class Erf(RealPointwise):
    """2/sqrt(pi) times the integral of exp(-t^2) from 0 to x. Source: ONNX Erf-13."""

    is_costly = True
    onnx = Onnx("Erf", 9)

    def eager(self, xp: Any, x: Array) -> Array:
        return special.erf(xp, x)

    def vjp(self, g: Array, _y: Array, x: Array) -> tuple[Grad, ...]:
        return (lambda: g * (f.exp(-(x * x)) * f.like(x, 2 / math.sqrt(math.pi))),)


# -- rounding ------------------------------------------------------------------------------------


class Rounding(Pointwise):
    """A step function: integers stay as they are, and the gradient is zero."""

    __slots__ = ()
    categories = (INT, FLOAT)

    def to_onnx(self, ctx: Export, x: str) -> str:
        return x if ctx.type(x).dtype.category == INT else Pointwise.to_onnx(self, ctx, x)


def _step(function: Any, x: Array) -> Array:
    return x.copy() if x.dtype.kind in "iu" else function(x)


@op
class Floor(Rounding):
    """The largest whole number not above x. Source: ONNX Floor-13."""

    onnx = Onnx("Floor", 6)

    def eager(self, xp: Any, x: Array) -> Array:
        return _step(xp.floor, x)

    def vjp(self, g: Array, _y: Array, _x: Array) -> tuple[Grad, ...]:
        return zero_grad(g)


@op
class Ceil(Rounding):
    """The smallest whole number not below x. Source: ONNX Ceil-13."""

    onnx = Onnx("Ceil", 6)

    def eager(self, xp: Any, x: Array) -> Array:
        return _step(xp.ceil, x)

    def vjp(self, g: Array, _y: Array, _x: Array) -> tuple[Grad, ...]:
        return zero_grad(g)


@op
class Round(Rounding):
    """The nearest whole number, halves to the even one. Source: ONNX Round-22."""

    onnx = Onnx("Round", 11)

    def eager(self, xp: Any, x: Array) -> Array:
        return _step(xp.rint, x)

    def vjp(self, g: Array, _y: Array, _x: Array) -> tuple[Grad, ...]:
        return zero_grad(g)


@op
class Trunc(Rounding):
    """x without its fraction. Source: PyTorch trunc; ONNX Floor-13 and Ceil-13."""

    def eager(self, xp: Any, x: Array) -> Array:
        return _step(xp.trunc, x)

    def vjp(self, g: Array, _y: Array, _x: Array) -> tuple[Grad, ...]:
        return zero_grad(g)

    def to_onnx(self, ctx: Export, x: str) -> str:
        dtype = ctx.type(x).dtype
        return x if dtype.category == INT else emit_trunc(Writer(ctx, dtype), x)
