"""Bessel functions of orders 0 and 1, and the Airy function.

Those that PyTorch differentiates (i0, i0e, i1, i1e) have gradients; the others have none there
either. ONNX has no operators for them.
"""

from __future__ import annotations

from typing import Any

from ..kernels import bessel
from . import f
from .base import Array, Grad, op
from .extremum import Sign
from .special import Special


@op
class I0(Special):
    """The modified Bessel function of the first kind of order 0. Source: PyTorch i0."""

    def eager(self, xp: Any, x: Array) -> Array:
        return bessel.i0(xp, x)

    def vjp(self, g: Array, _y: Array, x: Array) -> tuple[Grad, ...]:
        return (lambda: g * I1()(x),)


@op
class I0e(Special):
    """exp(-|x|) I_0(x). Source: PyTorch special.i0e."""

    def eager(self, xp: Any, x: Array) -> Array:
        return bessel.i0e(xp, x)

    def vjp(self, g: Array, y: Array, x: Array) -> tuple[Grad, ...]:
        return (lambda: g * (I1e()(x) - Sign()(x) * y),)


def _over(y: Array, x: Array) -> Array:
    """Y / x, and its limit 1/2 where x is 0."""
    zero = f.equal(x, 0)
    return f.where(zero, 0.5, y / f.where(zero, 1, x))


@op
class I1(Special):
    """The modified Bessel function of the first kind of order 1. Source: PyTorch special.i1."""

    def eager(self, xp: Any, x: Array) -> Array:
        return bessel.i1(xp, x)

    def vjp(self, g: Array, y: Array, x: Array) -> tuple[Grad, ...]:
        return (lambda: g * (I0()(x) - _over(y, x)),)


@op
class I1e(Special):
    """exp(-|x|) I_1(x). Source: PyTorch special.i1e."""

    def eager(self, xp: Any, x: Array) -> Array:
        return bessel.i1e(xp, x)

    def vjp(self, g: Array, y: Array, x: Array) -> tuple[Grad, ...]:
        return (lambda: g * (I0e()(x) - Sign()(x) * y - _over(y, x)),)


@op
class BesselJ0(Special):
    """The Bessel function of the first kind of order 0. Source: PyTorch special.bessel_j0."""

    def eager(self, xp: Any, x: Array) -> Array:
        return bessel.j0(xp, x)


@op
class BesselJ1(Special):
    """The Bessel function of the first kind of order 1. Source: PyTorch special.bessel_j1."""

    def eager(self, xp: Any, x: Array) -> Array:
        return bessel.j1(xp, x)


@op
class BesselY0(Special):
    """The Bessel function of the second kind of order 0. Source: PyTorch special.bessel_y0."""

    def eager(self, xp: Any, x: Array) -> Array:
        return bessel.y0(xp, x)


@op
class BesselY1(Special):
    """The Bessel function of the second kind of order 1. Source: PyTorch special.bessel_y1."""

    def eager(self, xp: Any, x: Array) -> Array:
        return bessel.y1(xp, x)


@op
class BesselK0(Special):
    """The modified Bessel function of the second kind of order 0; exp(x) K_0(x) if `scaled`.

    Source: PyTorch special.modified_bessel_k0, special.scaled_modified_bessel_k0.
    """

    scaled: bool = False

    def eager(self, xp: Any, x: Array) -> Array:
        return (bessel.k0e if self.scaled else bessel.k0)(xp, x)


@op
class BesselK1(Special):
    """The modified Bessel function of the second kind of order 1; exp(x) K_1(x) if `scaled`.

    Source: PyTorch special.modified_bessel_k1, special.scaled_modified_bessel_k1.
    """

    scaled: bool = False

    def eager(self, xp: Any, x: Array) -> Array:
        return (bessel.k1e if self.scaled else bessel.k1)(xp, x)


@op
class AiryAi(Special):
    """The Airy function Ai. Source: PyTorch special.airy_ai."""

    def eager(self, xp: Any, x: Array) -> Array:
        return bessel.airy_ai(xp, x)
