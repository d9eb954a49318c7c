"""Running extremes and log-sums, and the most frequent element."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dualgraph_compiler import dtypes as dt
from dualgraph_compiler.ops import running

from .._dispatch import apply1
from .._promote import Defaults, cast
from .basics import axis_of, device_for_like, finish
from .creation import arange
from .joining import cat
from .results import ValuesIndices, named

if TYPE_CHECKING:
    from .._tensor import Tensor

_cummax_result = named("cummax", ValuesIndices)
_cummin_result = named("cummin", ValuesIndices)
_mode_result = named("mode", ValuesIndices)


def _extreme(name: str, op: Any, input: Tensor, dim: int, out: Any) -> tuple[Tensor, Tensor]:
    axis = axis_of(name, dim, input._data.ndim)
    indices = apply1(op(axis), input)
    values = input.gather(axis, indices) if input._data.ndim else input.clone()
    if out is not None:
        return finish(values, out[0]), finish(indices, out[1])
    return values, indices


def cummax(input: Tensor, dim: int, *, out: Any = None) -> Any:
    """(values, indices) of the largest element up to each one along `dim`; of equal ones the last.

    NaN is larger than every number.
    """
    return _cummax_result(_extreme("cummax", running.RunningArgMax, input, dim, out))


def cummin(input: Tensor, dim: int, *, out: Any = None) -> Any:
    """(values, indices) of the smallest element up to each one along `dim`; of equal ones the last.

    NaN is smaller than every number.
    """
    return _cummin_result(_extreme("cummin", running.RunningArgMin, input, dim, out))


def logcumsumexp(input: Tensor, dim: int, *, out: Tensor | None = None) -> Tensor:
    """Log of the running sums of exp(input) along `dim`, without overflow."""
    axis = axis_of("logcumsumexp", dim, input._data.ndim)
    x = input if input.dtype.category >= dt.FLOAT else cast(input, Defaults.dtype)
    return finish(apply1(running.LogCumsumExp(axis), x), out)


def mode(input: Tensor, dim: int = -1, keepdim: bool = False, *, out: Any = None) -> Any:
    """(values, indices) of the most frequent element along `dim`: the smallest of several.

    The index is that of its last occurrence.
    """
    axis = axis_of("mode", dim, input._data.ndim)
    if not input._data.ndim:
        return _mode_result((input.clone(), input.new_zeros((), dtype=dt.int64)))
    ordered, order = input.detach().sort(axis)
    # Each element's place in its run of equal ones: the first of the largest ends the first mode.
    size = input._data.shape[axis]
    line = [1] * input._data.ndim
    line[axis] = size
    places = arange(size, device=device_for_like(input, None)).reshape(line)
    later, earlier = ordered.narrow(axis, 1, size - 1), ordered.narrow(axis, 0, size - 1)
    starts = (later != earlier).to(dt.int64) * places.narrow(axis, 1, size - 1)
    starts = cat([places.narrow(axis, 0, 1).expand_as(order.narrow(axis, 0, 1)), starts], axis)
    end = (places - cummax(starts, axis)[0]).argmax(axis, True)
    indices = order.gather(axis, end)
    values = input.gather(axis, indices)
    if not keepdim:
        values, indices = values.squeeze(axis), indices.squeeze(axis)
    if out is not None:
        values, indices = finish(values, out[0]), finish(indices, out[1])
    return _mode_result((values, indices))
