"""Trigonometric and hyperbolic functions and their inverses."""

from __future__ import annotations

import math
from typing import Any

from ..dtypes import dtype_of
from . import f
from .base import Array, Grad, Onnx, op
from .onnx_rules import Export
from .onnx_types import Writer
from .pointwise import FloatPointwise, RealPointwise
from .unary import Rsqrt


@op
class Sin(FloatPointwise):
    """sin(x), x in radians. Source: ONNX Sin-22."""

    onnx = Onnx("Sin", 7)
    ufunc = "sin"

    def eager(self, xp: Any, x: Array) -> Array:
        return xp.sin(x)

    def vjp(self, g: Array, _y: Array, x: Array) -> tuple[Grad, ...]:
        return (lambda: g * f.conj(Cos()(x)),)


@op
class Cos(FloatPointwise):
    """cos(x), x in radians. Source: ONNX Cos-22."""

    onnx = Onnx("Cos", 7)
    ufunc = "cos"

    def eager(self, xp: Any, x: Array) -> Array:
        return xp.cos(x)

    def vjp(self, g: Array, _y: Array, x: Array) -> tuple[Grad, ...]:
        return (lambda: -g * f.conj(Sin()(x)),)


@op
class Tan(FloatPointwise):
    """tan(x), x in radians. Source: ONNX Tan-22."""

    onnx = Onnx("Tan", 7)
    ufunc = "tan"

    def eager(self, xp: Any, x: Array) -> Array:
        return xp.tan(x)

    def vjp(self, g: Array, y: Array, _x: Array) -> tuple[Grad, ...]:
        return (lambda: g * f.conj(y * y + f.like(y, 1)),)


@op
class Asin(FloatPointwise):
    """The angle within [-pi/2, pi/2] whose sine is x. Source: ONNX Asin-22."""

    onnx = Onnx("Asin", 7)
    ufunc = "arcsin"

    def eager(self, xp: Any, x: Array) -> Array:
        return xp.arcsin(x)

    def vjp(self, g: Array, _y: Array, x: Array) -> tuple[Grad, ...]:
        return (lambda: g * f.conj(Rsqrt()(f.like(x, 1) - x * x)),)


@op
class Acos(FloatPointwise):
    """The angle within [0, pi] whose cosine is x. Source: ONNX Acos-22."""

    onnx = Onnx("Acos", 7)
    ufunc = "arccos"

    def eager(self, xp: Any, x: Array) -> Array:
        return xp.arccos(x)

    def vjp(self, g: Array, _y: Array, x: Array) -> tuple[Grad, ...]:
        return (lambda: -g * f.conj(Rsqrt()(f.like(x, 1) - x * x)),)


@op
class Atan(FloatPointwise):
    """The angle within [-pi/2, pi/2] whose tangent is x. Source: ONNX Atan-22."""

    onnx = Onnx("Atan", 7)
    ufunc = "arctan"

    def eager(self, xp: Any, x: Array) -> Array:
        return xp.arctan(x)

    def vjp(self, g: Array, _y: Array, x: Array) -> tuple[Grad, ...]:
        return (lambda: g / f.conj(x * x + f.like(x, 1)),)


@op
class Atan2(RealPointwise):
    """The angle of the point (b, a) within [-pi, pi]; the gradient at (0, 0) is 0.

    Source: PyTorch atan2; ONNX Atan-22 (where the sign of a zero `a` is not seen).
    """

    ufunc = "arctan2"
    is_costly = True

    def eager(self, xp: Any, a: Array, b: Array) -> Array:
        return xp.arctan2(a, b)

    def vjp(self, g: Array, _y: Array, a: Array, b: Array) -> tuple[Grad, ...]:
        square = a * a + b * b
        rate = f.where(f.equal(square, 0), 0, g / square)
        return (
            lambda: f.unbroadcast(rate * b, a.shape),
            lambda: f.unbroadcast(-rate * a, b.shape),
        )

    def to_onnx(self, ctx: Export, a: str, b: str) -> str:
        w = Writer(ctx, ctx.type(a).dtype)
        zero = w.number(0)
        turn = w("Where", w("Less", a, zero), w.number(-math.pi), w.number(math.pi))
        angle = w("Atan", w("Div", a, b))
        angle = w("Where", w("Less", b, zero), w("Add", angle, turn), angle)
        origin = w.logical("And", w("Equal", a, zero), w("Equal", b, zero))
        return w("Where", origin, zero, angle)


@op
class Sinh(FloatPointwise):
    """The hyperbolic sine. Source: ONNX Sinh-22."""

    onnx = Onnx("Sinh", 9)
    ufunc = "sinh"

    def eager(self, xp: Any, x: Array) -> Array:
        return xp.sinh(x)

    def vjp(self, g: Array, _y: Array, x: Array) -> tuple[Grad, ...]:
        return (lambda: g * f.conj(Cosh()(x)),)


@op
class Cosh(FloatPointwise):
    """The hyperbolic cosine. Source: ONNX Cosh-22."""

    onnx = Onnx("Cosh", 9)
    ufunc = "cosh"

    def eager(self, xp: Any, x: Array) -> Array:
        return xp.cosh(x)

    def vjp(self, g: Array, _y: Array, x: Array) -> tuple[Grad, ...]:
        return (lambda: g * f.conj(Sinh()(x)),)


@op
class Tanh(FloatPointwise):
    """The hyperbolic tangent. Source: ONNX Tanh-13."""

    onnx = Onnx("Tanh", 6)
    ufunc = "tanh"

    def eager(self, xp: Any, x: Array) -> Array:
        return xp.tanh(x)

    def vjp(self, g: Array, y: Array, _x: Array) -> tuple[Grad, ...]:
        return (lambda: g * f.conj(f.like(y, 1) - y * y),)


@op
class Asinh(FloatPointwise):
    """The number whose hyperbolic sine is x. Source: ONNX Asinh-22."""

    onnx = Onnx("Asinh", 9)
    ufunc = "arcsinh"

    def eager(self, xp: Any, x: Array) -> Array:
        return xp.arcsinh(x)

    def vjp(self, g: Array, _y: Array, x: Array) -> tuple[Grad, ...]:
        return (lambda: g * f.conj(Rsqrt()(x * x + f.like(x, 1))),)


@op
class Acosh(FloatPointwise):
    """The number, not negative, whose hyperbolic cosine is x. Source: ONNX Acosh-22."""

    onnx = Onnx("Acosh", 9)
    ufunc = "arccosh"

    def eager(self, xp: Any, x: Array) -> Array:
        return xp.arccosh(x)

    def vjp(self, g: Array, _y: Array, x: Array) -> tuple[Grad, ...]:
        return (lambda: g * f.conj(self._slope(x)),)

    def _slope(self, x: Array) -> Array:
        one = f.like(x, 1)
        if dtype_of(x).is_complex:  # the factors apart keep to the branch that acosh is on
            return Rsqrt()(x - one) * Rsqrt()(x + one)
        return Rsqrt()(x * x - one)


@op
class Atanh(FloatPointwise):
    """The number whose hyperbolic tangent is x. Source: ONNX Atanh-22."""

    onnx = Onnx("Atanh", 9)
    ufunc = "arctanh"

    def eager(self, xp: Any, x: Array) -> Array:
        return xp.arctanh(x)

    def vjp(self, g: Array, _y: Array, x: Array) -> tuple[Grad, ...]:
        return (lambda: g / f.conj(f.like(x, 1) - x * x),)
