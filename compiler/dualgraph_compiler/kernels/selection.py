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
    sides = _sides(widen(boxes), centered)
    kept = []
    for n, c in np.ndindex(*scores.shape[:2]):
        row = widen(scores[n, c])
        candidates = np.flatnonzero(row > least) if least > -np.inf else np.arange(row.size)
        order = candidates[np.argsort(-row[candidates], kind="stable")]
        found = order[_greedy(sides[:, n, order], most, overlap)]
        image = np.full((found.size, 3), (n, c, 0), np.int64)
        image[:, 2] = found
        kept.append(image)
    return np.concatenate(kept) if kept else np.zeros((0, 3), np.int64)


def _sides(boxes: Array, centered: bool) -> Array:
    """Both bounds of boxes along two axes, and their areas: [5, ...]."""
    a, b, c, d = (boxes[..., i] for i in range(4))
    if centered:
        a, b, c, d = a - c / 2, b - d / 2, a + c / 2, b + d / 2
    low, high = (np.minimum(a, c), np.minimum(b, d)), (np.maximum(a, c), np.maximum(b, d))
    return np.stack([*low, *high, (high[0] - low[0]) * (high[1] - low[1])])


def _greedy(sides: Array, most: int, overlap: float) -> Array:
    """Positions, in order, of the boxes that no kept one before them overlaps too much."""
    left = np.arange(sides.shape[1])  # those that nothing kept so far overlaps
    kept: list[int] = []
    while left.size and len(kept) < most:
        block, rest = left[:_BLOCK], left[_BLOCK:]
        hits = _overlaps(sides[:, block], sides[:, block]) > overlap
        free = np.ones(block.size, bool)
        chosen = []
        for i, row in enumerate(hits):
            if free[i]:
                chosen.append(i)
                free &= ~row
        chosen = chosen[: most - len(kept)]
        kept += block[chosen].tolist()
        if rest.size and len(kept) < most:
            hits = _overlaps(sides[:, block[chosen]], sides[:, rest]) > overlap
            rest = rest[~hits.any(0)]
        left = rest
    return np.array(kept, np.int64)


def _overlaps(some: Array, others: Array) -> Array:
    """Intersection over union of each of `some` boxes with `others`; 0 where they only touch."""
    first = [v[:, None] for v in some]
    height = np.minimum(first[2], others[2]) - np.maximum(first[0], others[0])
    width = np.minimum(first[3], others[3]) - np.maximum(first[1], others[1])
    shared = np.maximum(height, 0) * np.maximum(width, 0)
    union = first[4] + others[4] - shared
    return np.where((shared > 0) & (union > 0), shared / np.where(union > 0, union, 1), 0)
