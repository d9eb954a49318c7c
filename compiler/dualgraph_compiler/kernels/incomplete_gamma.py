"""The regularised incomplete gamma functions P(a, x) and Q(a, x) = 1 - P(a, x).

Where a is large and x near it: Temme's uniform expansion (N. M. Temme, "The asymptotic expansion of
the incomplete gamma functions", SIAM J. Math. Anal. 10 (1979); DLMF 8.12); else the power series of
P (DLMF 8.11.4), that of 1 - Q for small a and x (DLMF 8.7.3), or the continued fraction of Q (DLMF
8.9.2), whichever converges and does not cancel; the regions are those of S. Moshier's Cephes.
float32 and narrower are evaluated in float64 and rounded once. float64 errors are below 1e-14
absolutely, and below 2e-11 of a value however small: x^a is taken as exp(a log x).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from functools import lru_cache
from typing import Any

import numpy as np

from .arrays import Array, is_numpy
from .blocks import branch, elementwise2, horner
from .gamma import digamma64, log_gamma64
from .special import erfc

_EPSILON = 1e-17


def lower(xp: Any, a: Array, x: Array) -> Array:
    """P(a, x); 0 at x = 0, 1 at infinity, NaN for negative operands and where both are 0."""
    return elementwise2(xp, _lower, a, x)


def upper(xp: Any, a: Array, x: Array) -> Array:
    """Q(a, x); 1 at x = 0, 0 at infinity, NaN for negative operands and where both are 0."""
    return elementwise2(xp, _upper, a, x)


def _lower(xp: Any, a: Array, x: Array, out: Array) -> None:
    near = _near(xp, a, x)
    high = ~near & (x > 1.0) & (x > a)
    branch(xp, near, lambda a, x: _temme(xp, a, x, -1.0), out, a, x)
    branch(xp, high, lambda a, x: 1.0 - _upper_of(xp, a, x), out, a, x)
    branch(xp, ~near & ~high, lambda a, x: _series(xp, a, x), out, a, x)
    _edges(xp, a, x, out, 0.0)


def _upper(xp: Any, a: Array, x: Array, out: Array) -> None:
    near = _near(xp, a, x)
    branch(xp, near, lambda a, x: _temme(xp, a, x, 1.0), out, a, x)
    branch(xp, ~near, lambda a, x: _upper_of(xp, a, x), out, a, x)
    _edges(xp, a, x, out, 1.0)


def _near(xp: Any, a: Array, x: Array) -> Array:
    return (a > 20.0) & (abs(x - a) < 0.3 * a)


def _upper_of(xp: Any, a: Array, x: Array) -> Array:
    """Q where Temme's expansion does not serve."""
    out = xp.empty_like(x)
    large = x > 1.1
    few = xp.where(x <= 0.5, -0.4 / xp.log(x), x * 1.1)  # a below: 1 - P would cancel
    complement = xp.where(large, x < a, few < a)
    branch(xp, complement, lambda a, x: 1.0 - _series(xp, a, x), out, a, x)
    branch(xp, ~complement & large, lambda a, x: _fraction(xp, a, x), out, a, x)
    branch(xp, ~complement & ~large, lambda a, x: _small(xp, a, x), out, a, x)
    return out


def _edges(xp: Any, a: Array, x: Array, out: Array, at_zero: float) -> None:
    """What holds at 0 and at infinity, and that there is nothing for negative operands."""
    at_infinity = 1.0 - at_zero
    xp.copyto(out, at_zero, where=(x == 0.0) | (a == np.inf))
    xp.copyto(out, at_infinity, where=(x == np.inf) | (a == 0.0))
    undefined = (a == x) & ((a == 0.0) | (a == np.inf))
    undefined |= ~((a >= 0.0) & (x >= 0.0))
    xp.copyto(out, np.nan, where=undefined)


def _log_gamma(xp: Any, a: Array) -> Array:
    out = xp.empty_like(a)
    log_gamma64(xp, a, out)
    return out


def _repeat(xp: Any, most: int, step: Callable[[int], Array]) -> None:
    """`step(1)`, `step(2)`, ... until all that one returns is small; on a GPU always `most`."""
    for i in range(1, most + 1):
        change = step(i)
        if is_numpy(xp) and not (change > _EPSILON).any():
            return


def _series(xp: Any, a: Array, x: Array) -> Array:
    """P(a, x) by its power series, for x up to about a."""
    scale = xp.exp(a * xp.log(x) - x - _log_gamma(xp, a + 1.0))
    term, total = xp.ones_like(x), xp.ones_like(x)

    def step(i: int) -> Array:
        nonlocal term
        term *= x / (a + i)
        xp.add(total, term, out=total)
        return term / total

    _repeat(xp, 200, step)
    return total * scale


# log gamma(1 + a) / a, the Taylor series: Euler's constant and zeta(k) / k with signs.
_LOG_GAMMA_1P = (
    1.0083492773819229 / 7,
    -1.0173430619844492 / 6,
    1.0369277551433699 / 5,
    -1.0823232337111382 / 4,
    1.2020569031595942 / 3,
    -1.6449340668482264 / 2,
    0.5772156649015329,
)


def _small(xp: Any, a: Array, x: Array) -> Array:
    """Q(a, x) for small a and x, where it is far from 1 although x is small."""
    tiny = -a * horner(a, _LOG_GAMMA_1P, xp.empty_like(a))
    log_gamma_1p = xp.where(a < 5e-3, tiny, _log_gamma(xp, 1.0 + a))
    term, total = xp.ones_like(x), xp.zeros_like(x)

    def step(i: int) -> Array:
        nonlocal term
        term *= -x / i
        part = term / (a + i)
        xp.add(total, part, out=total)
        return abs(part / total)

    _repeat(xp, 40, step)
    power = a * xp.log(x) - log_gamma_1p
    return -xp.expm1(power) - a * xp.exp(power) * total


def _fraction(xp: Any, a: Array, x: Array) -> Array:
    """Q(a, x) by its continued fraction, for x > max(a, 1.1): Lentz's method as Thompson has it."""
    b = x + 1.0 - a
    c, d = xp.full_like(x, 1e300), 1.0 / b
    h = d.copy()

    def step(i: int) -> Array:
        nonlocal b, c, d
        numerator = i * (a - i)
        b = b + 2.0
        d = 1.0 / (numerator * d + b)
        c = b + numerator / c
        xp.multiply(h, c * d, out=h)
        return abs(c * d - 1.0) - 1e-16

    _repeat(xp, 300, step)
    return h * xp.exp(a * xp.log(x) - x - _log_gamma(xp, a))


# -- Temme's expansion ----------------------------------------------------------------------------

_ORDERS, _POWERS = 14, 22


@lru_cache(maxsize=1)
def _temme_coefficients() -> tuple[tuple[float, ...], ...]:
    """d(k, n) of DLMF 8.12.8, exactly from the recurrences there; highest n first."""
    count = _POWERS + 2 * _ORDERS + 3
    alpha = [Fraction(0), Fraction(1), Fraction(1, 3)]
    for n in range(3, count + 1):
        total = alpha[n - 1] - sum(j * alpha[j] * alpha[n + 1 - j] for j in range(2, n))
        alpha.append(total / (n + 1))
    row = [(n + 2) * alpha[n + 2] - (n == 0) for n in range(count - 1)]
    first, rows = row, []
    stirling = Fraction(1)
    for k in range(_ORDERS):
        rows.append(tuple(float(v) for v in reversed(row[:_POWERS])))
        # The next coefficient of Stirling's series is (2k+3)!! alpha(2k+3).
        stirling = Fraction(math.prod(range(1, 2 * k + 4, 2))) * alpha[2 * k + 3]
        sign = -1 if k % 2 == 0 else 1
        row = [sign * stirling * first[n] + (n + 2) * row[n + 2] for n in range(len(row) - 2)]
    return tuple(rows)


# (u - log(1 + u)) / u^2, the Taylor series in -u.
_LOG_GAP = tuple(1.0 / (k + 2) for k in reversed(range(34)))


def _temme(xp: Any, a: Array, x: Array, side: float) -> Array:
    """Q (`side` 1) or P (-1) for a > 20 and x within 0.3 a of it."""
    u = (x - a) / a
    half_square = u * u * horner(-u, _LOG_GAP, xp.empty_like(u))
    eta = xp.copysign(xp.sqrt(2.0 * half_square), u)
    total, scratch = xp.zeros_like(a), xp.empty_like(a)
    for row in reversed(_temme_coefficients()):
        total /= a
        total += horner(eta, row, scratch)
    rest = total * xp.exp(-a * half_square) / xp.sqrt(2.0 * math.pi * a)
    return 0.5 * erfc(xp, side * eta * xp.sqrt(0.5 * a)) + side * rest


# -- the slope of gamma variables -----------------------------------------------------------------


def standard_gamma_slope(xp: Any, a: Array, x: Array) -> Array:
    """-(dP/da) / (dP/dx) for a, x > 0: how x moves with `a` at the same P; within 1e-6 of it.

    By central differences of P below a and of Q above, whichever is small.
    """
    return elementwise2(xp, _gamma_slope, a, x)


def _gamma_slope(xp: Any, a: Array, x: Array, out: Array) -> None:
    h = 1e-4 * xp.minimum(a, xp.sqrt(a))
    low, high = xp.empty_like(a), xp.empty_like(a)
    log_density = (a - 1.0) * xp.log(x) - x - _log_gamma(xp, a)
    tail = x > a
    for method, at, sign in ((_lower, ~tail, -1.0), (_upper, tail, 1.0)):
        method(xp, a - h, x, low)
        method(xp, a + h, x, high)
        slope = sign * (high - low) / (2.0 * h) * xp.exp(-log_density)
        out[...] = xp.where(at, slope, out)
    # Near zero P is x^a / gamma(a + 1), and the density may be infinite.
    tiny = x < 1e-30
    near = x / a * (_digamma(xp, a + 1.0) - xp.log(x))
    out[...] = xp.where(tiny, xp.where(x > 0.0, near, 0.0), out)


def _digamma(xp: Any, a: Array) -> Array:
    out = xp.empty_like(a)
    digamma64(xp, a, out)
    return out
