"""Max, average and adaptive pooling over x [N, C, *S] for any number of spatial dims.

`kernel`, `stride` and `dilation` are one int per spatial dim, `padding` one (low, high) pair per
spatial dim. Semantics are PyTorch's: padding never wins a maximum, NaN does, ties go to the first
element in row-major order, and `ceil_mode` counts a partial last window that starts inside the
input or its low padding.

Maximum and sum are both separable, so windows are reduced one axis at a time: kh + kw strided
passes instead of kh * kw. The position of a maximum survives this as a small integer code, the
number of the winning tap: later taps have greater codes, so "overwrite where greater" is
`code = max(code, greater * tap)`, which vectorises where a masked copy does not.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from math import prod
from typing import Any

import numpy as np

from .arrays import Array, is_numpy, narrow, widen
from .indexing import add_at
from .sizes import adaptive_bounds
from .windows import (
    divisor_of,
    extents_of,
    image_blocks,
    pad,
    pool_sizes,
    tap_of,
    window_span,
)

Pairs = Sequence[tuple[int, int]]


def max_pool(
    xp: Any,
    x: Array,
    kernel: Sequence[int],
    stride: Sequence[int],
    padding: Pairs,
    dilation: Sequence[int],
    ceil_mode: bool = False,
) -> tuple[Array, Array]:
    """Max pooling: values [N, C, *P] in x's dtype and their int64 flat positions in S.

    The position counts within one image's S in row-major order, padding excluded. Of several
    NaN in a window the last one's position is given, as in PyTorch.
    """
    if not is_numpy(xp):  # where to ask whether codes will do costs more than doing without
        return _exact_max_pool(xp, x, kernel, stride, padding, dilation, ceil_mode)
    y, codes = _max_pool(xp, x, kernel, stride, padding, dilation, ceil_mode, with_codes=True)
    sizes, out = x.shape[2:], y.shape[2:]
    if y.size and _needs_exact(xp, y, padding, ceil_mode):
        return _exact_max_pool(xp, x, kernel, stride, padding, dilation, ceil_mode)
    base: Any = 0
    delta: Any = 0
    step = prod(sizes)
    for axis, (n, p, k, s, (lo, _), d) in enumerate(
        zip(sizes, out, kernel, stride, padding, dilation)
    ):
        step //= n
        trailing = (1,) * (len(sizes) - 1 - axis)
        base = base + ((xp.arange(p) * s - lo) * step).reshape(p, *trailing)
        delta = delta + (xp.arange(k) * (d * step)).reshape(k, *trailing)
    positions = xp.take(delta.ravel(), codes)
    positions += base
    return y, positions


def max_pool_values(
    xp: Any,
    x: Array,
    kernel: Sequence[int],
    stride: Sequence[int],
    padding: Pairs,
    dilation: Sequence[int],
    ceil_mode: bool = False,
) -> Array:
    """The values of `max_pool` alone, several times faster: for inference."""
    return _max_pool(xp, x, kernel, stride, padding, dilation, ceil_mode, with_codes=False)[0]


@np.errstate(all="ignore")
def max_pool_backward(
    xp: Any, g: Array, indices: Array, input_shape: Sequence[int], overlapping: bool = True
) -> Array:
    """Scatter g [N, C, *P] to `indices` (of `max_pool`) in zeros of `input_shape`.

    `overlapping` may be False where no two windows share an element (stride >= extent of the
    kernel): then nothing needs adding up.
    """
    dtype, shape = g.dtype, tuple(input_shape)
    size = prod(shape)
    if size == 0 or g.size == 0:
        return xp.zeros(shape, dtype)
    images = shape[0] * shape[1]
    at = indices.reshape(images, -1) + (xp.arange(images) * (size // images))[:, None]
    if not overlapping:
        gx = xp.zeros(size, dtype)
        gx[at.ravel()] = g.ravel()
    else:
        gx = add_at(xp, size, at, g)
    return gx.reshape(shape)


def gather_at_indices(xp: Any, x: Array, indices: Array) -> Array:
    """X [N, C, *S] at flat positions [N, C, *P] -> [N, C, *P]: the transpose of the scatter."""
    images = x.shape[0] * x.shape[1]
    if indices.size == 0:
        return xp.empty(indices.shape, x.dtype)
    flat = xp.take_along_axis(x.reshape(images, -1), indices.reshape(images, -1), -1)
    return flat.reshape(indices.shape)


@np.errstate(all="ignore")
def avg_pool(
    xp: Any,
    x: Array,
    kernel: Sequence[int],
    stride: Sequence[int],
    padding: Pairs,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Array:
    """Average pooling: [N, C, *P] in x's dtype; integer averages truncate toward zero.

    A window's divisor is its number of elements, clipped to the padded input (or to the input,
    without `count_include_pad`), or `divisor_override`.
    """
    sizes = x.shape[2:]
    out = pool_sizes(sizes, kernel, stride, padding, (1,) * len(sizes), ceil_mode)
    divisor = divisor_of(
        xp, sizes, out, kernel, stride, padding, count_include_pad, divisor_override
    )
    wide = widen(x)
    y = xp.empty((*x.shape[:2], *out), wide.dtype)
    if y.size == 0:
        return narrow(y, x.dtype)
    extents = extents_of(sizes, out, kernel, stride, padding, (1,) * len(sizes))
    for part, into in image_blocks(xp, wide, y):
        part = pad(xp, part, 0, extents)
        for axis in reversed(range(len(sizes))):
            taps = [tap_of(part, axis, t, stride[axis], out[axis]) for t in range(kernel[axis])]
            total = xp.add(taps[0], taps[1]) if len(taps) > 1 else taps[0]
            for tap in taps[2:]:
                total += tap
            part = total
        into[...] = part
    return narrow(_divide(xp, y, divisor), x.dtype)


@np.errstate(all="ignore")
def avg_pool_backward(
    xp: Any,
    g: Array,
    input_shape: Sequence[int],
    kernel: Sequence[int],
    stride: Sequence[int],
    padding: Pairs,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Array:
    """Transpose of `avg_pool`: g [N, C, *P] -> `input_shape`."""
    sizes, out = tuple(input_shape[2:]), g.shape[2:]
    divisor = divisor_of(
        xp, sizes, out, kernel, stride, padding, count_include_pad, divisor_override
    )
    gx = _divide(xp, widen(g).copy(), divisor)
    for axis, n in enumerate(sizes):
        wide_shape = list(gx.shape)
        k, s, (lo, _) = kernel[axis], stride[axis], padding[axis]
        wide_shape[2 + axis] = max((out[axis] - 1) * s + k, lo + n)
        spread = xp.zeros(wide_shape, gx.dtype)
        for t in range(k):
            into = tap_of(spread, axis, t, s, out[axis])
            into += gx
        gx = spread[(slice(None),) * (2 + axis) + (slice(lo, lo + n),)]
    return narrow(xp.ascontiguousarray(gx), g.dtype)


@np.errstate(all="ignore")
def adaptive_avg_pool(xp: Any, x: Array, output_size: Sequence[int]) -> Array:
    """Average over each of PyTorch's adaptive bins: [N, C, *output_size] in x's dtype."""
    y = widen(x)
    sizes = x.shape[2:]
    if all(p > 0 and n % p == 0 for n, p in zip(sizes, output_size)):
        shape, axes = _binned_shape(x.shape, output_size)
        return narrow(y.reshape(shape).mean(axes), x.dtype)
    for axis, p in enumerate(output_size, start=2):
        bins = adaptive_bounds(y.shape[axis], p)
        parts = [y[(slice(None),) * axis + (slice(*b),)].mean(axis, keepdims=True) for b in bins]
        y = xp.concatenate(parts, axis) if parts else y[(slice(None),) * axis + (slice(0),)]
    return narrow(y, x.dtype)


@np.errstate(all="ignore")
def adaptive_avg_pool_backward(xp: Any, g: Array, input_shape: Sequence[int]) -> Array:
    """Transpose of `adaptive_avg_pool`: g [N, C, *P] -> `input_shape`."""
    gx = widen(g)
    sizes, out = tuple(input_shape[2:]), g.shape[2:]
    if all(p > 0 and n % p == 0 for n, p in zip(sizes, out)):
        shape, axes = _binned_shape(input_shape, out)
        gx = xp.expand_dims(gx / (prod(sizes) / prod(out)), axes).astype(gx.dtype, copy=False)
        return narrow(xp.broadcast_to(gx, shape).reshape(tuple(input_shape)), g.dtype)
    for axis, n in enumerate(sizes, start=2):
        before = (slice(None),) * axis
        spread = xp.zeros((*gx.shape[:axis], n, *gx.shape[axis + 1 :]), gx.dtype)
        for i, (start, end) in enumerate(adaptive_bounds(n, gx.shape[axis])):
            into = spread[(*before, slice(start, end))]
            into += gx[(*before, slice(i, i + 1))] / (end - start)
        gx = spread
    return narrow(gx, g.dtype)


def adaptive_max_pool(xp: Any, x: Array, output_size: Sequence[int]) -> tuple[Array, Array]:
    """Maximum of each adaptive bin and its flat position, as `max_pool` gives them."""
    sizes, out = x.shape[2:], tuple(output_size)
    rank = len(out)
    if all(p > 0 and n % p == 0 for n, p in zip(sizes, out)):
        kernel = [n // p for n, p in zip(sizes, out)]
        return max_pool(xp, x, kernel, kernel, ((0, 0),) * rank, (1,) * rank)
    taps = []
    for n, p in zip(sizes, out):
        bins = adaptive_bounds(n, p)
        longest = max((end - start for start, end in bins), default=0)
        taps.append(
            [
                (
                    xp.asarray([i for i, (a, b) in enumerate(bins) if a + t < b]),
                    xp.asarray([a + t for a, b in bins if a + t < b]),
                )
                for t in range(longest)
            ]
        )
    return _exact_positions(xp, x, out, taps)


# ------------------------------------------------------------------------------------ internals


def _max_pool(
    xp: Any,
    x: Array,
    kernel: Sequence[int],
    stride: Sequence[int],
    padding: Pairs,
    dilation: Sequence[int],
    ceil_mode: bool,
    *,
    with_codes: bool,
) -> tuple[Array, Array]:
    """Values, and the number of the first winning tap of each window in row-major order."""
    sizes = x.shape[2:]
    out = _window_sizes(sizes, kernel, stride, padding, dilation, ceil_mode)
    wide = widen(x)
    y = xp.empty((*x.shape[:2], *out), wide.dtype)
    small = np.uint8 if prod(kernel) <= 256 else np.uint16 if prod(kernel) <= 65536 else np.int64
    codes = xp.empty(y.shape, small) if with_codes else None
    if y.size == 0:
        return narrow(y, x.dtype), codes
    extents = extents_of(sizes, out, kernel, stride, padding, dilation)
    lowest = _lowest(wide.dtype)
    arrays = (wide, y, codes) if with_codes else (wide, y)
    for part, *into in image_blocks(xp, *arrays):
        part = pad(xp, part, lowest, extents)
        code, weight = None, 1
        for axis in reversed(range(len(sizes))):
            k, s, d, p = kernel[axis], stride[axis], dilation[axis], out[axis]
            best = tap_of(part, axis, 0, s, p)
            winner = None if code is None else tap_of(code, axis, 0, s, p)
            for t in range(1, k):
                tap = tap_of(part, axis, t * d, s, p)
                if with_codes:
                    greater = xp.greater(tap, best).view(np.uint8)
                    number: Any = xp.asarray(t * weight, small)
                    if code is not None:
                        number = tap_of(code, axis, t * d, s, p) + number
                    candidate = xp.multiply(greater, number, dtype=small)
                    winner = candidate if winner is None else xp.maximum(winner, candidate)
                best = xp.maximum(best, tap, out=best if t > 1 else None)
            part, code, weight = best, winner, weight * k
        into[0][...] = part
        if with_codes:
            into[1][...] = 0 if code is None else code
    return narrow(y, x.dtype), codes


def _window_sizes(
    sizes: Sequence[int],
    kernel: Sequence[int],
    stride: Sequence[int],
    padding: Pairs,
    dilation: Sequence[int],
    ceil_mode: bool,
) -> tuple[int, ...]:
    """Number of windows per spatial dim; ValueError where a window has no element to choose."""
    out = pool_sizes(sizes, kernel, stride, padding, dilation, ceil_mode)
    for n, p, k, s, (lo, _), d in zip(sizes, out, kernel, stride, padding, dilation):
        if d == 1:
            continue
        reads = np.add.outer(np.arange(p) * s - lo, np.arange(k) * d)
        if not ((reads >= 0) & (reads < n)).any(1).all():
            raise ValueError("a dilated window lies in the padding alone: it has no maximum")
    return out


def _needs_exact(xp: Any, y: Array, padding: Pairs, ceil_mode: bool) -> bool:
    """Whether codes may be wrong: a NaN, or padding tying with the lowest value there is."""
    y = widen(y)
    if y.dtype.kind == "f" and bool(xp.isnan(y).any()):
        return True
    padded = ceil_mode or any(lo or hi for lo, hi in padding)
    return padded and bool((y == _lowest(y.dtype)).any())


def _lowest(dtype: Any) -> Any:
    if dtype.kind == "f":
        return -np.inf
    return 0 if dtype.kind == "b" else np.iinfo(dtype).min


# Per tap: the output positions it serves and the input positions they read, slices or arrays.
_Taps = list[tuple[Any, Any]]


def _exact_max_pool(
    xp: Any,
    x: Array,
    kernel: Sequence[int],
    stride: Sequence[int],
    padding: Pairs,
    dilation: Sequence[int],
    ceil_mode: bool,
) -> tuple[Array, Array]:
    """`max_pool` whatever the values are."""
    sizes = x.shape[2:]
    out = _window_sizes(sizes, kernel, stride, padding, dilation, ceil_mode)
    taps = [
        [window_span(t * d - lo, s, n, p) for t in range(k)]
        for n, p, k, s, (lo, _), d in zip(sizes, out, kernel, stride, padding, dilation)
    ]
    return _exact_positions(xp, x, out, taps)


def _exact_positions(
    xp: Any, x: Array, out: Sequence[int], axes: list[_Taps]
) -> tuple[Array, Array]:
    """Maxima and positions by PyTorch's own loop, `value > best or isnan(value)`, tap by tap."""
    dtype, x = x.dtype, widen(x)
    n, c, *sizes = x.shape
    best = xp.full((n, c, *out), _lowest(x.dtype), x.dtype)
    positions = xp.full(best.shape, -1, np.int64)
    for combination in product(*axes):
        to: Any = tuple(at for at, _ in combination)
        reads: Any = tuple(of for _, of in combination)
        flat: Any = 0
        for read, size in zip(reads, sizes):
            along = xp.arange(size)[read] if isinstance(read, slice) else read
            flat = flat[..., None] * size + along if hasattr(flat, "shape") else along
        if not all(isinstance(at, slice) for at in to):
            to, reads = xp.ix_(*to), xp.ix_(*reads)
        value = x[(..., *reads)]
        old, at = best[(..., *to)], positions[(..., *to)]
        wins = (value > old) | (value != value) | (at < 0)
        best[(..., *to)] = xp.where(wins, value, old)
        positions[(..., *to)] = xp.where(wins, flat, at)
    return narrow(best, dtype), positions


def _divide(xp: Any, y: Array, divisor: Any) -> Array:
    """`y / divisor` in place, in y's dtype; integers truncate as C does."""
    if y.dtype.kind in "iu":
        return xp.sign(y) * xp.sign(divisor) * (abs(y) // abs(divisor))
    y /= divisor if isinstance(divisor, int) else divisor.astype(y.real.dtype)
    return y


def _binned_shape(
    shape: Sequence[int], out: Sequence[int]
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """[N, C, P0, S0/P0, P1, S1/P1, ...] and the axes of the bins in it."""
    binned = [*shape[:2]]
    for n, p in zip(shape[2:], out):
        binned += [p, n // p]
    return tuple(binned), tuple(range(3, len(binned), 2))
