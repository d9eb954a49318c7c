"""Tensors by how they lie in memory: sizes, strides and where they start."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from dualgraph_compiler import dtypes as dt
from dualgraph_compiler.dims import Dim
from dualgraph_compiler.dtypes import DType
from dualgraph_compiler.errors import AutogradError, ShapeError, TraceError
from dualgraph_compiler.graph import Value
from dualgraph_compiler.ops.base import shape_text
from dualgraph_compiler.ops.strided import AsStrided

from .. import _changes
from .._dispatch import apply, captures
from ..transforms.levels import Wrapped
from .basics import device_for_like, dtype_or_default, finish, leaf, sizes_of, wrap
from .creation import zeros
from .shape import storage_offset, stride

if TYPE_CHECKING:
    from .._tensor import Tensor


def as_strided(
    input: Tensor, size: Sequence[int], stride: Sequence[int], storage_offset: int | None = None
) -> Tensor:
    """A view of the memory that the input lies in, with sizes and strides (in elements) of its own.

    Args:
        storage_offset: where in the storage it starts; by default where the input does.

    Raises:
        ShapeError: the view would reach beyond the memory.
    """
    source, start = _layout(input)
    offset = 0 if storage_offset is None else int(storage_offset) - start
    op = AsStrided(tuple(map(int, size)), tuple(map(int, stride)), offset, source)
    return apply(op, input)


def _layout(input: Tensor) -> tuple[tuple[int, ...], int]:
    """Strides of a tensor in elements, and where in its storage it starts.

    A value of a graph is laid out as eager code would: row by row, or as a view of what is.
    """
    data = input._data
    if isinstance(data, Wrapped):  # a tensor with a tangent, or a batch of which one element shows
        steps, start = _layout(data.inner)
        return steps[len(steps) - len(data.shape) :], start
    if type(data) is not Value:
        return stride(input), storage_offset(input)
    info = input._base
    ops = () if info is None else info.ops or ()
    whole = data.shape if info is None else info.base._data.shape
    if any(isinstance(d, Dim) for d in whole):
        raise TraceError(
            f"as_strided of symbolic sizes {shape_text(tuple(whole))} cannot be captured"
        )
    shown = first = np.empty(whole, np.bool_)
    for op in ops:
        shown = op.eager(np, shown)
    start = shown.__array_interface__["data"][0] - first.__array_interface__["data"][0]
    return tuple(shown.strides), start


def as_strided_copy(
    input: Tensor,
    size: Sequence[int],
    stride: Sequence[int],
    storage_offset: int | None = None,
    *,
    out: Any = None,
) -> Tensor:
    """A copy of what `as_strided` shows.

    Shapes: `size`.
    """
    return finish(as_strided(input, size, stride, storage_offset).clone(), out)


def as_strided_scatter(
    input: Tensor,
    src: Tensor,
    size: Sequence[int],
    stride: Sequence[int],
    storage_offset: int | None = None,
) -> Tensor:
    """A copy of the input in which `as_strided` would show `src`.

    Shapes: input any, src `size` -> that of input.
    """
    whole = input.clone()
    as_strided(whole, size, stride, storage_offset).copy_(src)
    return whole


# -- made with given strides ----------------------------------------------------------------------


def empty_strided(
    size: Sequence[int],
    stride: Sequence[int],
    *,
    dtype: Any = None,
    layout: Any = None,
    device: Any = None,
    requires_grad: bool = False,
    pin_memory: bool = False,
) -> Tensor:
    """A tensor with these strides (in elements), to be written to; its elements are zero."""
    shape = sizes_of((tuple(size),))
    if len(shape) != len(stride):
        raise ShapeError(
            f"empty_strided: dimensionality of sizes ({len(shape)}) must match dimensionality of "
            f"strides ({len(stride)})"
        )
    kind = dtype_or_default(dtype)
    if captures.current is not None:  # values of a graph have no strides
        return zeros(shape, dtype=kind, device=device, requires_grad=requires_grad)
    return wrap(_laid_out(shape, tuple(stride), kind), device, requires_grad)  # type: ignore[arg-type]


def _laid_out(shape: tuple[int, ...], steps: tuple[int, ...], kind: DType) -> np.ndarray[Any, Any]:
    size = kind.np.itemsize
    count = 0 if 0 in shape else 1 + sum((d - 1) * s for d, s in zip(shape, steps, strict=True))
    memory = np.zeros(count * size, np.uint8)
    return np.ndarray(shape, kind.np, memory, 0, tuple(s * size for s in steps))


def new_empty_strided(
    self: Tensor, size: Sequence[int], stride: Sequence[int], **options: Any
) -> Tensor:
    """`empty_strided` of this tensor's dtype and device unless given."""
    dtype = options.pop("dtype", None)
    options["device"] = device_for_like(self, options.get("device"))
    return empty_strided(size, stride, dtype=self.dtype if dtype is None else dtype, **options)


def empty_permuted(size: Sequence[int], physical_layout: Sequence[int], **options: Any) -> Tensor:
    """A tensor whose dimensions lie in memory in the order `physical_layout`; zeros."""
    shape = sizes_of((tuple(size),))
    order = tuple(physical_layout)
    if sorted(order) != list(range(len(shape))):
        raise ShapeError(
            f"empty_permuted: expected physical_layout to be a permutation of the {len(shape)} "
            f"dimensions, got {list(order)}"
        )
    requires_grad = options.pop("requires_grad", False)
    whole = zeros(tuple(shape[i] for i in order), **options)
    made = whole.permute(tuple(order.index(i) for i in range(len(order))))
    made._base = None  # nobody else holds the memory
    return leaf(made, requires_grad)


# -- other sizes for a tensor that exists ---------------------------------------------------------


def resize_(self: Tensor, *sizes: Any, memory_format: Any = None) -> Tensor:
    """Give this tensor other sizes; its first elements stay, new ones are zero.

    Raises:
        AutogradError: it requires a gradient. TraceError: it is being traced.
    """
    shape = sizes_of(sizes)
    if tuple(self._data.shape) == shape:
        return self
    if self.requires_grad:
        raise AutogradError("cannot resize variables that require grad")
    if type(self._data) is Value or captures.current is not None:
        raise TraceError("resize_() cannot be captured; make a tensor of the new size instead")
    flat, count = self._data.reshape(-1), math.prod(map(int, shape))
    if count > flat.size:
        grown = np.zeros(count, flat.dtype) if type(flat) is np.ndarray else None
        if grown is None:
            grown = zeros(count, dtype=self.dtype, device=self.device)._data
        grown[: flat.size] = flat
        flat = grown
    self._data = flat[:count].reshape(shape)
    self._base = None
    self._ver[0] += 1
    _changes.tensors.note()
    return self


def resize_as_(input: Tensor, the_template: Tensor, *, memory_format: Any = None) -> Tensor:
    """Give this tensor the sizes of another."""
    return resize_(input, tuple(the_template._data.shape))


def sum_to_size(self: Tensor, *size: Any) -> Tensor:
    """The sums that undo a broadcast from `size`.

    Raises:
        ShapeError: `size` does not broadcast to this tensor's shape.
    """
    wanted, shape = sizes_of(size), tuple(self._data.shape)
    lead = len(shape) - len(wanted)
    if lead < 0 or any(w not in (1, d) for w, d in zip(wanted, shape[max(lead, 0) :], strict=True)):
        raise ShapeError(
            f"size {{{shape_text(wanted)}}} is not expandable to size {{{shape_text(shape)}}}."
        )
    axes = [*range(lead)]
    axes += [lead + i for i, w in enumerate(wanted) if w == 1 and shape[lead + i] != 1]
    if not axes and wanted:
        return self
    x = self if self.dtype.is_differentiable else self.to(dt.int64)  # as of every sum
    return x.sum(tuple(axes)).reshape(wanted) if axes else x
