"""Integrals of samples by the trapezoidal rule."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .basics import axis_of
from .reduction import cumsum, diff, sum

if TYPE_CHECKING:
    from .._tensor import Tensor


def trapezoid(y: Tensor, x: Tensor | None = None, *, dx: Any = 1, dim: int = -1) -> Tensor:
    """The integral along `dim` of samples `y` taken at `x`, or every `dx`.

    Shapes: y [..., n, ...]; x [n] or one that broadcasts with y -> y without `dim`.
    """
    return sum(_areas("trapezoid", y, x, dx, dim), dim)


def cumulative_trapezoid(
    y: Tensor, x: Tensor | None = None, *, dx: Any = 1, dim: int = -1
) -> Tensor:
    """The integrals from the first sample to each later one: [..., n - 1, ...]."""
    return cumsum(_areas("cumulative_trapezoid", y, x, dx, dim), dim)


trapz = trapezoid


def _areas(name: str, y: Tensor, x: Tensor | None, dx: Any, dim: int) -> Tensor:
    """Between each sample and the next."""
    axis = axis_of(name, dim, y._data.ndim)
    size = y._data.shape[axis]
    count = max(size - 1, 0)
    sums = y.narrow(axis, size - count, count) + y.narrow(axis, 0, count)
    if x is None:
        return sums * dx / 2.0  # type: ignore[no-any-return]
    if x._data.ndim == 1 and y._data.ndim > 1:
        shape = [1] * y._data.ndim
        shape[axis] = x._data.shape[0]
        x = x.reshape(shape)
    steps = diff(x, dim=axis - y._data.ndim)
    return sums * steps / 2.0
