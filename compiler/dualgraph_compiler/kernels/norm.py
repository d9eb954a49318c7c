"""Batch, layer and group normalisation: forward passes with their statistics, and gradients.

Variance is computed in two passes, from x - mean, never as E[x^2] - mean^2, which cancels.
Statistics are in the compute dtype (float32 for narrower floats), results in x's dtype. On NumPy
the work runs in blocks of channels or rows that stay in the L2 cache over all passes.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import prod
from typing import Any

import numpy as np

from .arrays import Array, compute_dtype, is_numpy, narrow, widen

_BLOCK = 1 << 17  # elements


@np.errstate(all="ignore")
def batch_norm_forward(
    xp: Any, x: Array, weight: Array | None, bias: Array | None, eps: float
) -> tuple[Array, Array, Array, Array]:
    """Normalise each channel of x [N, C, *S] by its own statistics (Ioffe & Szegedy 2015).

    Returns y [N, C, *S], and mean, biased variance and 1/sqrt(variance + eps), each [C].
    """
    n, c = x.shape[:2]
    flat = x.reshape(n, c, prod(x.shape[2:]))
    y = xp.empty(flat.shape, x.dtype)
    mean, var = (xp.empty(c, compute_dtype(x.dtype)) for _ in range(2))
    count = max(1, flat.size // max(1, c))
    for at in _blocks(xp, c, count):
        block = widen(flat[:, at])
        mean[at] = block.sum((0, 2)) / count
        centred = block - mean[at, None]
        var[at] = (centred * centred).sum((0, 2)) / count
        scale = 1 / xp.sqrt(var[at] + eps)
        if weight is not None:
            scale = scale * widen(weight[at])
        centred *= scale[:, None]
        if bias is not None:
            centred += widen(bias[at])[:, None]
        y[:, at] = centred
    return y.reshape(x.shape), mean, var, 1 / xp.sqrt(var + eps)


@np.errstate(all="ignore")
def batch_norm_backward(
    xp: Any, g: Array, x: Array, weight: Array | None, mean: Array, invstd: Array
) -> tuple[Array, Array, Array]:
    """Gradients of `batch_norm_forward`'s y: of x, and of weight and bias [C] (float32 or wider).

    gx = w invstd (g - mean(g) - xhat mean(g xhat)), with xhat = (x - mean) invstd.
    """
    n, c = x.shape[:2]
    flat = x.reshape(n, c, prod(x.shape[2:]))
    grad = g.reshape(flat.shape)
    gx = xp.empty(flat.shape, g.dtype)
    gw, gb = (xp.empty(c, mean.dtype) for _ in range(2))
    count = max(1, flat.size // max(1, c))
    for at in _blocks(xp, c, 2 * count):
        gradient = widen(grad[:, at])
        centred = widen(flat[:, at]) - mean[at, None]
        work = gradient * centred
        gb[at] = gradient.sum((0, 2))
        gw[at] = work.sum((0, 2)) * invstd[at]
        scale = invstd[at] if weight is None else invstd[at] * widen(weight[at])
        centred *= (scale * invstd[at] * gw[at] / count)[:, None]
        xp.multiply(gradient, scale[:, None], out=work)
        work -= centred
        work -= (scale * gb[at] / count)[:, None]
        gx[:, at] = work
    return gx.reshape(x.shape), gw, gb


@np.errstate(all="ignore")
def layer_norm_forward(
    xp: Any,
    x: Array,
    dims: int,
    weight: Array | None,
    bias: Array | None,
    eps: float,
    out: Array | None = None,
) -> tuple[Array, Array, Array]:
    """Normalise over the last `dims` axes (Ba et al. 2016); weight and bias have their shape.

    Returns y in x's shape (`out`, if given, which lies in rows), and mean and
    1/sqrt(variance + eps) with size 1 in those axes.
    """
    lead, tail = x.shape[: x.ndim - dims], x.shape[x.ndim - dims :]
    width = prod(tail)
    rows = x.reshape(prod(lead), width)
    y = xp.empty(rows.shape, x.dtype) if out is None else out.reshape(rows.shape)
    mean, invstd = (xp.empty((rows.shape[0], 1), compute_dtype(x.dtype)) for _ in range(2))
    w = None if weight is None else widen(weight).reshape(-1)
    b = None if bias is None else widen(bias).reshape(-1)
    ones = xp.ones(width, mean.dtype)  # sums as products: BLAS adds three times as fast
    for at in _blocks(xp, rows.shape[0], width):
        block = widen(rows[at])
        mean[at, 0] = (block @ ones) / width
        centred = xp.subtract(block, mean[at], out=y[at] if block.dtype == y.dtype else None)
        var = xp.vecdot(centred, centred) if is_numpy(xp) else (centred * centred) @ ones
        invstd[at, 0] = 1 / xp.sqrt(var / width + eps)
        centred *= invstd[at]
        if w is not None:
            centred *= w
        if b is not None:
            centred += b
        if block.dtype != y.dtype:
            y[at] = centred
    kept = (*lead, *(1,) * dims)
    return y.reshape(x.shape), mean.reshape(kept), invstd.reshape(kept)


@np.errstate(all="ignore")
def layer_norm_backward(
    xp: Any, g: Array, x: Array, dims: int, weight: Array | None, mean: Array, invstd: Array
) -> tuple[Array, Array, Array]:
    """Gradients of `layer_norm_forward`'s y: of x, and of weight and bias (float32 or wider)."""
    tail = x.shape[x.ndim - dims :]
    width = prod(tail)
    rows = x.reshape(mean.size, width)
    grad = g.reshape(rows.shape)
    means, scales = mean.reshape(-1, 1), invstd.reshape(-1, 1)
    gx = xp.empty(rows.shape, g.dtype)
    gw, gb = (xp.zeros(width, mean.dtype) for _ in range(2))
    w = None if weight is None else widen(weight).reshape(-1)
    ones, across = xp.ones(rows.shape[0], mean.dtype), xp.ones(width, mean.dtype)
    for at in _blocks(xp, rows.shape[0], 2 * width):
        gradient = widen(grad[at])
        normal = widen(rows[at]) - means[at]
        normal *= scales[at]
        work = gradient * normal
        along = ones[: len(work)]
        gw += along @ work
        gb += along @ gradient
        if w is not None:
            work *= w
            gradient = gradient * w
        normal *= ((work @ across) / width)[:, None]
        xp.subtract(gradient, normal, out=work)
        work -= ((gradient @ across) / width)[:, None]
        work *= scales[at]
        gx[at] = work
    return gx.reshape(x.shape), gw.reshape(tail), gb.reshape(tail)


@np.errstate(all="ignore")
def group_norm_forward(
    xp: Any, x: Array, groups: int, weight: Array | None, bias: Array | None, eps: float
) -> tuple[Array, Array, Array]:
    """Normalise groups of C/groups channels of each sample of x [N, C, *S] (Wu & He 2018).

    Weight and bias are [C]. Returns y, and mean and 1/sqrt(variance + eps), each [N, groups].
    With groups == C this is instance normalisation.
    """
    n, c = x.shape[:2]
    size = x.size // max(1, n * c)
    grouped = widen(x).reshape(n, groups, c // groups * size)
    y, mean, invstd = layer_norm_forward(xp, grouped, 1, None, None, eps)
    y = y.reshape(n, c, size)
    if weight is not None:
        y *= widen(weight)[:, None]
    if bias is not None:
        y += widen(bias)[:, None]
    return narrow(y, x.dtype).reshape(x.shape), mean[..., 0], invstd[..., 0]


@np.errstate(all="ignore")
def group_norm_backward(
    xp: Any, g: Array, x: Array, groups: int, weight: Array | None, mean: Array, invstd: Array
) -> tuple[Array, Array, Array]:
    """Gradients of `group_norm_forward`'s y: of x, and of weight and bias [C]."""
    n, c = x.shape[:2]
    size = x.size // max(1, n * c)
    gradient = widen(g).reshape(n, c, size)
    grouped = widen(x).reshape(n, groups, c // groups * size)
    normal = (grouped - mean[..., None]) * invstd[..., None]
    gw = (gradient * normal.reshape(n, c, size)).sum((0, 2))
    gb = gradient.sum((0, 2))
    if weight is not None:
        gradient = gradient * widen(weight)[:, None]
    gradient = gradient.reshape(grouped.shape)
    kept = (mean[..., None], invstd[..., None])
    gx, _, _ = layer_norm_backward(xp, gradient, grouped, 1, None, *kept)
    return narrow(gx, g.dtype).reshape(x.shape), gw, gb


def _blocks(xp: Any, n: int, size: int) -> Iterator[slice]:
    """Slices of `n` channels or rows of `size` elements each that fit the cache together."""
    step = max(1, _BLOCK // max(1, size)) if is_numpy(xp) else max(1, n)
    for start in range(0, n, step):
        yield slice(start, min(n, start + step))
