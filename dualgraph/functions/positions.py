"""Positions of elements: those that are not zero, and flat ones taken apart."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from dualgraph_compiler import dtypes as dt
from dualgraph_compiler.errors import ArgumentError, DTypeError

from .basics import finish
from .creation import arange, full

if TYPE_CHECKING:
    from .._tensor import Tensor


def nonzero_static(input: Tensor, *, size: int, fill_value: int = -1, out: Any = None) -> Tensor:
    """The first `size` positions of elements that are not zero: int64 [size, ndim].

    Rows beyond their number are filled with `fill_value`. The result's size does not depend on
    data, so this can be traced where `nonzero` cannot.
    """
    if size < 0:
        raise ArgumentError(f"nonzero_static: 'size' must be an non-negative integer, got {size}")
    shape = tuple(input._data.shape)
    held = (input != 0).reshape(input._data.size)
    count = input._data.size
    # The place of each element found; all others go to one place more, which is dropped.
    place = held.to(dt.int64).cumsum(0) - 1
    place = place.masked_fill(~held | (place >= size), size)
    flat = full((size + 1,), 0, dtype=dt.int64, device=input.device)
    flat = flat.scatter(0, place, arange(count, device=input.device))[:size]
    if shape:
        columns = unravel_index(flat, shape) if 0 not in shape else (flat,) * len(shape)
        rows = _stacked(columns)
    else:
        rows = flat.reshape(size, 1)[:, :0]
    missing = arange(size, device=input.device) >= held.to(dt.int64).sum()
    return finish(rows.masked_fill(missing.unsqueeze(1), fill_value), out)


def _stacked(columns: Any) -> Tensor:
    from .joining import stack

    return stack(list(columns), 1)


def unravel_index(indices: Tensor, shape: Any) -> tuple[Tensor, ...]:
    """Row-major positions in an array of `shape` as one tensor of positions for each dimension.

    Args:
        indices: integers of any shape; negative ones count from the end.
        shape: sizes: a number, several, or a tensor of them.
    """
    if indices.dtype.category != dt.INT:
        raise DTypeError(
            f"unravel_index(): expected 'indices' to be integer dtype, but got {indices.dtype}"
        )
    if hasattr(shape, "_data"):
        shape = shape.tolist()
    sizes = (shape,) if isinstance(shape, int) else tuple(shape)
    if any(isinstance(d, int) and d < 0 for d in sizes):
        raise ArgumentError(
            f"unravel_index(): 'shape' cannot have negative values, but got {tuple(sizes)}"
        )
    found = []
    for i, size in enumerate(sizes):
        after = math.prod(sizes[i + 1 :])
        found.append(indices.div(after, rounding_mode="floor").remainder(size))
    return tuple(found)
