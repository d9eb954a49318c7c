"""Pooling over regions of images.

Regions are [R, 4] of x1, y1, x2, y2 in an image's own measure, which `scale` brings to that of x.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..dims import DimLike, Shape
from ..dtypes import int64
from ..errors import DTypeError, ShapeError
from ..kernels import indexing, roi
from ..types import TensorType
from . import f
from .base import Array, Grad, Op, op, require_same_dtype, shape_text
from .indexing import checked
from .onnx_rules import Export, Import, from_onnx
from .onnx_types import emit


def _check(name: str, x: TensorType, rois: TensorType, columns: int) -> None:
    dtype = require_same_dtype(name, x, rois)
    if not dtype.is_floating_point:
        raise DTypeError(f"{name}: expected floating-point operands, got {dtype.name}")
    if x.ndim != 4 or rois.ndim != 2 or rois.shape[1] != columns:
        raise ShapeError(
            f"{name}: expected images [N, C, H, W] and regions [R, {columns}], got "
            f"{shape_text(x.shape)} and {shape_text(rois.shape)}"
        )
    if x.shape[2] == 0 or x.shape[3] == 0:
        raise ShapeError(f"{name}: expected sizes above 0, got {shape_text(x.shape)}")


class _RoiAlign(Op):
    __slots__ = ()
    height: int
    width: int
    samples: int
    scale: float
    aligned: bool

    def check(self, x: TensorType, rois: TensorType, batch: TensorType) -> None:
        """Raise unless the operands suit each other."""
        _check(self.name, x, rois, 4)
        if batch.dtype is not int64 or batch.shape != rois.shape[:1]:
            raise ShapeError(
                f"{self.name}: expected the images' numbers i64{shape_text(rois.shape[:1])}, got "
                f"{batch}"
            )

    def geometry(self) -> tuple[int, float, bool]:
        """What kernels take."""
        return self.samples, self.scale, self.aligned

    def pooled(self, x: TensorType, rois: TensorType) -> TensorType:
        """The type of the bins of all regions."""
        return x.with_shape((rois.shape[0], x.shape[1], self.height, self.width))

    def emit(self, ctx: Export, mode: str, x: str, rois: str, batch: str) -> Any:
        """ONNX's operator, which has both modes."""
        ctx.require_opset(16, self.name)
        attributes: dict[str, Any] = {
            "output_height": self.height,
            "output_width": self.width,
            "sampling_ratio": self.samples,
            "spatial_scale": self.scale,
            "mode": mode,
            "coordinate_transformation_mode": "half_pixel" if self.aligned else "output_half_pixel",
        }
        return emit(ctx, ctx.type(x).dtype, "RoiAlign", x, rois, batch, **attributes)

    def numbers(self, xp: Any, batch: Array, images: int) -> Array:
        """Image numbers that are within bounds."""
        return checked(self.name, indexing.check_indices, xp, batch, images)


@op
class RoiAlign(_RoiAlign):
    """The mean of samples, interpolated linearly, in each bin of each region.

    Operands: x [N, C, H, W], rois [R, 4] of the same type, and the image that each is of, int64
    [R]. Shapes: -> [R, C, height, width]. There are `samples`^2 samples in a bin, or with 0 one for
    each element that it extends over. With `aligned` the centre of an element is at 0.5. The
    gradient is that of x. Source: He et al. 2017; ONNX RoiAlign-22.
    """

    height: int
    width: int
    samples: int = 0
    scale: float = 1.0
    aligned: bool = True

    def infer(self, x: TensorType, rois: TensorType, batch: TensorType) -> TensorType:
        self.check(x, rois, batch)
        return self.pooled(x, rois)

    def eager(self, xp: Any, x: Array, rois: Array, batch: Array) -> Array:
        bins, batch = (self.height, self.width), self.numbers(xp, batch, x.shape[0])
        return roi.roi_align(xp, x, rois, batch, bins, *self.geometry())

    def vjp(self, g: Array, _y: Array, _x: Array, rois: Array, batch: Array) -> tuple[Grad, ...]:
        back = RoiAlignGrad(**self.attributes(), shape=tuple(_x.shape))
        return lambda: back(g, rois, batch), None, None

    def to_onnx(self, ctx: Export, x: str, rois: str, batch: str) -> Any:
        return self.emit(ctx, "avg", x, rois, batch)


@op
class RoiAlignMax(_RoiAlign):
    """The maximum of what RoiAlign adds up: elements that samples read, each times its weight.

    Operands and shapes as RoiAlign's. Has no gradient. Source: ONNX RoiAlign-22 with mode "max".
    """

    height: int
    width: int
    samples: int = 0
    scale: float = 1.0
    aligned: bool = True

    def infer(self, x: TensorType, rois: TensorType, batch: TensorType) -> TensorType:
        self.check(x, rois, batch)
        return self.pooled(x, rois)

    def eager(self, xp: Any, x: Array, rois: Array, batch: Array) -> Array:
        bins, batch = (self.height, self.width), self.numbers(xp, batch, x.shape[0])
        return roi.roi_align_max(xp, x, rois, batch, bins, *self.geometry())

    def to_onnx(self, ctx: Export, x: str, rois: str, batch: str) -> Any:
        return self.emit(ctx, "max", x, rois, batch)


@from_onnx("RoiAlign")
def _import_roi_align(ctx: Import, x: Any, rois: Any, batch: Any) -> Any:
    aligned = ctx.attr("coordinate_transformation_mode", "half_pixel") == "half_pixel"
    mode = ctx.attr("mode", "avg")
    op = (RoiAlignMax if mode == "max" else RoiAlign)(
        ctx.attr("output_height", 1),
        ctx.attr("output_width", 1),
        ctx.attr("sampling_ratio", 0),
        ctx.attr("spatial_scale", 1.0),
        aligned,
    )
    return op(x, f.cast(rois, x.dtype), f.cast(batch, int64))


@op
class RoiAlignGrad(_RoiAlign):
    """The transpose of RoiAlign's mean: g [R, C, height, width], rois and batch -> `shape`."""

    height: int
    width: int
    samples: int
    scale: float
    aligned: bool
    shape: Shape

    def infer(self, g: TensorType, rois: TensorType, batch: TensorType) -> TensorType:
        x = g.with_shape(self.shape)
        self.check(x, rois, batch)
        wanted: tuple[DimLike, ...] = (rois.shape[0], x.shape[1], self.height, self.width)
        if g.shape != wanted:
            raise ShapeError(
                f"roi_align_grad: expected a gradient {shape_text(wanted)}, got "
                f"{shape_text(g.shape)}"
            )
        return x

    def eager(self, xp: Any, g: Array, rois: Array, batch: Array) -> Array:
        shape: tuple[int, ...] = tuple(map(int, self.shape))
        batch = self.numbers(xp, batch, shape[0])
        return roi.roi_align_backward(xp, g, rois, batch, shape, *self.geometry())

    def vjp(self, g: Array, _y: Array, _g: Array, rois: Array, batch: Array) -> tuple[Grad, ...]:
        attributes = {k: v for k, v in self.attributes().items() if k != "shape"}
        return lambda: RoiAlign(**attributes)(g, rois, batch), None, None


@op
class MaxRoiPool(Op):
    """The maximum of each bin of each region, of whole elements; 0 where a bin has none.

    Operands: x [N, C, H, W], rois [R, 5] of the image and x1, y1, x2, y2 -> [R, C, height, width].
    Has no gradient. Source: Girshick 2015; ONNX MaxRoiPool-22.
    """

    height: int
    width: int
    scale: float = 1.0

    def infer(self, x: TensorType, rois: TensorType) -> TensorType:
        _check("max_roi_pool", x, rois, 5)
        return x.with_shape((rois.shape[0], x.shape[1], self.height, self.width))

    def eager(self, xp: Any, x: Array, rois: Array) -> Array:
        numbers = rois[:, 0].astype(np.int64)
        checked("max_roi_pool", indexing.check_indices, xp, numbers, x.shape[0])
        return roi.max_roi_pool(xp, x, rois, (self.height, self.width), self.scale)

    def to_onnx(self, ctx: Export, x: str, rois: str) -> Any:
        shape, scale = (self.height, self.width), self.scale
        dtype = ctx.type(x).dtype
        return emit(ctx, dtype, "MaxRoiPool", x, rois, pooled_shape=shape, spatial_scale=scale)


@from_onnx("MaxRoiPool")
def _import_max_roi_pool(ctx: Import, x: Any, rois: Any) -> Any:
    height, width = ctx.attr("pooled_shape")
    return MaxRoiPool(height, width, ctx.attr("spatial_scale", 1.0))(x, rois)
