"""Normal distributions of vectors."""

from __future__ import annotations

import math
from typing import Any

import dualgraph as dg
from dualgraph._tensor import Tensor
from dualgraph_compiler.errors import ArgumentError

from .distribution import Distribution
from .kl import register_kl

__all__ = ["LowRankMultivariateNormal", "MultivariateNormal"]


class MultivariateNormal(Distribution):
    """The normal distribution of vectors with mean `loc` and one of three matrices.

    Args:
        loc: [*batch, n].
        covariance_matrix: positive definite, [*batch, n, n].
        precision_matrix: its inverse.
        scale_tril: its lower triangular factor, with a positive diagonal.
        validate_args: whether arguments are checked.

    Source: torch.distributions.MultivariateNormal.
    """

    has_rsample = True

    def __init__(
        self,
        loc: Tensor,
        covariance_matrix: Tensor | None = None,
        precision_matrix: Tensor | None = None,
        scale_tril: Tensor | None = None,
        validate_args: bool | None = None,
    ) -> None:
        given = [m for m in (covariance_matrix, precision_matrix, scale_tril) if m is not None]
        if len(given) != 1:
            raise ArgumentError(
                "Exactly one of covariance_matrix or precision_matrix or scale_tril may be "
                "specified."
            )
        (matrix,) = given
        if loc.ndim < 1:
            raise ArgumentError("loc must be at least one-dimensional.")
        if matrix.ndim < 2:
            raise ArgumentError(
                "the matrix must be at least two-dimensional, with optional leading batch "
                "dimensions"
            )
        batch = dg.broadcast_shapes(matrix.shape[:-2], loc.shape[:-1])
        n = loc.shape[-1]
        self.loc = loc.expand((*batch, n))
        matrix = matrix.expand((*batch, *matrix.shape[-2:]))
        super().__init__(batch, (n,), validate_args)
        self._check(lambda: self.loc == self.loc, "the parameter loc", "real numbers")
        if scale_tril is not None:
            self._given = "scale_tril"
            self._factor = matrix
            diagonal = matrix.diagonal(dim1=-2, dim2=-1)
            self._check(
                lambda: (matrix.tril() == matrix).all() & (diagonal > 0).all(),
                "the parameter scale_tril",
                "lower triangular matrices with a positive diagonal",
            )
            return
        self._given = "precision_matrix" if covariance_matrix is None else "covariance_matrix"
        self._check(
            lambda: (matrix - matrix.mT).abs() <= 1e-6,
            f"the parameter {self._given}",
            "symmetric positive definite matrices",
        )
        self._factor = (
            dg.linalg.cholesky(matrix)
            if covariance_matrix is not None
            else _factor_of_inverse(matrix)
        )
        self._matrix = matrix

    @property
    def scale_tril(self) -> Tensor:
        """The lower triangular factor of the covariance."""
        return self._factor

    @property
    def covariance_matrix(self) -> Tensor:
        """The covariance of the elements."""
        if self._given == "covariance_matrix":
            return self._matrix
        return self._factor @ self._factor.mT

    @property
    def precision_matrix(self) -> Tensor:
        """The inverse of the covariance."""
        if self._given == "precision_matrix":
            return self._matrix
        return dg.cholesky_inverse(self._factor)

    @property
    def mean(self) -> Tensor:
        return self.loc

    @property
    def mode(self) -> Tensor:
        return self.loc

    @property
    def variance(self) -> Tensor:
        return (self._factor**2).sum(-1)

    def expand(self, batch_shape: Any) -> MultivariateNormal:
        n = self._event_shape[0]
        factor = self._factor.expand((*batch_shape, n, n))
        new = MultivariateNormal(
            self.loc.expand((*batch_shape, n)), scale_tril=factor, validate_args=False
        )
        new._validate_args = self._validate_args
        return new

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        shape = self._extended_shape(sample_shape)
        noise = dg.randn(shape, dtype=self.loc.dtype, device=self.loc.device)
        return self.loc + (self._factor @ noise.unsqueeze(-1)).squeeze(-1)

    def log_prob(self, value: Tensor) -> Tensor:
        self._check(lambda: value == value, "value", "real numbers")
        n = self._event_shape[0]
        return -0.5 * (n * math.log(2 * math.pi) + _distance(self, value)) - self._log_scale()

    def _log_scale(self) -> Tensor:
        """The logarithm of the factor's determinant."""
        return self._factor.diagonal(dim1=-2, dim2=-1).log().sum(-1)

    def entropy(self) -> Tensor:
        n = self._event_shape[0]
        return 0.5 * n * (1 + math.log(2 * math.pi)) + self._log_scale()

    def __repr__(self) -> str:
        matrix = getattr(self, self._given)
        return f"MultivariateNormal(loc: {self.loc.size()}, {self._given}: {matrix.size()})"


def _factor_of_inverse(precision: Tensor) -> Tensor:
    """The lower triangular factor of a matrix's inverse: factorized from the last row on."""
    flipped = dg.linalg.cholesky(precision.flip((-2, -1)))
    upper = flipped.flip((-2, -1)).mT
    eye = dg.eye(precision.shape[-1], dtype=precision.dtype, device=precision.device)
    return dg.linalg.solve_triangular(upper, eye.expand(precision.shape), upper=False)


def _distance(d: MultivariateNormal, value: Tensor) -> Tensor:
    """Mahalanobis' distance from the mean, squared."""
    gap = (value - d.loc).unsqueeze(-1)
    factor = d._factor.expand(
        (*dg.broadcast_shapes(gap.shape[:-2], d.batch_shape), *d._factor.shape[-2:])
    )
    gap = gap.expand((*factor.shape[:-1], 1))
    return dg.linalg.solve_triangular(factor, gap, upper=False).square().sum((-2, -1))


class LowRankMultivariateNormal(Distribution):
    """The normal distribution with covariance W W^T + diag(D), W of few columns.

    Args:
        loc: [*batch, n].
        cov_factor: W, [*batch, n, m].
        cov_diag: D, [*batch, n], positive.
        validate_args: whether arguments are checked.

    Nothing of size n by n is factorized. Source: torch.distributions.LowRankMultivariateNormal.
    """

    has_rsample = True
    _parameters = ("loc", "cov_factor", "cov_diag")

    def __init__(
        self,
        loc: Tensor,
        cov_factor: Tensor,
        cov_diag: Tensor,
        validate_args: bool | None = None,
    ) -> None:
        n, m = cov_factor.shape[-2:]
        if loc.shape[-1] != n or cov_diag.shape[-1] != n:
            raise ArgumentError(f"cov_factor must be a batch of matrices with shape {n} x m")
        batch = dg.broadcast_shapes(loc.shape[:-1], cov_factor.shape[:-2], cov_diag.shape[:-1])
        self.loc = loc.expand((*batch, n))
        self.cov_factor = cov_factor.expand((*batch, n, m))
        self.cov_diag = cov_diag.expand((*batch, n))
        super().__init__(batch, (n,), validate_args)
        self._check(lambda: self.cov_diag > 0, "the parameter cov_diag", "positive numbers")

    @property
    def mean(self) -> Tensor:
        return self.loc

    @property
    def mode(self) -> Tensor:
        return self.loc

    @property
    def variance(self) -> Tensor:
        return self.cov_factor.square().sum(-1) + self.cov_diag

    @property
    def covariance_matrix(self) -> Tensor:
        """The covariance of the elements."""
        return self.cov_factor @ self.cov_factor.mT + self.cov_diag.diag_embed()

    @property
    def precision_matrix(self) -> Tensor:
        """The inverse of the covariance, by Woodbury's identity."""
        scaled = self.cov_factor.mT / self.cov_diag.unsqueeze(-2)
        part = dg.linalg.solve_triangular(self._capacitance(), scaled, upper=False)
        return self.cov_diag.reciprocal().diag_embed() - part.mT @ part

    @property
    def scale_tril(self) -> Tensor:
        """The lower triangular factor of the covariance."""
        return dg.linalg.cholesky(self.covariance_matrix)

    def _capacitance(self) -> Tensor:
        """The lower triangular factor of I + W^T D^-1 W, of size m."""
        scaled = self.cov_factor.mT / self.cov_diag.unsqueeze(-2)
        inner = scaled @ self.cov_factor
        eye = dg.eye(inner.shape[-1], dtype=inner.dtype, device=inner.device)
        return dg.linalg.cholesky(inner + eye)

    def expand(self, batch_shape: Any) -> LowRankMultivariateNormal:
        n, m = self.cov_factor.shape[-2:]
        return LowRankMultivariateNormal(
            self.loc.expand((*batch_shape, n)),
            self.cov_factor.expand((*batch_shape, n, m)),
            self.cov_diag.expand((*batch_shape, n)),
            self.__dict__.get("_validate_args"),
        )

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        shape = self._extended_shape(sample_shape)
        options: dict[str, Any] = {"dtype": self.loc.dtype, "device": self.loc.device}
        few = dg.randn((*shape[:-1], self.cov_factor.shape[-1]), **options)
        each = dg.randn(shape, **options)
        shared = (self.cov_factor @ few.unsqueeze(-1)).squeeze(-1)
        return self.loc + shared + self.cov_diag.sqrt() * each

    def _log_determinant(self) -> Tensor:
        inner = self._capacitance().diagonal(dim1=-2, dim2=-1).log().sum(-1)
        return 2 * inner + self.cov_diag.log().sum(-1)

    def log_prob(self, value: Tensor) -> Tensor:
        self._check(lambda: value == value, "value", "real numbers")
        gap = value - self.loc
        scaled = (gap / self.cov_diag).unsqueeze(-1)
        projected = self.cov_factor.mT @ scaled
        factor = self._capacitance().expand((*projected.shape[:-2], -1, -1))
        part = dg.linalg.solve_triangular(factor, projected, upper=False)
        distance = (gap.square() / self.cov_diag).sum(-1) - part.square().sum((-2, -1))
        n = self._event_shape[0]
        return -0.5 * (n * math.log(2 * math.pi) + self._log_determinant() + distance)

    def entropy(self) -> Tensor:
        n = self._event_shape[0]
        return 0.5 * (n * (1 + math.log(2 * math.pi)) + self._log_determinant())


@register_kl(MultivariateNormal, MultivariateNormal)
def _kl(p: MultivariateNormal, q: MultivariateNormal) -> Tensor:
    n = p.event_shape[0]
    batch = dg.broadcast_shapes(p.batch_shape, q.batch_shape)
    mine, theirs = (d._factor.expand((*batch, n, n)) for d in (p, q))
    trace = dg.linalg.solve_triangular(theirs, mine, upper=False).square().sum((-2, -1))
    return q._log_scale() - p._log_scale() + 0.5 * (trace + _distance(q, p.loc) - n)
