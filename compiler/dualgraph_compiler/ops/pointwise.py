"""Pointwise arithmetic: out[i] depends on in[i] alone, after NumPy broadcasting."""

from __future__ import annotations

from typing import Any, ClassVar

from ..dtypes import BOOL, FLOAT, DType, bool_
from ..errors import DTypeError
from ..types import TensorType
from . import f
from .base import (
    Array,
    Grad,
    Kind,
    Onnx,
    Op,
    broadcast_shapes,
    op,
    require_float,
    require_same_dtype,
)


class Pointwise(Op):
    """Broadcasts its operands, which share one dtype; the result has that dtype."""

    __slots__ = ()
    kind = Kind.POINTWISE

    def infer(self, *inputs: TensorType) -> TensorType:
        dtype = require_same_dtype(self.name, *inputs)
        return TensorType(dtype, broadcast_shapes(self.name, *(t.shape for t in inputs)))


class FloatPointwise(Pointwise):
    """A pointwise op defined on floating-point (and complex) operands only."""

    __slots__ = ()

    def infer(self, *inputs: TensorType) -> TensorType:
        require_float(self.name, inputs[0])
        return Pointwise.infer(self, *inputs)


# -- arithmetic ----------------------------------------------------------------------------------


@op
class Add(Pointwise):
    """a + b. Source: ONNX Add-14."""

    onnx = Onnx("Add", 7)

    def eager(self, xp: Any, a: Array, b: Array) -> Array:
        return xp.add(a, b)

    def vjp(self, g: Array, _y: Array, _a: Array, _b: Array) -> tuple[Grad, ...]:
        return f.unbroadcast(g, _a.shape), f.unbroadcast(g, _b.shape)


@op
class Sub(Pointwise):
    """a - b. Source: ONNX Sub-14."""

    onnx = Onnx("Sub", 7)

    def infer(self, a: TensorType, b: TensorType) -> TensorType:
        if a.dtype.category == BOOL:
            raise DTypeError("sub: subtraction is not defined on bool; use logical_xor")
        return Pointwise.infer(self, a, b)

    def eager(self, xp: Any, a: Array, b: Array) -> Array:
        return xp.subtract(a, b)

    def vjp(self, g: Array, _y: Array, _a: Array, _b: Array) -> tuple[Grad, ...]:
        return f.unbroadcast(g, _a.shape), lambda: f.unbroadcast(-g, _b.shape)


@op
class Mul(Pointwise):
    """a * b. Source: ONNX Mul-14."""

    onnx = Onnx("Mul", 7)

    def eager(self, xp: Any, a: Array, b: Array) -> Array:
        return xp.multiply(a, b)

    def vjp(self, g: Array, _y: Array, a: Array, b: Array) -> tuple[Grad, ...]:
        return (
            lambda: f.unbroadcast(g * f.conj(b), a.shape),
            lambda: f.unbroadcast(g * f.conj(a), b.shape),
        )


@op
class Div(FloatPointwise):
    """a / b on floating-point operands. Source: ONNX Div-14."""

    onnx = Onnx("Div", 7)

    def eager(self, xp: Any, a: Array, b: Array) -> Array:
        return xp.true_divide(a, b)

    def vjp(self, g: Array, y: Array, _a: Array, b: Array) -> tuple[Grad, ...]:
        gb = g / f.conj(b)
        return (
            f.unbroadcast(gb, _a.shape),
            lambda: f.unbroadcast(-gb * f.conj(y), b.shape),
        )


@op
class Neg(Pointwise):
    """-x. Source: ONNX Neg-13."""

    onnx = Onnx("Neg", 6)

    def infer(self, x: TensorType) -> TensorType:
        if x.dtype.category == BOOL:
            raise DTypeError("neg: negation is not defined on bool; use logical_not")
        return x

    def eager(self, xp: Any, x: Array) -> Array:
        return xp.negative(x)

    def vjp(self, g: Array, _y: Array, _x: Array) -> tuple[Grad, ...]:
        return (-g,)


@op
class Exp(FloatPointwise):
    """e**x. Source: ONNX Exp-13."""

    onnx = Onnx("Exp", 6)

    def eager(self, xp: Any, x: Array) -> Array:
        return xp.exp(x)

    def vjp(self, g: Array, y: Array, _x: Array) -> tuple[Grad, ...]:
        return (g * f.conj(y),)


@op
class Relu(Pointwise):
    """max(x, 0); NaN stays NaN. Source: ONNX Relu-14."""

    onnx = Onnx("Relu", 6)

    def infer(self, x: TensorType) -> TensorType:
        if x.dtype.category not in (1, FLOAT):
            raise DTypeError(f"relu: expected a real operand, got {x.dtype.name}")
        return x

    def eager(self, xp: Any, x: Array) -> Array:
        return xp.maximum(x, x.dtype.type(0))

    def vjp(self, g: Array, y: Array, _x: Array) -> tuple[Grad, ...]:
        return (f.where(y > 0, g, 0),)


# -- comparison and choice -----------------------------------------------------------------------


class Comparison(Pointwise):
    """Broadcasts two operands of one dtype; the result is bool."""

    __slots__ = ()

    def infer(self, *inputs: TensorType) -> TensorType:
        return Pointwise.infer(self, *inputs).with_dtype(bool_)


@op
class Greater(Comparison):
    """a > b. Source: ONNX Greater-13."""

    onnx = Onnx("Greater", 9)

    def eager(self, xp: Any, a: Array, b: Array) -> Array:
        return xp.greater(a, b)


@op
class Where(Op):
    """`a` where `cond` holds, else `b`; all three broadcast. Source: ONNX Where-16."""

    kind = Kind.POINTWISE
    onnx = Onnx("Where", 9)

    def infer(self, cond: TensorType, a: TensorType, b: TensorType) -> TensorType:
        if cond.dtype is not bool_:
            raise DTypeError(f"where: expected a bool condition, got {cond.dtype.name}")
        dtype = require_same_dtype("where", a, b)
        return TensorType(dtype, broadcast_shapes("where", cond.shape, a.shape, b.shape))

    def eager(self, xp: Any, cond: Array, a: Array, b: Array) -> Array:
        return xp.where(cond, a, b)

    def vjp(self, g: Array, _y: Array, cond: Array, _a: Array, _b: Array) -> tuple[Grad, ...]:
        return (
            None,
            lambda: f.unbroadcast(f.where(cond, g, 0), _a.shape),
            lambda: f.unbroadcast(f.where(cond, 0, g), _b.shape),
        )


@op
class Cast(Op):
    """x converted to `dtype` (towards zero from float to integer). Source: ONNX Cast-25."""

    dtype: DType
    kind: ClassVar[Kind] = Kind.POINTWISE

    def infer(self, x: TensorType) -> TensorType:
        return x.with_dtype(self.dtype)

    def eager(self, xp: Any, x: Array) -> Array:
        return x.astype(self.dtype.np)

    def vjp(self, g: Array, _y: Array, _x: Array) -> tuple[Grad, ...]:
        return (f.cast(g, _x.dtype) if _x.dtype.is_differentiable else None,)
