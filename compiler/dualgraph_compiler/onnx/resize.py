"""Import of Resize: along every axis a gather (nearest) or a product with a matrix of weights.

Each output element is a weighted sum of input elements of its axis, with weights that depend on the
sizes alone, so interpolation of any order is one matrix product per axis. Source: ONNX Resize-19.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ..dtypes import float32, float64
from ..errors import OnnxError
from ..graph import Value
from ..kernels.interpolation import weights
from ..ops import f
from ..ops.base import normalize_axis
from ..ops.indexing import IndexSelect
from ..ops.onnx_rules import from_onnx

if TYPE_CHECKING:
    from .importer import Importer

_Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Axis:
    """What happens along one axis: `size` elements, of which `roi` is a part, become `out`."""

    size: int
    out: int
    scale: float
    roi: tuple[float, float] = (0.0, 1.0)

    def coordinates(self, mode: str) -> _Array:
        """Where each output element lies among the input's."""
        i = np.arange(self.out, dtype=np.float64)
        length = self.scale * self.size
        half_pixel = (i + 0.5) / self.scale - 0.5
        if mode == "half_pixel":
            return half_pixel
        if mode == "pytorch_half_pixel":
            return half_pixel if length > 1 else i * 0
        if mode == "tf_half_pixel_for_nn":
            return half_pixel + 0.5
        if mode == "half_pixel_symmetric":
            return half_pixel + self.size / 2 * (1 - self.out / length)
        if mode == "align_corners":
            return i * (self.size - 1) / (length - 1) if length != 1 else i * 0
        if mode == "asymmetric":
            return i / self.scale
        if mode == "tf_crop_and_resize":
            first, last = (v * (self.size - 1) for v in self.roi)
            step = (last - first) / (self.out - 1) if self.out > 1 else 0.0
            return first + i * step if self.out > 1 else i + (first + last) / 2
        raise OnnxError(f"coordinate_transformation_mode {mode!r} is not supported")


def nearest(axis: Axis, x: _Array, mode: str) -> _Array:
    """The index of the input element nearest to each coordinate."""
    rounded = {
        "round_prefer_floor": lambda: np.ceil(x - 0.5),
        "round_prefer_ceil": lambda: np.floor(x + 0.5),
        "floor": lambda: np.floor(x),
        "ceil": lambda: np.ceil(x),
    }
    if mode not in rounded:
        raise OnnxError(f"nearest_mode {mode!r} is not supported")
    return np.clip(rounded[mode](), 0, axis.size - 1).astype(np.int64)


@from_onnx("Resize")
def _resize(
    ctx: Importer,
    x: Value,
    roi: Value | None = None,
    scales: Value | None = None,
    sizes: Value | None = None,
) -> Value:
    mode = ctx.attr("coordinate_transformation_mode", "half_pixel")
    axes = _axes(ctx, x, scales, sizes)
    if mode == "tf_crop_and_resize":
        axes = _cropped(ctx, x, axes, roi)
    axes = [(at, axis) for at, axis in axes if axis != Axis(axis.size, axis.size, 1)]
    dtype = x.dtype
    if not dtype.is_floating_point and ctx.attr("mode", "nearest") != "nearest":
        x = f.cast(x, float64 if dtype.itemsize > 2 else float32)
    for at, axis in sorted(axes, key=_order):
        x = _resize_axis(ctx, x, at, axis, axis.coordinates(mode))
    if mode == "tf_crop_and_resize":
        for at, axis in axes:
            x = _extrapolated(ctx, x, at, axis)
    if x.dtype is not dtype:  # what overshoots stays at the ends of the type
        limits = np.iinfo(dtype.np)
        x = f.cast(f.clip(x, float(limits.min), float(limits.max)), dtype)
    return x


def _order(resized: tuple[int, Axis]) -> tuple[bool, int]:
    """Axes that shrink come first; of those that grow the last one, whose elements are dearest."""
    at, axis = resized
    grows = axis.out > axis.size
    return grows, -at if grows else at


def _axes(
    ctx: Importer, x: Value, scales: Value | None, sizes: Value | None
) -> list[tuple[int, Axis]]:
    """The axes resized, from `scales` or `sizes`."""
    along = _along(ctx, x)
    factors = ctx.array(scales, "the scales of Resize") if scales is not None else None
    if factors is not None and factors.size:
        if not all(0 < s < math.inf for s in map(float, factors)):
            raise OnnxError(f"expected positive scales, got {factors.tolist()}")
        return [
            (a, Axis(known_size(ctx, x, a), math.floor(known_size(ctx, x, a) * s), s))
            for a, s in zip(along, map(float, factors), strict=True)
            if s != 1
        ]
    if sizes is None:
        raise OnnxError("expected scales or sizes")
    wanted = ctx.sizes(sizes, "the new sizes")
    changed = [
        (a, ctx.size(n, "a new size"))
        for a, n in zip(along, wanted, strict=True)
        if x.shape[a] != n
    ]
    policy = ctx.attr("keep_aspect_ratio_policy", "stretch")
    pairs = [(a, known_size(ctx, x, a), n) for a, n in changed]
    if policy == "stretch" or not pairs:
        return [(a, Axis(size, n, n / size)) for a, size, n in pairs]
    ratios = [
        ctx.size(n, "a new size") / known_size(ctx, x, a)
        for a, n in zip(along, wanted, strict=True)
    ]
    scale = min(ratios) if policy == "not_larger" else max(ratios)
    every = [(a, known_size(ctx, x, a)) for a in along]
    return [(a, Axis(size, math.floor(scale * size + 0.5), scale)) for a, size in every]


def _along(ctx: Importer, x: Value) -> list[int]:
    return [normalize_axis("Resize", a, x.ndim) for a in ctx.attr("axes", tuple(range(x.ndim)))]


def known_size(ctx: Importer, x: Value, axis: int) -> int:
    """The size of an axis to resize, which must be a number above 0."""
    size = ctx.size(x.shape[axis], f"the size to resize along axis {axis}")
    if size == 0:
        raise OnnxError(f"axis {axis} of {x.type} has nothing to resize")
    return size


def _cropped(
    ctx: Importer, x: Value, axes: list[tuple[int, Axis]], roi: Value | None
) -> list[tuple[int, Axis]]:
    """The axes with the parts of them that are resized, also those whose size stays."""
    if roi is None:
        raise OnnxError("tf_crop_and_resize needs a roi")
    bounds = ctx.array(roi, "the roi of Resize").reshape(2, -1).tolist()
    known, found = dict(axes), []
    for a, low, high in zip(_along(ctx, x), *bounds, strict=True):
        if a in known or (low, high) != (0, 1):
            size = known_size(ctx, x, a)
            found.append((a, replace(known.get(a, Axis(size, size, 1)), roi=(low, high))))
    return found


def _extrapolated(ctx: Importer, x: Value, at: int, axis: Axis) -> Value:
    """`x` with the stated value where a coordinate along an axis is outside."""
    places = axis.coordinates("tf_crop_and_resize")
    outside = (places < 0) | (places > axis.size - 1)
    if not outside.any():
        return x
    mask = ctx.constant(outside.reshape(-1, *(1,) * (x.ndim - 1 - at)))
    value = ctx.constant(np.asarray(ctx.attr("extrapolation_value", 0.0)).astype(x.dtype.np))
    return f.where(f.expand(mask, x.shape), f.expand(value, x.shape), x)  # type: ignore[no-any-return]


def _resize_axis(ctx: Importer, x: Value, at: int, axis: Axis, coordinates: _Array) -> Value:
    mode = ctx.attr("mode", "nearest")
    if mode == "nearest":
        index = nearest(axis, coordinates, ctx.attr("nearest_mode", "round_prefer_floor"))
        return taken(ctx, x, at, index)
    if mode not in ("linear", "cubic"):
        raise OnnxError(f"mode {mode!r} is not supported")
    matrix = weights(
        coordinates,
        axis.size,
        axis.scale,
        cubic=float(ctx.attr("cubic_coeff_a", -0.75)) if mode == "cubic" else None,
        antialias=bool(ctx.attr("antialias", 0)),
        exclude_outside=bool(ctx.attr("exclude_outside", 0)),
    )
    return along_axis(ctx, x, at, matrix)


def taken(ctx: Importer, x: Value, at: int, index: _Array) -> Value:
    """The elements of `x` along an axis at `index`, as a repetition where they are one."""
    size = int(str(x.shape[at]))
    times = index.size // size
    if times > 1 and np.array_equal(index, np.repeat(np.arange(size), times)):
        before, after = x.shape[: at + 1], x.shape[at + 1 :]
        y = f.expand(f.reshape(x, (*before, 1, *after)), (*before, times, *after))
        return f.reshape(y, (*x.shape[:at], index.size, *after))  # type: ignore[no-any-return]
    return IndexSelect(at)(x, ctx.constant(index))  # type: ignore[no-any-return]


def along_axis(ctx: Importer, x: Value, at: int, matrix: _Array) -> Value:
    """The product of a matrix [out, size] with `x` along an axis."""
    last = [i for i in range(x.ndim) if i != at] + [at]
    back = [last.index(i) for i in range(x.ndim)]
    moved = x if at == x.ndim - 1 else f.permute(x, last)
    product = f.matmul(moved, ctx.constant(matrix.T.astype(x.dtype.np)))
    return product if at == x.ndim - 1 else f.permute(product, back)  # type: ignore[no-any-return]
