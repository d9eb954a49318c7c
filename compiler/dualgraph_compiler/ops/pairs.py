"""Complex numbers shown as pairs of real ones, and such pairs shown as complex numbers."""

from __future__ import annotations

from typing import Any, ClassVar

from ..dtypes import COMPLEX_OF, REAL_OF, dtype_of, float32, float64
from ..errors import DTypeError, OnnxError, ShapeError
from ..types import TensorType
from .base import Array, Grad, op, shape_text
from .movement import Movement
from .onnx_rules import Export


@op
class ViewAsReal(Movement):
    """The real and imaginary parts of complex numbers, side by side in a new last axis.

    Shapes: complex x [..] -> real [.., 2]. Source: torch.view_as_real.
    """

    is_view: ClassVar[bool] = True

    def infer(self, x: TensorType) -> TensorType:
        if not x.dtype.is_complex:
            raise DTypeError(f"view_as_real: expected a complex operand, got {x.dtype.name}")
        return x.with_dtype(REAL_OF[x.dtype]).with_shape((*x.shape, 2))

    def eager(self, xp: Any, x: Array) -> Array:
        return xp.asarray(x)[..., None].view(REAL_OF[dtype_of(x)].np)

    def vjp(self, g: Array, _y: Array, _x: Array) -> tuple[Grad, ...]:
        return (ViewAsComplex()(g),)

    def unview(self, base: Array, v: Array) -> Array:
        return ViewAsComplex()(v)

    def to_onnx(self, ctx: Export, x: str) -> str:
        raise OnnxError("view_as_real: ONNX has no arithmetic on complex numbers")


@op
class ViewAsComplex(Movement):
    """Complex numbers of real and imaginary parts that lie side by side in the last axis.

    Shapes: float32 or float64 x [.., 2] -> complex [..]. A view where the pairs are adjacent in
    memory. Source: torch.view_as_complex.
    """

    is_view: ClassVar[bool] = True
    may_alias: ClassVar[bool] = True  # as a view, where pairs are adjacent

    def infer(self, x: TensorType) -> TensorType:
        if x.dtype not in (float32, float64):
            raise DTypeError(
                f"view_as_complex: expected float32 or float64 numbers, got {x.dtype.name}"
            )
        if x.ndim < 1 or x.shape[-1] != 2:
            raise ShapeError(
                f"view_as_complex: expected pairs of numbers [.., 2], got {shape_text(x.shape)}"
            )
        return x.with_dtype(COMPLEX_OF[x.dtype]).with_shape(x.shape[:-1])

    def eager(self, xp: Any, x: Array) -> Array:
        size = x.itemsize
        if x.strides[-1] != size or any(s % (2 * size) for s in x.strides[:-1]):
            x = xp.ascontiguousarray(x)
        return x.view(COMPLEX_OF[dtype_of(x)].np)[..., 0]

    def vjp(self, g: Array, _y: Array, _x: Array) -> tuple[Grad, ...]:
        return (ViewAsReal()(g),)

    def unview(self, base: Array, v: Array) -> Array:
        return ViewAsReal()(v)

    def to_onnx(self, ctx: Export, x: str) -> str:
        raise OnnxError("view_as_complex: ONNX has no arithmetic on complex numbers")
