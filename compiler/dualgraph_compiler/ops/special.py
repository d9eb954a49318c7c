"""Special functions: the error function's relatives, gamma functions, polynomials.

See :mod:`.bessel` for Bessel and Airy functions. ONNX has operators for none of these but erf.
"""

from __future__ import annotations

import math
from typing import Any

from ..errors import ArgumentError
from ..kernels import gamma, incomplete_gamma, polynomials, special
from ..types import TensorType
from . import f
from .base import Array, Grad, op
from .onnx_rules import Export
from .onnx_types import Writer
from .pointwise import RealPointwise


class Special(RealPointwise):
    """A pointwise function of real floating-point operands that takes long."""

    __slots__ = ()
    is_costly = True


# -- the error function's relatives ---------------------------------------------------------------


@op
class Erfc(Special):
    """1 - erf(x), accurate where that is small. Source: PyTorch erfc; ONNX Erf-13."""

    def eager(self, xp: Any, x: Array) -> Array:
        return special.erfc(xp, x)

    def vjp(self, g: Array, _y: Array, x: Array) -> tuple[Grad, ...]:
        return (lambda: g * (f.exp(-(x * x)) * f.like(x, -2 / math.sqrt(math.pi))),)

    def to_onnx(self, ctx: Export, x: str) -> str:
        w = Writer(ctx, ctx.type(x).dtype)
        return w("Sub", w.number(1), w("Erf", x))


@op
class Erfcx(Special):
    """exp(x**2) erfc(x), which does not underflow. Source: PyTorch special.erfcx."""

    def eager(self, xp: Any, x: Array) -> Array:
        return special.erfcx(xp, x)

    def vjp(self, g: Array, y: Array, x: Array) -> tuple[Grad, ...]:
        return (lambda: g * ((x + x) * y - f.like(x, 2 / math.sqrt(math.pi))),)


@op
class Erfinv(Special):
    """The inverse of erf; infinite at -1 and 1, NaN outside. Source: PyTorch erfinv."""

    def eager(self, xp: Any, x: Array) -> Array:
        return special.erfinv(xp, x)

    def vjp(self, g: Array, y: Array, _x: Array) -> tuple[Grad, ...]:
        return (lambda: g * (f.exp(y * y) * f.like(y, math.sqrt(math.pi) / 2)),)


@op
class Ndtri(Special):
    """The inverse of the standard normal distribution function. Source: PyTorch special.ndtri."""

    def eager(self, xp: Any, x: Array) -> Array:
        return special.ndtri(xp, x)

    def vjp(self, g: Array, y: Array, _x: Array) -> tuple[Grad, ...]:
        density = f.like(y, math.sqrt(2 * math.pi))
        return (lambda: g * (f.exp(y * y * f.like(y, 0.5)) * density),)


@op
class LogNdtr(Special):
    """The logarithm of the standard normal distribution function.

    Source: PyTorch special.log_ndtr.
    """

    def eager(self, xp: Any, x: Array) -> Array:
        return special.log_ndtr(xp, x)

    def vjp(self, g: Array, _y: Array, x: Array) -> tuple[Grad, ...]:
        def slope() -> Array:
            # The density over the distribution function, neither of which is taken alone.
            return f.like(x, math.sqrt(2 / math.pi)) / Erfcx()(x * f.like(x, -math.sqrt(0.5)))

        return (lambda: g * slope(),)


@op
class Entr(Special):
    """-x log(x); 0 at 0, -inf below. Source: PyTorch special.entr."""

    def eager(self, xp: Any, x: Array) -> Array:
        safe = xp.where(x > 0, x, xp.ones((), x.dtype))
        y = -safe * xp.log(safe)
        below = xp.where(x < 0, xp.asarray(-math.inf, x.dtype), y)
        return xp.where(x == x, below, x)

    def vjp(self, g: Array, _y: Array, x: Array) -> tuple[Grad, ...]:
        return (lambda: -g * (f.log(x) + f.like(x, 1)),)


# -- gamma functions ------------------------------------------------------------------------------


@op
class Lgamma(Special):
    """log |gamma(x)|; infinite at 0, -1, -2, ... Source: PyTorch lgamma."""

    def eager(self, xp: Any, x: Array) -> Array:
        return gamma.lgamma(xp, x)

    def vjp(self, g: Array, _y: Array, x: Array) -> tuple[Grad, ...]:
        return (lambda: g * Polygamma(0)(x),)


@op
class Polygamma(Special):
    """The n-th derivative of digamma, which is the derivative of log gamma.

    Digamma is infinite at 0 and NaN at -1, -2, ...; its derivatives are infinite at all of these.
    Source: PyTorch polygamma.
    """

    n: int

    def infer(self, x: TensorType) -> TensorType:
        if self.n < 0:
            raise ArgumentError("polygamma(n, x) does not support negative n.")
        return Special.infer(self, x)

    def eager(self, xp: Any, x: Array) -> Array:
        return gamma.polygamma(xp, self.n, x)

    def vjp(self, g: Array, _y: Array, x: Array) -> tuple[Grad, ...]:
        return (lambda: g * Polygamma(self.n + 1)(x),)


@op
class Zeta(Special):
    """Hurwitz's zeta function, the sum of (q + k)**-s over k; no gradient of s.

    Source: PyTorch special.zeta.
    """

    def eager(self, xp: Any, s: Array, q: Array) -> Array:
        return gamma.zeta(xp, s, q)

    def vjp(self, g: Array, _y: Array, s: Array, q: Array) -> tuple[Grad, ...]:
        return (None, lambda: f.unbroadcast(-g * s * Zeta()(s + f.like(s, 1), q), q.shape))


def _gamma_density(a: Array, x: Array) -> Array:
    """x**(a - 1) exp(-x) / gamma(a), the slope of P(a, x)."""
    return f.exp((a - f.like(a, 1)) * f.log(x) - x - Lgamma()(a))


@op
class Igamma(Special):
    """The regularised lower incomplete gamma function P(a, x); no gradient of a.

    Source: PyTorch igamma.
    """

    def eager(self, xp: Any, a: Array, x: Array) -> Array:
        return incomplete_gamma.lower(xp, a, x)

    def vjp(self, g: Array, _y: Array, a: Array, x: Array) -> tuple[Grad, ...]:
        return None, lambda: f.unbroadcast(g * _gamma_density(a, x), x.shape)


@op
class Igammac(Special):
    """The regularised upper incomplete gamma function Q(a, x); no gradient of a.

    Source: PyTorch igammac.
    """

    def eager(self, xp: Any, a: Array, x: Array) -> Array:
        return incomplete_gamma.upper(xp, a, x)

    def vjp(self, g: Array, _y: Array, a: Array, x: Array) -> tuple[Grad, ...]:
        return None, lambda: f.unbroadcast(-g * _gamma_density(a, x), x.shape)


# -- polynomials ----------------------------------------------------------------------------------


@op
class Polynomial(Special):
    """The orthogonal polynomial of `family` and of degree n, rounded towards zero, at x.

    Families: chebyshev_t, _u, _v, _w and the shifted ones, of 2 x - 1; hermite_h, hermite_he,
    laguerre_l, legendre_p. 0 for n < 0. Not differentiable. Source: PyTorch special.*_polynomial_*.
    """

    family: str

    def infer(self, *inputs: TensorType) -> TensorType:
        if self.family not in polynomials.FAMILIES:
            raise ArgumentError(f"polynomial: there is no family {self.family!r}")
        return Special.infer(self, *inputs)

    def eager(self, xp: Any, x: Array, n: Array) -> Array:
        return polynomials.polynomial(xp, self.family, x, n)
