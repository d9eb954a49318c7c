"""Changes of element type, and the parts of complex numbers."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from ..dtypes import (
    BY_ONNX,
    COMPLEX,
    COMPLEX_OF,
    FLOAT,
    NARROW,
    REAL_OF,
    DType,
    dtype_of,
    float4_e2m1fn,
    float6_e2m3fn,
    float6_e3m2fn,
    float8_e8m0fnu,
    float32,
    float64,
    int2,
    int4,
    uint2,
    uint4,
)
from ..errors import DTypeError, GraphError, OnnxError
from ..kernels.narrow import convert, power_of_two, saturated, through
from ..types import TensorType
from . import f
from .base import Array, Grad, Kind, Onnx, Op, op, require_same_dtype
from .onnx_rules import Export, Import, from_onnx
from .pointwise import Pointwise

FLOAT8 = frozenset(d for d in NARROW if d.category == FLOAT and d.bits == 8)


# The versions of ai.onnx that brought types to Cast.
_SINCE = {
    19: FLOAT8 - {float8_e8m0fnu},
    21: {int4, uint4},
    23: {float4_e2m1fn},
    24: {float8_e8m0fnu},
    25: {int2, uint2},
    28: {float6_e2m3fn, float6_e3m2fn},
}


def _require(ctx: Export, dtype: DType) -> None:
    """Refuse a target opset that knows no such elements."""
    for since, dtypes in _SINCE.items():
        if dtype in dtypes:
            ctx.require_opset(since, f"a cast to {dtype.name}")


@op
class Cast(Op):
    """x converted to `dtype`: towards zero from float to integer, the real part from complex.

    To bool, every value but zero is true. Source: ONNX Cast-25.
    """

    dtype: DType
    kind: ClassVar[Kind] = Kind.POINTWISE
    onnx: ClassVar[Onnx | None] = Onnx("Cast", 13, (("dtype", "to"),))

    def infer(self, x: TensorType) -> TensorType:
        return x.with_dtype(self.dtype)

    def eager(self, xp: Any, x: Array) -> Array:
        dtype = self.dtype.np
        if x.dtype.kind == "c" and dtype.kind not in "cb":
            x = x.real
        return convert(x, dtype)

    def eager_into(self, xp: Any, out: Array, x: Array) -> None:
        if x.dtype.kind == "c" and out.dtype.kind not in "cb":
            x = x.real
        xp.copyto(out, through(x, out.dtype), casting="unsafe")

    def vjp(self, g: Array, _y: Array, _x: Array) -> tuple[Grad, ...]:
        dtype = dtype_of(_x)
        return (f.cast(g, dtype) if dtype.is_differentiable else None,)

    def to_onnx(self, ctx: Export, x: str) -> str:
        if self.dtype.is_complex or ctx.type(x).dtype.is_complex:
            raise OnnxError("cast: ONNX has no conversion to or from complex types")
        if self.dtype is float8_e8m0fnu:
            return Float8Cast(self.dtype, False, "nearest").to_onnx(ctx, x)
        _require(ctx, self.dtype)
        saturate = 0 if self.dtype in FLOAT8 else None
        return ctx.emit("Cast", x, to=self.dtype, saturate=saturate)  # type: ignore[no-any-return]


@op
class Float8Cast(Op):
    """x converted to the 8-bit float `dtype` by ONNX's rules.

    With `saturate` what is out of range becomes the largest number, infinities too; else NaN or
    infinity, as in `Cast`. `round_mode` ("up", "down", "nearest") is for float8_e8m0fnu alone,
    whose numbers are powers of two; other types round to the nearest, ties to even.
    Source: ONNX Cast-25.
    """

    dtype: DType
    saturate: bool = True
    round_mode: str = "up"
    kind: ClassVar[Kind] = Kind.POINTWISE

    def infer(self, x: TensorType) -> TensorType:
        if self.dtype not in FLOAT8:
            raise DTypeError(f"float8_cast: expected an 8-bit float, got {self.dtype.name}")
        if x.dtype.is_complex:
            raise DTypeError(f"float8_cast: expected a real operand, got {x.dtype.name}")
        if self.round_mode not in ("up", "down", "nearest"):
            raise GraphError(f"float8_cast: unknown round_mode {self.round_mode!r}")
        return x.with_dtype(self.dtype)

    def eager(self, xp: Any, x: Array) -> Array:
        if self.dtype is float8_e8m0fnu:
            return power_of_two(xp, x, self.dtype.np, self.saturate, self.round_mode)
        return saturated(xp, x, self.dtype.np) if self.saturate else convert(x, self.dtype.np)

    def vjp(self, g: Array, _y: Array, _x: Array) -> tuple[Grad, ...]:
        dtype = dtype_of(_x)
        return (f.cast(g, dtype) if dtype.is_differentiable else None,)

    def to_onnx(self, ctx: Export, x: str) -> str:
        _require(ctx, self.dtype)
        attributes: dict[str, Any] = {"saturate": int(self.saturate)}
        if self.dtype is float8_e8m0fnu:
            attributes["round_mode"] = self.round_mode
        return ctx.emit("Cast", x, to=self.dtype, **attributes)  # type: ignore[no-any-return]


@from_onnx("Cast")
def _import_cast(ctx: Import, x: Any) -> Any:
    code = ctx.attr("to")
    if code not in BY_ONNX:
        raise OnnxError(f"Cast to ONNX element type {code} is not supported")
    return _cast_by_onnx(ctx, x, BY_ONNX[code])


@from_onnx("CastLike")
def _import_cast_like(ctx: Import, x: Any, like: Any) -> Any:
    return _cast_by_onnx(ctx, x, like.dtype)


def _cast_by_onnx(ctx: Import, x: Any, dtype: DType) -> Any:
    if dtype not in FLOAT8 or x.dtype is dtype:
        return f.cast(x, dtype)
    saturate = bool(ctx.attr("saturate", 1))
    if dtype is not float8_e8m0fnu and not saturate:
        return f.cast(x, dtype)
    return Float8Cast(dtype, saturate, ctx.attr("round_mode", "up"))(x)


@op
class BitCast(Op):
    """The bits of x taken for those of a number of `dtype`, of the same width.

    Source: ONNX BitCast-26; PyTorch Tensor.view(dtype).
    """

    dtype: DType
    kind: ClassVar[Kind] = Kind.POINTWISE

    def infer(self, x: TensorType) -> TensorType:
        if x.dtype.bits != self.dtype.bits:
            raise DTypeError(
                f"bit_cast: expected a dtype of {x.dtype.bits} bits for {x.dtype.name}, got "
                f"{self.dtype.name}"
            )
        return x.with_dtype(self.dtype)

    def eager(self, xp: Any, x: Array) -> Array:
        return xp.asarray(x).view(self.dtype.np).copy()

    def to_onnx(self, ctx: Export, x: str) -> str:
        ctx.require_opset(26, self.name)
        return ctx.emit("BitCast", x, to=self.dtype)  # type: ignore[no-any-return]


@from_onnx("BitCast")
def _import_bit_cast(ctx: Import, x: Any) -> Any:
    code = ctx.attr("to")
    if code not in BY_ONNX:
        raise OnnxError(f"BitCast to ONNX element type {code} is not supported")
    return BitCast(BY_ONNX[code])(x)


@op
class StopGradient(Pointwise):
    """x itself, through which no gradient flows. Source: jax.lax.stop_gradient; ONNX Identity-1."""

    onnx = Onnx("Identity", 1)
    differentiable = False
    takes_narrow = True

    def eager(self, xp: Any, x: Array) -> Array:
        return x.copy()


@op
class Conj(Pointwise):
    """The complex conjugate; x itself where it is real. Source: PyTorch conj."""

    may_alias = True

    def eager(self, xp: Any, x: Array) -> Array:
        return xp.conjugate(x) if x.dtype.kind == "c" else x

    def vjp(self, g: Array, _y: Array, _x: Array) -> tuple[Grad, ...]:
        return (f.conj(g),)

    def to_onnx(self, ctx: Export, x: str) -> str:
        if ctx.type(x).dtype.is_complex:
            raise OnnxError("conj: ONNX has no complex arithmetic")
        return x


class Part(Pointwise):
    """One of the two real numbers that make a complex one."""

    __slots__ = ()
    categories = (COMPLEX,)

    def infer(self, x: TensorType) -> TensorType:
        x = Pointwise.infer(self, x)
        return x.with_dtype(REAL_OF[x.dtype])


@op
class Real(Part):
    """The real part of a complex x. Source: PyTorch real."""

    may_alias = True

    def eager(self, xp: Any, x: Array) -> Array:
        return xp.real(x)

    def vjp(self, g: Array, _y: Array, _x: Array) -> tuple[Grad, ...]:
        return (f.cast(g, dtype_of(_x)),)


@op
class Imag(Part):
    """The imaginary part of a complex x. Source: PyTorch imag."""

    may_alias = True

    def eager(self, xp: Any, x: Array) -> Array:
        return xp.imag(x)

    def vjp(self, g: Array, _y: Array, _x: Array) -> tuple[Grad, ...]:
        return (lambda: Complex()(f.zeros_like(g), g),)


@op
class Complex(Pointwise):
    """real + i imag, from two operands of float32 or float64. Source: PyTorch complex."""

    def infer(self, real: TensorType, imag: TensorType) -> TensorType:
        dtype = require_same_dtype(self.name, real, imag)
        if dtype not in (float32, float64):
            raise DTypeError(f"complex: expected float32 or float64 parts, got {dtype.name}")
        return Pointwise.infer(self, real, imag).with_dtype(COMPLEX_OF[dtype])

    def eager(self, xp: Any, real: Array, imag: Array) -> Array:
        out = xp.empty(np.broadcast_shapes(real.shape, imag.shape), COMPLEX_OF[dtype_of(real)].np)
        out.real = real
        out.imag = imag
        return out

    def vjp(self, g: Array, _y: Array, _real: Array, _imag: Array) -> tuple[Grad, ...]:
        return (
            lambda: f.unbroadcast(f.real(g), _real.shape),
            lambda: f.unbroadcast(Imag()(g), _imag.shape),
        )
