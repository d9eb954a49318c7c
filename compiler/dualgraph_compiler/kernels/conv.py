"""N-d convolution and its two gradients, for any number of spatial dims and groups.

Layout: x [N, C, *S], w [O, C/groups, *K], y [N, O, *P]; `stride` and `dilation` are one int per
spatial dim, `padding` one (low, high) pair per spatial dim. As everywhere in deep learning the
kernel is not flipped (cross-correlation). The gradients are the *transposes* of the forward map
in x and in w, with no complex conjugation; a caller differentiating complex data conjugates.

All three are matrix products over im2col columns (Chellapilla et al. 2006), one product per block
of samples, sized so that the columns stay in the L2 cache. What decides the path:

- **Batch first** (default): columns [n, G, C/G*K, P], one strided copy out of the padded input.
  A product per sample writes straight into NCHW output. A 1x1 kernel with stride 1 needs no
  copy at all: the columns are the input.
- **Batch last** (small images, large batches: a copy run of 8 pixels costs more than its
  bytes): the input is laid out [C, *S, N] first, so columns [G, C/G*K, P*n] copy in runs of
  P[-1]*n elements and a whole block is one large product. Also where P is one pixel: a linear
  layer in disguise.
- **Depthwise** needs no path of its own: with groups == C the products are [1, K] x [K, P] per
  channel, no block-diagonal zeros are ever multiplied, and blocks split over channels.
- **Input gradient** with stride 1 is a convolution of the output gradient with the flipped kernel;
  with a stride, or when the input has far fewer channels or far more pixels than the output, it
  is W^T g scattered tap by tap (col2im), each tap clipped to the input, so nothing is padded.

Every dtype NumPy multiplies works: integers wrap, narrow floats compute in float32.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product
from math import prod
from typing import Any

import numpy as np

from .arrays import Array, contiguous_spatial, is_numpy, narrow, widen
from .sizes import conv_output_size

Pairs = Sequence[tuple[int, int]]

_CACHE_BYTES = 1 << 20  # columns of one block on a CPU: about an L2 cache
_HOST_BYTES = 1 << 26  # and never more than this, even for one sample
_DEVICE_BYTES = 1 << 28  # on a GPU few large products beat many small ones


@np.errstate(all="ignore")
def conv_forward(
    xp: Any,
    x: Array,
    w: Array,
    stride: Sequence[int],
    padding: Pairs,
    dilation: Sequence[int],
    groups: int = 1,
) -> Array:
    """Convolution: x [N, C, *S], w [O, C/groups, *K] -> y [N, O, *P] in x's dtype, contiguous."""
    dtype = x.dtype
    return narrow(_forward(xp, widen(x), widen(w), stride, padding, dilation, groups), dtype)


def _forward(
    xp: Any,
    x: Array,
    w: Array,
    stride: Sequence[int],
    padding: Pairs,
    dilation: Sequence[int],
    groups: int,
) -> Array:
    n, o, kernel = x.shape[0], w.shape[0], w.shape[2:]
    out = _output_sizes(x.shape[2:], kernel, stride, padding, dilation)
    taps, pixels = prod(w.shape[1:]), prod(out)
    y = xp.empty((n, groups, o // groups, *out), x.dtype)
    if y.size == 0 or taps == 0:
        y[...] = 0
        return y.reshape(n, o, *out)
    last = _batch_last(xp, x.shape, kernel, out)
    weights = w.reshape(groups, o // groups, taps)
    flat = y.reshape(n, groups, o // groups, pixels)
    row = pixels // out[0]
    for bn, bg, br, block in _window_blocks(
        xp, x, kernel, stride, padding, dilation, groups, out, last
    ):
        if last:
            t = xp.matmul(weights[bg], _columns_batch_last(xp, block, taps))
            t = t.reshape(t.shape[0], t.shape[1], -1, block.shape[0])
            flat[bn, bg, :, br.start * row : br.stop * row] = xp.moveaxis(t, -1, 0)
        else:
            columns = block.reshape(*block.shape[:2], taps, -1)
            into = flat[bn, bg, :, br.start * row : br.stop * row]
            xp.matmul(weights[bg], columns, out=into)
    return y.reshape(n, o, *out)


@np.errstate(all="ignore")
def conv_input_grad(
    xp: Any,
    g: Array,
    w: Array,
    input_shape: Sequence[int],
    stride: Sequence[int],
    padding: Pairs,
    dilation: Sequence[int],
    groups: int = 1,
) -> Array:
    """Transpose of `conv_forward` in x: g [N, O, *P] -> [N, C, *S] = `input_shape`.

    The forward pass of a transposed convolution too: its weight [in, out/groups, *K] is `w` here
    and its output shape is `input_shape`.
    """
    dtype, g, w = g.dtype, widen(g), widen(w)
    shape = tuple(input_shape)
    c_g, o_g = shape[1] // groups, w.shape[0] // groups
    if all(s == 1 for s in stride) and (
        prod(w.shape[2:]) == 1 or (2 * c_g >= o_g and 2 * prod(shape[2:]) <= 3 * prod(g.shape[2:]))
    ):
        reach = [d * (k - 1) for d, k in zip(dilation, w.shape[2:], strict=True)]
        turned = tuple(
            (r - lo, s - p + lo)
            for r, (lo, _), s, p in zip(reach, padding, shape[2:], g.shape[2:], strict=True)
        )
        flip = (slice(None),) * 3 + (slice(None, None, -1),) * len(reach)
        back = w.reshape(groups, o_g, *w.shape[1:])[flip].swapaxes(1, 2)
        back = xp.ascontiguousarray(back).reshape(shape[1], o_g, *w.shape[2:])
        return narrow(_forward(xp, g, back, stride, turned, dilation, groups), dtype)
    return narrow(_scatter_taps(xp, g, w, shape, stride, padding, dilation, groups), dtype)


def _scatter_taps(
    xp: Any,
    g: Array,
    w: Array,
    shape: tuple[int, ...],
    stride: Sequence[int],
    padding: Pairs,
    dilation: Sequence[int],
    groups: int,
) -> Array:
    """W^T g, each kernel tap added to the input positions it read (col2im)."""
    n, c, sizes = shape[0], shape[1], shape[2:]
    out, kernel = g.shape[2:], w.shape[2:]
    c_g, o_g, taps = c // groups, w.shape[0] // groups, prod(w.shape[1:])
    pixels = prod(out)
    gx = xp.zeros((n, groups, c_g, *sizes), g.dtype)
    if gx.size == 0 or g.size == 0 or taps == 0:
        return gx.reshape(shape)
    last = _batch_last(xp, shape, kernel, out)
    weights = w.reshape(groups, o_g, taps).swapaxes(1, 2)
    flat = g.reshape(n, groups, o_g, pixels)
    row = pixels // out[0]
    for bn, bg, br in _blocks(xp, n, groups, out[0], taps * row * g.itemsize, last):
        block = flat[bn, bg, :, br.start * row : br.stop * row]
        m, gs, rows = block.shape[0], block.shape[1], br.stop - br.start
        if last:
            columns = xp.matmul(weights[bg], xp.moveaxis(block, 0, -1).reshape(gs, o_g, -1))
            columns = columns.reshape(gs, c_g, *kernel, rows, *out[1:], m)
            columns = xp.moveaxis(columns, -1, 0)
            target = xp.moveaxis(xp.zeros((gs, c_g, *sizes, m), g.dtype), -1, 0)
        else:
            columns = xp.matmul(weights[bg], block)
            columns = columns.reshape(m, gs, c_g, *kernel, rows, *out[1:])
            target = gx[bn, bg]
        for tap in product(*(range(k) for k in kernel)):
            spans = [
                _tap_span(t * d - lo, s, size, first, first + count)
                for t, d, (lo, _), s, size, first, count in zip(
                    tap,
                    dilation,
                    padding,
                    stride,
                    sizes,
                    (br.start, *(0,) * (len(out) - 1)),
                    (rows, *out[1:]),
                    strict=True,
                )
            ]
            to = tuple(at for at, _ in spans)
            source = tuple(of for _, of in spans)
            target[(..., *to)] += columns[(slice(None),) * 3 + tap + source]
        if last:
            gx[bn, bg] += target
    return gx.reshape(shape)


def _tap_span(offset: int, stride: int, size: int, first: int, stop: int) -> tuple[slice, slice]:
    """Where one tap of windows [first, stop) falls into [0, size): input slice, window slice.

    Window p reads position p*stride + offset; the second slice counts from `first`.
    """
    lo = max(first, -(offset // stride))
    hi = min(stop, (size - 1 - offset) // stride + 1)
    if hi <= lo:
        return slice(0, 0), slice(0, 0)
    start = lo * stride + offset
    return slice(start, start + (hi - lo - 1) * stride + 1, stride), slice(lo - first, hi - first)


@np.errstate(all="ignore")
def conv_weight_grad(
    xp: Any,
    g: Array,
    x: Array,
    weight_shape: Sequence[int],
    stride: Sequence[int],
    padding: Pairs,
    dilation: Sequence[int],
    groups: int = 1,
) -> Array:
    """Transpose of `conv_forward` in w: g [N, O, *P], x [N, C, *S] -> `weight_shape`."""
    dtype, g, x = g.dtype, widen(g), widen(x)
    o, kernel, taps = weight_shape[0], tuple(weight_shape[2:]), prod(weight_shape[1:])
    n, out, o_g = x.shape[0], g.shape[2:], weight_shape[0] // groups
    if g.size == 0 or taps == 0:
        return xp.zeros(tuple(weight_shape), dtype)
    last = _batch_last(xp, x.shape, kernel, out)
    pixels = prod(out)
    row = pixels // out[0]
    flat = g.reshape(n, groups, o_g, pixels)
    gw = xp.zeros((groups, o_g, taps), g.dtype)
    for bn, bg, br, block in _window_blocks(
        xp, x, kernel, stride, padding, dilation, groups, out, last
    ):
        grad = flat[bn, bg, :, br.start * row : br.stop * row]
        gs = grad.shape[1]
        if last:
            columns = _columns_batch_last(xp, block, taps)
            grad = xp.moveaxis(grad, 0, -1)
        else:
            columns = xp.moveaxis(block, 0, 2 + len(kernel)).reshape(gs, taps, -1)
            grad = xp.moveaxis(grad, 0, 2)
        gw[bg] += xp.matmul(grad.reshape(gs, o_g, -1), columns.swapaxes(1, 2))
    return narrow(gw.reshape(o, *weight_shape[1:]), dtype)


def _output_sizes(
    sizes: Sequence[int],
    kernel: Sequence[int],
    stride: Sequence[int],
    padding: Pairs,
    dilation: Sequence[int],
) -> tuple[int, ...]:
    out = tuple(
        conv_output_size(n, k, s, lo, hi, d)
        for n, k, s, (lo, hi), d in zip(sizes, kernel, stride, padding, dilation, strict=True)
    )
    if any(p < 0 for p in out):
        raise ValueError(f"a kernel of {tuple(kernel)} does not fit into input {tuple(sizes)}")
    return out


def _batch_last(xp: Any, shape: Sequence[int], kernel: Sequence[int], out: Sequence[int]) -> bool:
    """Whether copying the batch of [N, C, ...] innermost pays: measured on NumPy, not on a GPU."""
    if prod(out) == 1:
        return shape[0] > 1
    small = out[-1] <= 12 and shape[0] >= 16 and shape[1] >= 4
    return is_numpy(xp) and small and prod(kernel) > 1


def _window_blocks(
    xp: Any,
    x: Array,
    kernel: Sequence[int],
    stride: Sequence[int],
    padding: Pairs,
    dilation: Sequence[int],
    groups: int,
    out: Sequence[int],
    batch_last: bool,
) -> Iterator[tuple[slice, slice, slice, Array]]:
    """The blocks of `_blocks`, each with its view of the windows [n, G, C/G, *K, rows, *P[1:]]."""
    unit = x.shape[1] // groups * prod(kernel) * prod(out[1:]) * x.itemsize
    args = (kernel, stride, padding, dilation, groups, out, batch_last)
    windows: Array = None if batch_last else _windows(xp, x, *args)
    start = -1
    for bn, bg, br in _blocks(xp, x.shape[0], groups, out[0], unit, batch_last):
        if batch_last and bn.start != start:  # only whole inner batches make long copy runs
            windows, start = _windows(xp, x[bn], *args), bn.start
        samples = slice(None) if batch_last else bn
        yield bn, bg, br, windows[(samples, bg, *(slice(None),) * (1 + len(kernel)), br)]


def _windows(
    xp: Any,
    x: Array,
    kernel: Sequence[int],
    stride: Sequence[int],
    padding: Pairs,
    dilation: Sequence[int],
    groups: int,
    out: Sequence[int],
    batch_last: bool,
) -> Array:
    """A read-only-by-convention view [N, G, C/G, *K, *P] of every window of the padded input."""
    if any(lo or hi for lo, hi in padding) or (batch_last and prod(out) > 1):
        x = contiguous_spatial(xp, x, 0, padding, batch_last=batch_last and prod(out) > 1)
    n, c = x.shape[:2]
    sn, sc, *ss = x.strides
    shape = (n, groups, c // groups, *kernel, *out)
    strides = (
        sn,
        sc * (c // groups),
        sc,
        *(s * d for s, d in zip(ss, dilation, strict=True)),
        *(s * t for s, t in zip(ss, stride, strict=True)),
    )
    return xp.lib.stride_tricks.as_strided(x, shape, strides)


def _columns_batch_last(xp: Any, block: Array, taps: int) -> Array:
    """Windows [n, G, C/G, *K, *P] as a matrix per group, [G, C/G*K, P*n]."""
    n, groups = block.shape[:2]
    if block.size == n * groups * taps:  # one pixel: a transposed view serves, BLAS reads it so
        return xp.moveaxis(block.reshape(n, groups, taps), 0, -1)
    return xp.moveaxis(block, 0, -1).reshape(groups, taps, -1)


def _blocks(
    xp: Any, n: int, groups: int, rows: int, unit: int, batch_last: bool
) -> Iterator[tuple[slice, slice, slice]]:
    """Slices of samples, groups and output rows whose columns fit the memory meant for them.

    `unit` is the bytes of columns of one sample, one group, one row. Rows are split last, and
    only to bound memory: each split packs the whole weight again.
    """
    cache, bound = (_CACHE_BYTES, _HOST_BYTES) if is_numpy(xp) else (_DEVICE_BYTES, _DEVICE_BYTES)
    least = min(n, 16) if batch_last else 1
    ns = min(n, max(least, cache // (unit * groups * rows)))
    gs = min(groups, max(1, cache // (unit * ns * rows)))
    rs = min(rows, max(1, bound // (unit * ns * gs)))
    for i in range(0, n, ns):
        for j in range(0, groups, gs):
            for k in range(0, rows, rs):
                yield (
                    slice(i, min(n, i + ns)),
                    slice(j, min(groups, j + gs)),
                    slice(k, min(rows, k + rs)),
                )
