"""Conversions from and to numbers of less than a byte and 8-bit floats (ml_dtypes' types)."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import ml_dtypes
import numpy as np

from .arrays import Array

_INTS = frozenset(np.dtype(getattr(ml_dtypes, n)) for n in ("int2", "uint2", "int4", "uint4"))
_FLOATS = frozenset(
    np.dtype(getattr(ml_dtypes, f"float{n}"))
    for n in (
        "4_e2m1fn",
        "6_e2m3fn",
        "6_e3m2fn",
        "8_e4m3fn",
        "8_e4m3fnuz",
        "8_e5m2",
        "8_e5m2fnuz",
        "8_e8m0fnu",
    )
)
_SMALL = _INTS | _FLOATS


def convert(x: Array, dtype: np.dtype[Any]) -> Array:
    """`x` as `dtype`: what is out of range becomes NaN or infinity, integers lose high bits."""
    return through(x, dtype).astype(dtype)


def through(x: Array, dtype: np.dtype[Any]) -> Array:
    """`x`, or where ml_dtypes cannot convert it to `dtype`, `x` in a type that holds both."""
    if x.dtype not in _SMALL or dtype not in _SMALL or x.dtype == dtype:
        return x
    return x.astype(np.int8 if x.dtype in _INTS and dtype in _INTS else np.float32)


@lru_cache(maxsize=32)
def largest(dtype: np.dtype[Any]) -> float:
    """The largest finite number of an ml_dtypes float."""
    return float(ml_dtypes.finfo(dtype).max)  # type: ignore[no-untyped-call]


def saturated(xp: Any, x: Array, dtype: np.dtype[Any]) -> Array:
    """`x` as the float `dtype`, where what is out of range becomes the largest number."""
    wide = x if x.dtype.kind in "iuf" and x.dtype.itemsize > 2 else x.astype(np.float32)
    top = largest(dtype)
    return xp.clip(wide, -top if wide.dtype.kind != "u" else 0, top).astype(dtype)


def power_of_two(xp: Any, x: Array, dtype: np.dtype[Any], saturate: bool, round_mode: str) -> Array:
    """|x| rounded to a power of two in -127 .. 127, as float8_e8m0fnu.

    `round_mode`: "up", "down", or "nearest" of the two around it, ties up. With `saturate` what is
    out of range, 0 and infinity included, becomes the nearest end of it; else NaN, as NaN does.
    """
    wide = xp.abs(x.astype(np.float64))
    fraction, exponent = xp.frexp(wide)  # fraction in [0.5, 1)
    limit = {"up": 0.5, "nearest": 0.75 - 2.0**-53, "down": 1.0}[round_mode]
    code = exponent.astype(np.int64) + 126 + (fraction > limit)
    code = xp.where(wide == 0, -1, xp.where(xp.isinf(wide), 255, code))
    inside = (code >= 0) & (code <= 254)
    code = xp.clip(code, 0, 254) if saturate else xp.where(inside, code, 255)
    return xp.where(xp.isnan(wide), 255, code).astype(np.uint8).view(dtype)
