"""What has been met so far along an axis: running extremes and log-sums; and folds by halves.

A 0-d array counts as one row of one element, as in PyTorch.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any

import numpy as np

from .arrays import Array, is_numpy, narrow, widen


def _accumulate(xp: Any, combine: Callable[[Array, Array], Array], rows: Array) -> Array:
    """Running values of `combine` along the first axis, by doubling."""
    out = rows.copy()
    reach = 1
    while reach < len(out):
        out[reach:] = combine(out[reach:], out[:-reach])
        reach *= 2
    return out


def argmax(xp: Any, x: Array, axis: int, smallest: bool = False) -> Array:
    """Where the largest (or smallest) element up to each one is; of equal ones the last: int64.

    NaN is extreme: from the first one on, it is the last NaN met.
    """
    if x.ndim == 0:
        return xp.zeros((), np.int64)
    rows = xp.moveaxis(widen(x), axis, 0)
    if is_numpy(xp):
        extreme = (np.minimum if smallest else np.maximum).accumulate(rows, 0)
    else:
        extreme = _accumulate(xp, xp.minimum if smallest else xp.maximum, rows)
    places = xp.arange(rows.shape[0]).reshape(-1, *(1,) * (x.ndim - 1))
    new = xp.where((rows == extreme) | (rows != rows), places, 0)
    found = np.maximum.accumulate(new, 0) if is_numpy(xp) else _accumulate(xp, xp.maximum, new)
    return xp.ascontiguousarray(xp.moveaxis(found, 0, axis))


def logcumsumexp(xp: Any, x: Array, axis: int) -> Array:
    """Log of the running sums of exp(x) along `axis`, without overflow."""
    if x.ndim == 0:
        return x.copy()
    rows = xp.moveaxis(widen(x), axis, 0)
    with np.errstate(all="ignore"):
        if x.dtype.kind == "c":
            y = rows.copy()
            for i in range(1, len(y)):  # in order: which multiple of 2 pi is kept depends on it
                y[i] = _logaddexp_complex(xp, y[i], y[i - 1])
        elif is_numpy(xp):
            y = np.logaddexp.accumulate(rows, 0)
        else:
            y = _accumulate(xp, xp.logaddexp, rows)
    return narrow(xp.ascontiguousarray(xp.moveaxis(y, 0, axis)), x.dtype)


def _logaddexp_complex(xp: Any, a: Array, b: Array) -> Array:
    first = a.real >= b.real
    large, small = xp.where(first, a, b), xp.where(first, b, a)
    y = large + xp.log1p(xp.exp(small - large))
    # Of minus infinity nothing is taken: the difference of two is NaN.
    return xp.where(small.real == -np.inf, large, y)


def xor(xp: Any, x: Array, axes: tuple[int, ...], keepdims: bool) -> Array:
    """The bits set in an odd number of elements over `axes`; 0 for no elements."""
    kept = [i for i in range(x.ndim) if i not in axes]
    shape = tuple(1 if i in axes else d for i, d in enumerate(x.shape))
    count = prod(x.shape[i] for i in axes)
    rows = xp.transpose(x, [*axes, *kept]).reshape(count, *(x.shape[i] for i in kept))
    while len(rows) > 1:
        half, odd = divmod(len(rows), 2)
        folded = rows[:half] ^ rows[half : 2 * half]
        if odd:
            folded[0] ^= rows[-1]
        rows = folded
    total = rows[0] if len(rows) else xp.zeros(rows.shape[1:], x.dtype)
    return xp.array(total.reshape(shape) if keepdims else total)
