"""Reductions: sums, means, extremes, quantifiers; with PyTorch's `dim`, `keepdim` and dtypes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from dualgraph_compiler import dtypes as dt
from dualgraph_compiler.errors import ArgumentError, DTypeError, IndexOutOfRange, ShapeError
from dualgraph_compiler.ops import convert as cv
from dualgraph_compiler.ops import cumulative as cu
from dualgraph_compiler.ops import indexing as ix
from dualgraph_compiler.ops import quantifier as qf
from dualgraph_compiler.ops import reduction as rd
from dualgraph_compiler.ops import sorting as so
from dualgraph_compiler.ops.numeric import XorReduce

from .._dispatch import apply1, apply2
from .._promote import Defaults, cast
from .arithmetic import maximum, minimum
from .basics import axes_of, axis_of, finish
from .results import MinMax, ValuesIndices, named

if TYPE_CHECKING:
    from .._tensor import Tensor

_ndarray = np.ndarray
_SUM_OF_ALL = [rd.Sum(tuple(range(n))) for n in range(65)]
_MEAN_OF_ALL = [rd.Mean(tuple(range(n))) for n in range(65)]

_max_result = named("max", ValuesIndices)
_min_result = named("min", ValuesIndices)
_aminmax_result = named("aminmax", MinMax)


def _numeric(input: Tensor, dtype: Any) -> Tensor:
    """The input in `dtype`, or with integers and bools as int64."""
    if dtype is not None:
        return cast(input, dt.as_dtype(dtype))
    if input._data.dtype.kind in "biu":
        return cast(input, dt.int64)
    return input


def sum(
    input: Tensor,
    dim: Any = None,
    keepdim: bool = False,
    *,
    dtype: Any = None,
    out: Tensor | None = None,
) -> Tensor:
    """Sum over `dim` (default all); integers and bools sum as int64."""
    if dim is None and not keepdim and dtype is None and out is None:
        data = input._data
        if data.__class__ is _ndarray and data.dtype.kind in "fcV":
            return apply1(_SUM_OF_ALL[data.ndim], input)
    input = _numeric(input, dtype)
    total: Tensor = apply1(rd.Sum(axes_of("sum", dim, input._data.ndim), keepdim), input)
    return total if out is None else finish(total, out)


def mean(
    input: Tensor,
    dim: Any = None,
    keepdim: bool = False,
    *,
    dtype: Any = None,
    out: Tensor | None = None,
) -> Tensor:
    """The mean over `dim` (default all), of floating-point and complex tensors."""
    if dim is None and not keepdim and dtype is None and out is None:
        data = input._data
        if data.__class__ is _ndarray and data.dtype.kind in "fcV":
            return apply1(_MEAN_OF_ALL[data.ndim], input)
    if dtype is not None:
        input = cast(input, dt.as_dtype(dtype))
    elif input.dtype.category < dt.FLOAT:
        raise DTypeError(
            "mean(): could not infer output dtype. Input dtype must be either a floating point or "
            f"complex dtype. Got: {input.dtype.name}"
        )
    average: Tensor = apply1(rd.Mean(axes_of("mean", dim, input._data.ndim), keepdim), input)
    return average if out is None else finish(average, out)


def prod(
    input: Tensor,
    dim: int | None = None,
    keepdim: bool = False,
    *,
    dtype: Any = None,
    out: Tensor | None = None,
) -> Tensor:
    """The product over one dimension (default all); integers and bools multiply as int64."""
    input = _numeric(input, dtype)
    return finish(apply1(rd.Prod(axes_of("prod", dim, input._data.ndim), keepdim), input), out)


def nansum(input: Tensor, dim: Any = None, keepdim: bool = False, *, dtype: Any = None) -> Tensor:
    """Sum over `dim` with NaN counted as zero."""
    if input.dtype.category == dt.FLOAT:
        input = input.masked_fill(input.isnan(), 0)
    return sum(input, dim, keepdim, dtype=dtype)


def nanmean(input: Tensor, dim: Any = None, keepdim: bool = False, *, dtype: Any = None) -> Tensor:
    """The mean over `dim` of what is not NaN."""
    present = sum(~input.isnan(), dim, keepdim)
    return nansum(input, dim, keepdim, dtype=dtype) / present


def count_nonzero(input: Tensor, dim: Any = None) -> Tensor:
    """The number of elements that are not zero, over `dim` (default all): int64."""
    return sum(input != 0, dim)


# -- extremes -------------------------------------------------------------------------------------


def _check_extreme(name: str, input: Tensor, axes: tuple[int, ...]) -> None:
    shape = input._data.shape
    if 0 in shape and any_zero(shape, axes):
        raise IndexOutOfRange(
            f"{name}(): Expected reduction dim to have non-zero size, got shape {list(shape)}. "
            "Specify the reduction dim with the 'dim' argument."
        )


def any_zero(shape: Any, axes: tuple[int, ...]) -> bool:
    """Whether one of the axes has no elements."""
    return 0 in [shape[a] for a in axes]


def amax(
    input: Tensor, dim: Any = (), keepdim: bool = False, *, out: Tensor | None = None
) -> Tensor:
    """The largest element over `dim` (default all); ties share the gradient."""
    axes = axes_of("amax", dim, input._data.ndim)
    _check_extreme("amax", input, axes)
    return finish(apply1(rd.Max(axes, keepdim), input), out)


def amin(
    input: Tensor, dim: Any = (), keepdim: bool = False, *, out: Tensor | None = None
) -> Tensor:
    """The smallest element over `dim` (default all); ties share the gradient."""
    axes = axes_of("amin", dim, input._data.ndim)
    _check_extreme("amin", input, axes)
    return finish(apply1(rd.Min(axes, keepdim), input), out)


def aminmax(input: Tensor, *, dim: int | None = None, keepdim: bool = False) -> Any:
    """The smallest and the largest element, over one dimension or all."""
    return _aminmax_result((amin(input, dim, keepdim), amax(input, dim, keepdim)))


def _extreme(name: str, input: Tensor, dim: int, keepdim: bool) -> tuple[Tensor, Tensor]:
    ndim = input._data.ndim
    axis = axis_of(name, dim, ndim)
    if not ndim:
        return input.clone(), input.new_zeros((), dtype=dt.int64)
    _check_extreme(name, input, (axis,))
    largest = name == "max"
    if not input.requires_grad:
        values = apply1((rd.Max if largest else rd.Min)((axis,), keepdim), input)
        return values, apply1((so.ArgMax if largest else so.ArgMin)(axis, keepdim), input)
    # Differentiated, the values are what the indices select: of equal elements, one.
    indices = apply1((so.ArgMax if largest else so.ArgMin)(axis, True), input)
    values = apply2(ix.Gather(axis), input, indices)
    return (values, indices) if keepdim else (values.squeeze(axis), indices.squeeze(axis))


def max(
    input: Tensor, dim: Any = None, keepdim: bool = False, *, other: Any = None, out: Any = None
) -> Any:
    """The largest element; ``max(x, dim)`` its (values, indices); ``max(a, b)`` as `maximum`."""
    return _peak("max", input, dim if other is None else other, keepdim, out)


def min(
    input: Tensor, dim: Any = None, keepdim: bool = False, *, other: Any = None, out: Any = None
) -> Any:
    """The smallest element; ``min(x, dim)`` its (values, indices); ``min(a, b)`` as `minimum`."""
    return _peak("min", input, dim if other is None else other, keepdim, out)


def _peak(name: str, input: Tensor, dim: Any, keepdim: bool, out: Any) -> Any:
    largest = name == "max"
    if dim is None:
        return finish((amax if largest else amin)(input), out)
    if hasattr(dim, "_data"):
        return (maximum if largest else minimum)(input, dim, out=out)
    found = _extreme(name, input, dim, keepdim)
    if out is not None:
        found = (finish(found[0], out[0]), finish(found[1], out[1]))
    return (_max_result if largest else _min_result)(found)


def argmax(input: Tensor, dim: int | None = None, keepdim: bool = False) -> Tensor:
    """Where the first largest element is, along `dim` or in the flattened tensor: int64."""
    return _arg("argmax", so.ArgMax, input, dim, keepdim)


def argmin(input: Tensor, dim: int | None = None, keepdim: bool = False) -> Tensor:
    """Where the first smallest element is, along `dim` or in the flattened tensor: int64."""
    return _arg("argmin", so.ArgMin, input, dim, keepdim)


def _arg(name: str, op: Any, input: Tensor, dim: int | None, keepdim: bool) -> Tensor:
    ndim = input._data.ndim
    if not ndim:
        return input.new_zeros((), dtype=dt.int64)
    if dim is None:
        _check_extreme(name, input, tuple(range(ndim)))
        flat = apply1(op(0, False), input.reshape(-1))
        return flat.reshape((1,) * ndim) if keepdim else flat
    axis = axis_of(name, dim, ndim)
    _check_extreme(name, input, (axis,))
    return apply1(op(axis, keepdim), input)


def hash_tensor(
    input: Tensor, dim: Any = (), *, keepdim: bool = False, mode: int = 0, out: Any = None
) -> Tensor:
    """The bits of the elements over `dim` (default all), as 64-bit numbers, folded by xor: uint64.

    Raises ArgumentError for another `mode` than 0.
    """
    if mode != 0:
        raise ArgumentError(f"hash_tensor: only mode 0, xor, is supported, got {mode}")
    if input.dtype.is_complex:
        raise DTypeError("hash_tensor: complex numbers have no 64-bit form")
    wide = cast(input, dt.float64 if input.is_floating_point() else dt.int64)
    bits = apply1(cv.BitCast(dt.uint64), wide.detach())
    axes = axes_of("hash_tensor", dim, input._data.ndim)
    return finish(apply1(XorReduce(axes, keepdim), bits), out)


# -- truth ----------------------------------------------------------------------------------------


def any(input: Tensor, dim: Any = None, keepdim: bool = False, *, out: Any = None) -> Tensor:
    """Whether some element over `dim` (default all) is not zero: bool (uint8 for uint8)."""
    found: Tensor = apply1(qf.Any(axes_of("any", dim, input._data.ndim), keepdim), input)
    return finish(cast(found, dt.uint8) if input.dtype is dt.uint8 else found, out)


def all(input: Tensor, dim: Any = None, keepdim: bool = False, *, out: Any = None) -> Tensor:
    """Whether no element over `dim` (default all) is zero: bool (uint8 for uint8)."""
    found: Tensor = apply1(qf.All(axes_of("all", dim, input._data.ndim), keepdim), input)
    return finish(cast(found, dt.uint8) if input.dtype is dt.uint8 else found, out)


# -- logarithms of sums, running sums -------------------------------------------------------------


def logsumexp(
    input: Tensor, dim: Any, keepdim: bool = False, *, out: Tensor | None = None
) -> Tensor:
    """log(sum(exp(input))) over `dim`, without overflow."""
    if input.dtype.category < dt.FLOAT:
        input = cast(input, Defaults.dtype)
    axes = axes_of("logsumexp", dim, input._data.ndim)
    if input.dtype.is_complex:
        largest = amax(input.real, axes, True).detach()
        largest = largest.masked_fill(largest.isinf(), 0)
        rest = sum((input - largest).exp(), axes, True).log() + largest
        return finish(rest if keepdim else rest.squeeze(axes), out)
    return finish(apply1(rd.LogSumExp(axes, keepdim), input), out)


def _along(name: str, input: Tensor, dim: int, dtype: Any) -> tuple[Tensor, int]:
    return _numeric(input, dtype), axis_of(name, dim, input._data.ndim)


def cumsum(input: Tensor, dim: int, *, dtype: Any = None, out: Tensor | None = None) -> Tensor:
    """Running sums along `dim`; integers and bools as int64."""
    x, axis = _along("cumsum", input, dim, dtype)
    return finish(apply1(cu.Cumsum(axis), x), out)


def cumprod(input: Tensor, dim: int, *, dtype: Any = None, out: Tensor | None = None) -> Tensor:
    """Running products along `dim`; integers and bools as int64."""
    x, axis = _along("cumprod", input, dim, dtype)
    return finish(apply1(cu.Cumprod(axis), x), out)


def diff(
    input: Tensor,
    n: int = 1,
    dim: int = -1,
    prepend: Tensor | None = None,
    append: Tensor | None = None,
    *,
    out: Tensor | None = None,
) -> Tensor:
    """Differences of neighbours along `dim`, taken `n` times; tensors may be put at the ends."""
    if not input._data.ndim:
        raise ShapeError("diff expects input to be at least one-dimensional")
    axis = axis_of("diff", dim, input._data.ndim)
    if n and (prepend is not None or append is not None):
        from .joining import cat

        input = cat([t for t in (prepend, input, append) if t is not None], axis)
    for _ in range(n):
        size = input._data.shape[axis]
        if size == 0:
            break
        later, earlier = input.narrow(axis, 1, size - 1), input.narrow(axis, 0, size - 1)
        input = later ^ earlier if input.dtype is dt.bool_ else later - earlier
    return finish(input.clone() if n == 0 else input, out)
