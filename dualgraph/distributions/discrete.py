"""Distributions of whole numbers."""

from __future__ import annotations

from typing import Any

import dualgraph as dg
import dualgraph.nn.functional as F
from dualgraph._tensor import Size, Tensor
from dualgraph.autograd.grad_mode import no_grad
from dualgraph_compiler.errors import ArgumentError

from .distribution import Distribution, as_parameters

__all__ = ["Bernoulli", "Categorical", "Geometric"]


def _one_of(probs: Any, logits: Any) -> bool:
    """Whether probabilities were given, and not logits."""
    if (probs is None) == (logits is None):
        raise ArgumentError("Either `probs` or `logits` must be specified, but not both.")
    return probs is not None


def _away_from_0_and_1(probs: Tensor) -> Tensor:
    tiny = float(dg.finfo(probs.dtype).eps)
    return probs.clamp(tiny, 1 - tiny)


class _Binary(Distribution):
    """What distributions of one probability share: `probs` and `logits`, either from the other."""

    probs: Tensor
    logits: Tensor
    _parameters = ("probs", "logits")

    def __init__(
        self, probs: Any = None, logits: Any = None, validate_args: bool | None = None
    ) -> None:
        if _one_of(probs, logits):
            shape, (self.probs,) = as_parameters(probs)
        else:
            shape, (self.logits,) = as_parameters(logits)
        super().__init__(shape, validate_args=validate_args)

    def __getattr__(self, name: str) -> Tensor:
        if name == "probs" and "logits" in self.__dict__:
            return self.logits.sigmoid()
        if name == "logits" and "probs" in self.__dict__:
            p = _away_from_0_and_1(self.probs)
            return p.log() - (-p).log1p()
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    @property
    def param_shape(self) -> Size:
        """The shape of the parameter that was given."""
        return self._batch_shape


class Bernoulli(_Binary):
    """1 with probability `probs`, else 0; `logits` are logarithms of the odds.

    Source: torch.distributions.Bernoulli.
    """

    has_enumerate_support = True

    def __init__(
        self, probs: Any = None, logits: Any = None, validate_args: bool | None = None
    ) -> None:
        super().__init__(probs, logits, validate_args)
        if probs is not None:
            p = self.probs
            self._check(lambda: (p >= 0) & (p <= 1), "the parameter probs", "numbers in [0, 1]")

    @property
    def mean(self) -> Tensor:
        return self.probs

    @property
    def mode(self) -> Tensor:
        mode = (self.probs >= 0.5).to(self.probs.dtype)
        return mode.masked_fill(self.probs == 0.5, float("nan"))

    @property
    def variance(self) -> Tensor:
        return self.probs * (1 - self.probs)

    def expand(self, batch_shape: Any) -> Bernoulli:
        return self._expanded(batch_shape)

    def sample(self, sample_shape: Any = ()) -> Tensor:
        with no_grad():
            return dg.bernoulli(self.probs.expand(self._extended_shape(sample_shape)))

    def log_prob(self, value: Tensor) -> Tensor:
        self._check(lambda: (value == 0) | (value == 1), "value", "0 or 1")
        logits, value = dg.broadcast_tensors(self.logits, value)
        return -F.binary_cross_entropy_with_logits(logits, value, reduction="none")

    def entropy(self) -> Tensor:
        logits, probs = self.logits, self.probs
        return F.binary_cross_entropy_with_logits(logits, probs, reduction="none")

    def enumerate_support(self, expand: bool = True) -> Tensor:
        values = dg.arange(2, dtype=self.probs.dtype, device=self.probs.device)
        values = values.reshape(-1, *(1 for _ in self._batch_shape))
        return values.expand(-1, *self._batch_shape) if expand else values


class Geometric(_Binary):
    """The number of failures before the first success, each with probability `probs`.

    Source: torch.distributions.Geometric.
    """

    def __init__(
        self, probs: Any = None, logits: Any = None, validate_args: bool | None = None
    ) -> None:
        super().__init__(probs, logits, validate_args)
        if probs is not None:
            p = self.probs
            self._check(lambda: (p > 0) & (p <= 1), "the parameter probs", "numbers in (0, 1]")

    @property
    def mean(self) -> Tensor:
        return 1 / self.probs - 1

    @property
    def mode(self) -> Tensor:
        return dg.zeros_like(self.probs)

    @property
    def variance(self) -> Tensor:
        return (1 / self.probs - 1) / self.probs

    def expand(self, batch_shape: Any) -> Geometric:
        return self._expanded(batch_shape)

    def sample(self, sample_shape: Any = ()) -> Tensor:
        with no_grad():
            probs = self.probs.expand(self._extended_shape(sample_shape))
            u = dg.rand(probs.shape, dtype=probs.dtype, device=probs.device)
            u = u.clamp(min=dg.finfo(probs.dtype).tiny)
            return (u.log() / (-probs).log1p()).floor()

    def log_prob(self, value: Tensor) -> Tensor:
        self._check(lambda: (value >= 0) & (value == value.floor()), "value", "counts from 0 on")
        value, probs = dg.broadcast_tensors(value, self.probs)
        probs = probs.masked_fill((probs == 1) & (value == 0), 0)
        return value * (-probs).log1p() + self.probs.log()

    def entropy(self) -> Tensor:
        return (
            F.binary_cross_entropy_with_logits(self.logits, self.probs, reduction="none")
            / self.probs
        )


class Categorical(Distribution):
    """The numbers 0 to K - 1, with the probabilities in the last dimension of `probs`.

    `probs` need not sum up to 1, nor the exponentials of `logits`: both are normalised.

    Shapes: probs or logits [*batch, K]; samples [*sample_shape, *batch], int64.

    Source: torch.distributions.Categorical.
    """

    has_enumerate_support = True
    probs: Tensor
    logits: Tensor
    _parameters = ("probs", "logits")

    def __init__(
        self,
        probs: Tensor | None = None,
        logits: Tensor | None = None,
        validate_args: bool | None = None,
    ) -> None:
        given = probs if _one_of(probs, logits) else logits
        assert given is not None
        if given.ndim < 1:
            raise ArgumentError(
                f"`{'logits' if probs is None else 'probs'}` parameter must be at least "
                "one-dimensional."
            )
        if probs is not None:
            self.probs = probs / probs.sum(-1, keepdim=True)
        else:
            self.logits = given - given.logsumexp(-1, keepdim=True)
        self._num_events = given.shape[-1]
        super().__init__(given.shape[:-1], validate_args=validate_args)
        if probs is not None:
            self._check(lambda: (probs >= 0).all(-1), "the parameter probs", "numbers from 0 on")
        else:
            self._check(_no_nan(given), "the parameter logits", "real numbers")

    def __getattr__(self, name: str) -> Tensor:
        if name == "probs" and "logits" in self.__dict__:
            return F.softmax(self.logits, dim=-1)
        if name == "logits" and "probs" in self.__dict__:
            return _away_from_0_and_1(self.probs).log()
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    @property
    def _given(self) -> Tensor:
        return self.__dict__.get("probs", self.__dict__.get("logits"))  # type: ignore[return-value]

    @property
    def param_shape(self) -> Size:
        """The shape of the parameter that was given."""
        return self._given.shape

    @property
    def mean(self) -> Tensor:
        return dg.full(self._batch_shape, float("nan"), dtype=self._given.dtype)

    @property
    def mode(self) -> Tensor:
        return self.probs.argmax(-1)

    @property
    def variance(self) -> Tensor:
        return dg.full(self._batch_shape, float("nan"), dtype=self._given.dtype)

    def expand(self, batch_shape: Any) -> Categorical:
        new = self._expanded(batch_shape, event=1)
        new._num_events = self._num_events
        return new

    def sample(self, sample_shape: Any = ()) -> Tensor:
        count = 1
        for size in sample_shape:
            count *= size
        with no_grad():
            rows = self.probs.reshape(-1, self._num_events)
            drawn = dg.multinomial(rows, count, True).T
            return drawn.reshape(self._extended_shape(sample_shape))

    def log_prob(self, value: Tensor) -> Tensor:
        self._check(
            lambda: (value >= 0) & (value < self._num_events) & (value == value.long()),
            "value",
            f"whole numbers from 0 to {self._num_events - 1}",
        )
        value, logits = dg.broadcast_tensors(value.long().unsqueeze(-1), self.logits)
        return logits.gather(-1, value[..., :1]).squeeze(-1)

    def entropy(self) -> Tensor:
        logits = self.logits.clamp(min=float(dg.finfo(self.logits.dtype).min))
        return -(logits * self.probs).sum(-1)

    def enumerate_support(self, expand: bool = True) -> Tensor:
        values = dg.arange(self._num_events, device=self._given.device)
        values = values.reshape(-1, *(1 for _ in self._batch_shape))
        return values.expand(-1, *self._batch_shape) if expand else values


class OverCategorical(Distribution):
    """What is made of one `Categorical` distribution, whose parameters it takes."""

    def __init__(
        self,
        probs: Tensor | None = None,
        logits: Tensor | None = None,
        validate_args: bool | None = None,
    ) -> None:
        self._categorical = Categorical(probs, logits, validate_args)
        shape = self._categorical.param_shape
        super().__init__(shape[:-1], shape[-1:], validate_args)

    @property
    def probs(self) -> Tensor:
        """Probabilities of the outcomes."""
        return self._categorical.probs

    @property
    def logits(self) -> Tensor:
        """Their logarithms."""
        return self._categorical.logits

    @property
    def param_shape(self) -> Size:
        """The shape of the parameter that was given."""
        return self._categorical.param_shape


def _no_nan(given: Tensor) -> Any:
    return lambda: given == given
