"""Pooling over regions of images: by interpolated samples, or by the maximum of each bin."""

from __future__ import annotations

from typing import Any

import numpy as np

from .arrays import Array, is_numpy, narrow, widen

_BLOCK = 1 << 24  # elements of the images that one block of regions reads


def _samples(
    xp: Any, start: Array, end: Array, bins: int, ratio: int, aligned: bool
) -> tuple[Array, Array]:
    """Where each bin of each region is sampled [R, bins, most], and whether it is [R, 1, most].

    Without a `ratio` there are as many samples along an axis as a bin has elements.
    """
    extent = end - start
    if not aligned:
        extent = xp.maximum(extent, 1)
    size = extent / bins
    count = xp.full(size.shape, ratio) if ratio > 0 else xp.ceil(size)
    count = xp.maximum(count, 0).astype(np.int64)
    most = int(count.max()) if count.size else 0
    i = xp.arange(most)
    first = start[:, None] + xp.arange(bins) * size[:, None]
    at = (i + 0.5) * (size / xp.maximum(count, 1))[:, None]
    return first[:, :, None] + at[:, None, :], (i < count[:, None])[:, None, :]


def _taps(xp: Any, at: Array, size: int) -> tuple[Array, Array, Array, Array]:
    """Indices and weights of the two elements around each place; 0 beyond an element outside."""
    inside = (at >= -1) & (at <= size)
    at = xp.where(inside, xp.maximum(at, 0), 0)
    low = xp.minimum(at.astype(np.int64), size - 1)
    high = xp.minimum(low + 1, size - 1)
    t = xp.where(low >= size - 1, 0, at - low)
    return low, high, xp.where(inside, 1 - t, 0), xp.where(inside, t, 0)


def _axis_weights(
    xp: Any, start: Array, end: Array, bins: int, size: int, ratio: int, aligned: bool
) -> Array:
    """How much each element of an axis adds to the mean of each bin: [R, bins, size]."""
    at, used = _samples(xp, start, end, bins, ratio, aligned)
    out = xp.zeros((*at.shape[:2], size), start.dtype)
    if not out.size or not at.shape[2]:
        return out
    low, high, w_low, w_high = _taps(xp, at, size)
    count = xp.maximum(used.sum(-1, keepdims=True), 1)
    rows = xp.arange(out.shape[0] * bins).reshape(out.shape[0], bins, 1) * size
    flat = out.reshape(-1)
    for index, w in ((low, w_low), (high, w_high)):
        w = (xp.where(used, w, 0) / count).astype(out.dtype)
        xp.add.at(flat, (rows + index).reshape(-1), w.reshape(-1))
    return out


def _weights(
    xp: Any,
    rois: Array,
    sizes: tuple[int, int],
    bins: tuple[int, int],
    ratio: int,
    scale: float,
    aligned: bool,
) -> tuple[Array, Array]:
    """Those of the two axes, for rois [R, 4] of x1, y1, x2, y2."""
    places = rois * rois.dtype.type(scale) - rois.dtype.type(0.5 if aligned else 0)
    x1, y1, x2, y2 = (places[:, i] for i in range(4))
    return (
        _axis_weights(xp, y1, y2, bins[0], sizes[0], ratio, aligned),
        _axis_weights(xp, x1, x2, bins[1], sizes[1], ratio, aligned),
    )


def _blocks(regions: int, image: int) -> range:
    return range(0, regions, max(1, _BLOCK // max(image, 1)))


@np.errstate(all="ignore")
def roi_align(
    xp: Any,
    x: Array,
    rois: Array,
    batch: Array,
    bins: tuple[int, int],
    ratio: int,
    scale: float,
    aligned: bool,
) -> Array:
    """Means of bins of regions: x [N, C, H, W], rois [R, 4], batch [R] -> [R, C, *bins].

    A bin's samples form a grid, so their mean is a product with the weights of each axis.
    """
    wide = widen(x)
    n, c, h, w = x.shape
    by_y, by_x = _weights(xp, widen(rois), (h, w), bins, ratio, scale, aligned)
    out = xp.empty((rois.shape[0], c, *bins), wide.dtype)
    if is_numpy(xp):  # all channels of a region in one product, image by image
        tall = np.ascontiguousarray(wide.swapaxes(1, 2)).reshape(n, h, c * w)
        for image in range(n):
            own = np.flatnonzero(batch == image)
            rows = np.matmul(by_y[own], tall[image]).reshape(own.size, bins[0] * c, w)
            found = np.matmul(rows, by_x[own].swapaxes(1, 2))
            out[own] = found.reshape(own.size, bins[0], c, bins[1]).swapaxes(1, 2)
        return narrow(out, x.dtype)
    blocks = _blocks(rois.shape[0], c * h * w)
    for start in blocks:
        part = slice(start, start + blocks.step)
        rows = xp.matmul(by_y[part, None], wide[batch[part]])
        out[part] = xp.matmul(rows, by_x[part, None].swapaxes(2, 3))
    return narrow(out, x.dtype)


@np.errstate(all="ignore")
def roi_align_backward(
    xp: Any,
    g: Array,
    rois: Array,
    batch: Array,
    shape: tuple[int, ...],
    ratio: int,
    scale: float,
    aligned: bool,
) -> Array:
    """The transpose of `roi_align`: g [R, C, *bins] -> `shape`, that of x."""
    wide = widen(g)
    _, c, h, w = shape
    bins = (g.shape[2], g.shape[3])
    by_y, by_x = _weights(xp, widen(rois), (h, w), bins, ratio, scale, aligned)
    out = xp.zeros(shape, wide.dtype)
    blocks = _blocks(rois.shape[0], c * h * w)
    for start in blocks:
        part = slice(start, start + blocks.step)
        rows = xp.matmul(by_y[part, None].swapaxes(2, 3), wide[part])
        xp.add.at(out, batch[part], xp.matmul(rows, by_x[part, None]))
    return narrow(out, g.dtype)


@np.errstate(all="ignore")
def roi_align_max(
    xp: Any,
    x: Array,
    rois: Array,
    batch: Array,
    bins: tuple[int, int],
    ratio: int,
    scale: float,
    aligned: bool,
) -> Array:
    """As `roi_align`, but the largest of all weighted elements that a bin's samples read."""
    wide, places = widen(x), widen(rois)
    places = places * places.dtype.type(scale) - places.dtype.type(0.5 if aligned else 0)
    _, c, h, w = x.shape
    ys, y_used = _samples(xp, places[:, 1], places[:, 3], bins[0], ratio, aligned)
    xs, x_used = _samples(xp, places[:, 0], places[:, 2], bins[1], ratio, aligned)
    y_taps, x_taps = _taps(xp, ys, h), _taps(xp, xs, w)
    out = xp.full((rois.shape[0], c, *bins), -np.inf, wide.dtype)
    image = batch[:, None, None]
    for i in range(ys.shape[2]):
        for j in range(xs.shape[2]):
            used = (y_used[:, 0, i] & x_used[:, 0, j])[:, None, None, None]
            for a in (0, 1):
                for b in (0, 1):
                    row, column = y_taps[a][:, :, i, None], x_taps[b][:, None, :, j]
                    weight = y_taps[a + 2][:, :, i, None] * x_taps[b + 2][:, None, :, j]
                    value = xp.moveaxis(wide[image, :, row, column], -1, 1) * weight[:, None]
                    out = xp.where(used, xp.maximum(out, value), out)
    return narrow(xp.where(xp.isneginf(out), 0, out), x.dtype)


@np.errstate(all="ignore")
def max_roi_pool(xp: Any, x: Array, rois: Array, bins: tuple[int, int], scale: float) -> Array:
    """Maxima of bins of whole elements: rois [R, 5] of image, x1, y1, x2, y2 -> [R, C, *bins].

    Bins overlap where a region does not divide; one without elements gives 0 (MaxRoiPool-22).
    """
    wide, places = widen(x), widen(rois)
    image = places[:, 0].astype(np.int64)
    corners = xp.floor(places[:, 1:] * places.dtype.type(scale) + 0.5).astype(np.int64)
    rows = wide[image]
    empty: Any = False
    for axis, (low, high, count) in enumerate(
        ((corners[:, 1], corners[:, 3], bins[0]), (corners[:, 0], corners[:, 2], bins[1])), start=2
    ):
        size = rows.shape[axis]
        extent = xp.maximum(high - low + 1, 1)[:, None]
        i = xp.arange(count)
        first = xp.clip(low[:, None] + i * extent // count, 0, size)
        last = xp.clip(low[:, None] - (-(i + 1) * extent // count), 0, size)
        rows = _range_max(xp, rows, axis, first, last)
        gap = last <= first
        empty = empty | (gap[:, None, :, None] if axis == 2 else gap[:, None, None, :])
    return narrow(xp.where(empty, 0, rows), x.dtype)


def _range_max(xp: Any, x: Array, axis: int, first: Array, last: Array) -> Array:
    """The maximum of x [R, C, .., ..] from `first` to before `last` [R, bins] along an axis."""
    shape = [first.shape[0], 1, 1, 1]
    shape[axis] = first.shape[1]
    out: Any = None
    for step in range(max(int((last - first).max()), 1) if first.size else 1):
        at = xp.clip(xp.minimum(first + step, last - 1), 0, x.shape[axis] - 1).reshape(shape)
        value = xp.take_along_axis(x, at, axis)
        out = value if out is None else xp.maximum(out, value)
    return out
