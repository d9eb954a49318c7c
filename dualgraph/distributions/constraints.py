"""Sets that parameters and values of distributions are in, as ``torch.distributions.constraints``.

``constraints.positive.check(x)`` says for each event in `x` whether it is in the set.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import dualgraph as dg
from dualgraph._tensor import Tensor

__all__ = [
    "Constraint",
    "boolean",
    "corr_cholesky",
    "greater_than",
    "greater_than_eq",
    "half_open_interval",
    "independent",
    "integer_interval",
    "interval",
    "less_than",
    "lower_cholesky",
    "lower_triangular",
    "multinomial",
    "nonnegative",
    "nonnegative_integer",
    "one_hot",
    "positive",
    "positive_definite",
    "positive_integer",
    "positive_semidefinite",
    "real",
    "real_vector",
    "simplex",
    "square",
    "symmetric",
    "unit_interval",
]


@dataclass(frozen=True)
class Constraint:
    """A set of events, which have `event_dim` dimensions; `is_discrete` if they are countable."""

    is_discrete: ClassVar[bool] = False
    event_dim: ClassVar[int] = 0

    def check(self, value: Tensor) -> Tensor:
        """Whether each event is in the set: bool, without the dimensions of an event."""
        raise NotImplementedError


class _Boolean(Constraint):
    is_discrete = True

    def check(self, value: Tensor) -> Tensor:
        return (value == 0) | (value == 1)


class _Real(Constraint):
    def check(self, value: Tensor) -> Tensor:
        return value == value


@dataclass(frozen=True)
class greater_than(Constraint):
    """Numbers above a bound."""

    lower_bound: Any

    def check(self, value: Tensor) -> Tensor:
        return value > self.lower_bound


@dataclass(frozen=True)
class greater_than_eq(Constraint):
    """A bound, and numbers above it."""

    lower_bound: Any

    def check(self, value: Tensor) -> Tensor:
        return value >= self.lower_bound


@dataclass(frozen=True)
class less_than(Constraint):
    """Numbers below a bound."""

    upper_bound: Any

    def check(self, value: Tensor) -> Tensor:
        return value < self.upper_bound


@dataclass(frozen=True)
class interval(Constraint):
    """Two bounds, and the numbers between them."""

    lower_bound: Any
    upper_bound: Any

    def check(self, value: Tensor) -> Tensor:
        return (value >= self.lower_bound) & (value <= self.upper_bound)


@dataclass(frozen=True)
class half_open_interval(Constraint):
    """A lower bound, and the numbers from it up to, but without, an upper one."""

    lower_bound: Any
    upper_bound: Any

    def check(self, value: Tensor) -> Tensor:
        return (value >= self.lower_bound) & (value < self.upper_bound)


@dataclass(frozen=True)
class integer_interval(Constraint):
    """The whole numbers between two bounds, and these."""

    is_discrete = True
    lower_bound: Any
    upper_bound: Any

    def check(self, value: Tensor) -> Tensor:
        whole = value == value.floor()
        return whole & (value >= self.lower_bound) & (value <= self.upper_bound)


@dataclass(frozen=True)
class _IntegerFrom(Constraint):
    is_discrete = True
    lower_bound: Any

    def check(self, value: Tensor) -> Tensor:
        return (value == value.floor()) & (value >= self.lower_bound)


@dataclass(frozen=True)
class multinomial(Constraint):
    """Vectors of counts whose sum is at most `upper_bound`."""

    is_discrete = True
    event_dim = 1
    upper_bound: Any

    def check(self, value: Tensor) -> Tensor:
        return (value >= 0).all(-1) & (value.sum(-1) <= self.upper_bound)


@dataclass(frozen=True)
class independent(Constraint):
    """Events whose last dimensions are all in a set."""

    base_constraint: Constraint
    reinterpreted_batch_ndims: int

    @property
    def is_discrete(self) -> bool:  # type: ignore[override]
        """Whether that set's events are countable."""
        return self.base_constraint.is_discrete

    @property
    def event_dim(self) -> int:  # type: ignore[override]
        """Dimensions of an event."""
        return self.base_constraint.event_dim + self.reinterpreted_batch_ndims

    def check(self, value: Tensor) -> Tensor:
        found = self.base_constraint.check(value)
        count = self.reinterpreted_batch_ndims
        return found.all(tuple(range(-count, 0))) if count else found


class _Simplex(Constraint):
    event_dim = 1

    def check(self, value: Tensor) -> Tensor:
        return (value >= 0).all(-1) & ((value.sum(-1) - 1).abs() < 1e-6)


class _OneHot(Constraint):
    is_discrete = True
    event_dim = 1

    def check(self, value: Tensor) -> Tensor:
        return ((value == 0) | (value == 1)).all(-1) & (value.sum(-1) == 1)


class _Matrix(Constraint):
    event_dim = 2


class _LowerTriangular(_Matrix):
    def check(self, value: Tensor) -> Tensor:
        return (value.tril() == value).all((-2, -1))


class _LowerCholesky(_Matrix):
    def check(self, value: Tensor) -> Tensor:
        diagonal = value.diagonal(dim1=-2, dim2=-1)
        return lower_triangular.check(value) & (diagonal > 0).all(-1)


class _CorrCholesky(_Matrix):
    def check(self, value: Tensor) -> Tensor:
        slack = float(dg.finfo(value.dtype).eps) * value.shape[-1] * 10
        rows = (value.detach().norm(dim=-1) - 1).abs() <= slack
        return rows.all(-1) & lower_cholesky.check(value)


class _Square(_Matrix):
    def check(self, value: Tensor) -> Tensor:
        fits = value.shape[-2] == value.shape[-1]
        return dg.full(value.shape[:-2], fits, dtype=dg.bool, device=value.device)


class _Symmetric(_Square):
    def check(self, value: Tensor) -> Tensor:
        square_ = super().check(value)
        if not bool(square_.all()):
            return square_
        return dg.isclose(value, value.mT, atol=1e-6).all(-2).all(-1)


class _PositiveSemidefinite(_Symmetric):
    def check(self, value: Tensor) -> Tensor:
        symmetric_ = super().check(value)
        if not bool(symmetric_.all()):
            return symmetric_
        return (dg.linalg.eigvalsh(value) >= 0).all(-1)


class _PositiveDefinite(_Symmetric):
    def check(self, value: Tensor) -> Tensor:
        symmetric_ = super().check(value)
        if not bool(symmetric_.all()):
            return symmetric_
        return dg.linalg.cholesky_ex(value).info == 0


boolean = _Boolean()
one_hot = _OneHot()
nonnegative_integer, positive_integer = _IntegerFrom(0), _IntegerFrom(1)
real = _Real()
real_vector = independent(real, 1)
positive, nonnegative = greater_than(0.0), greater_than_eq(0.0)
unit_interval = interval(0.0, 1.0)
simplex = _Simplex()
lower_triangular, lower_cholesky = _LowerTriangular(), _LowerCholesky()
corr_cholesky = _CorrCholesky()
square, symmetric = _Square(), _Symmetric()
positive_semidefinite, positive_definite = _PositiveSemidefinite(), _PositiveDefinite()


# -- of the distributions -------------------------------------------------------------------------

_SCALED: dict[str, Constraint] = {"loc": real, "scale": positive}
_TWO_SHAPES: dict[str, Constraint] = {"concentration1": positive, "concentration0": positive}
_GAMMA: dict[str, Constraint] = {"concentration": positive, "rate": positive}
_CHANCE: dict[str, Constraint] = {"probs": unit_interval, "logits": real}
_CHANCES: dict[str, Constraint] = {"probs": simplex, "logits": real_vector}

Support = Constraint | Callable[[Any], Constraint]

# By the name of the class: what its parameters must be, and where its values are. A support that
# depends on the parameters is a function of the distribution.
TABLE: dict[str, tuple[dict[str, Constraint], Support]] = {
    "Bernoulli": (_CHANCE, boolean),
    "Beta": (_TWO_SHAPES, unit_interval),
    "Binomial": (
        {"total_count": nonnegative_integer, **_CHANCE},
        lambda d: integer_interval(0, d.total_count),
    ),
    "Categorical": (_CHANCES, lambda d: integer_interval(0, d.param_shape[-1] - 1)),
    "Cauchy": (_SCALED, real),
    "Chi2": ({"df": positive}, nonnegative),
    "Dirichlet": ({"concentration": independent(positive, 1)}, simplex),
    "Exponential": ({"rate": positive}, nonnegative),
    "FisherSnedecor": ({"df1": positive, "df2": positive}, positive),
    "Gamma": (_GAMMA, nonnegative),
    "Geometric": (_CHANCE, nonnegative_integer),
    "Gumbel": (_SCALED, real),
    "HalfCauchy": ({"scale": positive}, nonnegative),
    "HalfNormal": ({"scale": positive}, nonnegative),
    "Independent": (
        {},
        lambda d: (
            independent(d.base_dist.support, d.reinterpreted_batch_ndims)
            if d.reinterpreted_batch_ndims
            else d.base_dist.support
        ),
    ),
    "InverseGamma": (_GAMMA, positive),
    "Kumaraswamy": (_TWO_SHAPES, unit_interval),
    "Laplace": (_SCALED, real),
    "LogNormal": (_SCALED, positive),
    "LogisticNormal": (_SCALED, simplex),
    "LowRankMultivariateNormal": (
        {
            "loc": real_vector,
            "cov_factor": independent(real, 2),
            "cov_diag": independent(positive, 1),
        },
        real_vector,
    ),
    "MixtureSameFamily": ({}, lambda d: d.component_distribution.support),
    "Multinomial": (_CHANCES, lambda d: multinomial(d.total_count)),
    "MultivariateNormal": (
        {
            "loc": real_vector,
            "covariance_matrix": positive_definite,
            "precision_matrix": positive_definite,
            "scale_tril": lower_cholesky,
        },
        real_vector,
    ),
    "NegativeBinomial": (
        {
            "total_count": greater_than_eq(0),
            "probs": half_open_interval(0.0, 1.0),
            "logits": real,
        },
        nonnegative_integer,
    ),
    "Normal": (_SCALED, real),
    "OneHotCategorical": (_CHANCES, one_hot),
    "Pareto": ({"alpha": positive, "scale": positive}, lambda d: greater_than_eq(d.scale)),
    "Poisson": ({"rate": nonnegative}, nonnegative_integer),
    "RelaxedBernoulli": (_CHANCE, unit_interval),
    "RelaxedOneHotCategorical": (_CHANCES, simplex),
    "StudentT": ({"df": positive, **_SCALED}, real),
    "TransformedDistribution": ({}, lambda d: d._codomain()),
    "Uniform": ({"low": real, "high": real}, lambda d: interval(d.low, d.high)),
    "VonMises": ({"loc": real, "concentration": positive}, real),
    "Weibull": ({"scale": positive, "concentration": positive}, positive),
}


def of(distribution: Any) -> tuple[dict[str, Constraint], Constraint]:
    """What the parameters of a distribution must be, and where its values are."""
    for kind in type(distribution).__mro__:
        if kind.__name__ in TABLE:
            arguments, support = TABLE[kind.__name__]
            return arguments, support if isinstance(support, Constraint) else support(distribution)
    raise NotImplementedError(f"{type(distribution).__name__} does not say where its values are")
