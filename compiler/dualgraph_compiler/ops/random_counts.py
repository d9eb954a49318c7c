"""Random variables as pointwise functions of uniform numbers, which :mod:`.random` draws."""

from __future__ import annotations

from typing import Any

from ..kernels import counts, incomplete_gamma
from . import f
from .base import Array, Grad, op
from .special import Special


@op
class PoissonOf(Special):
    """The Poisson variable of a rate that u in [0, 1) stands for; the gradient is zero.

    NaN for rates below 0. Source: torch.poisson; the method in :mod:`..kernels.counts`.
    """

    def eager(self, xp: Any, u: Array, rate: Array) -> Array:
        return counts.poisson(xp, u, rate)

    def vjp(self, g: Array, _y: Array, _u: Array, _rate: Array) -> tuple[Grad, ...]:
        return tuple(lambda x=x: f.zeros(g, x.shape) for x in (_u, _rate))


@op
class BinomialOf(Special):
    """Successes among `count` trials of probability `p` that u in [0, 1) stands for.

    NaN for a count below 0 and a p outside [0, 1]; the gradient is zero. Source: torch.binomial.
    """

    def eager(self, xp: Any, u: Array, count: Array, p: Array) -> Array:
        return counts.binomial(xp, u, count, p)

    def vjp(self, g: Array, _y: Array, _u: Array, _count: Array, _p: Array) -> tuple[Grad, ...]:
        return tuple(lambda x=x: f.zeros(g, x.shape) for x in (_u, _count, _p))


@op
class StandardGammaSlope(Special):
    """dx/da of a gamma variable x of shape a and scale 1 whose probability P(a, x) stays.

    That is -dP/da over the density; not differentiable. Source: M. Figurnov, S. Mohamed, A. Mnih,
    "Implicit reparameterization gradients" (2018).
    """

    def eager(self, xp: Any, a: Array, x: Array) -> Array:
        return incomplete_gamma.standard_gamma_slope(xp, a, x)
