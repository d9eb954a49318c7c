"""Exchange of data with other libraries: NumPy's `__array__`, DLPack, and the printed form.

Everything here shares memory where the two sides allow it. bfloat16 is the one dtype NumPy will not
exchange over DLPack, so it travels as uint16 and its label in the capsule is changed.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import ml_dtypes
import numpy as np

from dualgraph_compiler import dtypes as dt
from dualgraph_compiler.errors import AutogradError, DTypeError
from dualgraph_runtime.device import Device

from .transforms.levels import Wrapped

if TYPE_CHECKING:
    from ._tensor import Tensor

__all__ = ["dlpack_device", "from_dlpack", "tensor_repr", "to_array", "to_dlpack"]

# DLDeviceType: https://dmlc.github.io/dlpack/latest/c_api.html
_CPU = 1
_CUDA = 2
_CUDA_HOST = 3
_CUDA_MANAGED = 13

# DLDataTypeCode
_UINT = 1
_BFLOAT = 4

_BFLOAT16 = np.dtype(ml_dtypes.bfloat16)


def to_array(array: Any, dtype: Any, copy: bool | None) -> Any:
    """Answer NumPy's `__array__(dtype, copy)` for a tensor whose NumPy array is `array`.

    Args:
        array: the tensor's own memory.
        dtype: the dtype asked for, or `None` for the tensor's.
        copy: `True` for memory of its own, `None` to share where the dtype allows, `False` to
            share or fail.

    Raises:
        ValueError: `copy=False`, but the dtype cannot be had without one.
    """
    wanted = array.dtype if dtype is None else np.dtype(dtype)
    if wanted == array.dtype:
        return array.copy() if copy else array
    if copy is False:
        raise ValueError(
            "Unable to avoid copy while creating an array as requested: the tensor is "
            f"{array.dtype}, the array was asked for as {wanted}"
        )
    return array.astype(wanted)


# -- DLPack ---------------------------------------------------------------------------------------


def to_dlpack(tensor: Tensor, **options: Any) -> Any:
    """Answer `tensor.__dlpack__(stream=, max_version=, dl_device=, copy=)` with a capsule.

    Raises:
        AutogradError: the tensor requires a gradient, which a capsule cannot carry.
    """
    if tensor.requires_grad:
        raise AutogradError("Can't export tensors that require gradient, use tensor.detach()")
    data = tensor._concrete("__dlpack__()")
    options = {name: value for name, value in options.items() if value is not None}
    if data.dtype != _BFLOAT16:
        return data.__dlpack__(**options)
    options.pop("max_version", None)  # the capsule must be of the layout `_relabel` knows
    capsule = data.view(np.uint16).__dlpack__(**options)
    _relabel(capsule, _UINT, _BFLOAT)
    return capsule


def dlpack_device(tensor: Tensor) -> tuple[int, int]:
    """Answer `tensor.__dlpack_device__()`: the device's type and number."""
    kind, index = tensor._concrete("__dlpack_device__()").__dlpack_device__()
    return int(kind), int(index)


def from_dlpack(source: Any) -> Tensor:
    """Return a tensor that shares memory with `source`, an array of any DLPack library.

    Args:
        source: an object with `__dlpack__` and `__dlpack_device__`, on the CPU or a CUDA device.

    Raises:
        TypeError: `source` does not speak DLPack.
        DTypeError: it holds elements of a type that has no tensor dtype.
        BufferError: the producer cannot export it, or it lives on another kind of device.
        DeviceError: it lives on a GPU that cannot be used here.
    """
    if not hasattr(source, "__dlpack__") or not hasattr(source, "__dlpack_device__"):
        raise TypeError(
            "from_dlpack expects an object with __dlpack__ and __dlpack_device__, got "
            f"{type(source).__name__}"
        )
    kind = int(source.__dlpack_device__()[0])
    if kind in (_CPU, _CUDA_HOST):
        xp: Any = np
    elif kind in (_CUDA, _CUDA_MANAGED):
        xp = Device("cuda").xp
    else:
        raise BufferError(
            f"from_dlpack takes memory of the CPU or of CUDA, got DLPack device type {kind}"
        )
    if str(getattr(source, "dtype", "")).endswith("bfloat16"):
        array = xp.from_dlpack(_AsUint16(source)).view(_BFLOAT16)
    else:
        array = xp.from_dlpack(source)
    return _known(array)


def from_cuda_array(source: Any) -> Tensor:
    """Return a tensor that shares memory with an object that has `__cuda_array_interface__`.

    Raises:
        DTypeError: it holds elements of a type that has no tensor dtype.
        DeviceError: there is no CuPy, or no GPU, here.
    """
    return _known(Device("cuda").xp.asarray(source))


def _known(array: Any) -> Tensor:
    from ._dispatch import make

    if array.dtype not in dt.BY_NUMPY:
        raise DTypeError(f"no tensor dtype corresponds to {array.dtype}")
    return make(array)


class _AsUint16:
    """A bfloat16 array in the guise of uint16."""

    def __init__(self, source: Any) -> None:
        self._source = source

    def __dlpack_device__(self) -> Any:
        return self._source.__dlpack_device__()

    def __dlpack__(self, *, stream: Any = None, **_: Any) -> Any:
        # Without `max_version` the producer gives a capsule of the layout `_relabel` knows.
        options = {} if stream is None else {"stream": stream}
        capsule = self._source.__dlpack__(**options)
        _relabel(capsule, _BFLOAT, _UINT)
        return capsule


class _DLTensor(ctypes.Structure):
    """Head of DLManagedTensor, the content of an unversioned capsule."""

    _fields_ = [
        ("data", ctypes.c_void_p),
        ("device_type", ctypes.c_int32),
        ("device_id", ctypes.c_int32),
        ("ndim", ctypes.c_int32),
        ("code", ctypes.c_uint8),
        ("bits", ctypes.c_uint8),
        ("lanes", ctypes.c_uint16),
    ]


_get_pointer = ctypes.pythonapi.PyCapsule_GetPointer
_get_pointer.restype = ctypes.c_void_p
_get_pointer.argtypes = [ctypes.py_object, ctypes.c_char_p]


def _relabel(capsule: Any, old: int, new: int) -> None:
    """Change the type code of a capsule that nobody has consumed yet."""
    head = _DLTensor.from_address(_get_pointer(capsule, b"dltensor"))
    if (head.code, head.bits, head.lanes) != (old, 16, 1):
        raise BufferError(
            f"expected a DLPack capsule of type code {old} with 16 bits, got code {head.code} "
            f"with {head.bits} bits and {head.lanes} lanes"
        )
    head.code = new


# -- printing -------------------------------------------------------------------------------------


def tensor_repr(tensor: Tensor, format_tensor: Callable[..., str]) -> str:
    """Return `repr(tensor)`; a tensor that is being traced shows its graph value.

    That is for debuggers. In a traced function, text that holds the data cannot be made.
    """
    from ._promote import get_default_dtype

    prefix = "tensor" if type(tensor).__name__ in ("Tensor", "Parameter") else type(tensor).__name__
    if isinstance(tensor._data, Wrapped):
        return tensor._data.text()
    if tensor.is_symbolic:
        capture = tensor._data.graph.capture
        if capture is not None and capture.root.asked_by_user():
            tensor._concrete("the text of a tensor")
        return f"{prefix}({tensor._data!r})"
    default = get_default_dtype()
    grad_fn = tensor.grad_fn
    return format_tensor(
        tensor._data,
        dtype_name=tensor.dtype.name,
        default_dtype=tensor.dtype in (default, dt.COMPLEX_OF[default]),
        device=str(tensor.device),
        requires_grad=tensor.requires_grad,
        grad_fn=None if grad_fn is None else grad_fn.name,
        prefix=prefix,
    )
