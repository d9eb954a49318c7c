"""Distributions of real numbers."""

from __future__ import annotations

import math
from typing import Any

import dualgraph as dg
from dualgraph._tensor import Tensor

from .distribution import Distribution, as_parameters

__all__ = ["Exponential", "Laplace", "LogNormal", "Normal", "Uniform"]

_HALF_LOG_TAU = 0.5 * math.log(2 * math.pi)


def _is_real(value: Tensor) -> Any:
    return lambda: value == value


class Normal(Distribution):
    """The normal distribution with mean `loc` and standard deviation `scale`.

    Source: torch.distributions.Normal.
    """

    has_rsample = True
    _parameters = ("loc", "scale")

    def __init__(self, loc: Any, scale: Any, validate_args: bool | None = None) -> None:
        shape, (self.loc, self.scale) = as_parameters(loc, scale)
        super().__init__(shape, validate_args=validate_args)
        self._check(lambda: self.loc == self.loc, "the parameter loc", "real numbers")
        self._check(lambda: self.scale > 0, "the parameter scale", "positive numbers")

    @property
    def mean(self) -> Tensor:
        return self.loc

    @property
    def mode(self) -> Tensor:
        return self.loc

    @property
    def stddev(self) -> Tensor:
        return self.scale

    @property
    def variance(self) -> Tensor:
        return self.scale**2

    def expand(self, batch_shape: Any) -> Normal:
        return self._expanded(batch_shape)

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        shape = self._extended_shape(sample_shape)
        noise = dg.randn(shape, dtype=self.loc.dtype, device=self.loc.device)
        return self.loc + noise * self.scale

    def log_prob(self, value: Tensor) -> Tensor:
        self._check(_is_real(value), "value", "real numbers")
        distance = (value - self.loc) / self.scale
        return -0.5 * distance * distance - self.scale.log() - _HALF_LOG_TAU

    def cdf(self, value: Tensor) -> Tensor:
        return 0.5 * (1 + dg.erf((value - self.loc) / (self.scale * math.sqrt(2))))

    def icdf(self, value: Tensor) -> Tensor:
        return self.loc + self.scale * dg.erfinv(2 * value - 1) * math.sqrt(2)

    def entropy(self) -> Tensor:
        return 0.5 + _HALF_LOG_TAU + self.scale.log()


class LogNormal(Distribution):
    """The distribution of the exponential of a normal number with mean `loc` and `scale`.

    Source: torch.distributions.LogNormal.
    """

    has_rsample = True
    _parameters = ("loc", "scale")

    def __init__(self, loc: Any, scale: Any, validate_args: bool | None = None) -> None:
        shape, (self.loc, self.scale) = as_parameters(loc, scale)
        super().__init__(shape, validate_args=validate_args)
        self._check(lambda: self.scale > 0, "the parameter scale", "positive numbers")

    @property
    def _normal(self) -> Normal:
        return Normal(self.loc, self.scale, validate_args=False)

    @property
    def mean(self) -> Tensor:
        return (self.loc + self.scale**2 / 2).exp()

    @property
    def mode(self) -> Tensor:
        return (self.loc - self.scale**2).exp()

    @property
    def variance(self) -> Tensor:
        square = self.scale**2
        return square.expm1() * (2 * self.loc + square).exp()

    def expand(self, batch_shape: Any) -> LogNormal:
        return self._expanded(batch_shape)

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        return self._normal.rsample(sample_shape).exp()

    def log_prob(self, value: Tensor) -> Tensor:
        self._check(lambda: value > 0, "value", "positive numbers")
        logarithm = value.log()
        return self._normal.log_prob(logarithm) - logarithm

    def cdf(self, value: Tensor) -> Tensor:
        return self._normal.cdf(value.log())

    def icdf(self, value: Tensor) -> Tensor:
        return self._normal.icdf(value).exp()

    def entropy(self) -> Tensor:
        return self._normal.entropy() + self.loc


class Uniform(Distribution):
    """Numbers from `low` to `high`, all equally probable.

    Source: torch.distributions.Uniform.
    """

    has_rsample = True
    _parameters = ("low", "high")

    def __init__(self, low: Any, high: Any, validate_args: bool | None = None) -> None:
        shape, (self.low, self.high) = as_parameters(low, high)
        super().__init__(shape, validate_args=validate_args)
        self._check(lambda: self.low < self.high, "the parameter low", "less than high")

    @property
    def mean(self) -> Tensor:
        return (self.high + self.low) / 2

    @property
    def mode(self) -> Tensor:
        return dg.full_like(self.high, float("nan"))

    @property
    def stddev(self) -> Tensor:
        return (self.high - self.low) / math.sqrt(12)

    @property
    def variance(self) -> Tensor:
        return (self.high - self.low) ** 2 / 12

    def expand(self, batch_shape: Any) -> Uniform:
        return self._expanded(batch_shape)

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        shape = self._extended_shape(sample_shape)
        drawn = dg.rand(shape, dtype=self.low.dtype, device=self.low.device)
        return self.low + drawn * (self.high - self.low)

    def log_prob(self, value: Tensor) -> Tensor:
        self._check(
            lambda: (value >= self.low) & (value <= self.high), "value", "numbers in [low, high]"
        )
        inside = ((value >= self.low) & (value < self.high)).to(self.low.dtype)
        return inside.log() - (self.high - self.low).log()

    def cdf(self, value: Tensor) -> Tensor:
        return ((value - self.low) / (self.high - self.low)).clamp(0, 1)

    def icdf(self, value: Tensor) -> Tensor:
        return value * (self.high - self.low) + self.low

    def entropy(self) -> Tensor:
        return (self.high - self.low).log()


class Exponential(Distribution):
    """Waiting times of events that happen at `rate`.

    Source: torch.distributions.Exponential.
    """

    has_rsample = True
    _parameters = ("rate",)

    def __init__(self, rate: Any, validate_args: bool | None = None) -> None:
        shape, (self.rate,) = as_parameters(rate)
        super().__init__(shape, validate_args=validate_args)
        self._check(lambda: self.rate > 0, "the parameter rate", "positive numbers")

    @property
    def mean(self) -> Tensor:
        return self.rate.reciprocal()

    @property
    def mode(self) -> Tensor:
        return dg.zeros_like(self.rate)

    @property
    def stddev(self) -> Tensor:
        return self.rate.reciprocal()

    @property
    def variance(self) -> Tensor:
        return self.rate**-2

    def expand(self, batch_shape: Any) -> Exponential:
        return self._expanded(batch_shape)

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        shape = self._extended_shape(sample_shape)
        drawn = dg.rand(shape, dtype=self.rate.dtype, device=self.rate.device)
        return -(-drawn).log1p() / self.rate

    def log_prob(self, value: Tensor) -> Tensor:
        self._check(lambda: value >= 0, "value", "numbers from 0 on")
        return self.rate.log() - self.rate * value

    def cdf(self, value: Tensor) -> Tensor:
        return 1 - (-self.rate * value).exp()

    def icdf(self, value: Tensor) -> Tensor:
        return -(-value).log1p() / self.rate

    def entropy(self) -> Tensor:
        return 1 - self.rate.log()


class Laplace(Distribution):
    """Two exponential tails of width `scale` around `loc`.

    Source: torch.distributions.Laplace.
    """

    has_rsample = True
    _parameters = ("loc", "scale")

    def __init__(self, loc: Any, scale: Any, validate_args: bool | None = None) -> None:
        shape, (self.loc, self.scale) = as_parameters(loc, scale)
        super().__init__(shape, validate_args=validate_args)
        self._check(lambda: self.scale > 0, "the parameter scale", "positive numbers")

    @property
    def mean(self) -> Tensor:
        return self.loc

    @property
    def mode(self) -> Tensor:
        return self.loc

    @property
    def stddev(self) -> Tensor:
        return math.sqrt(2) * self.scale

    @property
    def variance(self) -> Tensor:
        return 2 * self.scale**2

    def expand(self, batch_shape: Any) -> Laplace:
        return self._expanded(batch_shape)

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        shape = self._extended_shape(sample_shape)
        drawn = dg.rand(shape, dtype=self.loc.dtype, device=self.loc.device)
        return self.icdf(drawn.clamp(min=dg.finfo(drawn.dtype).tiny))

    def log_prob(self, value: Tensor) -> Tensor:
        self._check(_is_real(value), "value", "real numbers")
        return -(2 * self.scale).log() - (value - self.loc).abs() / self.scale

    def cdf(self, value: Tensor) -> Tensor:
        distance = value - self.loc
        return 0.5 - 0.5 * distance.sign() * (-distance.abs() / self.scale).expm1()

    def icdf(self, value: Tensor) -> Tensor:
        half = value - 0.5
        return self.loc - self.scale * half.sign() * (-2 * half.abs()).log1p()

    def entropy(self) -> Tensor:
        return 1 + (2 * self.scale).log()
