"""What every kernel needs to know about arrays and dtypes."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

Array = Any
"""A NumPy or CuPy array; the kernels use only what both offer."""


@lru_cache(maxsize=64)
def compute_dtype(dtype: Any) -> np.dtype[Any]:
    """The dtype in which a kernel does arithmetic on `dtype`: float32 for narrower floats.

    float16, ml_dtypes' bfloat16 and its float8 types have no BLAS and round after every
    operation, so they are widened; every other dtype computes as itself.
    """
    dtype = np.dtype(dtype)
    narrow = dtype.name in ("float16", "bfloat16") or dtype.name.startswith("float8")
    return np.dtype(np.float32) if narrow else dtype


@lru_cache(maxsize=64)
def is_floating(dtype: Any) -> bool:
    """Whether `dtype` is a real floating dtype, ml_dtypes' included."""
    return compute_dtype(dtype).kind == "f"


def widen(x: Array) -> Array:
    """`x` in its compute dtype; `x` itself where that is already its dtype."""
    if x.dtype.itemsize >= 4:  # all but the narrow ones compute as they are
        return x
    dtype = compute_dtype(x.dtype)
    return x if x.dtype == dtype else x.astype(dtype)


def narrow(x: Array, dtype: Any) -> Array:
    """`x` rounded to `dtype`; `x` itself where it has it. Overflow becomes inf, silently."""
    if x.dtype is dtype or x.dtype == dtype:
        return x
    with np.errstate(over="ignore", invalid="ignore", under="ignore"):
        return x.astype(dtype)


def is_numpy(xp: Any) -> bool:
    """Whether arrays live in host memory, where caches matter and kernel launches do not."""
    return xp is np


def contiguous_spatial(xp: Any, x: Array, fill: Any, padding: Any, *, batch_last: bool) -> Array:
    """A fresh [N, C, *S] array, `x` surrounded by `fill`; negative padding crops.

    With `batch_last` memory is laid out as [C, *S, N], so that windows over S keep runs of N
    adjacent elements; the returned view is [N, C, *S] either way.
    """
    n, c = x.shape[:2]
    sizes = tuple(s + lo + hi for s, (lo, hi) in zip(x.shape[2:], padding, strict=True))
    shape = (c, *sizes, n) if batch_last else (n, c, *sizes)
    # Only a border needs the fill; zeros are free where the allocator hands out fresh pages.
    padded = any(lo > 0 or hi > 0 for lo, hi in padding)
    if not padded:
        out = xp.empty(shape, x.dtype)
    elif fill == 0:
        out = xp.zeros(shape, x.dtype)
    else:
        out = xp.full(shape, fill, x.dtype)
    view = xp.moveaxis(out, -1, 0) if batch_last else out
    inside = tuple(
        slice(max(lo, 0), max(lo, 0) + s + min(lo, 0) + min(hi, 0))
        for s, (lo, hi) in zip(x.shape[2:], padding, strict=True)
    )
    source = tuple(
        slice(max(-lo, 0), s - max(-hi, 0))
        for s, (lo, hi) in zip(x.shape[2:], padding, strict=True)
    )
    view[(..., *inside)] = x[(..., *source)]
    return view
