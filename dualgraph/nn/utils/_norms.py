"""Norms of weights."""

from __future__ import annotations

from dualgraph._tensor import Tensor


def norm_except(v: Tensor, dim: int) -> Tensor:
    """The 2-norm over all axes but `dim`, which stay with size 1; over all, 0-d, for -1."""
    if dim == -1:
        return v.norm()
    axes = tuple(i for i in range(v.ndim) if i != dim % v.ndim)
    return v.norm(2, dim=axes, keepdim=True) if axes else v.abs()
