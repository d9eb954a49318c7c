"""Elementwise chains run block by block, so that intermediates stay in cache."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .arrays import Array, compute_dtype, is_numpy

_BLOCK = 1 << 15  # elements: a few float64 temporaries of this size fit an L2 cache

Chain = Callable[[Any, Array, Array], None]


def elementwise(
    xp: Any, chain: Chain, x: Array, compute: Any = None, out: Array | None = None
) -> Array:
    """An array of x's shape and dtype, `out` or a new one, filled by `chain(xp, x_block, block)`.

    Blocks are 1-d and contiguous, of dtype `compute` (default: the compute dtype of x's own), so
    a chain may write in place into its block of the result; it must not write to `x_block`.
    Floating-point warnings are off inside: infinities and NaN are results here, not accidents.
    """
    compute = np.dtype(compute) if compute else compute_dtype(x.dtype)
    if out is not None and not out.flags.c_contiguous:
        out[...] = elementwise(xp, chain, x, compute)
        return out
    flat = x.reshape(-1)
    result = xp.empty(x.shape, x.dtype) if out is None else out
    flat_result = result.reshape(-1)
    same = x.dtype == compute
    if same and (flat.size <= _BLOCK or not is_numpy(xp)):
        with np.errstate(all="ignore"):
            chain(xp, flat, flat_result)
        return result
    size = max(1, flat.size if not is_numpy(xp) else _BLOCK)
    with np.errstate(all="ignore"):
        for start in range(0, flat.size, size):
            block, into = flat[start : start + size], flat_result[start : start + size]
            if same:
                chain(xp, block, into)
            else:
                wide = block.astype(compute)
                made = xp.empty(wide.shape, compute)
                chain(xp, wide, made)
                into[...] = made
    return result


def horner(x: Array, coefficients: Any, out: Array) -> Array:
    """The polynomial with `coefficients`, highest power first, at `x`, written into `out`."""
    out[...] = coefficients[0]
    for c in coefficients[1:]:
        out *= x
        out += c
    return out


def elementwise2(
    xp: Any, chain: Callable[[Any, Array, Array, Array], None], a: Array, b: Array
) -> Array:
    """`elementwise` for two operands of one dtype, broadcast; blocks are float64."""
    a, b = xp.broadcast_arrays(a, b)
    flat_a, flat_b = a.reshape(-1), b.reshape(-1)
    result = xp.empty(a.shape, a.dtype)
    flat = result.reshape(-1)
    size = max(1, flat.size if not is_numpy(xp) else _BLOCK)
    with np.errstate(all="ignore"):
        for start in range(0, flat.size, size):
            at = slice(start, start + size)
            x, y = flat_a[at].astype(np.float64), flat_b[at].astype(np.float64)
            made = xp.empty(x.shape, np.float64)
            chain(xp, x, y, made)
            flat[at] = made
    return result


def chebyshev(t: Array, coefficients: Any) -> Array:
    """The sum of Chebyshev polynomials with `coefficients`, lowest degree first, at `t`.

    Clenshaw's recurrence (1955).
    """
    twice = t + t
    b = later = 0.0 * t
    for c in reversed(coefficients[1:]):
        b, later = twice * b - later + c, b
    return t * b - later + coefficients[0]


def branch(xp: Any, where: Array, f: Callable[..., Array], out: Array, *operands: Array) -> None:
    """`out = f(*operands)` only at `where`: computed for the elements that take it.

    On a GPU for all, since it would have to be waited for to say which.
    """
    if not is_numpy(xp):
        xp.copyto(out, f(*operands), where=where)
    elif where.all():
        out[...] = f(*operands)
    elif where.any():
        out[where] = f(*(x[where] for x in operands))
