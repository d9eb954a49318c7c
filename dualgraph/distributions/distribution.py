"""What all distributions have in common."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from dualgraph import functions as fn
from dualgraph._dispatch import captures
from dualgraph._tensor import Size, Tensor
from dualgraph.autograd.grad_mode import no_grad
from dualgraph_compiler.errors import ArgumentError

__all__ = ["Distribution", "as_parameters", "refused"]


class Distribution:
    """A batch of probability distributions; subclasses say which.

    Args:
        batch_shape: shape of the parameters: how many independent distributions there are.
        event_shape: shape of one draw from one of them.
        validate_args: whether parameters and values are checked, by default they are. In a traced
            function they never are, since there are no numbers to look at.

    Raises:
        ArgumentError: a parameter, or a value whose density is asked for, is out of its range.

    Source: torch.distributions.Distribution.
    """

    has_rsample = False
    has_enumerate_support = False
    _validate_args = True
    # The names of the parameters, for `repr`.
    _parameters: tuple[str, ...] = ()

    def __init__(
        self,
        batch_shape: Iterable[int] = (),
        event_shape: Iterable[int] = (),
        validate_args: bool | None = None,
    ) -> None:
        self._batch_shape = Size(batch_shape)
        self._event_shape = Size(event_shape)
        if validate_args is not None:
            self._validate_args = validate_args

    @staticmethod
    def set_default_validate_args(value: bool) -> None:
        """Whether distributions made from now on check their arguments."""
        Distribution._validate_args = bool(value)

    @property
    def batch_shape(self) -> Size:
        """The shape over which parameters are batched."""
        return self._batch_shape

    @property
    def event_shape(self) -> Size:
        """The shape of a single draw."""
        return self._event_shape

    @property
    def support(self) -> Any:
        """The constraint that values meet, see `constraints`."""
        from . import constraints

        return constraints.of(self)[1]

    @property
    def arg_constraints(self) -> dict[str, Any]:
        """The constraint that each parameter meets."""
        from . import constraints

        return constraints.of(self)[0]

    @property
    def mean(self) -> Tensor:
        """The expected value."""
        raise NotImplementedError

    @property
    def mode(self) -> Tensor:
        """The most probable value."""
        raise NotImplementedError(f"{type(self).__name__} does not implement mode")

    @property
    def variance(self) -> Tensor:
        """The expected squared distance to the mean."""
        raise NotImplementedError

    @property
    def stddev(self) -> Tensor:
        """The square root of the variance."""
        return self.variance.sqrt()

    def sample(self, sample_shape: Any = ()) -> Tensor:
        """Draws of shape ``sample_shape + batch_shape + event_shape``, without gradients."""
        with no_grad():
            return self.rsample(sample_shape)

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        """The same as a differentiable function of the parameters."""
        raise NotImplementedError(f"{type(self).__name__} cannot be sampled with gradients")

    def sample_n(self, n: int) -> Tensor:
        """`n` draws: ``sample((n,))``."""
        return self.sample((n,))

    def log_prob(self, value: Tensor) -> Tensor:
        """The logarithm of the density, or of the probability, at `value`."""
        raise NotImplementedError

    def cdf(self, value: Tensor) -> Tensor:
        """The probability of at most `value`."""
        raise NotImplementedError

    def icdf(self, value: Tensor) -> Tensor:
        """The inverse of `cdf`."""
        raise NotImplementedError

    def entropy(self) -> Tensor:
        """The entropy in nats, of shape `batch_shape`."""
        raise NotImplementedError

    def perplexity(self) -> Tensor:
        """The exponential of the entropy."""
        return self.entropy().exp()

    def enumerate_support(self, expand: bool = True) -> Tensor:
        """All values of a discrete distribution, along a new first dimension."""
        raise NotImplementedError

    def expand(self, batch_shape: Any) -> Distribution:
        """The same distribution, its batch expanded to `batch_shape`."""
        raise NotImplementedError

    def _expanded(self, batch_shape: Any, event: int = 0) -> Any:
        """A distribution of this class whose parameters, which have `event` more dimensions than
        the batch, are expanded."""
        new = type(self).__new__(type(self))
        shape = Size(batch_shape)
        for name in self._parameters:
            if name in self.__dict__:
                p = self.__dict__[name]
                tail = p.shape[p.ndim - event :]
                new.__dict__[name] = p.expand((*shape, *tail))
        Distribution.__init__(new, shape, self._event_shape, self.__dict__.get("_validate_args"))
        return new

    def _extended_shape(self, sample_shape: Any = ()) -> Size:
        return Size((*sample_shape, *self._batch_shape, *self._event_shape))

    def _check(self, fits: Any, name: str, wanted: str) -> None:
        """Raise unless `fits`, of a parameter or value called `name`, holds everywhere.

        `fits` is a function, so that nothing is computed where nothing is checked.
        """
        if self._validate_args and captures.current is None and not bool(fits().all()):
            raise refused(self, name, wanted)

    def __repr__(self) -> str:
        shown = []
        for name in self._parameters:
            if name in self.__dict__:
                p = self.__dict__[name]
                shown.append(f"{name}: {p if p.numel() == 1 else p.size()}")
        return f"{type(self).__name__}({', '.join(shown)})"


def refused(distribution: Distribution, name: str, wanted: str) -> ArgumentError:
    """The error of a parameter or value that is out of its range."""
    return ArgumentError(
        f"{type(distribution).__name__}: expected {wanted} for {name}, but found invalid values"
    )


def as_parameters(*values: Any) -> tuple[Size, list[Tensor]]:
    """Tensors and numbers as tensors of one shape, and the shape of the batch they make."""
    first = next((v for v in values if isinstance(v, Tensor)), None)
    dtype, device = (None, None) if first is None else (first.dtype, first.device)
    if first is None:
        from dualgraph._promote import get_default_dtype

        dtype = get_default_dtype()
    tensors = [
        v if isinstance(v, Tensor) else fn.tensor(v, dtype=dtype, device=device) for v in values
    ]
    tensors = list(fn.broadcast_tensors(*tensors))
    return tensors[0].shape, tensors
