"""Angles, and other distributions that stand alone."""

from __future__ import annotations

import math
from typing import Any

import dualgraph as dg
from dualgraph._tensor import Tensor
from dualgraph.autograd.grad_mode import no_grad

from .continuous import Normal
from .distribution import Distribution, as_parameters
from .gamma import standard_gamma
from .matrix_transforms import StickBreakingTransform
from .transformed import TransformedDistribution

__all__ = ["FisherSnedecor", "LogisticNormal", "VonMises"]

# At least 66 % of proposals are accepted: of twenty, all are refused once in 2e9 draws.
_PROPOSALS = 20


class VonMises(Distribution):
    """Angles in [-pi, pi) around `loc`, the closer the larger the `concentration`.

    Source: torch.distributions.VonMises; sampled as D. J. Best and N. I. Fisher (1979) do, by the
    first accepted of twenty proposals.
    """

    _parameters = ("loc", "concentration")

    def __init__(self, loc: Any, concentration: Any, validate_args: bool | None = None) -> None:
        shape, (self.loc, self.concentration) = as_parameters(loc, concentration)
        super().__init__(shape, validate_args=validate_args)
        k = self.concentration
        self._check(lambda: k > 0, "the parameter concentration", "positive numbers")

    @property
    def mean(self) -> Tensor:
        return self.loc

    @property
    def mode(self) -> Tensor:
        return self.loc

    @property
    def variance(self) -> Tensor:
        """The circular variance: 1 minus the expected cosine of the distance from `loc`."""
        return 1 - dg.special.i1e(self.concentration) / dg.special.i0e(self.concentration)

    def expand(self, batch_shape: Any) -> Any:
        return self._expanded(batch_shape)

    def sample(self, sample_shape: Any = ()) -> Tensor:
        with no_grad():
            shape = self._extended_shape(sample_shape)
            k = self.concentration.double()
            tau = 1 + (1 + 4 * k * k).sqrt()
            rho = (tau - (2 * tau).sqrt()) / (2 * k)
            # The limit for small k, where rho is a difference of two that are nearly equal.
            r = ((1 + rho * rho) / (2 * rho)).where(k > 1e-5, 1 / k + k)
            u = dg.rand(3, _PROPOSALS, *shape, dtype=dg.float64, device=k.device)
            z = (u[0] * math.pi).cos()
            w = (1 + r * z) / (r + z)
            c = k * (r - w)
            accepted = (c * (2 - c) - u[1] > 0) | ((c / u[1]).log() + 1 - c >= 0)
            first = accepted.to(dg.int64).argmax(0, keepdim=True)
            cosine, side = (v.gather(0, first).squeeze(0) for v in (w, u[2] - 0.5))
            angle = side.sign() * cosine.clamp(-1, 1).acos() + self.loc.double()
            return ((angle + math.pi) % (2 * math.pi) - math.pi).to(self.loc.dtype)

    def log_prob(self, value: Tensor) -> Tensor:
        self._check(lambda: value == value, "value", "real numbers")
        k = self.concentration
        # log I_0(k) is k + log of the scaled function.
        return k * ((value - self.loc).cos() - 1) - math.log(2 * math.pi) - dg.special.i0e(k).log()


class FisherSnedecor(Distribution):
    """The ratio of two chi-squared variables, each divided by its degrees of freedom.

    Source: torch.distributions.FisherSnedecor.
    """

    has_rsample = True
    _parameters = ("df1", "df2")

    def __init__(self, df1: Any, df2: Any, validate_args: bool | None = None) -> None:
        shape, (self.df1, self.df2) = as_parameters(df1, df2)
        super().__init__(shape, validate_args=validate_args)
        for name in self._parameters:
            value = getattr(self, name)
            self._check(lambda v=value: v > 0, f"the parameter {name}", "positive numbers")

    @property
    def mean(self) -> Tensor:
        return (self.df2 / (self.df2 - 2)).masked_fill(self.df2 <= 2, math.nan)

    @property
    def mode(self) -> Tensor:
        found = (self.df1 - 2) / self.df1 * self.df2 / (self.df2 + 2)
        return found.masked_fill(self.df1 <= 2, math.nan)

    @property
    def variance(self) -> Tensor:
        a, b = self.df1, self.df2.masked_fill(self.df2 <= 4, math.nan)
        return 2 * b**2 * (a + b - 2) / (a * (b - 2) ** 2 * (b - 4))

    def expand(self, batch_shape: Any) -> Any:
        return self._expanded(batch_shape)

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        shape = self._extended_shape(sample_shape)
        top, bottom = (standard_gamma((df / 2).expand(shape)) / df for df in (self.df1, self.df2))
        return top / bottom

    def log_prob(self, value: Tensor) -> Tensor:
        self._check(lambda: value > 0, "value", "positive numbers")
        a, b = self.df1 / 2, self.df2 / 2
        ratio = self.df1 / self.df2
        size = (a + b).lgamma() - a.lgamma() - b.lgamma()
        return size + a * ratio.log() + (a - 1) * value.log() - (a + b) * (ratio * value).log1p()


class LogisticNormal(TransformedDistribution):
    """Points of the simplex, out of normal numbers by stick breaking.

    Shapes: loc and scale [*batch, K - 1]; samples [*sample_shape, *batch, K].

    Source: torch.distributions.LogisticNormal.
    """

    def __init__(self, loc: Any, scale: Any, validate_args: bool | None = None) -> None:
        base = Normal(loc, scale, validate_args)
        if not base.batch_shape:
            base = base.expand((1,))
        super().__init__(base, StickBreakingTransform(), validate_args)

    @property
    def loc(self) -> Tensor:
        """The means of the normal numbers."""
        return self.base_dist.base_dist.loc  # type: ignore[attr-defined]

    @property
    def scale(self) -> Tensor:
        """Their standard deviations."""
        return self.base_dist.base_dist.scale  # type: ignore[attr-defined]
