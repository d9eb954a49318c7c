"""Matrix products for every dtype."""

from __future__ import annotations

from typing import Any

import numpy as np

from .arrays import Array, narrow, widen


@np.errstate(all="ignore")
def matmul(xp: Any, a: Array, b: Array) -> Array:
    """A @ b by NumPy's rule, which is PyTorch's: 1-d operands, and batch dims that broadcast.

    The result has the operands' common dtype. Narrow floats are multiplied in float32 and
    rounded once. 8- and 16-bit integers are multiplied in float64, where every sum of fewer than
    2^21 products is exact, because BLAS knows no integers; wider ones take NumPy's own loops.
    Integer overflow wraps. Raises ValueError where shapes do not fit, or for a 0-d operand.
    """
    dtype = a.dtype if a.dtype == b.dtype else np.result_type(a.dtype, b.dtype)
    if dtype.kind in "iu" and dtype.itemsize <= 2 and a.shape and a.shape[-1] < 2**21:
        exact = xp.asarray(xp.matmul(a.astype(np.float64), b.astype(np.float64)))
        return exact.astype(np.int64).astype(dtype)
    if a.dtype != b.dtype:
        a, b = a.astype(dtype, copy=False), b.astype(dtype, copy=False)
    return narrow(xp.asarray(xp.matmul(widen(a), widen(b))), dtype)
