"""Choosing elements by a mask."""

from __future__ import annotations

from typing import Any

import numpy as np

Array = Any

_WORDS = {1: np.int8, 2: np.int16, 4: np.int32, 8: np.int64}

# Below, calls cost more than the elements.
_LARGE = 8192


def where(xp: Any, cond: Array, a: Array, b: Array, out: Array | None = None) -> Array:
    """`a` where `cond` holds, else `b`, which broadcast and have one dtype; into `out` if given.

    `out` may be `b` itself. NumPy looks at one element after the other; over large arrays that lie
    alike this works on their bits instead, many at a time: b ^ ((a ^ b) & mask).
    """
    if xp is np and _alike(cond, a, b):
        if out is None:
            out = np.empty(b.shape, b.dtype)
        word = _WORDS[b.dtype.itemsize]
        mask = np.negative(cond.view(np.int8), dtype=word)  # all bits set, or none
        bits, ours, theirs = out.view(word), a.view(word), b.view(word)
        if not a.ndim and not ours:  # zero, as in the gradient of relu
            np.bitwise_and(theirs, np.invert(mask, out=mask), out=bits)
            return out
        mask &= ours ^ theirs
        np.bitwise_xor(theirs, mask, out=bits)
        return out
    if out is None:
        return xp.where(cond, a, b)
    if out is not b:
        xp.copyto(out, b)
    xp.copyto(out, a, where=cond)
    return out


def _alike(cond: Array, a: Array, b: Array) -> bool:
    """Whether all is large, in rows and of one shape; `a` may be a single element."""
    return (
        type(b) is np.ndarray
        and b.size >= _LARGE
        and b.dtype.itemsize in _WORDS
        and type(cond) is np.ndarray
        and cond.shape == b.shape
        and (a.shape == b.shape or not a.ndim)
        and a.dtype == b.dtype
        and cond.flags.c_contiguous
        and b.flags.c_contiguous
        and (not a.ndim or a.flags.c_contiguous)
    )
