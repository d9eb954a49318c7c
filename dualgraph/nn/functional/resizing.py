"""Images of another size, or read at other places."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from dualgraph_compiler import dtypes as dt
from dualgraph_compiler.dims import DimLike, product
from dualgraph_compiler.errors import ArgumentError, ShapeError
from dualgraph_compiler.kernels import interpolation
from dualgraph_compiler.ops.sampling import GridSample, cubic_weights

from ... import functions as fn
from ..._dispatch import apply
from ._args import per_axis
from .pooling import adaptive_avg_pool1d, adaptive_avg_pool2d, adaptive_avg_pool3d

if TYPE_CHECKING:
    from ..._tensor import Tensor

# The number of spatial axes that a mode is for (None: any).
_MODES = {
    "nearest": None,
    "nearest-exact": None,
    "area": None,
    "linear": 1,
    "bilinear": 2,
    "bicubic": 2,
    "trilinear": 3,
}
_ALIGNABLE = ("linear", "bilinear", "bicubic", "trilinear")
_AREA = (adaptive_avg_pool1d, adaptive_avg_pool2d, adaptive_avg_pool3d)


def interpolate(
    input: Tensor,
    size: Any = None,
    scale_factor: Any = None,
    mode: str = "nearest",
    align_corners: bool | None = None,
    recompute_scale_factor: bool | None = None,
    antialias: bool = False,
) -> Tensor:
    """[N, C, *S] resized to `size` or by `scale_factor`.

    Args:
        mode: "nearest", "nearest-exact", "area", "linear" (one axis), "bilinear", "bicubic" (two)
            or "trilinear" (three).
        align_corners: whether the centres of the outermost elements are the ends of the image (and
            not their outer edges); for interpolating modes only.
        recompute_scale_factor: use the ratio of the sizes instead of `scale_factor`.
        antialias: average over what an output element covers where it is larger than one of the
            input; for "bilinear" and "bicubic".

    Raises:
        ArgumentError: an unknown mode, or arguments that do not fit together.
    """
    if mode not in _MODES:
        raise ArgumentError(f"interpolate: mode must be one of {', '.join(_MODES)}, got {mode!r}")
    if align_corners is not None and mode not in _ALIGNABLE:
        raise ArgumentError(
            "align_corners option can only be set with the interpolating modes: linear | bilinear "
            "| bicubic | trilinear"
        )
    if antialias and mode not in ("bilinear", "bicubic"):
        raise ArgumentError("interpolate: antialias is for the modes bilinear and bicubic")
    rank = input.ndim - 2
    if _MODES[mode] not in (None, rank):
        raise ArgumentError(
            f"interpolate: mode {mode!r} is for inputs of {2 + (_MODES[mode] or 0)} dimensions, "
            f"got {input.ndim}"
        )
    sizes, ratios = _targets(input, size, scale_factor, recompute_scale_factor)
    if mode == "area":
        return _AREA[rank - 1](input, sizes)
    for axis, (new, ratio) in enumerate(zip(sizes, ratios, strict=True), start=2):
        if mode.startswith("nearest"):
            input = _nearest(input, axis, new, ratio, mode == "nearest-exact", size is not None)
        elif antialias:
            input = _averaged(input, axis, new, ratio, bool(align_corners), mode == "bicubic")
        else:
            input = _blended(input, axis, new, ratio, bool(align_corners), mode == "bicubic")
    return input


def _targets(
    input: Tensor, size: Any, scale_factor: Any, recompute: bool | None
) -> tuple[tuple[DimLike, ...], tuple[Any, ...]]:
    """New sizes, and how many elements of the input each new one stands for."""
    if (size is None) == (scale_factor is None):
        raise ArgumentError("only one of size or scale_factor should be defined")
    sizes = tuple(input.shape[2:])
    if size is not None:
        if recompute:
            raise ArgumentError("recompute_scale_factor is not meaningful with an explicit size.")
        new = per_axis("interpolate", size, len(sizes))
        return new, tuple(n / p for n, p in zip(sizes, new, strict=True))
    factors = scale_factor
    if isinstance(scale_factor, int | float):
        factors = (scale_factor,) * len(sizes)
    if len(factors) != len(sizes):
        raise ArgumentError(f"interpolate: expected {len(sizes)} scale factors, got {len(factors)}")
    new = tuple(fn.sym_int(n * s) for n, s in zip(sizes, factors, strict=True))
    if recompute:
        return new, tuple(n / p for n, p in zip(sizes, new, strict=True))
    return new, tuple(1 / s for s in factors)


def _nearest(x: Tensor, axis: int, new: DimLike, ratio: Any, centred: bool, sized: bool) -> Tensor:
    old = x.shape[axis]
    if new == old and (sized or ratio == 1):
        return x
    times = new // old if not isinstance(old, int) or old else 0
    whole = isinstance(times, int) and times * old == new
    if whole and (sized or ratio * times == 1):
        return x.repeat_interleave(times, dim=axis)
    if isinstance(old, int) and isinstance(new, int):
        shift = 0.5 if centred else 0.0
        places = [min(int((i + shift) * ratio), old - 1) for i in range(new)]
        at = fn.tensor(places, dtype=dt.int64)
    else:
        i = fn.arange(new, dtype=dt.float64)
        at = fn.minimum(((i + 0.5 if centred else i) * ratio).to(dt.int64), fn.tensor(old - 1))
    return x.index_select(axis, at if x.is_symbolic else at.to(x.device))


def _places(old: DimLike, new: DimLike, ratio: Any, aligned: bool) -> Tensor:
    """Where each new element lies among the old ones: float64 [new]."""
    i: Tensor = fn.arange(new, dtype=dt.float64)
    if not aligned:
        i = (i + 0.5) * ratio - 0.5
    elif isinstance(new, int) and new == 1:
        i = i * 0.0
    else:
        i = i * ((old - 1) / (new - 1))
    return i


def _blended(x: Tensor, axis: int, new: DimLike, ratio: Any, aligned: bool, cubic: bool) -> Tensor:
    """Weighted sums of the two (`cubic`: four) elements around each place."""
    old = x.shape[axis]
    if new == old and ratio == 1:
        return x
    at = _places(old, new, ratio, aligned)
    if not cubic and not aligned:
        at = at.clamp_min(0.0)
    low = at.floor()
    t = at - low
    base = low.to(dt.int64)
    last = fn.tensor(old - 1)
    shape = [1] * x.ndim
    shape[axis] = -1
    total: Any = 0
    for step, weight in enumerate(cubic_weights(t), -1) if cubic else ((0, 1 - t), (1, t)):
        where = fn.minimum((base + step).clamp_min(0), last)
        if not x.is_symbolic:
            where, weight = where.to(x.device), weight.to(x.device)
        total = total + x.index_select(axis, where) * weight.to(x.dtype).reshape(shape)
    return total  # type: ignore[no-any-return]


def _averaged(x: Tensor, axis: int, new: DimLike, ratio: Any, aligned: bool, cubic: bool) -> Tensor:
    """A product with the matrix of what each new element covers of the old ones."""
    old = x.shape[axis]
    if not isinstance(old, int) or not isinstance(new, int):
        raise ShapeError("interpolate: antialias needs sizes that are numbers")
    if aligned:
        ratio = (old - 1) / (new - 1) if new > 1 else 0.0
    matrix = interpolation.weights(
        (np.arange(new) + 0.5) * ratio - 0.5,
        old,
        1 / ratio if ratio else math.inf,
        cubic=-0.5 if cubic else None,
        antialias=True,
        exclude_outside=True,
    )
    weights = fn.tensor(matrix.T, dtype=x.dtype)
    if not x.is_symbolic:
        weights = weights.to(x.device)
    return (x.movedim(axis, -1) @ weights).movedim(-1, axis)


def upsample(
    input: Tensor,
    size: Any = None,
    scale_factor: Any = None,
    mode: str = "nearest",
    align_corners: bool | None = None,
) -> Tensor:
    """As `interpolate`, which PyTorch prefers. Shapes: [N, C, *sizes] -> [N, C, *larger sizes]."""
    return interpolate(input, size, scale_factor, mode, align_corners)


def upsample_nearest(input: Tensor, size: Any = None, scale_factor: Any = None) -> Tensor:
    """As `interpolate` in mode "nearest". Shapes: [N, C, *sizes] -> [N, C, *larger sizes]."""
    return interpolate(input, size, scale_factor)


def upsample_bilinear(input: Tensor, size: Any = None, scale_factor: Any = None) -> Tensor:
    """As `interpolate` in mode "bilinear" with aligned corners.

    Shapes: [N, C, H, W] -> [N, C, P, Q].
    """
    return interpolate(input, size, scale_factor, "bilinear", align_corners=True)


def grid_sample(
    input: Tensor,
    grid: Tensor,
    mode: str = "bilinear",
    padding_mode: str = "zeros",
    align_corners: bool | None = None,
) -> Tensor:
    """Images read at the places that a grid states, from -1 to 1 along each axis.

    Shapes: input [N, C, *S], grid [N, *P, len(S)], its last axis in reverse order of S (x, y, z) ->
    [N, C, *P]. `mode` is "bilinear" (of volumes: trilinear), "nearest" or "bicubic"; `padding_mode`
    is "zeros", "border" or "reflection".
    """
    modes = {"bilinear": "linear", "nearest": "nearest", "bicubic": "cubic"}
    if mode not in modes:
        raise ArgumentError(f"grid_sample: mode must be one of {', '.join(modes)}, got {mode!r}")
    return apply(GridSample(modes[mode], padding_mode, bool(align_corners)), input, grid)


def affine_grid(theta: Tensor, size: Any, align_corners: bool | None = None) -> Tensor:
    """The grid for `grid_sample` of affine maps.

    Shapes: theta [N, r, r + 1], size [N, C, *S] -> [N, *S, r], of r = 2 or 3 spatial axes.
    """
    spatial = tuple(size)[2:]
    rank = len(spatial)
    if rank not in (2, 3) or tuple(theta.shape[1:]) != (rank, rank + 1):
        raise ShapeError(
            f"affine_grid: expected theta [N, {rank}, {rank + 1}] for a size of {rank} axes, got "
            f"{list(theta.shape)}"
        )
    axes = []
    for i, n in enumerate(reversed(spatial)):
        ends = 1.0 if align_corners else (n - 1) / n
        line = fn.linspace(-ends, ends, n, dtype=theta.dtype) if n > 1 else fn.zeros(1)
        shape = [1] * rank
        shape[rank - 1 - i] = n
        axes.append(line.to(theta.dtype).reshape(shape).expand(spatial))
    points = fn.stack([*axes, fn.ones_like(axes[0])], -1).reshape(product(spatial), rank + 1)
    if not theta.is_symbolic:
        points = points.to(theta.device)
    grid = points.unsqueeze(0) @ theta.transpose(1, 2)
    return grid.reshape((theta.shape[0], *spatial, rank))


# -- the inverse of max pooling -------------------------------------------------------------------


def _max_unpool(
    rank: int,
    input: Tensor,
    indices: Tensor,
    kernel_size: Any,
    stride: Any,
    padding: Any,
    output_size: Any,
) -> Tensor:
    name = f"max_unpool{rank}d"
    if indices.dtype is not dt.int64:
        raise ArgumentError(f"{name}: elements in indices should be type int64")
    if tuple(indices.shape) != tuple(input.shape):
        raise ShapeError(
            f"{name}: expected indices of the input's shape {list(input.shape)}, got "
            f"{list(indices.shape)}"
        )
    kernel = per_axis(name, kernel_size, rank)
    strides = kernel if stride is None or stride == () else per_axis(name, stride, rank)
    pads = per_axis(name, padding, rank)
    lead, spatial = tuple(input.shape[:-rank]), tuple(input.shape[-rank:])
    out = tuple(
        (n - 1) * s - 2 * p + k for n, s, p, k in zip(spatial, strides, pads, kernel, strict=True)
    )
    if output_size is not None:
        given = tuple(output_size)[-rank:]
        if any(abs(a - b) >= s for a, b, s in zip(given, out, strides, strict=True)):
            raise ArgumentError(
                f"{name}: output_size {list(output_size)} is too far from {list(out)}"
            )
        out = given
    flat = (*lead, product(spatial))
    zeros = input.new_zeros((*lead, math.prod(out)))
    filled = zeros.scatter(-1, indices.reshape(flat), input.reshape(flat))
    return filled.reshape((*lead, *out))


def max_unpool1d(
    input: Tensor,
    indices: Tensor,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    output_size: Any = None,
) -> Tensor:
    """Maxima put back to where `max_pool1d` found them, zeros elsewhere.

    Shapes: [N, C, Q] -> [N, C, L].
    """
    return _max_unpool(1, input, indices, kernel_size, stride, padding, output_size)


def max_unpool2d(
    input: Tensor,
    indices: Tensor,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    output_size: Any = None,
) -> Tensor:
    """Maxima put back to where `max_pool2d` found them, zeros elsewhere.

    Shapes: [N, C, P, Q] -> [N, C, H, W].
    """
    return _max_unpool(2, input, indices, kernel_size, stride, padding, output_size)


def max_unpool3d(
    input: Tensor,
    indices: Tensor,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    output_size: Any = None,
) -> Tensor:
    """Maxima put back to where `max_pool3d` found them, zeros elsewhere.

    Shapes: [N, C, O, P, Q] -> [N, C, D, H, W].
    """
    return _max_unpool(3, input, indices, kernel_size, stride, padding, output_size)
