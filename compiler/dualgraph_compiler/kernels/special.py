"""Error and gamma functions, which NumPy lacks; floating dtypes, any shape, 0-d included.

float32 and narrower are evaluated in float64 and rounded once (below 1 ulp); float64 errors are
stated per function. NaN gives NaN, and no warnings are emitted.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from .arrays import Array, is_numpy
from .blocks import elementwise, horner

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
    _on(xp, y <= 0.46875, _near, x, out)
    far = (y > 0.46875) & (y < 6.0)
    _on(xp, far, lambda v: xp.copysign(1.0 - _tail(xp, abs(v)), v), x, out)


def _erfc64(xp: Any, x: Array, out: Array) -> None:
    y = abs(x)
    out[...] = xp.where(x > 0, 0.0, 2.0)
    out *= xp.where(y == y, 1.0, y)
    _on(xp, y <= 0.46875, lambda v: 1.0 - _near(v), x, out)
    _on(xp, (x > 0.46875) & (x < 27.3), lambda v: _tail(xp, v), x, out)
    _on(xp, (x < -0.46875) & (x > -6.0), lambda v: 2.0 - _tail(xp, -v), x, out)


def _on(xp: Any, where: Array, f: Callable[[Array], Array], x: Array, out: Array) -> None:
    """`out = f(x)` only at `where`: a branch is computed for the elements that take it.

    On a GPU for all, since it would have to be waited for to say which.
    """
    if not is_numpy(xp):
        xp.copyto(out, f(x), where=where)
    elif where.all():
        out[...] = f(x)
    elif where.any():
        out[where] = f(x[where])


def _near(x: Array) -> Array:
    """Erf for |x| <= 0.46875."""
    t = x * x
    scratch = t.copy()
    y = horner(t, _A, scratch) * x
    y /= horner(t, _B, scratch)
    return y


def _tail(xp: Any, y: Array) -> Array:
    """Erfc for y > 0.46875, with exp(-y^2) split so that y^2 loses no bits (Cody)."""
    result, scratch = xp.empty_like(y), xp.empty_like(y)
    middle = y <= 4.0

    def between(v: Array) -> Array:
        top = horner(v, _C, xp.empty_like(v))
        return top / horner(v, _D, xp.empty_like(v))

    def beyond(v: Array) -> Array:
        z = 1.0 / (v * v)
        r = z * horner(z, _P, xp.empty_like(v)) / horner(z, _Q, xp.empty_like(v))
        return (1.0 / math.sqrt(math.pi) - r) / v

    _on(xp, middle, between, y, result)
    _on(xp, ~middle, beyond, y, result)
    xp.multiply(y, 16.0, out=scratch)
    xp.trunc(scratch, out=scratch)
    scratch /= 16.0
    result *= xp.exp(-scratch * scratch)
    result *= xp.exp(-(y - scratch) * (y + scratch))
    return result


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


def _erfinv64(xp: Any, x: Array, out: Array) -> None:
    a = abs(x)
    q = 1.0 - a
    w = -xp.log(q * (1.0 + a))
    centre = horner(w - 2.5, _GILES_CENTRE, xp.empty_like(x))
    root = xp.minimum(xp.sqrt(w), 4.1)  # where the fit ends; Halley steps go on from there
    tail = horner(root - 3.0, _GILES_TAIL, xp.empty_like(x))
    y = xp.where(w < 5.0, centre, tail) * a
    y = xp.where(w > 16.8, xp.sqrt(xp.maximum(w - 0.5 * xp.log(xp.maximum(w, 1.0) * 3.14), 0)), y)
    value = xp.empty_like(x)
    for _ in range(3):
        _erf64(xp, y, value)
        error = value - a
        _erfc64(xp, y, value)
        error = xp.where(a < 0.5, error, q - value)
        u = error / (2.0 / math.sqrt(math.pi) * xp.exp(-y * y))
        y = y - u / (1.0 + y * u)
    y = xp.where(a == 1.0, np.inf, xp.where(a < 1.0, y, np.nan))
    xp.copysign(y, x, out=out)


# Coefficients of 1/x^(2k-1) in Stirling's series for log gamma: B_2k / (2k (2k-1)).
_STIRLING = (1 / 156, -691 / 360360, 1 / 1188, -1 / 1680, 1 / 1260, -1 / 360, 1 / 12)
# Coefficients of 1/x^2k in the series for digamma: B_2k / 2k.
_BERNOULLI = (1 / 12, -691 / 32760, 1 / 132, -1 / 240, 1 / 252, -1 / 120, 1 / 12)


def lgamma(xp: Any, x: Array) -> Array:
    """Log |gamma(x)|: inf at 0, -1, -2, ...; float64 within 1e-14 absolute or relative.

    Stirling's series above 10 (Abramowitz & Stegun 6.1.41), recurrence below, reflection for
    negative x.
    """
    return elementwise(xp, _lgamma64, x, np.float64)


def _lgamma64(xp: Any, x: Array, out: Array) -> None:
    reflect = x < 0.0
    v = xp.where(reflect, 1.0 - x, x)
    product = xp.ones_like(v)
    for _ in range(10):
        low = v < 10.0
        product = xp.where(low, product * v, product)
        v = xp.where(low, v + 1.0, v)
    inverse = 1.0 / v
    series = horner(inverse * inverse, _STIRLING, xp.empty_like(v)) * inverse
    y = (v - 0.5) * (xp.log(v) - 1.0) + (series + (0.5 * math.log(2 * math.pi) - 0.5))
    y = xp.where(xp.isinf(v), np.inf, y - xp.log(product))
    distance = abs(x - xp.rint(x))  # sin(pi x) from the distance to the nearest integer: exact
    mirrored = math.log(math.pi) - xp.log(xp.sin(math.pi * distance)) - y
    y = xp.where((x == 1.0) | (x == 2.0), 0.0, y)
    out[...] = xp.where(reflect, xp.where(xp.isinf(x), np.inf, mirrored), y)


def digamma(xp: Any, x: Array) -> Array:
    """d/dx log gamma(x); -+inf at +-0, NaN at negative integers, as PyTorch has it.

    Asymptotic series above 10 (Abramowitz & Stegun 6.3.18), recurrence below, reflection for
    negative x; float64 within 4e-15 absolute or relative.
    """
    return elementwise(xp, _digamma64, x, np.float64)


def _digamma64(xp: Any, x: Array, out: Array) -> None:
    reflect = x < 0.0
    v = xp.where(reflect, 1.0 - x, x)
    shift = xp.zeros_like(v)
    for _ in range(10):
        low = v < 10.0
        shift = xp.where(low, shift + 1.0 / v, shift)
        v = xp.where(low, v + 1.0, v)
    t = 1.0 / (v * v)
    y = xp.log(v) - 0.5 / v - t * horner(t, _BERNOULLI, xp.empty_like(v)) - shift
    fraction = x - xp.rint(x)
    mirrored = xp.where(fraction == 0.0, np.nan, y - math.pi / xp.tan(math.pi * fraction))
    y = xp.where(reflect, mirrored, y)
    out[...] = xp.where(x == 0.0, xp.copysign(np.inf, -x), y)
