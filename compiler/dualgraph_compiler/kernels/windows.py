"""The geometry that max and average pooling share: sizes, padding, taps, blocks, divisors."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from .arrays import Array, contiguous_spatial, is_numpy
from .sizes import pool_output_size

Pairs = Sequence[tuple[int, int]]

_BLOCK_BYTES = 1 << 18  # input of one block of images: it and its intermediates stay in L2


def pool_sizes(
    sizes: Sequence[int],
    kernel: Sequence[int],
    stride: Sequence[int],
    padding: Pairs,
    dilation: Sequence[int],
    ceil_mode: bool,
) -> tuple[int, ...]:
    """Number of windows per spatial dim, or ValueError where not even one fits."""
    out = tuple(
        pool_output_size(n, k, s, lo, hi, d, ceil_mode)
        for n, k, s, (lo, hi), d in zip(sizes, kernel, stride, padding, dilation, strict=True)
    )
    if any(p < 1 for p in out):
        raise ValueError(f"a window of {tuple(kernel)} does not fit into input {tuple(sizes)}")
    return out


def extents_of(
    sizes: Sequence[int],
    out: Sequence[int],
    kernel: Sequence[int],
    stride: Sequence[int],
    padding: Pairs,
    dilation: Sequence[int],
) -> list[tuple[int, int]]:
    """The padding the windows really reach: less than asked for, or more under `ceil_mode`."""
    return [
        (lo, max((p - 1) * s + d * (k - 1) + 1 - n - lo, 0))
        for n, p, k, s, (lo, _), d in zip(sizes, out, kernel, stride, padding, dilation)
    ]


def pad(xp: Any, x: Array, fill: Any, extents: Pairs) -> Array:
    """`x` surrounded by `fill`; `x` itself where there is nothing to add."""
    if not any(lo or hi for lo, hi in extents):
        return x
    return contiguous_spatial(xp, x, fill, extents, batch_last=False)


def tap_of(x: Array, axis: int, offset: int, stride: int, count: int) -> Array:
    """A view of what tap `offset` of `count` windows along spatial `axis` reads."""
    window = slice(offset, offset + (count - 1) * stride + 1, stride)
    return x[(slice(None),) * (2 + axis) + (window,)]


def window_span(offset: int, stride: int, size: int, count: int) -> tuple[slice, slice]:
    """Of `count` windows, those of which a tap lies within [0, size), and what they read there.

    Window p reads position p * stride + offset.
    """
    first = max(0, -(offset // stride))
    stop = min(count, (size - 1 - offset) // stride + 1)
    if stop <= first:
        return slice(0, 0), slice(0, 0)
    start = first * stride + offset
    return slice(first, stop), slice(start, start + (stop - first - 1) * stride + 1, stride)


def image_blocks(xp: Any, x: Array, *results: Array) -> Iterator[tuple[Array, ...]]:
    """Views [1, n, *S] of `x` and of fresh contiguous `results`, in blocks of images."""
    images = x.shape[0] * x.shape[1]
    flats = [a.reshape(1, images, *a.shape[2:]) for a in (x, *results)]
    size = max(1, x.size // images * x.itemsize)
    step = max(1, _BLOCK_BYTES // size) if is_numpy(xp) else images
    for start in range(0, images, step):
        yield tuple(a[:, start : start + step] for a in flats)


def divisor_of(
    xp: Any,
    sizes: Sequence[int],
    out: Sequence[int],
    kernel: Sequence[int],
    stride: Sequence[int],
    padding: Pairs,
    count_include_pad: bool,
    override: int | None,
) -> Any:
    """Elements per window: an int, or an int64 array [*P] where windows differ."""
    if override is not None:
        return override
    counts: Any = 1
    for n, p, k, s, (lo, hi) in zip(sizes, out, kernel, stride, padding):
        start = np.arange(p) * s - lo
        end = np.minimum(start + k, n + hi)
        if not count_include_pad:
            start, end = np.maximum(start, 0), np.minimum(end, n)
        counts = np.multiply.outer(counts, end - start)
    if counts.size and counts.min() == counts.max():
        return int(counts.flat[0])
    return xp.asarray(counts)
