"""The gamma distribution and those made of gamma variables."""

from __future__ import annotations

import math
from typing import Any

import dualgraph as dg
from dualgraph._dispatch import apply
from dualgraph._tensor import Tensor
from dualgraph.autograd.grad_mode import no_grad
from dualgraph_compiler.ops.random_counts import StandardGammaSlope

from .distribution import Distribution, as_parameters

__all__ = ["Beta", "Chi2", "Dirichlet", "Gamma", "InverseGamma", "StudentT"]

# Of Marsaglia and Tsang's proposals fewer than one in twenty is refused, of six all in 1e-8.
_PROPOSALS = 6


def standard_gamma(concentration: Tensor) -> Tensor:
    """Gamma variables of rate 1, differentiable: each moves with its shape parameter so that the
    probability of being smaller stays.

    Drawn in float64 by the first accepted of six proposals. Source: G. Marsaglia, W. W. Tsang, "A
    simple method for generating gamma variables" (2000); the gradient: M. Figurnov and others,
    "Implicit reparameterization gradients" (2018).
    """
    dtype = concentration.dtype
    with no_grad():
        a = concentration.detach().double()
        shape, where = tuple(a.shape), a.device
        small = a < 1
        d = (a + small.double()) - 1 / 3
        normal = dg.randn(_PROPOSALS, *shape, dtype=dg.float64, device=where)
        v = (1 + normal / (9 * d).sqrt()) ** 3
        usable = v > 0
        log_v = v.masked_fill(~usable, 1).log()
        u = dg.rand(_PROPOSALS, *shape, dtype=dg.float64, device=where)
        accepted = usable & ((1 - u).log() < normal * normal / 2 + d - d * v + d * log_v)
        first = accepted.to(dg.int64).argmax(0, keepdim=True)
        x = v.gather(0, first).squeeze(0).abs() * d
        # A variable of shape a + 1 times u**(1/a) has shape a.
        u = 1 - dg.rand(shape, dtype=dg.float64, device=where)
        x = x * (u.log() / a).exp().where(small, dg.ones_like(u))
        drawn = x.to(dtype).clamp(min=dg.finfo(dtype).tiny)
        if not concentration.requires_grad:
            return drawn
        slope = apply(StandardGammaSlope(), a, drawn.double()).to(dtype)
    # Zero is added to the value, and the slope to the gradient.
    return drawn + (concentration - concentration.detach()) * slope


class Gamma(Distribution):
    """The gamma distribution of shape `concentration` and inverse scale `rate`.

    Source: torch.distributions.Gamma.
    """

    has_rsample = True
    _parameters: tuple[str, ...] = ("concentration", "rate")

    def __init__(self, concentration: Any, rate: Any, validate_args: bool | None = None) -> None:
        shape, (self.concentration, self.rate) = as_parameters(concentration, rate)
        super().__init__(shape, validate_args=validate_args)
        for name in ("concentration", "rate"):
            value = getattr(self, name)
            self._check(lambda v=value: v > 0, f"the parameter {name}", "positive numbers")

    @property
    def mean(self) -> Tensor:
        return self.concentration / self.rate

    @property
    def mode(self) -> Tensor:
        return ((self.concentration - 1) / self.rate).clamp(min=0)

    @property
    def variance(self) -> Tensor:
        return self.concentration / self.rate**2

    def expand(self, batch_shape: Any) -> Any:
        return self._expanded(batch_shape)

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        shape = self._extended_shape(sample_shape)
        return standard_gamma(self.concentration.expand(shape)) / self.rate

    def log_prob(self, value: Tensor) -> Tensor:
        self._check(lambda: value >= 0, "value", "numbers from 0 on")
        a = self.concentration
        terms = dg.xlogy(a, self.rate) + dg.xlogy(a - 1, value)
        return terms - self.rate * value - a.lgamma()

    def cdf(self, value: Tensor) -> Tensor:
        self._check(lambda: value >= 0, "value", "numbers from 0 on")
        return dg.igamma(self.concentration, self.rate * value)

    def entropy(self) -> Tensor:
        a = self.concentration
        return a - self.rate.log() + a.lgamma() + (1 - a) * a.digamma()


class Chi2(Gamma):
    """The distribution of the sum of `df` squared normal numbers.

    Source: torch.distributions.Chi2.
    """

    def __init__(self, df: Any, validate_args: bool | None = None) -> None:
        _, (half,) = as_parameters(df)
        super().__init__(0.5 * half, 0.5, validate_args)

    @property
    def df(self) -> Tensor:
        """Degrees of freedom."""
        return self.concentration * 2

    def __repr__(self) -> str:
        return f"Chi2({self.df if self.df.numel() == 1 else self.df.size()})"


class InverseGamma(Distribution):
    """The distribution of 1 / x for a gamma variable x.

    Source: torch.distributions.InverseGamma.
    """

    has_rsample = True
    _parameters = ("concentration", "rate")

    def __init__(self, concentration: Any, rate: Any, validate_args: bool | None = None) -> None:
        shape, (self.concentration, self.rate) = as_parameters(concentration, rate)
        super().__init__(shape, validate_args=validate_args)
        self._gamma = Gamma(self.concentration, self.rate, validate_args)

    @property
    def mean(self) -> Tensor:
        a = self.concentration
        return (self.rate / (a - 1)).masked_fill(a <= 1, math.inf)

    @property
    def mode(self) -> Tensor:
        return self.rate / (self.concentration + 1)

    @property
    def variance(self) -> Tensor:
        a = self.concentration
        return (self.rate**2 / ((a - 1) ** 2 * (a - 2))).masked_fill(a <= 2, math.inf)

    def expand(self, batch_shape: Any) -> InverseGamma:
        new = self._expanded(batch_shape)
        new._gamma = self._gamma.expand(batch_shape)
        return new

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        return 1 / self._gamma.rsample(sample_shape)

    def log_prob(self, value: Tensor) -> Tensor:
        self._check(lambda: value > 0, "value", "positive numbers")
        return self._gamma.log_prob(1 / value) - 2 * value.log()

    def cdf(self, value: Tensor) -> Tensor:
        self._check(lambda: value > 0, "value", "positive numbers")
        return dg.igammac(self.concentration, self.rate / value)

    def entropy(self) -> Tensor:
        a = self.concentration
        return a + self.rate.log() + a.lgamma() - (1 + a) * a.digamma()


class Dirichlet(Distribution):
    """Points whose coordinates are positive and sum up to 1.

    Shapes: concentration [*batch, K]; samples [*sample_shape, *batch, K].

    Source: torch.distributions.Dirichlet.
    """

    has_rsample = True
    _parameters = ("concentration",)

    def __init__(self, concentration: Tensor, validate_args: bool | None = None) -> None:
        self.concentration = concentration
        shape = concentration.shape
        super().__init__(shape[:-1], shape[-1:], validate_args)
        self._check(lambda: concentration > 0, "the parameter concentration", "positive numbers")

    @property
    def mean(self) -> Tensor:
        return self.concentration / self.concentration.sum(-1, True)

    @property
    def mode(self) -> Tensor:
        above = (self.concentration - 1).clamp(min=0.0)
        mode = above / above.sum(-1, True)
        # Without a peak inside, PyTorch names the corner of the largest parameter.
        corner = (self.concentration < 1).all(-1, keepdim=True)
        last = dg.arange(self._event_shape[0], device=self.concentration.device)
        best = (last == mode.nan_to_num().argmax(-1, keepdim=True)).to(mode.dtype)
        return best.where(corner, mode)

    @property
    def variance(self) -> Tensor:
        total = self.concentration.sum(-1, True)
        rest = total - self.concentration
        return self.concentration * rest / (total**2 * (total + 1))

    def expand(self, batch_shape: Any) -> Dirichlet:
        return self._expanded(batch_shape, event=1)

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        parts = standard_gamma(self.concentration.expand(self._extended_shape(sample_shape)))
        return parts / parts.sum(-1, True)

    def log_prob(self, value: Tensor) -> Tensor:
        self._check(
            lambda: (value >= 0).all(-1) & ((value.sum(-1) - 1).abs() < 1e-6),
            "value",
            "coordinates that sum up to 1",
        )
        a = self.concentration
        return dg.xlogy(a - 1, value).sum(-1) + a.sum(-1).lgamma() - a.lgamma().sum(-1)

    def entropy(self) -> Tensor:
        a, k = self.concentration, self._event_shape[0]
        total = a.sum(-1)
        spread = a.lgamma().sum(-1) - total.lgamma()
        return spread - (k - total) * total.digamma() - ((a - 1) * a.digamma()).sum(-1)


class Beta(Distribution):
    """Numbers between 0 and 1: the first coordinate of a Dirichlet distribution of two.

    Source: torch.distributions.Beta.
    """

    has_rsample = True
    _parameters = ("concentration1", "concentration0")

    def __init__(
        self, concentration1: Any, concentration0: Any, validate_args: bool | None = None
    ) -> None:
        shape, (self.concentration1, self.concentration0) = as_parameters(
            concentration1, concentration0
        )
        super().__init__(shape, validate_args=validate_args)
        for name in self._parameters:
            value = getattr(self, name)
            self._check(lambda v=value: v > 0, f"the parameter {name}", "positive numbers")

    @property
    def _dirichlet(self) -> Dirichlet:
        pair = dg.stack([self.concentration1, self.concentration0], -1)
        return Dirichlet(pair, validate_args=False)

    @property
    def mean(self) -> Tensor:
        return self.concentration1 / (self.concentration1 + self.concentration0)

    @property
    def mode(self) -> Tensor:
        return self._dirichlet.mode[..., 0]

    @property
    def variance(self) -> Tensor:
        total = self.concentration1 + self.concentration0
        return self.concentration1 * self.concentration0 / (total**2 * (total + 1))

    def expand(self, batch_shape: Any) -> Beta:
        return self._expanded(batch_shape)

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        return self._dirichlet.rsample(sample_shape)[..., 0]

    def log_prob(self, value: Tensor) -> Tensor:
        self._check(lambda: (value >= 0) & (value <= 1), "value", "numbers in [0, 1]")
        return self._dirichlet.log_prob(dg.stack([value, 1 - value], -1))

    def entropy(self) -> Tensor:
        return self._dirichlet.entropy()


class StudentT(Distribution):
    """Student's distribution with `df` degrees of freedom, moved by `loc` and scaled by `scale`.

    Source: torch.distributions.StudentT.
    """

    has_rsample = True
    _parameters = ("df", "loc", "scale")

    def __init__(
        self, df: Any, loc: Any = 0.0, scale: Any = 1.0, validate_args: bool | None = None
    ) -> None:
        shape, (self.df, self.loc, self.scale) = as_parameters(df, loc, scale)
        super().__init__(shape, validate_args=validate_args)
        for name in ("df", "scale"):
            value = getattr(self, name)
            self._check(lambda v=value: v > 0, f"the parameter {name}", "positive numbers")

    @property
    def mean(self) -> Tensor:
        return self.loc.masked_fill(self.df <= 1, math.nan)

    @property
    def mode(self) -> Tensor:
        return self.loc

    @property
    def variance(self) -> Tensor:
        finite = self.scale**2 * self.df / (self.df - 2)
        return finite.masked_fill(self.df <= 2, math.inf).masked_fill(self.df <= 1, math.nan)

    def expand(self, batch_shape: Any) -> StudentT:
        return self._expanded(batch_shape)

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        shape = self._extended_shape(sample_shape)
        normal = dg.randn(shape, dtype=self.df.dtype, device=self.df.device)
        half = 0.5 * self.df
        squares = standard_gamma(half.expand(shape))
        return self.loc + self.scale * normal * (half / squares).sqrt()

    def log_prob(self, value: Tensor) -> Tensor:
        y = (value - self.loc) / self.scale
        half = 0.5 * self.df
        size = self.scale.log() + 0.5 * (self.df.log() + math.log(math.pi))
        size = size + half.lgamma() - (half + 0.5).lgamma()
        return -(half + 0.5) * (y * y / self.df).log1p() - size

    def entropy(self) -> Tensor:
        half = 0.5 * self.df
        beta = half.lgamma() + math.lgamma(0.5) - (half + 0.5).lgamma()
        slope = (half + 0.5).digamma() - half.digamma()
        return self.scale.log() + (half + 0.5) * slope + 0.5 * self.df.log() + beta
