"""Elementwise chains run block by block, so that intermediates stay in cache."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .arrays import Array, compute_dtype, is_numpy

_BLOCK = 1 << 15  # elements: a few float64 temporaries of this size fit an L2 cache

Chain = Callable[[Any, Array, Array], None]


def elementwise(xp: Any, chain: Chain, x: Array, compute: Any = None) -> Array:
    """A new array of x's shape and dtype, filled by `chain(xp, x_block, out_block)`.

    Blocks are 1-d and contiguous, of dtype `compute` (default: the compute dtype of x's own), so
    a chain may write in place into `out_block`; it must not write to `x_block`. Floating-point
    warnings are off inside: infinities and NaN are results here, not accidents.
    """
    compute = np.dtype(compute) if compute else compute_dtype(x.dtype)
    flat = x.reshape(-1)
    out = xp.empty(flat.shape, x.dtype)
    same = x.dtype == compute
    if same and (flat.size <= _BLOCK or not is_numpy(xp)):
        with np.errstate(all="ignore"):
            chain(xp, flat, out)
        return out.reshape(x.shape)
    size = max(1, flat.size if not is_numpy(xp) else _BLOCK)
    with np.errstate(all="ignore"):
        for start in range(0, flat.size, size):
            block, into = flat[start : start + size], out[start : start + size]
            if same:
                chain(xp, block, into)
            else:
                wide = block.astype(compute)
                result = xp.empty(wide.shape, compute)
                chain(xp, wide, result)
                into[...] = result
    return out.reshape(x.shape)


def horner(x: Array, coefficients: Any, out: Array) -> Array:
    """The polynomial with `coefficients`, highest power first, at `x`, written into `out`."""
    out[...] = coefficients[0]
    for c in coefficients[1:]:
        out *= x
        out += c
    return out
