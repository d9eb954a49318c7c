"""Gamma functions and the zeta function; floating dtypes, any shape.

float32 and narrower are evaluated in float64 and rounded once; float64 errors are stated per
function. NaN gives NaN, and no warnings are emitted.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .arrays import Array
from .blocks import branch, elementwise, elementwise2, horner

# Coefficients of 1/x^(2k-1) in Stirling's series for log gamma: B_2k / (2k (2k-1)).
_STIRLING = (1 / 156, -691 / 360360, 1 / 1188, -1 / 1680, 1 / 1260, -1 / 360, 1 / 12)
# Coefficients of 1/x^2k in the series for digamma: B_2k / 2k.
_BERNOULLI = (1 / 12, -691 / 32760, 1 / 132, -1 / 240, 1 / 252, -1 / 120, 1 / 12)


def lgamma(xp: Any, x: Array) -> Array:
    """Log |gamma(x)|: inf at 0, -1, -2, ...; float64 within 1e-14 absolute or relative.

    Stirling's series above 10 (Abramowitz & Stegun 6.1.41), recurrence below, reflection for
    negative x.
    """
    return elementwise(xp, log_gamma64, x, np.float64)


def log_gamma64(xp: Any, x: Array, out: Array) -> None:
    """`lgamma` of a block of float64, into `out`."""
    reflect = x < 0.0
    v = xp.where(reflect, 1.0 - x, x)
    low = v < 10.0
    before = xp.zeros_like(v)
    branch(xp, low, lambda v: xp.log(_rising(v)), before, v)
    v = xp.where(low, v + 10.0, v)
    inverse = 1.0 / v
    series = horner(inverse * inverse, _STIRLING, xp.empty_like(v)) * inverse
    y = (v - 0.5) * (xp.log(v) - 1.0) + (series + (0.5 * math.log(2 * math.pi) - 0.5))
    y = xp.where(xp.isinf(v), np.inf, y - before)
    out[...] = xp.where((x == 1.0) | (x == 2.0), 0.0, y)

    def mirrored(x: Array, y: Array) -> Array:
        distance = abs(x - xp.rint(x))  # sin(pi x) from that to the nearest integer: exact
        found = math.log(math.pi) - xp.log(xp.sin(math.pi * distance)) - y
        return xp.where(xp.isinf(x), np.inf, found)

    branch(xp, reflect, mirrored, out, x, out)


def _rising(v: Array) -> Array:
    """The product of v, v + 1, ..., v + 9."""
    product = v.copy()
    for k in range(1, 10):
        product *= v + k
    return product


def _reciprocals(v: Array) -> Array:
    """1 / v + 1 / (v + 1) + ... + 1 / (v + 9), the small ones first."""
    total = 1.0 / (v + 9.0)
    for k in range(8, -1, -1):
        total += 1.0 / (v + k)
    return total


def digamma(xp: Any, x: Array) -> Array:
    """d/dx log gamma(x); -+inf at +-0, NaN at negative integers, as PyTorch has it.

    Asymptotic series above 10 (Abramowitz & Stegun 6.3.18), recurrence below, reflection for
    negative x; float64 within 4e-15 absolute or relative.
    """
    return elementwise(xp, digamma64, x, np.float64)


def digamma64(xp: Any, x: Array, out: Array) -> None:
    """`digamma` of a block of float64, into `out`."""
    reflect = x < 0.0
    v = xp.where(reflect, 1.0 - x, x)
    low = v < 10.0
    before = xp.zeros_like(v)
    branch(xp, low, _reciprocals, before, v)
    v = xp.where(low, v + 10.0, v)
    t = 1.0 / (v * v)
    out[...] = xp.log(v) - 0.5 / v - t * horner(t, _BERNOULLI, xp.empty_like(v)) - before

    def mirrored(x: Array, y: Array) -> Array:
        fraction = x - xp.rint(x)
        return xp.where(fraction == 0.0, np.nan, y - math.pi / xp.tan(math.pi * fraction))

    branch(xp, reflect, mirrored, out, x, out)
    out[...] = xp.where(x == 0.0, xp.copysign(np.inf, -x), out)


# -- zeta and polygamma ---------------------------------------------------------------------------

# B_2k / (2k)! of the Euler-Maclaurin formula.
_EULER_MACLAURIN = tuple(
    b / math.factorial(2 * k + 2)
    for k, b in enumerate(
        (
            1 / 6,
            -1 / 30,
            1 / 42,
            -1 / 30,
            5 / 66,
            -691 / 2730,
            7 / 6,
            -3617 / 510,
            43867 / 798,
            -174611 / 330,
            854513 / 138,
            -236364091 / 2730,
        )
    )
)


def zeta(xp: Any, s: Array, q: Array) -> Array:
    """The sum of (q + k)^-s over k = 0, 1, ... for s > 1; NaN below.

    inf at s = 1 and at the poles q = 0, -1, -2, ...; other negative q are taken for whole s only,
    and give NaN for the rest, as in PyTorch. float64 within 1e-14 of its value for q > 0.
    """
    return elementwise2(xp, _zeta64, s, q)


def _zeta64(xp: Any, s: Array, q: Array, out: Array) -> None:
    below = q < 0.0
    fraction = q - xp.floor(q)
    _hurwitz(xp, s, xp.where(below, fraction, q), out)

    def reflected(s: Array, q: Array, fraction: Array, start: Array) -> Array:
        # The terms before `fraction` are (-1)^s (1 - fraction + k)^-s, up to 1 - q.
        first, rest = xp.empty_like(s), xp.empty_like(s)
        _hurwitz(xp, s, 1.0 - fraction, first)
        _hurwitz(xp, s, 1.0 - q, rest)
        sign = 1.0 - 2.0 * (xp.floor(s) % 2.0)
        return xp.where(s == xp.floor(s), start + sign * (first - rest), np.nan)

    branch(xp, below & (fraction != 0.0), reflected, out, s, q, fraction, out)
    pole = (q <= 0.0) & (q == xp.floor(q)) & (s > 1.0)
    out[...] = xp.where(pole | (s == 1.0), np.inf, out)
    out *= xp.where(s < 1.0, np.nan, 1.0)


def _hurwitz(xp: Any, s: Array, q: Array, out: Array) -> None:
    """Zeta for s > 1 and q > 0 (DLMF 25.11.28): ten terms, then Euler and Maclaurin's formula."""
    out[...] = 0.0
    for k in range(10):
        out += (q + k) ** -s
    a = q + 10.0
    s = xp.minimum(s, 400.0)  # beyond which the rest is nothing beside the terms
    power = a**-s
    rest = a / (s - 1.0) + 0.5
    factor = s / a
    for k, b in enumerate(_EULER_MACLAURIN):
        rest += b * factor
        factor *= (s + (2 * k + 1)) / a * ((s + (2 * k + 2)) / a)
    rest *= power
    out += xp.where(power == 0.0, 0.0, rest)


def polygamma(xp: Any, n: int, x: Array) -> Array:
    """The n-th derivative of digamma: (-1)^(n+1) n! zeta(n + 1, x).

    float64 within 1e-13 of its value for x > 0.
    """
    if n == 0:
        return digamma(xp, x)
    size = math.gamma(n + 1) if n <= 170 else math.inf
    factor = size if n % 2 else -size

    def chain(xp: Any, x: Array, out: Array) -> None:
        _zeta64(xp, xp.full_like(x, n + 1.0), x, out)
        out *= factor

    return elementwise(xp, chain, x, np.float64)
