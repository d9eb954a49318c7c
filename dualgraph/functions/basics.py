"""What other families build on: operands, axes, sizes, devices, outputs."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from dualgraph_compiler import dtypes as dt
from dualgraph_compiler.dims import Dim, DimLike, Shape
from dualgraph_compiler.dtypes import DType
from dualgraph_compiler.errors import ArgumentError, IndexOutOfRange, ShapeError
from dualgraph_compiler.graph import Value
from dualgraph_compiler.ops import Op
from dualgraph_compiler.ops.base import normalize_axes, shape_text
from dualgraph_runtime.device import Device, device_of, to_device

from .. import _changes
from .._dispatch import captures, make
from .._promote import Defaults, scalar
from ..autograd.inplace import assign
from ..transforms.levels import Wrapped

if TYPE_CHECKING:
    from .._tensor import Tensor


# -- dimensions and sizes -------------------------------------------------------------------------


def axis_of(name: str, dim: int, ndim: int) -> int:
    """`dim` counted from the front; a 0-d tensor has dimensions 0 and -1, as in PyTorch.

    Raises:
        IndexOutOfRange: there is no such dimension.
    """
    span = ndim or 1
    if 0 <= dim < span:
        return dim
    if -span <= dim < 0:
        return dim + span
    raise IndexOutOfRange(
        f"{name}: Dimension out of range (expected to be in range of [{-span}, {span - 1}], but "
        f"got {dim})"
    )


def axes_of(name: str, dim: Any, ndim: int) -> tuple[int, ...]:
    """One dim, several, or all (None or an empty sequence), counted from the front and sorted."""
    if dim is None:
        return tuple(range(ndim))
    if type(dim) is int:
        axis = axis_of(name, dim, ndim)
        return (axis,) if ndim else ()
    dims = (dim,) if isinstance(dim, int) else tuple(dim)
    if not dims:
        return tuple(range(ndim))
    return normalize_axes(name, dims, ndim) if ndim else ()


_SEQUENCES = (tuple, list)  # a tuple, not `|`, which would be computed on every call


def sizes_of(sizes: Any) -> Shape:
    """Sizes given as ``(2, 3)``, ``((2, 3),)`` or ``(dim, tensor)``, as ints and Dims."""
    if len(sizes) == 1 and isinstance(sizes[0], _SEQUENCES):
        sizes = sizes[0]
    for s in sizes:
        if s.__class__ is not int:
            return tuple(s if isinstance(s, Dim) else operator.index(s) for s in sizes)
    return sizes if sizes.__class__ is tuple else tuple(sizes)


def shape_from(sizes: Any, size: Any) -> Shape:
    """The shape a function was given as ``f(2, 3)``, ``f((2, 3))`` or ``f(size=(2, 3))``."""
    return sizes_of(sizes if size is None else (size,))


def check_sizes(name: str, shape: Shape) -> Shape:
    """`shape`, unless a size is negative (ShapeError)."""
    for d in shape:
        if type(d) is int and d < 0:
            raise ShapeError(
                f"{name}: Trying to create tensor with negative dimension {d}: {shape_text(shape)}"
            )
    return shape


def infer_size(name: str, shape: Shape, numel: DimLike) -> Shape:
    """`shape` with its one -1 replaced by what `numel` elements leave for it."""
    at = shape.index(-1)
    rest: DimLike = 1
    for i, d in enumerate(shape):
        if i != at:
            rest = rest * d
    if isinstance(rest, int):
        if rest == 0 or -1 in shape[at + 1 :]:
            why = "only one dimension can be inferred" if rest else "-1 is ambiguous beside 0"
            raise ShapeError(f"{name}: cannot infer a size in shape {shape_text(shape)}: {why}")
        if isinstance(numel, int) and numel % rest:
            raise ShapeError(
                f"{name}: shape '{shape_text(shape)}' is invalid for input of size {numel}"
            )
    return (*shape[:at], numel // rest, *shape[at + 1 :])


# -- dtypes and devices ---------------------------------------------------------------------------


def dtype_or_default(dtype: Any) -> DType:
    """`dtype`, or the default floating-point type for None."""
    return Defaults.dtype if dtype is None else dt.as_dtype(dtype)


def device_from(device: Any) -> Device:
    """A device from its name, from the number of a GPU, or None for the default device."""
    if device is None:
        return Defaults.device
    if type(device) is Device:
        return device
    return Device("cuda", device) if isinstance(device, int) else Device(device)


def wrap(array: Any, device: Any = None, requires_grad: bool = False) -> Tensor:
    """A new tensor around a NumPy array of its own, on `device`; in a trace a constant."""
    if captures.current is not None:
        out = make(captures.current.graph.constant(array))
    elif device is None and Defaults.device.type == "cpu":
        out = make(array)
    else:
        out = make(to_device(array, device_from(device).require()))
    return out.requires_grad_() if requires_grad else out


def create(op: Op, device: Any = None, requires_grad: bool = False) -> Tensor:
    """The result of an op without operands, on `device`; in a trace a node of the graph."""
    if captures.current is not None:
        out = make(captures.current.add(op, ()))
    else:
        where = device_from(device)
        if where.type == "cpu":
            out = make(np.asarray(op.eager(np)))
        else:
            with where.active():
                out = make(where.xp.asarray(op.eager(where.xp)))
    return out.requires_grad_() if requires_grad else out


def device_for_like(input: Tensor, device: Any) -> Any:
    """Where a tensor made after `input` goes: `device` if given, else where the input is."""
    data = input._data
    if device is not None or type(data) is np.ndarray:
        return device
    while isinstance(data, Wrapped):  # in a function transform: what it stands for
        data = data.inner._data
    if type(data) is Value:
        return device
    return device_of(data)


# -- results --------------------------------------------------------------------------------------


def finish(result: Tensor, out: Tensor | None) -> Tensor:
    """`result`, or `out` with the result written to it where one was given.

    Raises:
        ArgumentError: `out` or the result would need a gradient.
    """
    if out is None:
        return result
    if result._fn is not None or out.requires_grad:
        raise ArgumentError(
            "functions with out=... arguments don't support automatic differentiation, but one of "
            "the arguments requires grad."
        )
    if tuple(out.shape) != tuple(result.shape) and type(out._data) is np.ndarray:
        out._data = np.empty(result._data.shape, out._data.dtype)
        _changes.tensors.note()
    return assign(out, result)


def number_like(value: Any, x: Tensor) -> Tensor:
    """A number as a 0-d tensor in the dtype of `x`, converted as C would."""
    if x.dtype.category < dt.FLOAT and isinstance(value, float):
        value = int(value) if x.dtype is not dt.bool_ else bool(value)
    return scalar(value, x.dtype, x)


def leaf(t: Tensor, requires_grad: bool) -> Tensor:
    """`t`, which nothing has recorded, asking for gradients if wanted."""
    if requires_grad:
        t.requires_grad_()
    return t


def require_tensors(name: str, tensors: Sequence[Any]) -> None:
    """TypeError unless every element is a tensor."""
    for i, t in enumerate(tensors):
        if not hasattr(t, "_data"):
            raise TypeError(
                f"{name}: expected Tensor as element {i} in argument 0, but got {type(t).__name__}"
            )
