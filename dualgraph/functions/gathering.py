"""Gathers and scatters by name: gather, scatter, index_select, take, masks, nonzero."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from dualgraph_compiler import dtypes as dt
from dualgraph_compiler.dims import Dim
from dualgraph_compiler.errors import ArgumentError, DTypeError, IndexOutOfRange, ShapeError
from dualgraph_compiler.ops import advanced_indexing as adv
from dualgraph_compiler.ops import indexing as ix
from dualgraph_compiler.ops.base import shape_text
from dualgraph_compiler.ops.comparison import Where

from .._dispatch import apply, apply1
from .._promote import cast
from .basics import axis_of, finish, number_like
from .parts import part
from .shape import broadcast_tensors, expand, reshape

if TYPE_CHECKING:
    from .._tensor import Tensor


def _index(name: str, index: Tensor) -> Tensor:
    """An index, which must be int64 (or int32, and for `gather` any integer: converted)."""
    if index.dtype is dt.int32 or (name == "gather" and index.dtype.category == dt.INT):
        return cast(index, dt.int64)
    if index.dtype is not dt.int64:
        raise DTypeError(f"{name}(): Expected dtype int64 for index, got {index.dtype.name}")
    return index


def gather(
    input: Tensor, dim: int, index: Tensor, *, sparse_grad: bool = False, out: Any = None
) -> Tensor:
    """``out[i][j] = input[index[i][j]][j]`` (for dim 0); index's shape."""
    axis = axis_of("gather", dim, input._data.ndim)
    if index._data.size == 0:
        nothing = part(reshape(input, (-1,)), 0, 0, 0)
        return finish(reshape(nothing, tuple(index._data.shape)), out)
    return finish(apply(ix.Gather(axis), input, _index("gather", index)), out)


def _covered(src: Tensor, index: Tensor) -> Tensor:
    """The part of `src` that an index of this shape reads."""
    for axis, (n, d) in enumerate(zip(index._data.shape, src._data.shape, strict=False)):
        if n != d:
            src = part(src, axis, 0, n)
    return src


def _source(input: Tensor, index: Tensor, src: Any, value: Any) -> Tensor:
    if src is None:
        src = value
    if not hasattr(src, "_data"):
        return expand(number_like(src, input), tuple(index._data.shape))
    if src.dtype is not input.dtype:
        raise DTypeError(
            "scatter(): Expected self.dtype to be equal to src.dtype, "
            f"got {input.dtype.name} and {src.dtype.name}"
        )
    return _covered(src, index)


def scatter(
    input: Tensor,
    dim: int,
    index: Tensor,
    src: Any = None,
    *,
    value: Any = None,
    reduce: str | None = None,
    out: Any = None,
) -> Tensor:
    """A copy with ``out[index[i][j]][j] = src[i][j]`` (for dim 0); `src` may be a number.

    reduce="add" adds instead, "multiply" multiplies.
    """
    axis = axis_of("scatter", dim, input._data.ndim)
    index = _index("scatter", index)
    source = _source(input, index, src, value)
    if reduce is None:
        return finish(apply(ix.Scatter(axis), input, index, source), out)
    if reduce not in ("add", "multiply"):
        raise ArgumentError(f"scatter: reduce must be 'add', 'multiply' or None, got {reduce!r}")
    return finish(_scattered("sum" if reduce == "add" else "prod", input, axis, index, source), out)


def scatter_add(input: Tensor, dim: int, index: Tensor, src: Tensor, *, out: Any = None) -> Tensor:
    """A copy with ``out[index[i][j]][j] += src[i][j]`` (for dim 0)."""
    axis = axis_of("scatter_add", dim, input._data.ndim)
    index = _index("scatter_add", index)
    source = _source(input, index, src, None)
    return finish(apply(ix.ScatterAdd(axis), input, index, source), out)


def scatter_reduce(
    input: Tensor, dim: int, index: Tensor, src: Tensor, reduce: str, *, include_self: bool = True
) -> Tensor:
    """A copy with sources combined where their index points.

    `reduce` is "sum", "mean", "prod", "amax" or "amin"; without `include_self` the input counts
    only where no index points.

    Shapes: input any, index and src of as many dimensions -> that of input.
    """
    axis = axis_of("scatter_reduce", dim, input._data.ndim)
    index = _index("scatter_reduce", index)
    source = _source(input, index, src, None)
    if reduce not in _START:
        raise ArgumentError(
            f"scatter_reduce: reduce must be one of {', '.join(map(repr, _START))}, got {reduce!r}"
        )
    if include_self and reduce != "mean":
        return _scattered(reduce, input, axis, index, source)
    ones = source.new_ones(tuple(source._data.shape))
    zeros = input.new_zeros(tuple(input._data.shape))
    hits = _scattered("sum", zeros, axis, index, ones)
    start = input if include_self else input.masked_fill(hits.to(dt.bool_), _neutral(reduce, input))
    total = _scattered("sum" if reduce == "mean" else reduce, start, axis, index, source)
    if reduce != "mean":
        return total
    count = hits + 1 if include_self else hits.clamp_min(1)
    if input.dtype.category < dt.FLOAT:
        return total.div(count, rounding_mode="floor")
    return total / count


# What a reduction starts from; None for the least or largest number of the dtype.
_START = {"sum": 0, "prod": 1, "mean": 0, "amax": None, "amin": None}


def _neutral(reduce: str, input: Tensor) -> Any:
    """What changes nothing where it is combined with an element."""
    value = _START[reduce]
    if value is not None:
        return value
    if input.dtype is dt.bool_:
        return reduce == "amin"
    if input.dtype.category == dt.FLOAT:
        return -math.inf if reduce == "amax" else math.inf
    limits = np.iinfo(input.dtype.np)
    return int(limits.min if reduce == "amax" else limits.max)


def _scattered(reduce: str, input: Tensor, axis: int, index: Tensor, source: Tensor) -> Tensor:
    if input.dtype is dt.bool_:  # sums and maxima of bools are "or", the others "and"
        kinds = {"sum": "amax", "prod": "amin"}
        wide = (cast(x, dt.uint8) for x in (input, source))
        start, added = wide
        found = _scattered(kinds.get(reduce, reduce), start, axis, index, added)
        return cast(found, dt.bool_)
    if reduce == "sum":
        return apply(ix.ScatterAdd(axis), input, index, source)
    kind = {"prod": "mul", "amax": "max", "amin": "min"}[reduce]
    return apply(ix.ScatterReduce(axis, kind), input, index, source)


# -- whole slices ---------------------------------------------------------------------------------


def index_select(input: Tensor, dim: int, index: Tensor, *, out: Any = None) -> Tensor:
    """The slices along `dim` at the positions in a 1-d `index`."""
    if index._data.ndim > 1:
        raise IndexOutOfRange("index_select(): Index is supposed to be a vector")
    axis = axis_of("index_select", dim, input._data.ndim)
    index = reshape(_index("index_select", index), (index._data.size,))
    if not input._data.ndim:
        return finish(reshape(apply(ix.IndexSelect(0), reshape(input, (1,)), index), ()), out)
    return finish(apply(ix.IndexSelect(axis), input, index), out)


def index_add(
    input: Tensor, dim: int, index: Tensor, source: Tensor, *, alpha: Any = 1, out: Any = None
) -> Tensor:
    """A copy with `alpha * source` added to the slices along `dim` at `index`."""
    if not input._data.ndim:
        grown = index_add(reshape(input, (1,)), dim, index, reshape(source, (-1,)), alpha=alpha)
        return finish(reshape(grown, ()), out)
    axis = axis_of("index_add", dim, input._data.ndim)
    if source.dtype is not input.dtype:
        raise DTypeError(
            "index_add_(): self and source expected to have the same dtype, "
            f"got {input.dtype.name} and {source.dtype.name}"
        )
    scaled = source if alpha == 1 else source * alpha
    return finish(apply(ix.IndexAdd(axis), input, _index("index_add", index), scaled), out)


def index_copy(input: Tensor, dim: int, index: Tensor, source: Tensor) -> Tensor:
    """A copy with the slices along `dim` at `index` replaced by those of `source`."""
    if not input._data.ndim:
        return reshape(index_copy(reshape(input, (1,)), dim, index, reshape(source, (-1,))), ())
    axis = axis_of("index_copy", dim, input._data.ndim)
    return apply(adv.IndexPut((axis,)), input, source, _index("index_copy", index))


def index_fill(input: Tensor, dim: int, index: Tensor, value: Any) -> Tensor:
    """A copy with the slices along `dim` at `index` filled with a number."""
    if not input._data.ndim:
        return reshape(index_fill(reshape(input, (1,)), dim, index, value), ())
    axis = axis_of("index_fill", dim, input._data.ndim)
    fill = value if hasattr(value, "_data") else number_like(value, input)
    if fill._data.ndim:
        raise ShapeError(
            "index_fill_ only supports a 0-dimensional value tensor, but got tensor with "
            f"{fill._data.ndim} dimension(s)."
        )
    # Through a mask: a position that stands twice in the index is filled once.
    none = expand(number_like(False, input.bool()), (input._data.shape[axis],))
    hit = expand(number_like(True, input.bool()), (index._data.size,))
    at = reshape(_index("index_fill", index), (index._data.size,))
    mask = apply(adv.IndexPut((0,)), none, hit, at)
    mask = reshape(mask, (-1, *(1,) * (input._data.ndim - axis - 1)))
    return apply(Where(), mask, cast(fill, input.dtype), input)


def index_put(input: Tensor, indices: Any, values: Tensor, accumulate: bool = False) -> Tensor:
    """A copy with ``input[indices] = values`` (or ``+=`` with `accumulate`)."""
    from .indexing import _fitted, _indices, _picked_shape, _plan

    plan = _plan(tuple(slice(None) if i is None else i for i in indices), tuple(input._data.shape))
    if plan.ops:
        plan = _plan(
            tuple(reshape(i, (1,)) if i._data.ndim == 0 else i for i in indices),
            tuple(input._data.shape),
        )
    axes, tensors = _indices(plan)
    source = _fitted(values, input, _picked_shape(input, axes, tensors))
    return apply(adv.IndexPut(axes, accumulate), input, source, *tensors)


def index_reduce(
    input: Tensor,
    dim: int,
    index: Tensor,
    source: Tensor,
    reduce: str,
    *,
    include_self: bool = True,
    out: Any = None,
) -> Tensor:
    """A copy with slices of `source` combined with those along `dim` that `index` [k] points to.

    `reduce` is "prod", "mean", "amax" or "amin"; without `include_self` the input counts only where
    no index points.
    """
    if reduce not in ("prod", "mean", "amax", "amin"):
        raise ArgumentError(
            f"index_reduce(): Expected reduce to be one of prod, mean, amax or amin but got "
            f"{reduce}."
        )
    if not input._data.ndim:
        found = scatter_reduce(
            reshape(input, (1,)),
            0,
            reshape(index, (-1,)),
            reshape(source, (-1,)),
            reduce,
            include_self=include_self,
        )
        return finish(reshape(found, ()), out)
    axis = axis_of("index_reduce", dim, input._data.ndim)
    shape = [1] * input._data.ndim
    shape[axis] = index._data.size
    spread = expand(reshape(index, tuple(shape)), tuple(source._data.shape))
    found = scatter_reduce(input, axis, spread, source, reduce, include_self=include_self)
    return finish(found, out)


def put(input: Tensor, index: Tensor, source: Tensor, accumulate: bool = False) -> Tensor:
    """A copy with the elements at row-major positions `index` replaced by (or plus) `source`."""
    if source.dtype is not input.dtype:
        raise DTypeError(
            "put_(): self and source expected to have the same dtype, "
            f"got {input.dtype.name} and {source.dtype.name}"
        )
    if source._data.size != index._data.size:
        raise ShapeError(
            f"put_(): Expected source and index to have the same number of elements, but got "
            f"source.numel() = {source._data.size}, index.numel() = {index._data.size}"
        )
    flat = reshape(input, (input._data.size,))
    at = reshape(_index("put", index), (index._data.size,))
    new = reshape(source, (source._data.size,))
    written = apply(adv.IndexPut((0,), accumulate), flat, new, at)
    return reshape(written, tuple(input._data.shape))


def renorm(input: Tensor, p: float, dim: int, maxnorm: float, *, out: Any = None) -> Tensor:
    """Slices along `dim` whose p-norm is above `maxnorm`, scaled down to it."""
    axis = axis_of("renorm", dim, input._data.ndim)
    others = tuple(i for i in range(input._data.ndim) if i != axis)
    norms = input.norm(p, dim=others, keepdim=True)
    scale = (maxnorm / (norms + 1e-7)).masked_fill(norms <= maxnorm, 1.0)
    return finish(input * scale, out)


def take(input: Tensor, index: Tensor) -> Tensor:
    """Elements of the flattened input at the positions in `index`, in its shape."""
    flat = reshape(input, (input._data.size,))
    return apply(ix.IndexSelect(0), flat, _index("take", index))


def take_along_dim(input: Tensor, indices: Tensor, dim: int | None = None) -> Tensor:
    """As `gather`, with both broadcast except along `dim` (default: both flattened)."""
    if dim is None:
        return gather(reshape(input, (-1,)), 0, reshape(indices, (-1,)))
    ndim = input._data.ndim
    if indices._data.ndim != ndim:
        raise ShapeError(
            "torch.take_along_dim(): input and indices should have the same number of dimensions, "
            f"but got {ndim} dimensions for input, and {indices._data.ndim} dimensions for indices"
        )
    axis = axis_of("take_along_dim", dim, ndim)
    sx, si = list(input._data.shape), list(indices._data.shape)
    for i in range(ndim):
        if i != axis:
            sx[i] = si[i] = sx[i] if si[i] == 1 else si[i]
    return gather(expand(input, tuple(sx)), axis, expand(indices, tuple(si)))


# -- masks and positions --------------------------------------------------------------------------


def masked_select(input: Tensor, mask: Tensor, *, out: Any = None) -> Tensor:
    """The elements where the bool `mask` holds, both broadcast: 1-d."""
    if mask.dtype is not dt.bool_:
        raise DTypeError(f"masked_select: expected BoolTensor for mask, got {mask.dtype.name}")
    x, m = broadcast_tensors(input, mask)
    return finish(apply(adv.MaskedSelect(), x, m), out)


def masked_scatter(input: Tensor, mask: Tensor, source: Tensor) -> Tensor:
    """A copy with the elements where `mask` holds replaced, in order, by those of `source`."""
    x, m = broadcast_tensors(input, mask)
    return apply(adv.MaskedScatter(), x, m, reshape(source, (source._data.size,)))


def nonzero(input: Tensor, *, as_tuple: bool = False) -> Any:
    """Positions of the elements that are not zero: int64 [count, ndim], or its columns."""
    if as_tuple and not input._data.ndim:
        input = reshape(input, (1,))
    at = apply1(adv.Nonzero(), input)
    return at.unbind(1) if as_tuple else at


def argwhere(input: Tensor) -> Tensor:
    """Positions of the elements that are not zero: int64 [count, ndim]."""
    return nonzero(input)  # type: ignore[no-any-return]


def repeat_interleave(
    input: Tensor, repeats: Any, dim: int | None = None, *, output_size: int | None = None
) -> Tensor:
    """Every element (or slice along `dim`) repeated in place, `repeats` times or so many each."""
    if dim is None:
        input, dim = reshape(input, (-1,)), 0
    axis = axis_of("repeat_interleave", dim, input._data.ndim)
    size = input._data.shape[axis]
    if hasattr(repeats, "_data") and repeats._data.size == 1:
        repeats = int(repeats)
    if isinstance(repeats, int | Dim):
        shape = tuple(input._data.shape)
        spread = reshape(input, (*shape[: axis + 1], 1, *shape[axis + 1 :]))
        spread = expand(spread, (*shape[: axis + 1], repeats, *shape[axis + 1 :]))
        return reshape(spread, (*shape[:axis], size * repeats, *shape[axis + 1 :]))
    from .data import from_numpy

    counts = np.asarray(
        repeats._concrete("repeat_interleave()") if hasattr(repeats, "_data") else repeats
    )
    if counts.shape != (size,):
        raise ShapeError(
            f"repeats must have the same size as input along dim, but got repeats.size(0) = "
            f"{shape_text(counts.shape)} and input.size({axis}) = {size}"
        )
    return index_select(input, axis, from_numpy(np.repeat(np.arange(size), counts)))
