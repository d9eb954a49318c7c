"""Functions of square matrices, over the axes before the last two."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..errors import DTypeError, OnnxError, ShapeError
from ..kernels.arrays import narrow, widen
from ..types import TensorType
from . import f
from .base import Array, Grad, Op, op, shape_text
from .onnx_rules import Export, Import, from_onnx
from .onnx_types import emit


def _check_square(name: str, x: TensorType) -> TensorType:
    if not x.dtype.is_differentiable:
        raise DTypeError(f"{name}: expected floating-point operands, got {x.dtype.name}")
    if x.ndim < 2 or x.shape[-1] != x.shape[-2]:
        raise ShapeError(f"{name}: expected square matrices, got {shape_text(x.shape)}")
    return x


@op
class Det(Op):
    """The determinant of each matrix: x [.., n, n] -> [..].

    The gradient is that of regular matrices. Source: ONNX Det-22, torch.linalg.det.
    """

    def infer(self, x: TensorType) -> TensorType:
        return _check_square("det", x).with_shape(x.shape[:-2])

    def eager(self, xp: Any, x: Array) -> Array:
        with np.errstate(all="ignore"):
            return narrow(xp.asarray(xp.linalg.det(widen(x))), x.dtype)

    def vjp(self, g: Array, y: Array, x: Array) -> tuple[Grad, ...]:
        def grad() -> Array:
            factor = f.reshape(g * f.conj(y), (*y.shape, 1, 1))
            return factor * f.conj(f.transpose(Inverse()(x)))

        return (grad,)

    def to_onnx(self, ctx: Export, x: str) -> Any:
        ctx.require_opset(11, "det")
        return emit(ctx, ctx.type(x).dtype, "Det", x)


@from_onnx("Det")
def _import_det(ctx: Import, x: Any) -> Any:
    return Det()(x)


@op
class Inverse(Op):
    """The inverse of each matrix [.., n, n]; of a singular one NaN. Source: torch.linalg.inv."""

    def infer(self, x: TensorType) -> TensorType:
        return _check_square("inverse", x)

    def eager(self, xp: Any, x: Array) -> Array:
        wide = widen(x)
        try:
            return narrow(xp.linalg.inv(wide), x.dtype)
        except np.linalg.LinAlgError:
            return xp.full(x.shape, np.nan, x.dtype)

    def vjp(self, g: Array, y: Array, _x: Array) -> tuple[Grad, ...]:
        def grad() -> Array:
            back = f.conj(f.transpose(y))
            return -f.matmul(f.matmul(back, g), back)

        return (grad,)

    def to_onnx(self, ctx: Export, x: str) -> Any:
        raise OnnxError("inverse has no ONNX form")
