"""Distributions of counts, and of one among several as a vector."""

from __future__ import annotations

import math
from typing import Any

import dualgraph as dg
from dualgraph._tensor import Size, Tensor
from dualgraph.autograd.grad_mode import no_grad
from dualgraph_compiler.errors import ArgumentError

from .discrete import OverCategorical
from .distribution import Distribution, as_parameters
from .gamma import standard_gamma

__all__ = [
    "Binomial",
    "Multinomial",
    "NegativeBinomial",
    "OneHotCategorical",
    "OneHotCategoricalStraightThrough",
    "Poisson",
]


def _is_count(value: Tensor) -> Any:
    return lambda: (value >= 0) & (value == value.floor())


class Poisson(Distribution):
    """Counts whose expected number is `rate`. Source: torch.distributions.Poisson."""

    _parameters = ("rate",)

    def __init__(self, rate: Any, validate_args: bool | None = None) -> None:
        shape, (self.rate,) = as_parameters(rate)
        super().__init__(shape, validate_args=validate_args)
        self._check(lambda: self.rate >= 0, "the parameter rate", "numbers from 0 on")

    @property
    def mean(self) -> Tensor:
        return self.rate

    @property
    def mode(self) -> Tensor:
        return self.rate.floor()

    @property
    def variance(self) -> Tensor:
        return self.rate

    def expand(self, batch_shape: Any) -> Poisson:
        return self._expanded(batch_shape)

    def sample(self, sample_shape: Any = ()) -> Tensor:
        with no_grad():
            return dg.poisson(self.rate.expand(self._extended_shape(sample_shape)))

    def log_prob(self, value: Tensor) -> Tensor:
        self._check(_is_count(value), "value", "counts from 0 on")
        return dg.xlogy(value, self.rate) - self.rate - (value + 1).lgamma()


class _Trials(Distribution):
    """What distributions of a number of trials share: `probs` and `logits`, and their number."""

    total_count: Tensor
    probs: Tensor
    logits: Tensor
    _parameters = ("total_count", "probs", "logits")

    def __init__(
        self, total_count: Any, probs: Any, logits: Any, validate_args: bool | None
    ) -> None:
        if (probs is None) == (logits is None):
            raise ArgumentError("Either `probs` or `logits` must be specified, but not both.")
        if probs is not None:
            shape, (self.probs, count) = as_parameters(probs, total_count)
        else:
            shape, (self.logits, count) = as_parameters(logits, total_count)
        self.total_count = count.to(self._given.dtype)
        super().__init__(shape, validate_args=validate_args)
        self._check(lambda: self.total_count >= 0, "the parameter total_count", "counts from 0 on")

    @property
    def _given(self) -> Tensor:
        return self.__dict__.get("probs", self.__dict__.get("logits"))  # type: ignore[return-value]

    def __getattr__(self, name: str) -> Tensor:
        if name == "probs" and "logits" in self.__dict__:
            return self.logits.sigmoid()
        if name == "logits" and "probs" in self.__dict__:
            tiny = float(dg.finfo(self.probs.dtype).eps)
            p = self.probs.clamp(tiny, 1 - tiny)
            return p.log() - (-p).log1p()
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    @property
    def param_shape(self) -> Size:
        """The shape of the parameter that was given."""
        return self._given.shape

    def expand(self, batch_shape: Any) -> Any:
        return self._expanded(batch_shape)


class Binomial(_Trials):
    """Successes among `total_count` trials, each with probability `probs`.

    Source: torch.distributions.Binomial.
    """

    has_enumerate_support = True

    def __init__(
        self,
        total_count: Any = 1,
        probs: Any = None,
        logits: Any = None,
        validate_args: bool | None = None,
    ) -> None:
        super().__init__(total_count, probs, logits, validate_args)
        if probs is not None:
            p = self.probs
            self._check(lambda: (p >= 0) & (p <= 1), "the parameter probs", "numbers in [0, 1]")

    @property
    def mean(self) -> Tensor:
        return self.total_count * self.probs

    @property
    def mode(self) -> Tensor:
        return ((self.total_count + 1) * self.probs).floor().clamp(max=self.total_count)

    @property
    def variance(self) -> Tensor:
        return self.total_count * self.probs * (1 - self.probs)

    def sample(self, sample_shape: Any = ()) -> Tensor:
        shape = self._extended_shape(sample_shape)
        with no_grad():
            return dg.binomial(self.total_count.expand(shape), self.probs.expand(shape))

    def log_prob(self, value: Tensor) -> Tensor:
        self._check(
            lambda: _is_count(value)() & (value <= self.total_count),
            "value",
            "counts up to total_count",
        )
        n, logits = self.total_count, self.logits
        ways = (n + 1).lgamma() - (value + 1).lgamma() - (n - value + 1).lgamma()
        # log(1 - p) = -softplus(logits), of which nothing may cancel for large logits.
        failure = logits.clamp(min=0) + (-logits.abs()).exp().log1p()
        return ways + value * logits - n * failure

    def entropy(self) -> Tensor:
        _same_count(self.total_count)
        log_p = self.log_prob(self.enumerate_support(False))
        return -(log_p.exp() * log_p).sum(0)

    def enumerate_support(self, expand: bool = True) -> Tensor:
        count = _same_count(self.total_count)
        values = dg.arange(count + 1, dtype=self._given.dtype, device=self._given.device)
        values = values.reshape(-1, *(1 for _ in self._batch_shape))
        return values.expand(-1, *self._batch_shape) if expand else values


def _same_count(total_count: Tensor) -> int:
    """The number of trials, if it is one for the whole batch."""
    count = int(total_count.max())
    if int(total_count.min()) != count:
        raise NotImplementedError("Inhomogeneous total_count is not supported here.")
    return count


class NegativeBinomial(_Trials):
    """Successes, each with probability `probs`, before the `total_count`-th failure.

    Source: torch.distributions.NegativeBinomial.
    """

    def __init__(
        self,
        total_count: Any,
        probs: Any = None,
        logits: Any = None,
        validate_args: bool | None = None,
    ) -> None:
        super().__init__(total_count, probs, logits, validate_args)
        if probs is not None:
            p = self.probs
            self._check(lambda: (p >= 0) & (p < 1), "the parameter probs", "numbers in [0, 1)")

    @property
    def mean(self) -> Tensor:
        return self.total_count * self.logits.exp()

    @property
    def mode(self) -> Tensor:
        return ((self.total_count - 1) * self.logits.exp()).floor().clamp(min=0.0)

    @property
    def variance(self) -> Tensor:
        return self.mean / (-self.logits).sigmoid()

    def sample(self, sample_shape: Any = ()) -> Tensor:
        shape = self._extended_shape(sample_shape)
        with no_grad():
            rate = standard_gamma(self.total_count.expand(shape)) * self.logits.exp()
            return dg.poisson(rate)

    def log_prob(self, value: Tensor) -> Tensor:
        self._check(_is_count(value), "value", "counts from 0 on")
        n, logits = self.total_count, self.logits
        chance = n * dg.nn.functional.logsigmoid(-logits)
        chance = chance + value * dg.nn.functional.logsigmoid(logits)
        ways = (n + value).lgamma() - (value + 1).lgamma() - n.lgamma()
        return chance + ways.masked_fill(n + value == 0, 0.0)


class Multinomial(OverCategorical):
    """How often each of K outcomes occurs in `total_count` trials.

    Shapes: probs or logits [*batch, K]; samples [*sample_shape, *batch, K].

    Source: torch.distributions.Multinomial.
    """

    _parameters = ("probs", "logits")

    def __init__(
        self,
        total_count: int = 1,
        probs: Tensor | None = None,
        logits: Tensor | None = None,
        validate_args: bool | None = None,
    ) -> None:
        if not isinstance(total_count, int):
            raise NotImplementedError("inhomogeneous total_count is not supported")
        self.total_count = total_count
        super().__init__(probs, logits, validate_args)

    @property
    def mean(self) -> Tensor:
        return self.probs * self.total_count

    @property
    def variance(self) -> Tensor:
        return self.total_count * self.probs * (1 - self.probs)

    def expand(self, batch_shape: Any) -> Multinomial:
        new = Multinomial.__new__(Multinomial)
        new.total_count = self.total_count
        new._categorical = self._categorical.expand(batch_shape)
        Distribution.__init__(new, batch_shape, self._event_shape)
        return new

    def sample(self, sample_shape: Any = ()) -> Tensor:
        with no_grad():
            drawn = self._categorical.sample((self.total_count, *sample_shape))
            counts = dg.nn.functional.one_hot(drawn, self._event_shape[0]).sum(0)
            return counts.to(self.probs.dtype)

    def log_prob(self, value: Tensor) -> Tensor:
        self._check(
            lambda: _is_count(value)().all(-1) & (value.sum(-1) == self.total_count),
            "value",
            "counts that sum up to total_count",
        )
        logits, value = dg.broadcast_tensors(self.logits, value)
        never = (value == 0) & (logits == -math.inf)
        ways = (value.sum(-1) + 1).lgamma() - (value + 1).lgamma().sum(-1)
        return ways + (logits.masked_fill(never, 0) * value).sum(-1)

    def entropy(self) -> Tensor:
        n = self.total_count
        each = Binomial(n, self.probs, validate_args=False)
        support = each.enumerate_support(False)[1:]
        repeats = (each.log_prob(support).exp() * (support + 1).lgamma()).sum((0, -1))
        return n * self._categorical.entropy() - math.lgamma(n + 1) + repeats

    def __repr__(self) -> str:
        return f"Multinomial({repr(self._categorical).partition('(')[2][:-1]})"


class OneHotCategorical(OverCategorical):
    """One of K outcomes, as a vector that is 1 there and 0 elsewhere.

    Shapes: probs or logits [*batch, K]; samples [*sample_shape, *batch, K].

    Source: torch.distributions.OneHotCategorical.
    """

    has_enumerate_support = True

    @property
    def mean(self) -> Tensor:
        return self.probs

    @property
    def mode(self) -> Tensor:
        return self._vector(self.probs.argmax(-1))

    @property
    def variance(self) -> Tensor:
        return self.probs * (1 - self.probs)

    def _vector(self, outcome: Tensor) -> Tensor:
        return dg.nn.functional.one_hot(outcome, self._event_shape[0]).to(self.probs.dtype)

    def expand(self, batch_shape: Any) -> Any:
        new = type(self).__new__(type(self))
        new._categorical = self._categorical.expand(batch_shape)
        Distribution.__init__(new, batch_shape, self._event_shape)
        return new

    def sample(self, sample_shape: Any = ()) -> Tensor:
        with no_grad():
            return self._vector(self._categorical.sample(sample_shape))

    def log_prob(self, value: Tensor) -> Tensor:
        self._check(
            lambda: ((value == 0) | (value == 1)).all(-1) & (value.sum(-1) == 1),
            "value",
            "vectors with one 1",
        )
        return self._categorical.log_prob(value.argmax(-1))

    def entropy(self) -> Tensor:
        return self._categorical.entropy()

    def enumerate_support(self, expand: bool = True) -> Tensor:
        k = self._event_shape[0]
        values = dg.eye(k, dtype=self.probs.dtype, device=self.probs.device)
        values = values.reshape(k, *(1 for _ in self._batch_shape), k)
        return values.expand(k, *self._batch_shape, k) if expand else values

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"


class OneHotCategoricalStraightThrough(OneHotCategorical):
    """`OneHotCategorical` whose samples take the gradient of the probabilities.

    Source: torch.distributions.OneHotCategoricalStraightThrough; Y. Bengio and others (2013).
    """

    has_rsample = True

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        return self.sample(sample_shape) + (self.probs - self.probs.detach())
