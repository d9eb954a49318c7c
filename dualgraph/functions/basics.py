"""What other families build on: operands, axes, outputs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from dualgraph_compiler.ops.base import normalize_axes, normalize_axis

from ..autograd.inplace import assign

if TYPE_CHECKING:
    from .._tensor import Tensor


def element_size(input: Tensor) -> int:
    """Bytes of one element."""
    return input.dtype.itemsize


def axis_of(name: str, dim: int, input: Tensor) -> int:
    """`dim` of `input` counted from the front; IndexOutOfRange if there is no such dimension."""
    return normalize_axis(name, dim, input._data.ndim)


def axes_of(name: str, dim: int | Sequence[int] | None, input: Tensor) -> tuple[int, ...]:
    """One dim, several, or all (None or an empty sequence), counted from the front and sorted."""
    ndim = input._data.ndim
    if dim is None:
        return tuple(range(ndim))
    dims = (dim,) if isinstance(dim, int) else tuple(dim)
    if not dims:
        return tuple(range(ndim))
    if ndim == 0:
        return ()
    return normalize_axes(name, dims, ndim)


def finish(result: Tensor, out: Tensor | None) -> Tensor:
    """`result`, or `out` with the result written to it where one was given."""
    return result if out is None else assign(out, result)
