"""Bessel functions of orders 0 and 1, and the Airy function Ai; floating dtypes, any shape.

Chebyshev series near zero; far away, series in the reciprocal that multiply the leading asymptotic
terms (DLMF 10.17, 10.40, 9.7). float32 and narrower are evaluated in float64 and rounded once. In
float64, J and Y err by at most 2e-15 absolutely (relative to a value above 1), the modified
functions by at most 3e-15 of their value, and Ai by 1e-15 (1 + zeta) of its amplitude, where
zeta = (2/3) |x|^(3/2) is the phase.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from . import bessel_tables as tables
from .arrays import Array
from .blocks import branch, chebyshev, elementwise

_2_PI = 2 / math.pi


def _function(chain: Callable[[Any, Array, Array], None], doc: str) -> Callable[..., Array]:
    def function(xp: Any, x: Array) -> Array:
        return elementwise(xp, chain, x, np.float64)

    function.__doc__ = doc
    return function


# -- the first and second kind --------------------------------------------------------------------


def _hankel(xp: Any, x: Array, p: Any, q: Any) -> tuple[Array, Array, Array, Array]:
    """P and Q, and the sum and difference of sine and cosine, for x > 8, over sqrt(pi x)."""
    z = 8.0 / x
    t = 2.0 * z * z - 1.0
    scale = 1.0 / xp.sqrt(math.pi * x)
    sine, cosine = xp.sin(x), xp.cos(x)
    return (
        chebyshev(t, p) * scale,
        z * chebyshev(t, q) * scale,
        sine + cosine,
        sine - cosine,
    )


def _near_j0(x: Array) -> Array:
    return chebyshev(x * x / 32.0 - 1.0, tables.J0)


def _near_j1(x: Array) -> Array:
    return x * chebyshev(x * x / 32.0 - 1.0, tables.J1)


def _j0(xp: Any, x: Array, out: Array) -> None:
    y = abs(x)

    def near(v: Array) -> Array:
        return xp.where(v == 0.0, 1.0, _near_j0(v))

    def far(v: Array) -> Array:
        p, q, plus, minus = _hankel(xp, v, tables.P0, tables.Q0)
        return p * plus - q * minus

    branch(xp, y <= 8.0, near, out, y)
    branch(xp, ~(y <= 8.0), far, out, y)


def _j1(xp: Any, x: Array, out: Array) -> None:
    y = abs(x)

    def far(v: Array) -> Array:
        p, q, plus, minus = _hankel(xp, v, tables.P1, tables.Q1)
        return p * minus + q * plus

    branch(xp, y <= 8.0, _near_j1, out, y)
    branch(xp, ~(y <= 8.0), far, out, y)
    out *= xp.copysign(1.0, x)


def _y0(xp: Any, x: Array, out: Array) -> None:
    def near(v: Array) -> Array:
        return chebyshev(v * v / 32.0 - 1.0, tables.Y0) + _2_PI * xp.log(v) * _near_j0(v)

    def far(v: Array) -> Array:
        p, q, plus, minus = _hankel(xp, v, tables.P0, tables.Q0)
        return p * minus + q * plus

    branch(xp, x <= 8.0, near, out, x)
    branch(xp, ~(x <= 8.0), far, out, x)


def _y1(xp: Any, x: Array, out: Array) -> None:
    def near(v: Array) -> Array:
        y = v * chebyshev(v * v / 32.0 - 1.0, tables.Y1)
        y += _2_PI * (xp.log(v) * _near_j1(v) - 1.0 / v)
        return xp.where(v == 0.0, -np.inf, y)

    def far(v: Array) -> Array:
        p, q, plus, minus = _hankel(xp, v, tables.P1, tables.Q1)
        return q * minus - p * plus

    branch(xp, x <= 8.0, near, out, x)
    branch(xp, ~(x <= 8.0), far, out, x)


# -- the modified functions -----------------------------------------------------------------------


def _scaled_i0(xp: Any, y: Array, out: Array) -> None:
    """exp(-y) I_0(y) for y >= 0."""
    near = y <= 8.0
    branch(xp, near, lambda v: chebyshev(v / 4.0 - 1.0, tables.I0_NEAR), out, y)
    xp.copyto(out, 1.0, where=y == 0.0)
    branch(xp, ~near, lambda v: chebyshev(16.0 / v - 1.0, tables.I0_FAR) / xp.sqrt(v), out, y)


def _scaled_i1(xp: Any, y: Array, out: Array) -> None:
    """exp(-y) I_1(y) for y >= 0."""
    near = y <= 8.0
    branch(xp, near, lambda v: v * chebyshev(v / 4.0 - 1.0, tables.I1_NEAR), out, y)
    branch(xp, ~near, lambda v: chebyshev(16.0 / v - 1.0, tables.I1_FAR) / xp.sqrt(v), out, y)


def _unscale(xp: Any, y: Array, out: Array) -> None:
    """`out` times exp(y), in two steps: the product may be finite where exp(y) is not."""
    half = xp.exp(0.5 * y)
    out *= half
    out *= half
    xp.copyto(out, np.inf, where=y == np.inf)


def _i0e(xp: Any, x: Array, out: Array) -> None:
    _scaled_i0(xp, abs(x), out)


def _i0(xp: Any, x: Array, out: Array) -> None:
    y = abs(x)
    _scaled_i0(xp, y, out)
    _unscale(xp, y, out)


def _i1e(xp: Any, x: Array, out: Array) -> None:
    _scaled_i1(xp, abs(x), out)
    out *= xp.copysign(1.0, x)


def _i1(xp: Any, x: Array, out: Array) -> None:
    y = abs(x)
    _scaled_i1(xp, y, out)
    _unscale(xp, y, out)
    out *= xp.copysign(1.0, x)


def _near_k0(xp: Any, x: Array) -> Array:
    """K_0 on (0, 2]."""
    scaled = xp.exp(x) * chebyshev(x / 4.0 - 1.0, tables.I0_NEAR)
    return chebyshev(x * x / 2.0 - 1.0, tables.K0_NEAR) - xp.log(x / 2.0) * scaled


def _near_k1(xp: Any, x: Array) -> Array:
    """K_1 on (0, 2]."""
    scaled = x * xp.exp(x) * chebyshev(x / 4.0 - 1.0, tables.I1_NEAR)
    y = chebyshev(x * x / 2.0 - 1.0, tables.K1_NEAR) / x + xp.log(x / 2.0) * scaled
    return xp.where(x == 0.0, np.inf, y)


def _modified_second(near: Any, far: Any, scaled: bool) -> Callable[[Any, Array, Array], None]:
    """K_n, or exp(x) K_n where `scaled`."""

    def chain(xp: Any, x: Array, out: Array) -> None:
        def below(v: Array) -> Array:
            return near(xp, v) * xp.exp(v) if scaled else near(xp, v)

        def above(v: Array) -> Array:
            y = chebyshev(4.0 / v - 1.0, far) / xp.sqrt(v)
            return y if scaled else y * xp.exp(-v)

        branch(xp, x <= 2.0, below, out, x)
        branch(xp, ~(x <= 2.0), above, out, x)

    return chain


# -- Airy -----------------------------------------------------------------------------------------

_ZETA_2, _ZETA_5 = (2 / 3 * x**1.5 for x in (2, 5))


def _airy(xp: Any, x: Array, out: Array) -> None:
    def decaying(v: Array) -> Array:
        root = xp.sqrt(v)
        zeta = v * root * (2.0 / 3.0)
        y = chebyshev(2.0 * _ZETA_2 / zeta - 1.0, tables.AI_FAR) * xp.exp(-zeta)
        return y / (2.0 * math.sqrt(math.pi) * xp.sqrt(root))

    def waving(v: Array) -> Array:
        root = xp.sqrt(-v)
        zeta = -v * root * (2.0 / 3.0)
        z = _ZETA_5 / zeta
        t = 2.0 * z * z - 1.0
        p, q = chebyshev(t, tables.AI_P), z * chebyshev(t, tables.AI_Q)
        sine, cosine = xp.sin(zeta), xp.cos(zeta)
        y = p * (sine + cosine) + q * (sine - cosine)
        return y / (math.sqrt(2.0 * math.pi) * xp.sqrt(root))

    near = (x >= -5.0) & (x <= 2.0)
    branch(xp, near, lambda v: chebyshev((2.0 * v + 3.0) / 7.0, tables.AI_NEAR), out, x)
    branch(xp, x < -5.0, waving, out, x)
    branch(xp, ~(x <= 2.0), decaying, out, x)


j0 = _function(_j0, "The Bessel function of the first kind of order 0; NaN at infinity.")
j1 = _function(_j1, "The Bessel function of the first kind of order 1; NaN at infinity.")
y0 = _function(_y0, "The Bessel function of the second kind of order 0; -inf at 0, NaN below.")
y1 = _function(_y1, "The Bessel function of the second kind of order 1; -inf at 0, NaN below.")
i0 = _function(_i0, "The modified Bessel function of the first kind of order 0.")
i1 = _function(_i1, "The modified Bessel function of the first kind of order 1.")
i0e = _function(_i0e, "exp(-|x|) I_0(x), which does not overflow.")
i1e = _function(_i1e, "exp(-|x|) I_1(x), which does not overflow.")
k0 = _function(
    _modified_second(_near_k0, tables.K0_FAR, False),
    "The modified Bessel function of the second kind of order 0; inf at 0, NaN below.",
)
k1 = _function(
    _modified_second(_near_k1, tables.K1_FAR, False),
    "The modified Bessel function of the second kind of order 1; inf at 0, NaN below.",
)
k0e = _function(_modified_second(_near_k0, tables.K0_FAR, True), "exp(x) K_0(x).")
k1e = _function(_modified_second(_near_k1, tables.K1_FAR, True), "exp(x) K_1(x).")
airy_ai = _function(_airy, "The Airy function Ai; NaN at -inf.")
