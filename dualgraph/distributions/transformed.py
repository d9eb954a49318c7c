"""Distributions of functions of random variables, mixtures, and relaxed discrete ones."""

from __future__ import annotations

import math
from typing import Any

import dualgraph as dg
from dualgraph._tensor import Tensor
from dualgraph.autograd.grad_mode import no_grad
from dualgraph_compiler.errors import ArgumentError

from .discrete import Bernoulli, Categorical, OverCategorical
from .distribution import Distribution
from .independent import Independent
from .transforms import ComposeTransform, ExpTransform, SigmoidTransform, Transform

__all__ = [
    "ExpRelaxedCategorical",
    "LogitRelaxedBernoulli",
    "MixtureSameFamily",
    "RelaxedBernoulli",
    "RelaxedOneHotCategorical",
    "TransformedDistribution",
]


class TransformedDistribution(Distribution):
    """The distribution of ``t(x)`` for an x of `base_distribution` and one or several transforms.

    Source: torch.distributions.TransformedDistribution.
    """

    def __init__(
        self,
        base_distribution: Distribution,
        transforms: Any,
        validate_args: bool | None = None,
    ) -> None:
        self.transforms = [transforms] if isinstance(transforms, Transform) else list(transforms)
        if not all(isinstance(t, Transform) for t in self.transforms):
            raise ArgumentError("transforms must be a Transform or a list of Transforms")
        whole = ComposeTransform(self.transforms)
        base = base_distribution
        shape = (*base.batch_shape, *base.event_shape)
        if len(shape) < whole.domain_dim:
            raise ArgumentError(
                f"base_distribution needs to have shape with size at least {whole.domain_dim}, "
                f"but got {tuple(shape)}."
            )
        out = whole.forward_shape(shape)
        base = base.expand(_batch(whole.inverse_shape(out), base))
        missing = whole.domain_dim - len(base.event_shape)
        self.base_dist = Independent(base, missing) if missing > 0 else base
        extra = max(len(base.event_shape) - whole.domain_dim, 0)
        cut = len(out) - whole.codomain_dim - extra
        self.has_rsample = base.has_rsample
        super().__init__(out[:cut], out[cut:], validate_args)

    def expand(self, batch_shape: Any) -> Any:
        new = type(self).__new__(type(self))
        new.__dict__.update(self.__dict__)
        whole = ComposeTransform(self.transforms)
        shape = whole.inverse_shape((*batch_shape, *self._event_shape))
        new.base_dist = self.base_dist.expand(_batch(shape, self.base_dist))
        Distribution.__init__(new, batch_shape, self._event_shape)
        return new

    def sample(self, sample_shape: Any = ()) -> Tensor:
        with no_grad():
            return self._forward(self.base_dist.sample(sample_shape))

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        return self._forward(self.base_dist.rsample(sample_shape))

    def _forward(self, x: Tensor) -> Tensor:
        for t in self.transforms:
            x = t(x)
        return x

    def log_prob(self, value: Tensor) -> Tensor:
        total: Any = 0.0
        event, y = len(self._event_shape), value
        for t in reversed(self.transforms):
            x = t.inv(y)
            event += t.domain_dim - t.codomain_dim
            slope = t.log_abs_det_jacobian(x, y)
            total = total - _last(slope, event - t.domain_dim)
            y = x
        rest = self.base_dist.log_prob(y)
        return total + _last(rest, event - len(self.base_dist.event_shape))

    def _codomain(self) -> Any:
        """Where the last transform leads; that is known of those that are onto."""
        from . import constraints

        known = {
            "ExpTransform": constraints.positive,
            "SoftplusTransform": constraints.positive,
            "AbsTransform": constraints.positive,
            "PowerTransform": constraints.positive,
            "SigmoidTransform": constraints.unit_interval,
            "CumulativeDistributionTransform": constraints.unit_interval,
            "TanhTransform": constraints.interval(-1.0, 1.0),
            "SoftmaxTransform": constraints.simplex,
            "StickBreakingTransform": constraints.simplex,
        }
        last = self.transforms[-1] if self.transforms else None
        inner = constraints.real if last is not None else self.base_dist.support
        found = known.get(type(last).__name__, inner)
        missing = len(self._event_shape) - found.event_dim
        return constraints.independent(found, missing) if missing > 0 else found

    def _sign(self) -> Any:
        return math.prod((t.sign for t in self.transforms), start=1)

    def cdf(self, value: Tensor) -> Tensor:
        for t in reversed(self.transforms):
            value = t.inv(value)
        return self._turned(self.base_dist.cdf(value))

    def icdf(self, value: Tensor) -> Tensor:
        return self._forward(self.base_dist.icdf(self._turned(value)))

    def _turned(self, p: Tensor) -> Tensor:
        """The probability of the other side where the transforms fall."""
        sign = self._sign()
        if isinstance(sign, int) and sign == 1:
            return p
        return sign * (p - 0.5) + 0.5


def _batch(shape: Any, base: Distribution) -> Any:
    return shape[: len(shape) - len(base.event_shape)]


def _last(value: Tensor, count: int) -> Tensor:
    return value.sum(tuple(range(-count, 0))) if count > 0 else value


class LogitRelaxedBernoulli(Distribution):
    """Logits of the relaxed Bernoulli distribution.

    Source: C. Maddison and others, "The concrete distribution" (2017); torch.distributions.
    """

    has_rsample = True
    _parameters = ("probs", "logits")

    def __init__(
        self,
        temperature: Any,
        probs: Any = None,
        logits: Any = None,
        validate_args: bool | None = None,
    ) -> None:
        self.temperature = temperature
        self._bernoulli = Bernoulli(probs, logits, validate_args)
        super().__init__(self._bernoulli.batch_shape, validate_args=validate_args)

    @property
    def probs(self) -> Tensor:
        """The probability of 1."""
        return self._bernoulli.probs

    @property
    def logits(self) -> Tensor:
        """The logarithm of the odds of 1."""
        return self._bernoulli.logits

    def expand(self, batch_shape: Any) -> LogitRelaxedBernoulli:
        new = LogitRelaxedBernoulli.__new__(LogitRelaxedBernoulli)
        new.temperature = self.temperature
        new._bernoulli = self._bernoulli.expand(batch_shape)
        Distribution.__init__(new, batch_shape)
        return new

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        logits = self.logits
        shape = self._extended_shape(sample_shape)
        u = dg.rand(shape, dtype=logits.dtype, device=logits.device)
        u = u.clamp(float(dg.finfo(u.dtype).eps), 1 - float(dg.finfo(u.dtype).eps))
        return (u.log() - (-u).log1p() + logits) / self.temperature

    def log_prob(self, value: Tensor) -> Tensor:
        gap = self.logits - value * self.temperature
        size = dg.as_tensor(self.temperature, dtype=gap.dtype).log()
        return size + gap - 2 * gap.exp().log1p()


class RelaxedBernoulli(TransformedDistribution):
    """Numbers between 0 and 1 that go to Bernoulli's 0 and 1 as `temperature` goes to 0.

    Source: torch.distributions.RelaxedBernoulli.
    """

    has_rsample = True

    def __init__(
        self,
        temperature: Any,
        probs: Any = None,
        logits: Any = None,
        validate_args: bool | None = None,
    ) -> None:
        base = LogitRelaxedBernoulli(temperature, probs, logits)
        super().__init__(base, SigmoidTransform(), validate_args)

    @property
    def temperature(self) -> Any:
        """How far the numbers are from 0 and 1."""
        return self.base_dist.temperature  # type: ignore[attr-defined]

    @property
    def logits(self) -> Tensor:
        """The logarithm of the odds of 1."""
        return self.base_dist.logits  # type: ignore[attr-defined]

    @property
    def probs(self) -> Tensor:
        """The probability of 1."""
        return self.base_dist.probs  # type: ignore[attr-defined]


class ExpRelaxedCategorical(OverCategorical):
    """Logarithms of the relaxed one-hot distribution (Gumbel-softmax).

    Source: C. Maddison and others (2017); E. Jang and others (2017); torch.distributions.
    """

    has_rsample = True

    def __init__(
        self,
        temperature: Any,
        probs: Tensor | None = None,
        logits: Tensor | None = None,
        validate_args: bool | None = None,
    ) -> None:
        self.temperature = temperature
        super().__init__(probs, logits, validate_args)

    def expand(self, batch_shape: Any) -> ExpRelaxedCategorical:
        new = ExpRelaxedCategorical.__new__(ExpRelaxedCategorical)
        new.temperature = self.temperature
        new._categorical = self._categorical.expand(batch_shape)
        Distribution.__init__(new, batch_shape, self._event_shape)
        return new

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        logits = self.logits
        shape = self._extended_shape(sample_shape)
        u = dg.rand(shape, dtype=logits.dtype, device=logits.device)
        u = u.clamp(float(dg.finfo(u.dtype).eps), 1 - float(dg.finfo(u.dtype).eps))
        scores = (logits - (-u.log()).log()) / self.temperature
        return scores - scores.logsumexp(-1, True)

    def log_prob(self, value: Tensor) -> Tensor:
        k = self._event_shape[0]
        logits, value = dg.broadcast_tensors(self.logits, value)
        temperature = dg.as_tensor(self.temperature, dtype=logits.dtype)
        size = math.lgamma(k) + (k - 1) * temperature.log()
        score = logits - value * self.temperature
        return (score - score.logsumexp(-1, True)).sum(-1) + size


class RelaxedOneHotCategorical(TransformedDistribution):
    """Points of the simplex that go to its corners as `temperature` goes to 0.

    Source: torch.distributions.RelaxedOneHotCategorical.
    """

    has_rsample = True

    def __init__(
        self,
        temperature: Any,
        probs: Tensor | None = None,
        logits: Tensor | None = None,
        validate_args: bool | None = None,
    ) -> None:
        base = ExpRelaxedCategorical(temperature, probs, logits, validate_args)
        super().__init__(base, ExpTransform(), validate_args)

    @property
    def temperature(self) -> Any:
        """How far the points are from the corners."""
        return self.base_dist.temperature  # type: ignore[attr-defined]

    @property
    def logits(self) -> Tensor:
        """Logarithms of the probabilities."""
        return self.base_dist.logits  # type: ignore[attr-defined]

    @property
    def probs(self) -> Tensor:
        """Probabilities of the corners."""
        return self.base_dist.probs  # type: ignore[attr-defined]


class MixtureSameFamily(Distribution):
    """Draws from one of K components, chosen by a `Categorical` distribution.

    The last batch dimension of `component_distribution` counts the components.

    Source: torch.distributions.MixtureSameFamily.
    """

    def __init__(
        self,
        mixture_distribution: Categorical,
        component_distribution: Distribution,
        validate_args: bool | None = None,
    ) -> None:
        if not isinstance(mixture_distribution, Categorical):
            raise ArgumentError("The Mixture distribution needs to be an instance of Categorical")
        batch = component_distribution.batch_shape[:-1]
        k = mixture_distribution.param_shape[-1]
        if k != component_distribution.batch_shape[-1]:
            raise ArgumentError(
                f"`mixture_distribution component` ({k}) does not equal "
                f"`component_distribution.batch_shape[-1]` "
                f"({component_distribution.batch_shape[-1]})"
            )
        self.mixture_distribution = mixture_distribution
        self.component_distribution = component_distribution
        super().__init__(batch, component_distribution.event_shape, validate_args)

    def _weights(self) -> Tensor:
        probs = self.mixture_distribution.probs
        return probs.reshape((*probs.shape, *(1 for _ in self._event_shape)))

    @property
    def mean(self) -> Tensor:
        at = -1 - len(self._event_shape)
        return (self._weights() * self.component_distribution.mean).sum(at)

    @property
    def variance(self) -> Tensor:
        at, parts = -1 - len(self._event_shape), self.component_distribution
        within = (self._weights() * parts.variance).sum(at)
        between = (self._weights() * (parts.mean - self.mean.unsqueeze(at)) ** 2).sum(at)
        return within + between

    def expand(self, batch_shape: Any) -> MixtureSameFamily:
        k = self.component_distribution.batch_shape[-1]
        return MixtureSameFamily(
            self.mixture_distribution.expand(batch_shape),
            self.component_distribution.expand((*batch_shape, k)),
        )

    def cdf(self, value: Tensor) -> Tensor:
        found = self.component_distribution.cdf(self._beside(value))
        return (found * self.mixture_distribution.probs).sum(-1)

    def log_prob(self, value: Tensor) -> Tensor:
        found = self.component_distribution.log_prob(self._beside(value))
        weights = dg.log_softmax(self.mixture_distribution.logits, -1)
        return (found + weights).logsumexp(-1)

    def _beside(self, value: Tensor) -> Tensor:
        """`value` with a dimension for the components."""
        return value.unsqueeze(-1 - len(self._event_shape))

    def sample(self, sample_shape: Any = ()) -> Tensor:
        events = len(self._event_shape)
        with no_grad():
            chosen = self.mixture_distribution.expand(self._batch_shape).sample(sample_shape)
            drawn = self.component_distribution.sample(sample_shape)
            at = drawn.ndim - 1 - events
            index = chosen.reshape((*chosen.shape, *(1,) * (1 + events)))
            index = index.expand((*chosen.shape, 1, *self._event_shape))
            return drawn.gather(at, index).squeeze(at)
