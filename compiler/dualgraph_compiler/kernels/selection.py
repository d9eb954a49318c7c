"""Finding so many things as there are: distinct elements, boxes to keep, numbers of a range."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .arrays import Array, is_numpy, narrow, widen

_BLOCK = 64  # boxes whose overlaps with all others are computed together


def unique(xp: Any, x: Array, axis: int | None, sorted: bool) -> tuple[Array, ...]:
    """Distinct elements or slices, first occurrences, which one each is, and counts (Unique-11)."""
    wide = widen(x)
    if axis is not None and 0 in x.shape:
        return _unique_of_nothing(xp, x, axis)
    found = xp.unique(wide, return_index=True, return_inverse=True, return_counts=True, axis=axis)
    values, first, inverse, counts = found
    inverse = inverse.reshape(-1)
    if not sorted:
        order = xp.argsort(first)
        place = xp.empty_like(order)
        place[order] = xp.arange(order.size)
        values = xp.take(values, order, axis=axis or 0)
        first, counts, inverse = first[order], counts[order], place[inverse]
    numbers = (v.astype(np.int64, copy=False) for v in (first, inverse, counts))
    return narrow(values, x.dtype), *numbers


def _unique_of_nothing(xp: Any, x: Array, axis: int) -> tuple[Array, ...]:
    """Slices without elements are all the same one; of no slices there is none."""
    length = x.shape[axis]
    kept = min(length, 1)
    values = x[(slice(None),) * axis + (slice(kept),)]
    return (
        values.copy(),
        xp.zeros(kept, np.int64),
        xp.zeros(length, np.int64),
        xp.full(kept, length, np.int64),
    )


def range_length(start: Array, stop: Array, step: Array) -> int:
    """max(ceil((stop - start) / step), 0), exact for integers.

    Raises:
        ValueError: `step` is 0, or the length no number.
    """
    whole = start.dtype.kind in "iu"
    a, b, s = ((int if whole else float)(v) for v in (start, stop, step))
    length = math.nan
    if s != 0:
        length = -((a - b) // s) if whole else (b - a) / s
    if not math.isfinite(length):
        raise ValueError(f"a range from {a} to {b} by {s} has no end")
    return max(math.ceil(length), 0)


@np.errstate(all="ignore")
def arange(xp: Any, start: Array, stop: Array, step: Array) -> Array:
    """``start + i * step`` for each i below `range_length`, in the operands' type."""
    dtype = start.dtype
    at = xp.arange(range_length(start, stop, step))
    if dtype.kind in "iu":
        return (at * int(step) + int(start)).astype(dtype)
    return (at * float(step) + float(start)).astype(dtype)


@np.errstate(all="ignore")
def non_max_suppression(
    xp: Any,
    boxes: Array,
    scores: Array,
    most: int,
    overlap: float,
    least: float,
    centered: bool,
) -> Array:
    """Image, class and box of each box that is kept: int64 [kept, 3] (NonMaxSuppression-11).

    The choice goes box by box, so a GPU's arrays are brought to the host for it.
    """
    if not is_numpy(xp):
        first, second = (v.get() if hasattr(v, "get") else v for v in (boxes, scores))
        return xp.asarray(non_max_suppression(np, first, second, most, overlap, least, centered))
    corners = _corners(widen(boxes), centered)
    kept = []
    for n, c in np.ndindex(*scores.shape[:2]):
        row = widen(scores[n, c])
        candidates = np.flatnonzero(row > least) if least > -np.inf else np.arange(row.size)
        order = candidates[np.argsort(-row[candidates], kind="stable")]
        found = _greedy(corners[n, order], most, overlap)
        image = np.full((found.size, 3), (n, c, 0), np.int64)
        image[:, 2] = order[found]
        kept.append(image)
    return np.concatenate(kept) if kept else np.zeros((0, 3), np.int64)


def _corners(boxes: Array, centered: bool) -> Array:
    """Boxes as (low, low, high, high) along two axes, whichever they are."""
    first, second = boxes[..., :2], boxes[..., 2:]
    if centered:
        first, second = first - second / 2, first + second / 2
    return np.concatenate([np.minimum(first, second), np.maximum(first, second)], -1)


def _greedy(corners: Array, most: int, overlap: float) -> Array:
    """Positions, in order, of the boxes that no kept one before them overlaps too much."""
    alive = np.ones(len(corners), bool)
    kept: list[int] = []
    start = 0
    while len(kept) < most:
        block = start + np.flatnonzero(alive[start:])[: min(_BLOCK, most - len(kept))]
        if not block.size:
            break
        hits = _overlaps(corners[block], corners[start:]) > overlap
        for at, row in zip(block, hits, strict=True):
            if alive[at]:
                kept.append(int(at))
                alive[start:] &= ~row
                alive[at] = False
        alive[block] = False
        start = int(block[0])
    return np.array(kept, np.int64)


def _overlaps(some: Array, all: Array) -> Array:
    """Intersection over union of each of `some` boxes with `all`; 0 where either has no area."""
    low = np.maximum(some[:, None, :2], all[:, :2])
    high = np.minimum(some[:, None, 2:], all[:, 2:])
    side = np.maximum(high - low, 0)
    shared = side[..., 0] * side[..., 1]
    areas = [np.prod(b[:, 2:] - b[:, :2], axis=1) for b in (some, all)]
    union = areas[0][:, None] + areas[1] - shared
    solid = (shared > 0) & (union > 0)
    return np.where(solid, shared / np.where(solid, union, 1), 0)
