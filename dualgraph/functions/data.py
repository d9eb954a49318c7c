"""Tensors from data: Python numbers and lists, NumPy arrays, other libraries' arrays."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from dualgraph_compiler import dtypes as dt
from dualgraph_compiler.dims import Dim, SizeNumber
from dualgraph_compiler.dtypes import DType
from dualgraph_compiler.errors import DTypeError

from .._promote import Defaults
from .basics import device_for_like, leaf, wrap

if TYPE_CHECKING:
    from .._tensor import Tensor


def _canonical(array: Any) -> Any:
    """`array` with the one dtype object NumPy uses for its type; TypeError if no tensor has it."""
    found = dt.BY_NUMPY.get(array.dtype)
    if found is None:
        raise TypeError(
            f"can't convert np.ndarray of type {array.dtype}. The only supported types are: "
            + ", ".join(d.name for d in dt.ALL)
        )
    return array if array.dtype is found.np else array.view(found.np)


def _array(data: Any, dtype: DType | None) -> Any:
    """A new array of `data`, whose Python numbers are float32, int64, bool or complex64."""
    if isinstance(data, np.ndarray | np.generic):
        array = _canonical(np.array(data, order="C"))
    else:
        try:
            array = np.array(data)
        except ValueError as error:
            raise ValueError(f"expected sequences of equal length: {error}") from None
        kind = array.dtype.kind
        if kind == "O":
            array = _array_of_tensors(data)
        elif kind == "f" and array.dtype == np.float64 and dtype is None:
            array = array.astype(Defaults.dtype.np)
        elif kind == "c" and dtype is None:
            array = array.astype(dt.COMPLEX_OF[Defaults.dtype].np)
        else:
            array = _canonical(array) if kind in "biufcV" else _refuse(data)
    if dtype is not None and array.dtype is not dtype.np:
        if array.dtype.kind == "c" and not dtype.is_complex:
            raise DTypeError(f"value cannot be converted to type {dtype.name} without overflow")
        array = array.astype(dtype.np)
    return array


def _refuse(data: Any) -> Any:
    while isinstance(data, list | tuple) and data:
        data = data[0]
    raise TypeError(f"new(): invalid data type '{type(data).__name__}'")


def _array_of_tensors(data: Any) -> Any:
    """Sequences that hold what NumPy sees as objects: one-element tensors among numbers."""

    def plain(x: Any) -> Any:
        if isinstance(x, list | tuple):
            return [plain(v) for v in x]
        return x.item() if hasattr(x, "_data") else x

    array = np.array(plain(data))
    if array.dtype.kind == "O":
        if all(isinstance(v, int) for v in array.ravel().tolist()):
            raise DTypeError("Overflow when unpacking long long")
        _refuse(data)
    return array.astype(Defaults.dtype.np) if array.dtype.kind == "f" else array


def _has_tensors(data: Any) -> bool:
    while isinstance(data, list | tuple) and data:
        data = data[0]
    return hasattr(data, "_data")


def tensor(
    data: Any,
    *,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
    pin_memory: bool = False,
) -> Tensor:
    """A new leaf tensor with a copy of `data`: a number, nested lists, an array or a tensor.

    Python floats take the default dtype (float32), ints int64; arrays keep theirs.

    Raises:
        TypeError: something that is not a number.
        ValueError: rows of different lengths.

    Shapes: those of the data.
    """
    kind = None if dtype is None else dt.as_dtype(dtype)
    if hasattr(data, "_data"):
        made: Tensor = data.detach().clone()
        made = made if kind is None and device is None else made.to(device=device, dtype=kind)
        return leaf(made, requires_grad)
    if type(data) not in (float, int) and _has_sizes(data):
        return _of_sizes(data, kind)
    if hasattr(data, "__cuda_array_interface__"):  # another library's array on a GPU
        return tensor(as_tensor(data), dtype=kind, device=device, requires_grad=requires_grad)
    if type(data) not in (float, int) and _has_tensors(data):
        data = _plain(data)
    return wrap(_array(data, kind), device, requires_grad)


def _has_sizes(data: Any) -> bool:
    if isinstance(data, list | tuple):
        return any(map(_has_sizes, data))
    return isinstance(data, Dim | SizeNumber)


def _of_sizes(data: Any, kind: Any) -> Tensor:
    """Nested lists of numbers, symbolic ones among them, as a tensor of the graph."""
    from .._promote import result_type, scalar
    from .creation import zeros
    from .joining import stack

    if kind is None:
        kind = result_type(*_numbers(data))
    if isinstance(data, list | tuple):
        return stack([_of_sizes(v, kind) for v in data])
    return scalar(data, kind, zeros(()))


def _numbers(data: Any) -> list[Any]:
    return [n for v in data for n in _numbers(v)] if isinstance(data, list | tuple) else [data]


def _plain(data: Any) -> Any:
    """Nested lists with every tensor replaced by its elements."""
    if isinstance(data, list | tuple):
        return [_plain(v) for v in data]
    return data.detach().tolist() if hasattr(data, "_data") else data


def as_tensor(data: Any, dtype: Any = None, device: Any = None) -> Tensor:
    """`data` as a tensor: itself, or sharing an array's memory, where dtype and device allow.

    Shapes: those of the data.
    """
    kind = None if dtype is None else dt.as_dtype(dtype)
    if hasattr(data, "_data"):
        return data if kind is None and device is None else data.to(device=device, dtype=kind)  # type: ignore[no-any-return]
    if isinstance(data, np.ndarray):
        made = from_numpy(data)
        return made if kind is None and device is None else made.to(device=device, dtype=kind)
    if hasattr(data, "__dlpack__") and not isinstance(data, np.generic):
        from .._interop import from_dlpack

        made = from_dlpack(data)
        return made if kind is None and device is None else made.to(device=device, dtype=kind)
    if hasattr(data, "__cuda_array_interface__"):
        from .._interop import from_cuda_array

        made = from_cuda_array(data)
        return made if kind is None and device is None else made.to(device=device, dtype=kind)
    return tensor(data, dtype=dtype, device=device)


def asarray(
    obj: Any,
    *,
    dtype: Any = None,
    device: Any = None,
    copy: bool | None = None,
    requires_grad: bool = False,
) -> Tensor:
    """`obj` as a tensor that shares its memory if possible (copy=False: or raise ValueError).

    Shapes: those of the data.
    """
    made = tensor(obj, dtype=dtype, device=device) if copy else as_tensor(obj, dtype, device)
    if copy is False:
        same = made is obj or (isinstance(obj, np.ndarray) and np.shares_memory(obj, made._data))
        if not same:
            raise ValueError("can't alias the data without a copy; use copy=None or copy=True")
    if requires_grad:
        made = made if made is not obj else made.detach()
    return leaf(made, requires_grad)


def from_numpy(ndarray: Any) -> Tensor:
    """A tensor that shares the memory of a NumPy array.

    Raises:
        TypeError: not an array, or of an element type no tensor has.
    """
    if not isinstance(ndarray, np.ndarray):
        raise TypeError(f"expected np.ndarray (got {type(ndarray).__name__})")
    if type(ndarray) is not np.ndarray:
        ndarray = ndarray.view(np.ndarray)
    out = wrap(_canonical(ndarray), "cpu")
    out._expose()
    return out


def scalar_tensor(
    s: Any, *, dtype: Any = None, device: Any = None, requires_grad: bool = False
) -> Tensor:
    """A number as a 0-d tensor of the default floating-point type, unless one is given.

    Shapes: a number -> [].
    """
    return tensor(
        s, dtype=Defaults.dtype if dtype is None else dtype, device=device
    ).requires_grad_(requires_grad)


def new_tensor(
    self: Tensor,
    data: Any,
    *,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """A copy of `data`, of this tensor's dtype and device unless given."""
    kind = self.dtype if dtype is None else dtype
    where = device_for_like(self, device)
    return tensor(data, dtype=kind, device=where, requires_grad=requires_grad)


def is_tensor(obj: Any) -> bool:
    """Whether `obj` is a Tensor."""
    from .._tensor import Tensor

    return isinstance(obj, Tensor)
