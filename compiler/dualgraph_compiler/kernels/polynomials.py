"""Orthogonal polynomials of a degree given element by element, by their recurrences.

Source: DLMF 18.9 (the recurrences) and 18.5 (Chebyshev polynomials as sines and cosines).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .arrays import Array
from .blocks import elementwise2

# For each family p_1(x), and p_{k+1} from k, x, p_k and p_{k-1}.
_First = Callable[[Array], Array]
_Next = Callable[[float, Array, Array, Array], Array]


def _chebyshev(k: float, x: Array, p: Array, before: Array) -> Array:
    return (x + x) * p - before


_FAMILIES: dict[str, tuple[_First, _Next]] = {
    "chebyshev_t": (lambda x: x, _chebyshev),
    "chebyshev_u": (lambda x: x + x, _chebyshev),
    "chebyshev_v": (lambda x: x + x - 1.0, _chebyshev),
    "chebyshev_w": (lambda x: x + x + 1.0, _chebyshev),
    "hermite_h": (lambda x: x + x, lambda k, x, p, before: (x + x) * p - (2.0 * k) * before),
    "hermite_he": (lambda x: x, lambda k, x, p, before: x * p - k * before),
    "laguerre_l": (
        lambda x: 1.0 - x,
        lambda k, x, p, before: ((2.0 * k + 1.0 - x) * p - k * before) / (k + 1.0),
    ),
    "legendre_p": (
        lambda x: x,
        lambda k, x, p, before: ((2.0 * k + 1.0) * x * p - k * before) / (k + 1.0),
    ),
}
FAMILIES = (*_FAMILIES, *(f"shifted_chebyshev_{kind}" for kind in "tuvw"))


def polynomial(xp: Any, family: str, x: Array, n: Array) -> Array:
    """The polynomial of degree n, rounded towards zero, at `x`: 0 for n < 0.

    Past where a value overflows, those of higher degree are NaN, as in PyTorch. The largest degree
    is read on the host.
    """
    if family.startswith("shifted_"):
        family = family.removeprefix("shifted_")
        # x is doubled before it is rounded, which float64 makes exact for narrower dtypes.
        return elementwise2(xp, lambda xp, x, n, out: _run(xp, family, x + x - 1.0, n, out), x, n)
    return elementwise2(xp, lambda xp, x, n, out: _run(xp, family, x, n, out), x, n)


def _run(xp: Any, family: str, x: Array, n: Array, out: Array) -> None:
    first, following = _FAMILIES[family]
    n = xp.trunc(n)
    out[...] = xp.where(n < 0.0, 0.0, 1.0)
    out *= xp.where(n == n, 1.0, np.nan)
    wanted = n >= 1.0
    if family.startswith("chebyshev"):
        inside = wanted & (n > 6.0) & (abs(x) < 1.0)
        out[...] = xp.where(inside, _waves(xp, family[-1], x, n), out)
        wanted = wanted & ~inside
    before, p = xp.ones_like(x), first(x)
    out[...] = xp.where(wanted, p, out)
    k = 1
    while bool((wanted & (n > k) & (p == p)).any()):
        before, p = p, following(float(k), x, p, before)
        k += 1
        out[...] = xp.where(wanted & (n >= k), p, out)


def _waves(xp: Any, kind: str, x: Array, n: Array) -> Array:
    """Chebyshev polynomials within (-1, 1)."""
    angle = xp.arccos(x)
    if kind == "t":
        return xp.cos(n * angle)
    if kind == "u":
        return xp.sin((n + 1.0) * angle) / xp.sin(angle)
    half = 0.5 * angle
    if kind == "v":
        return xp.cos((n + 0.5) * angle) / xp.cos(half)
    return xp.sin((n + 0.5) * angle) / xp.sin(half)
