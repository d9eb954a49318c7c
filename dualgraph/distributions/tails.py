"""Distributions by the inverse of their distribution function, most of them with heavy tails."""

from __future__ import annotations

import math
from typing import Any

import dualgraph as dg
from dualgraph._tensor import Tensor

from .continuous import Normal
from .distribution import Distribution, as_parameters

__all__ = [
    "Cauchy",
    "Gumbel",
    "HalfCauchy",
    "HalfNormal",
    "Kumaraswamy",
    "Pareto",
    "Weibull",
]

_EULER = 0.57721566490153286


def _uniform(d: Distribution, like: Tensor, sample_shape: Any) -> Tensor:
    """Uniform numbers within (0, 1), without its ends."""
    limits = dg.finfo(like.dtype)
    u = dg.rand(d._extended_shape(sample_shape), dtype=like.dtype, device=like.device)
    return u.clamp(min=limits.tiny)


def _positive(d: Distribution, *names: str) -> None:
    for name in names:
        value = getattr(d, name)
        d._check(lambda v=value: v > 0, f"the parameter {name}", "positive numbers")


class Cauchy(Distribution):
    """The Cauchy distribution, half of which is within `scale` of `loc`.

    Source: torch.distributions.Cauchy.
    """

    has_rsample = True
    _parameters = ("loc", "scale")

    def __init__(self, loc: Any, scale: Any, validate_args: bool | None = None) -> None:
        shape, (self.loc, self.scale) = as_parameters(loc, scale)
        super().__init__(shape, validate_args=validate_args)
        _positive(self, "scale")

    @property
    def mean(self) -> Tensor:
        return dg.full_like(self.loc, math.nan)

    @property
    def mode(self) -> Tensor:
        return self.loc

    @property
    def variance(self) -> Tensor:
        return dg.full_like(self.loc, math.inf)

    def expand(self, batch_shape: Any) -> Any:
        return self._expanded(batch_shape)

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        u = _uniform(self, self.loc, sample_shape)
        return self.loc + ((u - 0.5) * math.pi).tan() * self.scale

    def log_prob(self, value: Tensor) -> Tensor:
        y = (value - self.loc) / self.scale
        return -math.log(math.pi) - self.scale.log() - (y * y).log1p()

    def cdf(self, value: Tensor) -> Tensor:
        return ((value - self.loc) / self.scale).atan() / math.pi + 0.5

    def icdf(self, value: Tensor) -> Tensor:
        return (math.pi * (value - 0.5)).tan() * self.scale + self.loc

    def entropy(self) -> Tensor:
        return math.log(4 * math.pi) + self.scale.log()


class _Magnitude(Distribution):
    """The magnitude of a variable that is distributed around 0, the same on both sides."""

    has_rsample = True
    _parameters = ("scale",)
    scale: Tensor

    def __init__(self, scale: Any, validate_args: bool | None = None) -> None:
        shape, (self.scale,) = as_parameters(scale)
        super().__init__(shape, validate_args=validate_args)
        _positive(self, "scale")

    @property
    def _whole(self) -> Distribution:
        """The distribution of the variable itself."""
        raise NotImplementedError

    @property
    def mode(self) -> Tensor:
        return dg.zeros_like(self.scale)

    def expand(self, batch_shape: Any) -> Any:
        return self._expanded(batch_shape)

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        return self._whole.rsample(sample_shape).abs()

    def log_prob(self, value: Tensor) -> Tensor:
        self._check(lambda: value >= 0, "value", "numbers from 0 on")
        found = self._whole.log_prob(value) + math.log(2)
        return found.masked_fill(value < 0, -math.inf)

    def cdf(self, value: Tensor) -> Tensor:
        return 2 * self._whole.cdf(value) - 1

    def icdf(self, value: Tensor) -> Tensor:
        return self._whole.icdf((value + 1) / 2)

    def entropy(self) -> Tensor:
        return self._whole.entropy() - math.log(2)


class HalfCauchy(_Magnitude):
    """The magnitude of a Cauchy variable around 0. Source: torch.distributions.HalfCauchy."""

    @property
    def _whole(self) -> Cauchy:
        return Cauchy(0.0, self.scale, validate_args=False)

    @property
    def mean(self) -> Tensor:
        return dg.full_like(self.scale, math.inf)

    @property
    def variance(self) -> Tensor:
        return dg.full_like(self.scale, math.inf)


class HalfNormal(_Magnitude):
    """The magnitude of a normal variable around 0. Source: torch.distributions.HalfNormal."""

    @property
    def _whole(self) -> Normal:
        return Normal(0.0, self.scale, validate_args=False)

    @property
    def mean(self) -> Tensor:
        return self.scale * math.sqrt(2 / math.pi)

    @property
    def variance(self) -> Tensor:
        return self.scale**2 * (1 - 2 / math.pi)


class Gumbel(Distribution):
    """The distribution of extremes, with mode `loc`. Source: torch.distributions.Gumbel."""

    has_rsample = True
    _parameters = ("loc", "scale")

    def __init__(self, loc: Any, scale: Any, validate_args: bool | None = None) -> None:
        shape, (self.loc, self.scale) = as_parameters(loc, scale)
        super().__init__(shape, validate_args=validate_args)
        _positive(self, "scale")

    @property
    def mean(self) -> Tensor:
        return self.loc + self.scale * _EULER

    @property
    def mode(self) -> Tensor:
        return self.loc

    @property
    def variance(self) -> Tensor:
        return self.stddev**2

    @property
    def stddev(self) -> Tensor:
        return math.pi / math.sqrt(6) * self.scale

    def expand(self, batch_shape: Any) -> Any:
        return self._expanded(batch_shape)

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        u = _uniform(self, self.loc, sample_shape)
        # Of 1 - u, since u may be so near 1 that its logarithm is 0.
        return self.loc - self.scale * (-(-u).log1p()).log()

    def log_prob(self, value: Tensor) -> Tensor:
        y = (self.loc - value) / self.scale
        return y - y.exp() - self.scale.log()

    def cdf(self, value: Tensor) -> Tensor:
        return (-((self.loc - value) / self.scale).exp()).exp()

    def icdf(self, value: Tensor) -> Tensor:
        return self.loc - self.scale * (-value.log()).log()

    def entropy(self) -> Tensor:
        return self.scale.log() + (1 + _EULER)


class Weibull(Distribution):
    """Weibull's distribution of this `scale` and shape `concentration`.

    Source: torch.distributions.Weibull.
    """

    has_rsample = True
    _parameters = ("scale", "concentration")

    def __init__(self, scale: Any, concentration: Any, validate_args: bool | None = None) -> None:
        shape, (self.scale, self.concentration) = as_parameters(scale, concentration)
        super().__init__(shape, validate_args=validate_args)
        _positive(self, *self._parameters)

    @property
    def _power(self) -> Tensor:
        return 1 / self.concentration

    @property
    def mean(self) -> Tensor:
        return self.scale * (1 + self._power).lgamma().exp()

    @property
    def mode(self) -> Tensor:
        return self.scale * ((self.concentration - 1) / self.concentration) ** self._power

    @property
    def variance(self) -> Tensor:
        second = (1 + 2 * self._power).lgamma().exp()
        return self.scale**2 * (second - (2 * (1 + self._power).lgamma()).exp())

    def expand(self, batch_shape: Any) -> Any:
        return self._expanded(batch_shape)

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        u = _uniform(self, self.scale, sample_shape)
        return self.scale * (-(-u).log1p()) ** self._power

    def log_prob(self, value: Tensor) -> Tensor:
        self._check(lambda: value > 0, "value", "positive numbers")
        k, y = self.concentration, value / self.scale
        return k.log() - self.scale.log() + (k - 1) * y.log() - y**k

    def cdf(self, value: Tensor) -> Tensor:
        return -(-((value / self.scale) ** self.concentration)).expm1()

    def icdf(self, value: Tensor) -> Tensor:
        return self.scale * (-(-value).log1p()) ** self._power

    def entropy(self) -> Tensor:
        return _EULER * (1 - self._power) + (self.scale * self._power).log() + 1


class Pareto(Distribution):
    """Numbers above `scale` whose tail falls with the power `alpha`.

    Source: torch.distributions.Pareto.
    """

    has_rsample = True
    _parameters = ("scale", "alpha")

    def __init__(self, scale: Any, alpha: Any, validate_args: bool | None = None) -> None:
        shape, (self.scale, self.alpha) = as_parameters(scale, alpha)
        super().__init__(shape, validate_args=validate_args)
        _positive(self, *self._parameters)

    @property
    def mean(self) -> Tensor:
        a = self.alpha.clamp(min=1)
        return a * self.scale / (a - 1)

    @property
    def mode(self) -> Tensor:
        return self.scale

    @property
    def variance(self) -> Tensor:
        a = self.alpha.clamp(min=2)
        return self.scale**2 * a / ((a - 1) ** 2 * (a - 2))

    def expand(self, batch_shape: Any) -> Any:
        return self._expanded(batch_shape)

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        u = _uniform(self, self.scale, sample_shape)
        return self.scale * (-(-u).log1p() / self.alpha).exp()

    def log_prob(self, value: Tensor) -> Tensor:
        self._check(lambda: value >= self.scale, "value", "numbers from scale on")
        a = self.alpha
        return a.log() + a * self.scale.log() - (a + 1) * value.log()

    def cdf(self, value: Tensor) -> Tensor:
        return 1 - (self.scale / value) ** self.alpha

    def icdf(self, value: Tensor) -> Tensor:
        return self.scale * (1 - value) ** (-1 / self.alpha)

    def entropy(self) -> Tensor:
        return (self.scale / self.alpha).log() + (1 + self.alpha.reciprocal())


class Kumaraswamy(Distribution):
    """Numbers between 0 and 1, much like `Beta`'s. Source: torch.distributions.Kumaraswamy."""

    has_rsample = True
    _parameters = ("concentration1", "concentration0")

    def __init__(
        self, concentration1: Any, concentration0: Any, validate_args: bool | None = None
    ) -> None:
        shape, (self.concentration1, self.concentration0) = as_parameters(
            concentration1, concentration0
        )
        super().__init__(shape, validate_args=validate_args)
        _positive(self, *self._parameters)

    def _moment(self, n: int) -> Tensor:
        a, b = self.concentration1, self.concentration0
        first = 1 + n / a
        return (first.lgamma() + b.lgamma() - (first + b).lgamma()).exp() * b

    @property
    def mean(self) -> Tensor:
        return self._moment(1)

    @property
    def mode(self) -> Tensor:
        a, b = self.concentration1, self.concentration0
        inner = (a.reciprocal() * (-b).log1p() - (-a * b).log1p()).exp()
        return inner.masked_fill((a < 1) | (b < 1), math.nan)

    @property
    def variance(self) -> Tensor:
        return self._moment(2) - self.mean**2

    def expand(self, batch_shape: Any) -> Any:
        return self._expanded(batch_shape)

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        u = _uniform(self, self.concentration1, sample_shape)
        # 1 - u**(1/b), without cancellation, to the power 1/a.
        inner = -(u.log() / self.concentration0).expm1()
        limits = dg.finfo(u.dtype)
        return (inner ** (1 / self.concentration1)).clamp(limits.tiny, 1 - limits.eps)

    def log_prob(self, value: Tensor) -> Tensor:
        self._check(lambda: (value >= 0) & (value <= 1), "value", "numbers in [0, 1]")
        a, b = self.concentration1, self.concentration0
        return a.log() + b.log() + (a - 1) * value.log() + (b - 1) * (-(value**a)).log1p()

    def cdf(self, value: Tensor) -> Tensor:
        return 1 - (1 - value**self.concentration1) ** self.concentration0

    def icdf(self, value: Tensor) -> Tensor:
        inner = 1 - (1 - value) ** (1 / self.concentration0)
        return inner ** (1 / self.concentration1)

    def entropy(self) -> Tensor:
        a, b = self.concentration1, self.concentration0
        harmonic = (b + 1).digamma() + _EULER
        return (1 - 1 / b) + (1 - 1 / a) * harmonic - a.log() - b.log()
