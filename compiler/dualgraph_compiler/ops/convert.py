"""Changes of element type, and the parts of complex numbers."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from ..dtypes import BY_ONNX, COMPLEX, COMPLEX_OF, REAL_OF, DType, dtype_of, float32, float64
from ..errors import DTypeError, OnnxError
from ..types import TensorType
from . import f
from .base import Array, Grad, Kind, Onnx, Op, op, require_same_dtype
from .onnx_rules import Export, Import, from_onnx
from .pointwise import Pointwise


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
        return x.astype(dtype)

    def eager_into(self, xp: Any, out: Array, x: Array) -> None:
        if x.dtype.kind == "c" and out.dtype.kind not in "cb":
            x = x.real
        xp.copyto(out, x, casting="unsafe")

    def vjp(self, g: Array, _y: Array, _x: Array) -> tuple[Grad, ...]:
        dtype = dtype_of(_x)
        return (f.cast(g, dtype) if dtype.is_differentiable else None,)

    def to_onnx(self, ctx: Export, x: str) -> str:
        if self.dtype.is_complex or ctx.type(x).dtype.is_complex:
            raise OnnxError("cast: ONNX has no conversion to or from complex types")
        return ctx.emit("Cast", x, to=self.dtype)  # type: ignore[no-any-return]


@from_onnx("Cast")
def _import_cast(ctx: Import, x: Any) -> Any:
    code = ctx.attr("to")
    if code not in BY_ONNX:
        raise OnnxError(f"Cast to ONNX element type {code} is not supported")
    return f.cast(x, BY_ONNX[code])


@from_onnx("CastLike")
def _import_cast_like(ctx: Import, x: Any, like: Any) -> Any:
    return f.cast(x, like.dtype)


@op
class StopGradient(Pointwise):
    """x itself, through which no gradient flows. Source: jax.lax.stop_gradient; ONNX Identity-1."""

    onnx = Onnx("Identity", 1)
    differentiable = False

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
