"""Pointwise arithmetic: out[i] depends on in[i] alone, after NumPy broadcasting.

See :mod:`.quotient` for division that rounds, :mod:`.extremum` for magnitude and order,
:mod:`.unary` for functions of one operand, :mod:`.comparison` and :mod:`.bitwise` for logic,
:mod:`.convert` for changes of type, and :mod:`.activation`.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from ..dtypes import BOOL, COMPLEX, FLOAT, INT, DType, bfloat16, float32
from ..errors import DTypeError, OnnxError
from ..types import TensorType
from . import f
from .base import Array, Grad, Kind, Onnx, Op, broadcast_shapes, op, require_same_dtype
from .onnx_rules import Export, Import, from_onnx
from .onnx_types import carrier, emit, main_operand

CATEGORY_NAMES = ("bool", "integer", "floating-point", "complex")


class Pointwise(Op):
    """Broadcasts its operands, which share one dtype of `categories`; the result has that dtype."""

    __slots__ = ()
    kind = Kind.POINTWISE
    categories: ClassVar[tuple[int, ...]] = (BOOL, INT, FLOAT, COMPLEX)
    takes_narrow: ClassVar[bool] = False  # no arithmetic: it compares or copies

    def infer(self, *inputs: Any) -> TensorType:
        dtype = require_same_dtype(self.name, *inputs)
        if dtype.is_narrow and not self.takes_narrow:
            raise DTypeError(f"{self.name}: {dtype.name} has no arithmetic; convert it first")
        if dtype.category not in self.categories:
            wanted = " or ".join(CATEGORY_NAMES[c] for c in self.categories)
            article = "an" if wanted[0] == "i" else "a"
            raise DTypeError(f"{self.name}: expected {article} {wanted} operand, got {dtype.name}")
        return TensorType(dtype, broadcast_shapes(self.name, *(t.shape for t in inputs)))

    def to_onnx(self, ctx: Export, *inputs: Any) -> str:
        if self.onnx is None:
            is_complex = any(ctx.type(x).dtype.is_complex for x in inputs)
            why = ": ONNX has no arithmetic on complex numbers" if is_complex else ""
            raise OnnxError(f"{self.name} has no ONNX form{why}")
        ctx.require_opset(self.onnx.since, self.name)
        main = inputs[main_operand(self.onnx.name, ctx.opset)]
        renamed = dict(self.onnx.attrs)
        attrs = {renamed.get(k, k): v for k, v in self.attributes().items()}
        return emit(ctx, ctx.type(main).dtype, self.onnx.name, *inputs, **attrs)


class FloatPointwise(Pointwise):
    """A pointwise op on floating-point and complex operands only: most are transcendental."""

    __slots__ = ()
    categories = (FLOAT, COMPLEX)
    is_costly = True


class RealPointwise(Pointwise):
    """A pointwise op on real floating-point operands only."""

    __slots__ = ()
    categories = (FLOAT,)


def zero_grad(g: Array) -> tuple[Grad, ...]:
    """The gradient of a step function: zero wherever it exists."""
    return (lambda: f.zeros_like(g),)


# -- sums and products ---------------------------------------------------------------------------


@op
class Add(Pointwise):
    """a + b; on bool, a or b. Source: ONNX Add-14."""

    onnx = Onnx("Add", 7)
    ufunc = "add"

    def eager(self, xp: Any, a: Array, b: Array) -> Array:
        return xp.add(a, b)

    def vjp(self, g: Array, _y: Array, _a: Array, _b: Array) -> tuple[Grad, ...]:
        return f.unbroadcast(g, _a.shape), f.unbroadcast(g, _b.shape)

    def to_onnx(self, ctx: Export, a: str, b: str) -> str:
        dtype = ctx.type(a).dtype
        return emit(ctx, dtype, "Or" if dtype.category == BOOL else "Add", a, b)


@op
class Sub(Pointwise):
    """a - b. Source: ONNX Sub-14."""

    categories = (INT, FLOAT, COMPLEX)
    onnx = Onnx("Sub", 7)
    ufunc = "subtract"

    def eager(self, xp: Any, a: Array, b: Array) -> Array:
        return xp.subtract(a, b)

    def vjp(self, g: Array, _y: Array, _a: Array, _b: Array) -> tuple[Grad, ...]:
        return f.unbroadcast(g, _a.shape), lambda: f.unbroadcast(-g, _b.shape)


@op
class Mul(Pointwise):
    """a * b; on bool, a and b. Source: ONNX Mul-14."""

    is_bilinear = True
    onnx = Onnx("Mul", 7)
    ufunc = "multiply"

    def eager(self, xp: Any, a: Array, b: Array) -> Array:
        return xp.multiply(a, b)

    def vjp(self, g: Array, _y: Array, a: Array, b: Array) -> tuple[Grad, ...]:
        return (
            lambda: f.factor_grad(g, b, a.shape),
            lambda: f.factor_grad(g, a, b.shape),
        )

    def to_onnx(self, ctx: Export, a: str, b: str) -> str:
        dtype = ctx.type(a).dtype
        return emit(ctx, dtype, "And" if dtype.category == BOOL else "Mul", a, b)


@op
class Neg(Pointwise):
    """-x; wraps on unsigned integers. Source: ONNX Neg-13."""

    categories = (INT, FLOAT, COMPLEX)
    onnx = Onnx("Neg", 6)
    ufunc = "negative"

    def eager(self, xp: Any, x: Array) -> Array:
        return xp.negative(x)

    def vjp(self, g: Array, _y: Array, _x: Array) -> tuple[Grad, ...]:
        return (-g,)

    def to_onnx(self, ctx: Export, x: str) -> str:
        dtype = ctx.type(x).dtype
        if dtype.category == INT and not dtype.is_signed:
            return emit(ctx, dtype, "Sub", ctx.constant(0, dtype), x)
        return emit(ctx, dtype, "Neg", x)


# -- quotients -----------------------------------------------------------------------------------


@op
class Div(FloatPointwise):
    """a / b on floating-point operands. Source: ONNX Div-14."""

    is_costly = False
    onnx = Onnx("Div", 7)
    ufunc = "true_divide"

    def eager(self, xp: Any, a: Array, b: Array) -> Array:
        return xp.true_divide(a, b)

    def vjp(self, g: Array, _y: Array, a: Array, b: Array) -> tuple[Grad, ...]:
        # The quotient is computed again rather than saved: `y` may be changed in place.
        return (
            lambda: f.unbroadcast(g / f.conj(b), a.shape),
            lambda: f.unbroadcast(-g * f.conj(a / b / b), b.shape),
        )


@op
class Reciprocal(FloatPointwise):
    """1 / x. Source: ONNX Reciprocal-13."""

    is_costly = False
    onnx = Onnx("Reciprocal", 6)
    ufunc = "reciprocal"

    def eager(self, xp: Any, x: Array) -> Array:
        return xp.reciprocal(x)

    def vjp(self, g: Array, y: Array, _x: Array) -> tuple[Grad, ...]:
        return (-g * f.conj(y * y),)


# -- powers --------------------------------------------------------------------------------------


@op
class Pow(Pointwise):
    """base ** exponent. An integer base to a negative power is 0, or 1 or -1 for bases 1 and -1.

    Source: ONNX Pow-15.
    """

    is_costly = True
    categories = (INT, FLOAT, COMPLEX)
    onnx = Onnx("Pow", 7)

    def eager(self, xp: Any, a: Array, b: Array) -> Array:
        if xp is np and b.ndim == 0:
            # Small constant powers, thirty times faster than the general one.
            if b == 2:
                return np.multiply(a, a)
            if b == 0.5:
                return np.sqrt(a)
            if b == 1:
                return a.copy()
            if b == 3:
                return a * a * a
        if a.dtype.kind == "i" and (xp is not np or (b < 0).any()):
            one, zero = a.dtype.type(1), a.dtype.type(0)
            sign = xp.where(b & one == one, a, one)
            tiny = xp.where(xp.abs(a) == one, sign, zero)
            return xp.where(b < zero, tiny, xp.power(a, xp.maximum(b, zero)))
        return xp.power(a, b)

    def vjp(self, g: Array, _y: Array, a: Array, b: Array) -> tuple[Grad, ...]:
        return (
            lambda: f.unbroadcast(g * _power_slope(a, b), a.shape),
            lambda: f.unbroadcast(g * _exponent_slope(a, b), b.shape),
        )

    def to_onnx(self, ctx: Export, a: str, b: str) -> str:
        return power(ctx, ctx.type(a).dtype, a, b)


def power(ctx: Export, dtype: DType, a: str, b: str) -> str:
    """`a` to the power `b`, both of `dtype`; ONNX lets the two differ, so each has a type list."""
    stand_in = carrier(ctx, dtype, "Pow")
    if dtype is bfloat16 and ctx.opset < 15:  # which the base may be before the exponent
        stand_in = float32
    if stand_in is dtype:
        return ctx.emit("Pow", a, b)  # type: ignore[no-any-return]
    wide = (ctx.emit("Cast", x, to=stand_in) for x in (a, b))
    return ctx.emit("Cast", ctx.emit("Pow", *wide), to=dtype)  # type: ignore[no-any-return]


def _power_slope(a: Array, b: Array) -> Array:
    """conj(d(a ** b)/da) = b a ** (b-1), and 0 where b is 0 whatever a is."""
    slope = f.conj(b * Pow()(a, b - f.like(b, 1)))
    return f.where(f.equal(b, 0), 0, slope)


def _exponent_slope(a: Array, b: Array) -> Array:
    """conj(d(a ** b)/db) = a ** b log(a), and 0 for the base 0 unless b is negative."""
    slope = f.conj(Pow()(a, b) * f.log(a))
    return f.where(f.equal(a, 0) & f.greater_equal(f.real(b), 0), 0, slope)


@from_onnx("Pow")
def _import_pow(ctx: Import, a: Any, b: Any) -> Any:
    if a.dtype is b.dtype:
        return Pow()(a, b)
    if a.dtype.category == INT and b.dtype.category == FLOAT:
        # ONNX computes 4 ** 0.5 and converts the result back to the base's type.
        return f.cast(Pow()(f.cast(a, b.dtype), b), a.dtype)
    return Pow()(a, f.cast(b, a.dtype))
