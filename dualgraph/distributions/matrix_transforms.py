"""Transforms of vectors onto the simplex and of matrices; several transforms side by side."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import dualgraph as dg
from dualgraph._tensor import Size, Tensor

from .transforms import Transform

__all__ = [
    "CumulativeDistributionTransform",
    "LowerCholeskyTransform",
    "PositiveDefiniteTransform",
    "StackTransform",
    "StickBreakingTransform",
]


class StickBreakingTransform(Transform):
    """K - 1 numbers to a point of the simplex of K coordinates: parts of what is left of a stick.

    Source: torch.distributions.StickBreakingTransform.
    """

    domain_dim = codomain_dim = 1

    def _offset(self, x: Tensor, count: int) -> Tensor:
        """Log of how many parts are still to come, so that 0 is the centre."""
        return dg.arange(count, 0, -1, dtype=x.dtype, device=x.device).log()

    def __call__(self, x: Tensor) -> Tensor:
        part = (x - self._offset(x, x.shape[-1])).sigmoid()
        left = (1 - part).cumprod(-1)
        one = dg.ones_like(part[..., :1])
        return dg.cat([part, one], -1) * dg.cat([one, left], -1)

    def _inverse(self, y: Tensor) -> Tensor:
        cut = y[..., :-1]
        left = (1 - cut.cumsum(-1)).clamp(min=dg.finfo(y.dtype).tiny)
        return cut.log() - left.log() + self._offset(y, cut.shape[-1])

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        x = x - self._offset(x, x.shape[-1])
        return (-x + dg.nn.functional.logsigmoid(x) + y[..., :-1].log()).sum(-1)

    def forward_shape(self, shape: Any) -> Size:
        return Size((*shape[:-1], shape[-1] + 1))

    def inverse_shape(self, shape: Any) -> Size:
        return Size((*shape[:-1], shape[-1] - 1))


class LowerCholeskyTransform(Transform):
    """Square matrices to lower triangular ones with a positive diagonal, its exponential."""

    domain_dim = codomain_dim = 2

    def __call__(self, x: Tensor) -> Tensor:
        return x.tril(-1) + x.diagonal(dim1=-2, dim2=-1).exp().diag_embed()

    def _inverse(self, y: Tensor) -> Tensor:
        return y.tril(-1) + y.diagonal(dim1=-2, dim2=-1).log().diag_embed()


class PositiveDefiniteTransform(Transform):
    """Square matrices to positive definite ones, by their lower triangular factor."""

    domain_dim = codomain_dim = 2

    def __call__(self, x: Tensor) -> Tensor:
        factor = LowerCholeskyTransform()(x)
        return factor @ factor.mT

    def _inverse(self, y: Tensor) -> Tensor:
        return LowerCholeskyTransform().inv(dg.linalg.cholesky(y))


class StackTransform(Transform):
    """One transform for each slice along `dim`."""

    def __init__(self, tseq: Sequence[Transform], dim: int = 0) -> None:
        self.transforms = list(tseq)
        self.dim = dim
        self.bijective = all(t.bijective for t in self.transforms)

    def _each(self, z: Tensor, functions: Sequence[Any]) -> Tensor:
        if z.shape[self.dim] != len(functions):
            raise ValueError(f"expected {len(functions)} slices, got {z.shape[self.dim]}")
        slices = z.unbind(self.dim)
        return dg.stack([f(s) for f, s in zip(functions, slices, strict=True)], self.dim)

    def __call__(self, x: Tensor) -> Tensor:
        return self._each(x, self.transforms)

    def _inverse(self, y: Tensor) -> Tensor:
        return self._each(y, [t.inv for t in self.transforms])

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        pairs = zip(x.unbind(self.dim), y.unbind(self.dim), strict=True)
        found = [t.log_abs_det_jacobian(*p) for t, p in zip(self.transforms, pairs, strict=True)]
        return dg.stack(found, self.dim)


class CumulativeDistributionTransform(Transform):
    """Y = the distribution function of `distribution` at x."""

    def __init__(self, distribution: Any) -> None:
        self.distribution = distribution

    def __call__(self, x: Tensor) -> Tensor:
        found: Tensor = self.distribution.cdf(x)
        return found

    def _inverse(self, y: Tensor) -> Tensor:
        found: Tensor = self.distribution.icdf(y)
        return found

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        found: Tensor = self.distribution.log_prob(x)
        return found
