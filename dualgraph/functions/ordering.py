"""Order: sorting, top-k, and searching in sorted tensors; and distinct values."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from dualgraph_compiler import dtypes as dt
from dualgraph_compiler.errors import ArgumentError
from dualgraph_compiler.ops.base import array_module
from dualgraph_compiler.ops.sorting import Sort, TopK

from .._dispatch import apply_many, make
from ..transforms.elements import element_by_element
from .basics import axis_of, finish
from .results import ValuesIndices, named

if TYPE_CHECKING:
    from .._tensor import Tensor

_sort_result = named("sort", ValuesIndices)
_topk_result = named("topk", ValuesIndices)


def sort(
    input: Tensor,
    dim: int = -1,
    descending: bool = False,
    stable: bool = True,
    *,
    out: Any = None,
) -> Any:
    """(values, indices) in ascending (or descending) order along `dim`; always stable."""
    axis = axis_of("sort", dim, input._data.ndim)
    return _sort_result(apply_many(Sort(axis, bool(descending)), input))


def msort(input: Tensor) -> Tensor:
    """Values in ascending order along dimension 0."""
    return sort(input, 0)[0]  # type: ignore[no-any-return]


def argsort(input: Tensor, dim: int = -1, descending: bool = False, stable: bool = True) -> Tensor:
    """The indices of `sort`.

    Shapes: any -> the same.
    """
    return sort(input, dim, descending)[1]  # type: ignore[no-any-return]


def topk(input: Tensor, k: int, dim: int = -1, largest: bool = True, sorted: bool = True) -> Any:
    """(values, indices) of the `k` largest (or smallest) elements along `dim`."""
    axis = axis_of("topk", dim, input._data.ndim)
    size = input._data.shape[axis] if input._data.ndim else 1
    if isinstance(k, int) and isinstance(size, int) and not 0 <= k <= size:
        raise ArgumentError(f"selected index k out of range: k={k}, size {size}")
    return _topk_result(apply_many(TopK(k, axis, largest, sorted), input))


# -- eager only: the size of the result, or the way to it, depends on data -------------------------


def unique(
    input: Tensor,
    sorted: bool = True,
    return_inverse: bool = False,
    return_counts: bool = False,
    dim: int | None = None,
) -> Any:
    """The distinct elements (or slices along `dim`), sorted; with their inverse and counts."""
    data = input._concrete("unique()")
    xp = array_module(data)
    found = xp.unique(data, return_inverse=True, return_counts=True, axis=dim)
    values, inverse, counts = (make(xp.asarray(v)) for v in found)
    if return_inverse:
        inverse = inverse.reshape(input.shape if dim is None else (-1,))
    out = (values, *([inverse] if return_inverse else []), *([counts] if return_counts else []))
    return out if len(out) > 1 else values


def unique_consecutive(
    input: Tensor,
    return_inverse: bool = False,
    return_counts: bool = False,
    dim: int | None = None,
) -> Any:
    """The elements of the flattened input (or slices along `dim`) unlike the one before."""
    whole = input._concrete("unique_consecutive()")
    xp = array_module(whole)
    axis = 0 if dim is None else axis_of("unique_consecutive", dim, whole.ndim)
    data = whole.reshape(-1) if dim is None or not whole.ndim else xp.moveaxis(whole, axis, 0)
    new = xp.ones(len(data), bool)
    new[1:] = (data[1:] != data[:-1]).any(tuple(range(1, data.ndim)))
    starts = xp.flatnonzero(new)
    kept = data[starts]
    scalar = dim is not None and not whole.ndim
    out = [
        make(kept if dim is None else kept.reshape(()) if scalar else xp.moveaxis(kept, 0, axis))
    ]
    if return_inverse:
        out.append(make((xp.cumsum(new) - 1).reshape(whole.shape if dim is None else (-1,))))
    if return_counts:
        out.append(make(xp.diff(xp.append(starts, len(data)))))
    return tuple(out) if len(out) > 1 else out[0]


@element_by_element
def searchsorted(
    sorted_sequence: Tensor,
    input: Any,
    *,
    out_int32: bool = False,
    right: bool = False,
    side: str | None = None,
    sorter: Tensor | None = None,
    out: Tensor | None = None,
) -> Tensor:
    """Where each value would be inserted in the (last dimension of the) sorted sequence: int64.

    `sorter`: the sequence is not sorted, and this is the order that sorts it (as `argsort` gives).
    """
    if sorter is not None:
        sorted_sequence = sorted_sequence.gather(-1, sorter)
    rows = sorted_sequence._concrete("searchsorted()")
    xp = array_module(rows)
    scalar = not hasattr(input, "_data")
    values = xp.asarray(input) if scalar else input._concrete("searchsorted()")
    where = side or ("right" if right else "left")
    if not values.size:
        found = xp.zeros(values.shape, np.int64)
    elif rows.ndim == 1:
        found = xp.asarray(xp.searchsorted(rows, values, side=where))
    else:
        flat_rows = rows.reshape(math.prod(rows.shape[:-1]), rows.shape[-1])
        flat = values.reshape(len(flat_rows), values.shape[-1])
        found = xp.stack(
            [xp.searchsorted(r, v, side=where) for r, v in zip(flat_rows, flat, strict=True)]
        ).reshape(values.shape)
    return finish(make(found.astype(np.int32 if out_int32 else np.int64)), out)


@element_by_element
def bucketize(
    input: Any, boundaries: Tensor, *, out_int32: bool = False, right: bool = False
) -> Tensor:
    """The bucket each value falls into, between sorted boundaries: int64.

    Shapes: any, boundaries [n] -> that of the input.
    """
    return searchsorted(boundaries, input, out_int32=out_int32, right=right)


def bincount(input: Tensor, weights: Tensor | None = None, minlength: int = 0) -> Tensor:
    """How often each of 0, 1, .. occurs in a 1-d tensor of integers (or their weights' sum).

    Shapes: [n] -> [largest + 1 or minlength].
    """
    data = input._concrete("bincount()")
    if data.ndim != 1 or (data.size and data.min() < 0):
        raise ArgumentError("bincount only supports 1-d non-negative integral inputs.")
    xp = array_module(data)
    if weights is None:
        return make(xp.bincount(data, minlength=minlength).astype(np.int64))
    w = weights._concrete("bincount()")
    kind = np.float32 if weights.dtype is dt.float32 else np.float64
    return make(xp.bincount(data, w, minlength).astype(kind))


@element_by_element
def isin(elements: Any, test_elements: Any, *, invert: bool = False) -> Tensor:
    """Whether each element is among the test elements: bool."""
    arrays = [
        x._concrete("isin()") if hasattr(x, "_data") else np.asarray(x)
        for x in (elements, test_elements)
    ]
    xp = array_module(arrays[0])
    return make(xp.asarray(xp.isin(*arrays, invert=invert)))
