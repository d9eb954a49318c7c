"""Ops without operands: constants made of attributes. Sizes may be symbolic."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import numpy as np

from ..dims import Dim, DimLike, Shape, maximum
from ..dtypes import BY_ONNX, DType, bfloat16, float32, float64, int64
from ..errors import ArgumentError, ShapeError
from ..types import TensorType
from .base import Array, Kind, Op, op, shape_text
from .onnx_rules import Export, Import, from_onnx

_LISTED = 1024  # a range of up to this many elements is written as an ONNX constant


class Creation(Op):
    """No operands; under ``Op.__call__`` the result is a NumPy array."""

    __slots__ = ()
    kind = Kind.CREATION


def _check_shape(name: str, shape: Shape) -> Shape:
    if any(isinstance(d, int) and d < 0 for d in shape):
        raise ShapeError(f"{name}: sizes must not be negative, got {shape_text(shape)}")
    return shape


@op
class Full(Creation):
    """`shape` filled with the number `value`. Source: ONNX ConstantOfShape-9."""

    shape: Shape
    value: complex
    dtype: DType

    def infer(self) -> TensorType:
        return TensorType(self.dtype, _check_shape("full", self.shape))

    def eager(self, xp: Any) -> Array:
        _check_shape("full", self.shape)
        value = np.asarray(self.value).astype(self.dtype.np)[()]
        return xp.full(self.shape, value, self.dtype.np)

    def to_onnx(self, ctx: Export) -> Any:
        if self.dtype.is_complex or (self.dtype is bfloat16 and ctx.opset < 20):
            # What ConstantOfShape does not make.
            return ctx.emit("Expand", ctx.constant(self.value, self.dtype), ctx.shape(self.shape))
        value = np.asarray([self.value]).astype(self.dtype.np)
        return ctx.emit("ConstantOfShape", ctx.shape(self.shape), value=value)


@op
class Arange(Creation):
    """``start, start + step, ...`` up to but without `stop`.

    Shapes: -> [ceil((stop - start) / step)], none if negative. `start` and `stop` may be symbolic
    where `step` is an int. Computed in float64 (or int64) and rounded to `dtype` once, as
    torch.arange is. Source: ONNX Range-11.
    """

    start: DimLike | float
    stop: DimLike | float
    step: float
    dtype: DType

    def count(self) -> DimLike:
        """The number of elements."""
        start, stop, step = self.start, self.stop, self.step
        if step == 0:
            raise ArgumentError("arange: step must be nonzero")
        if isinstance(start, float) or isinstance(stop, float) or isinstance(step, float):
            if isinstance(start, Dim) or isinstance(stop, Dim):
                raise ArgumentError("arange: symbolic bounds need integer bounds and step")
            length = (stop - start) / step
            if not math.isfinite(length):
                raise ArgumentError(f"arange: bounds must be finite, got {start} and {stop}")
            return max(math.ceil(length), 0)
        return maximum(-((start - stop) // step), 0)

    def infer(self) -> TensorType:
        return TensorType(self.dtype, (self.count(),))

    def eager(self, xp: Any) -> Array:
        at = xp.arange(self.count())
        if isinstance(self.start, float) or isinstance(self.step, float):
            at = at.astype(np.float64)
        return (at * self.step + self.start).astype(self.dtype.np)

    def to_onnx(self, ctx: Export) -> Any:
        count = self.count()
        if isinstance(count, int) and count <= _LISTED and not isinstance(self.start, Dim):
            return ctx.constant(self.eager(np), self.dtype)
        ctx.require_opset(11, "arange")
        at = ctx.emit("Range", ctx.constant(0, int64), ctx.dim(count), ctx.constant(1, int64))
        wide = int64
        if isinstance(self.start, float) or isinstance(self.step, float):
            wide = float64
            at = ctx.emit("Cast", at, to=wide)
        if self.step != 1:
            at = ctx.emit("Mul", at, ctx.constant(self.step, wide))
        if self.start != 0:
            start = ctx.dim(self.start) if isinstance(self.start, Dim) else None
            at = ctx.emit("Add", at, start or ctx.constant(self.start, wide))
        return ctx.emit("Cast", at, to=self.dtype) if self.dtype is not wide else at


@op
class Eye(Creation):
    """Ones on a diagonal of a [rows, columns] matrix of zeros. Source: ONNX EyeLike-22."""

    rows: DimLike
    columns: DimLike
    dtype: DType
    diagonal: int = 0

    def infer(self) -> TensorType:
        return TensorType(self.dtype, _check_shape("eye", (self.rows, self.columns)))

    def eager(self, xp: Any) -> Array:
        _check_shape("eye", (self.rows, self.columns))
        return xp.eye(self.rows, self.columns, self.diagonal).astype(self.dtype.np)

    def to_onnx(self, ctx: Export) -> Any:
        zeros = ctx.emit("ConstantOfShape", ctx.shape((self.rows, self.columns)))
        out = ctx.emit("EyeLike", zeros, dtype=float32, k=self.diagonal)
        return ctx.emit("Cast", out, to=self.dtype) if self.dtype is not float32 else out


@from_onnx("EyeLike")
def _import_eye(ctx: Import, x: Any) -> Any:
    number = ctx.attr("dtype")
    dtype = BY_ONNX[number] if number else x.dtype
    rows, columns = x.shape
    return ctx.graph.call(Eye(rows, columns, dtype, ctx.attr("k", 0)), ())


@op
class DimValue(Creation):
    """A size as a 0-d int64: how a symbolic dimension enters computation."""

    dim: DimLike
    is_view: ClassVar[bool] = False

    def infer(self) -> TensorType:
        return TensorType(int64, ())

    def eager(self, xp: Any) -> Array:
        return xp.asarray(self.dim, np.int64)

    def to_onnx(self, ctx: Export) -> Any:
        return ctx.dim(self.dim)
