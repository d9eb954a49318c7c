"""Changes of dtype and device."""

from __future__ import annotations

import builtins
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from dualgraph_compiler import dtypes as dt
from dualgraph_compiler.dtypes import DType
from dualgraph_compiler.graph import Value
from dualgraph_runtime.device import CPU, Device, device_of, to_device

from .._dispatch import current_fn, make
from .._promote import cast
from ..autograd.grad_mode import local
from ..autograd.tape import CustomNode
from .basics import device_from

if TYPE_CHECKING:
    from .._tensor import Tensor

_TYPE_NAMES = {
    "float32": "Float",
    "float64": "Double",
    "float16": "Half",
    "bfloat16": "BFloat16",
    "int64": "Long",
    "int32": "Int",
    "int16": "Short",
    "int8": "Char",
    "uint8": "Byte",
    "bool": "Bool",
    "complex64": "ComplexFloat",
    "complex128": "ComplexDouble",
}


def to(
    self: Tensor,
    *args: Any,
    dtype: Any = None,
    device: Any = None,
    non_blocking: builtins.bool = False,
    copy: builtins.bool = False,
    memory_format: Any = None,
) -> Tensor:
    """In another dtype, on another device, or like another tensor; itself if nothing changes.

    ``x.to(dtype)``, ``x.to(device, dtype)``, ``x.to(other)``; `copy` forces a copy.
    """
    for a in args:
        if a is None or isinstance(a, builtins.bool):
            continue
        if isinstance(a, str | builtins.int | Device):
            device = a
        elif hasattr(a, "_data"):
            dtype, device = a.dtype, None if builtins.type(a._data) is Value else device_of(a._data)
        else:
            dtype = a
    out = self
    if dtype is not None:
        out = cast(out, dtype if builtins.type(dtype) is DType else dt.as_dtype(dtype))
    if device is not None:
        out = move(out, device_from(device))
    return out.clone() if copy and out is self else out


def type(self: Tensor, dtype: Any = None, non_blocking: builtins.bool = False) -> Any:
    """The name of the tensor's type, or the tensor in another dtype."""
    if dtype is None:
        where = "cuda." if self.is_cuda else ""
        name = _TYPE_NAMES.get(self.dtype.name, self.dtype.name.capitalize())
        return f"{DType.namespace}.{where}{name}Tensor"
    if isinstance(dtype, str) and dtype.endswith("Tensor"):
        from ..legacy import type_named

        dtype = type_named(dtype) or dtype
    if (device := getattr(dtype, "device", None)) is not None:  # a legacy type
        return to(self, dtype=dtype.dtype, device=device)
    return cast(self, dt.as_dtype(dtype))


def type_as(self: Tensor, other: Tensor) -> Tensor:
    """In the other tensor's dtype."""
    return cast(self, other.dtype)


class MoveNode(CustomNode):
    """The tape entry of a move between devices: the gradient moves back."""

    name = "ToCopyBackward0"

    def __init__(self, edge: Any, origin: Device) -> None:
        super().__init__((edge,))
        self.origin = origin

    def run(self, g: Any, create_graph: builtins.bool) -> tuple[Any]:
        """The gradient, on the device the tensor came from."""
        return (move(g, self.origin) if create_graph else to_device(g, self.origin),)


def move(t: Tensor, device: Device) -> Tensor:
    """`t` on `device`, itself where it is there; in a trace devices are left to the runtime."""
    data = t._data
    if data.__class__ is Value or (data.__class__ is np.ndarray and device.type == "cpu"):
        return t
    moved = to_device(data, device)
    if moved is data:
        return t
    out = make(moved)
    fn = t._fn if t._base is None else current_fn(t)
    if fn is not None and local.grad:
        out._fn = MoveNode(fn, device_of(data))
    return out


def cpu(self: Tensor, memory_format: Any = None) -> Tensor:
    """In host memory."""
    return move(self, CPU)


def cuda(self: Tensor, device: Any = None, non_blocking: builtins.bool = False) -> Tensor:
    """On a GPU (by default the first); DeviceError if there is none."""
    return move(self, Device("cuda") if device is None else device_from(device))


def pin_memory(self: Tensor, device: Any = None) -> Tensor:
    """This tensor: host memory needs no pinning here."""
    return self


def _to(dtype: DType) -> Callable[..., Tensor]:
    def method(self: Tensor, memory_format: Any = None) -> Tensor:
        return cast(self, dtype)

    method.__doc__ = f"In {dtype.name}."
    return method


float, double, half, bfloat16 = map(_to, (dt.float32, dt.float64, dt.float16, dt.bfloat16))
long, int, short, char, byte = map(_to, (dt.int64, dt.int32, dt.int16, dt.int8, dt.uint8))
bool, cfloat, cdouble = map(_to, (dt.bool_, dt.complex64, dt.complex128))
