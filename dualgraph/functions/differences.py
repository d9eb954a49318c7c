"""Derivatives of sampled functions by differences."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dualgraph_compiler import dtypes as dt
from dualgraph_compiler.errors import ArgumentError

from .._promote import Defaults, cast
from .basics import axis_of
from .joining import cat

if TYPE_CHECKING:
    from .._tensor import Tensor


def gradient(
    input: Tensor, *, spacing: Any = None, dim: Any = None, edge_order: int = 1
) -> tuple[Tensor, ...]:
    """The partial derivative of the sampled function `input` along each `dim` (default all).

    Second-order differences inside, of `edge_order` 1 or 2 at the ends. `spacing`: the distance of
    samples, one for all or one each, or for each dimension a 1-d tensor of coordinates. Integers
    become floats. Shapes: the input's, for each dim.

    Raises:
        ArgumentError: a dimension has less than edge_order + 1 samples, or `spacing` does not fit.
    """
    if edge_order not in (1, 2):
        raise ArgumentError("torch.gradient only supports edge_order=1 and edge_order=2.")
    ndim = input._data.ndim
    dims = range(ndim) if dim is None else [dim] if isinstance(dim, int) else dim
    axes = [axis_of("gradient", d, ndim) for d in dims]
    x = input if input.dtype.category >= dt.FLOAT else cast(input, Defaults.dtype)
    each = _spacings(spacing, len(axes), dim is None)
    for axis in axes:
        if x._data.shape[axis] < edge_order + 1:
            raise ArgumentError(
                "torch.gradient expected each dimension size to be at least edge_order+1"
            )
    return tuple(_along(x, axis, h, edge_order) for axis, h in zip(axes, each, strict=True))


def _spacings(spacing: Any, count: int, every: bool) -> list[Any]:
    if spacing is None:
        return [1.0] * count
    if not isinstance(spacing, list | tuple):
        return [spacing] * count
    if len(spacing) != count:
        given = "was not given" if every else f"has length {count}"
        raise ArgumentError(
            "torch.gradient expected spacing to be unspecified, a scalar, or a list of length "
            f"equal to '{count}', since dim argument {given}, but got a list of length "
            f"{len(spacing)}"
        )
    return list(spacing)


def _along(x: Tensor, axis: int, h: Any, order: int) -> Tensor:
    """The derivative along one axis."""
    n = x._data.shape[axis]

    def at(start: int, count: int) -> Tensor:
        return x.narrow(axis, start % n, count)

    def sum_of(start: int, weights: Any) -> Tensor:
        """Consecutive samples from `start` on, weighted."""
        total: Any = 0
        for i, w in enumerate(weights):
            total = total + at(start % n + i, 1) * w
        return total  # type: ignore[no-any-return]

    if hasattr(h, "_data") and h._data.ndim:
        steps = (h[1:] - h[:-1]).to(x.dtype)
        left, right = steps[:-1].reshape(_line(x, axis)), steps[1:].reshape(_line(x, axis))
        inner = (
            at(2, n - 2) * (left / (right * (left + right)))
            - at(0, n - 2) * (right / (left * (left + right)))
            + at(1, n - 2) * ((right - left) / (left * right))
        )
        first, last = steps[0], steps[-1]
        if order == 2:
            a, b, c, d = first, steps[1], steps[-2], last
            low = [-(2 * a + b) / (a * (a + b)), (a + b) / (a * b), -a / (b * (a + b))]
            high = [d / (c * (c + d)), -(c + d) / (c * d), (2 * d + c) / (d * (c + d))]
    else:
        inner = (at(2, n - 2) - at(0, n - 2)) / (2 * h)
        first = last = h
        low = [-1.5 / h, 2.0 / h, -0.5 / h]
        high = [0.5 / h, -2.0 / h, 1.5 / h]
    if order == 1:
        low, high = [-1 / first, 1 / first], [-1 / last, 1 / last]
    return cat([sum_of(0, low), inner, sum_of(-len(high), high)], axis)


def _line(x: Tensor, axis: int) -> list[int]:
    """The shape of a row of numbers along `axis` beside `x`."""
    shape = [1] * x._data.ndim
    shape[axis] = -1
    return shape
