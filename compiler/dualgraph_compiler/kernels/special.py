"""The error function and its relatives, which NumPy lacks; floating dtypes, any shape.

float32 and narrower are evaluated in float64 and rounded once (below 1 ulp); float64 errors are
stated per function. NaN gives NaN, and no warnings are emitted.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from .arrays import Array
from .blocks import branch, elementwise, horner

# erf(x)/x = P(x^2)/Q(x^2) on |x| <= 3.92, beyond which erf rounds to 1 in float32; a rational
# minimax fit of our own (iteratively reweighted least squares), relative error 1.9e-8.
_ERF_P = (
    2.050083680135396e-06,
    0.00028488058765979555,
    0.003765562957839928,
    0.05274855160192593,
    0.1904053427606773,
    1.128379146167463,
)
_ERF_Q = (
    3.8091566130772915e-05,
    0.0011625207271543751,
    0.01496910848577679,
    0.11410862667602155,
    0.5020750827261657,
    1.0,
)

# W. J. Cody, "Rational Chebyshev approximations for the error function", Math. Comp. 23 (1969),
# in the arrangement of his CALERF (Netlib SPECFUN), highest power first.
_A = (
    1.85777706184603153e-1,
    3.16112374387056560e0,
    1.13864154151050156e2,
    3.77485237685302021e2,
    3.20937758913846947e3,
)
_B = (
    1.0,
    2.36012909523441209e1,
    2.44024637934444173e2,
    1.28261652607737228e3,
    2.84423683343917062e3,
)
_C = (
    2.15311535474403846e-8,
    5.64188496988670089e-1,
    8.88314979438837594e0,
    6.61191906371416295e1,
    2.98635138197400131e2,
    8.81952221241769090e2,
    1.71204761263407058e3,
    2.05107837782607147e3,
    1.23033935479799725e3,
)
_D = (
    1.0,
    1.57449261107098347e1,
    1.17693950891312499e2,
    5.37181101862009858e2,
    1.62138957456669019e3,
    3.29079923573345963e3,
    4.36261909014324716e3,
    3.43936767414372164e3,
    1.23033935480374942e3,
)
_P = (
    1.63153871373020978e-2,
    3.05326634961232344e-1,
    3.60344899949804439e-1,
    1.25781726111229246e-1,
    1.60837851487422766e-2,
    6.58749161529837803e-4,
)
_Q = (
    1.0,
    2.56852019228982242e0,
    1.87295284992346725e0,
    5.27905102951428412e-1,
    6.05183413124413191e-2,
    2.33520497626869185e-3,
)


def erf(xp: Any, x: Array) -> Array:
    """2/sqrt(pi) times the integral of exp(-t^2) from 0 to x; float64 within 3 ulp."""
    if x.dtype == np.float64:
        return elementwise(xp, _erf64, x)
    return elementwise(xp, erf_rational, x, np.float64)


def erfc(xp: Any, x: Array) -> Array:
    """1 - erf(x) without cancellation, down to the smallest float; float64 within 6 ulp."""
    return elementwise(xp, _erfc64, x, np.float64)


def erf_rational(xp: Any, x: Array, out: Array) -> None:
    """Erf to float32 accuracy (1.9e-8) of float64 `x`, into `out`: one rational, no branches."""
    v = xp.clip(x, -3.92, 3.92)
    t = v * v
    v *= horner(t, _ERF_P, out)
    xp.divide(v, horner(t, _ERF_Q, out), out=out)


def _erf64(xp: Any, x: Array, out: Array) -> None:
    y = abs(x)
    xp.copysign(1.0, x, out=out)
    out *= xp.where(y == y, 1.0, y)  # NaN stays; the far tail is +-1
    branch(xp, y <= 0.46875, _near, out, x)
    far = (y > 0.46875) & (y < 6.0)
    branch(xp, far, lambda v: xp.copysign(1.0 - _tail(xp, abs(v)), v), out, x)


def _erfc64(xp: Any, x: Array, out: Array) -> None:
    y = abs(x)
    out[...] = xp.where(x > 0, 0.0, 2.0)
    out *= xp.where(y == y, 1.0, y)
    branch(xp, y <= 0.46875, lambda v: 1.0 - _near(v), out, x)
    branch(xp, (x > 0.46875) & (x < 27.3), lambda v: _tail(xp, v), out, x)
    branch(xp, (x < -0.46875) & (x > -6.0), lambda v: 2.0 - _tail(xp, -v), out, x)


def _near(x: Array) -> Array:
    """Erf for |x| <= 0.46875."""
    t = x * x
    scratch = t.copy()
    y = horner(t, _A, scratch) * x
    y /= horner(t, _B, scratch)
    return y


def _tail(xp: Any, y: Array) -> Array:
    """Erfc for y > 0.46875, with exp(-y^2) split so that y^2 loses no bits (Cody)."""
    result = _scaled_tail(xp, y)
    top = xp.trunc(y * 16.0) / 16.0
    result *= xp.exp(-top * top)
    result *= xp.exp(-(y - top) * (y + top))
    return result


def _scaled_tail(xp: Any, y: Array) -> Array:
    """exp(y^2) erfc(y) for y > 0.46875 (Cody)."""
    result = xp.empty_like(y)
    middle = y <= 4.0

    def between(v: Array) -> Array:
        top = horner(v, _C, xp.empty_like(v))
        return top / horner(v, _D, xp.empty_like(v))

    def beyond(v: Array) -> Array:
        z = 1.0 / (v * v)
        r = z * horner(z, _P, xp.empty_like(v)) / horner(z, _Q, xp.empty_like(v))
        return (1.0 / math.sqrt(math.pi) - r) / v

    branch(xp, middle, between, result, y)
    branch(xp, ~middle, beyond, result, y)
    return result


def erfcx(xp: Any, x: Array) -> Array:
    """exp(x^2) erfc(x); inf below -26.7; float64 within 1e-15 of its value (3e-14 below -1)."""
    return elementwise(xp, _erfcx64, x, np.float64)


def _erfcx64(xp: Any, x: Array, out: Array) -> None:
    y = abs(x)
    branch(xp, y <= 0.46875, lambda v: xp.exp(v * v) * (1.0 - _near(v)), out, x)
    branch(xp, ~(y <= 0.46875), lambda v: _scaled_tail(xp, v), out, y)
    branch(xp, x < -0.46875, lambda v, tail: 2.0 * xp.exp(v * v) - tail, out, x, out)


def log_ndtr(xp: Any, x: Array) -> Array:
    """The logarithm of the standard normal distribution function; float64 within 2e-15."""
    return elementwise(xp, _log_ndtr64, x, np.float64)


def _log_ndtr64(xp: Any, x: Array, out: Array) -> None:
    _erfcx64(xp, x * -math.sqrt(0.5), out)
    branch(xp, x < -1.0, lambda v, scaled: xp.log(0.5 * scaled) - 0.5 * v * v, out, x, out)

    def above(v: Array) -> Array:
        complement = xp.empty_like(v)
        _erfc64(xp, v * math.sqrt(0.5), complement)
        return xp.log1p(-0.5 * complement)

    branch(xp, ~(x < -1.0), above, out, x)


# M. Giles, "Approximating the erfinv function", GPU Computing Gems Jade (2011), single precision.
_GILES_CENTRE = (
    2.81022636e-08,
    3.43273939e-07,
    -3.5233877e-06,
    -4.39150654e-06,
    0.00021858087,
    -0.00125372503,
    -0.00417768164,
    0.246640727,
    1.50140941,
)
_GILES_TAIL = (
    -0.000200214257,
    0.000100950558,
    0.00134934322,
    -0.00367342844,
    0.00573950773,
    -0.0076224613,
    0.00943887047,
    1.00167406,
    2.83297682,
)


def erfinv(xp: Any, x: Array) -> Array:
    """The inverse of erf on [-1, 1]; NaN outside; float64 within 5 ulp.

    Giles' single-precision approximation, then Halley steps on erf in the middle and on erfc in
    the tails, where 1 - |x| is exact.
    """
    return elementwise(xp, _erfinv64, x, np.float64)


def ndtri(xp: Any, p: Array) -> Array:
    """The inverse of the standard normal distribution function; -inf at 0, NaN outside [0, 1].

    float64 within 1e-14, relative to values above 1.
    """
    return elementwise(xp, _ndtri64, p, np.float64)


def _erfinv64(xp: Any, x: Array, out: Array) -> None:
    a = abs(x)
    xp.copysign(_inverse(xp, a, 1.0 - a), x, out=out)


def _ndtri64(xp: Any, p: Array, out: Array) -> None:
    q = 2.0 * xp.minimum(p, 1.0 - p)
    xp.copysign(_inverse(xp, 1.0 - q, q), p - 0.5, out=out)
    out *= math.sqrt(2.0)


def _inverse(xp: Any, a: Array, q: Array) -> Array:
    """The y >= 0 with erf(y) = a and erfc(y) = q = 1 - a, of which the smaller counts."""
    w = -xp.log(q * (1.0 + a))
    centre = horner(w - 2.5, _GILES_CENTRE, xp.empty_like(w))
    root = xp.minimum(xp.sqrt(w), 4.1)  # where the fit ends; Halley steps go on from there
    tail = horner(root - 3.0, _GILES_TAIL, xp.empty_like(w))
    y = xp.where(w < 5.0, centre, tail) * a
    far = w > 16.8
    y = xp.where(far, xp.sqrt(xp.maximum(w - 0.5 * xp.log(xp.maximum(w, 1.0) * 3.14), 0)), y)
    # One step cubes the fit's error of 1e-7; where that ends it takes two more.
    y = _halley(xp, y, a, q)
    branch(xp, far, lambda y, a, q: _halley(xp, _halley(xp, y, a, q), a, q), y, y, a, q)
    return xp.where(q == 0.0, np.inf, xp.where((q > 0.0) & (a >= 0.0), y, np.nan))


def _halley(xp: Any, y: Array, a: Array, q: Array) -> Array:
    """A step of Halley's method towards erf(y) = a, or erfc(y) = q where that is smaller."""

    def value(f: Callable[[Any, Array, Array], None], y: Array) -> Array:
        out = xp.empty_like(y)
        f(xp, y, out)
        return out

    error = xp.empty_like(y)
    branch(xp, a < 0.5, lambda y, a: value(_erf64, y) - a, error, y, a)
    branch(xp, ~(a < 0.5), lambda y, q: q - value(_erfc64, y), error, y, q)
    u = error / (2.0 / math.sqrt(math.pi) * xp.exp(-y * y))
    return y - u / (1.0 + y * u)
