"""Typed tensors as PyTorch had them before `dtype=`: ``FloatTensor(2, 3)``, ``cuda.LongTensor``.

A type such as ``FloatTensor`` stands for a dtype on a kind of device. Called, it makes a tensor;
``isinstance(x, dg.FloatTensor)`` asks what `x` is; ``x.type(dg.FloatTensor)`` converts.
"""

from __future__ import annotations

from typing import Any

from dualgraph_compiler import dtypes as dt
from dualgraph_compiler.dtypes import DType
from dualgraph_runtime.device import Device, to_device

from ._dispatch import make
from ._promote import set_default_device, set_default_dtype
from ._tensor import Tensor, constructed

__all__ = [
    "BFloat16Tensor",
    "BoolTensor",
    "ByteTensor",
    "CharTensor",
    "DoubleTensor",
    "FloatTensor",
    "HalfTensor",
    "IntTensor",
    "LongTensor",
    "ShortTensor",
    "TensorType",
    "Variable",
    "set_default_tensor_type",
    "typename",
]

_DTYPES = {
    "Float": dt.float32,
    "Double": dt.float64,
    "Half": dt.float16,
    "BFloat16": dt.bfloat16,
    "Byte": dt.uint8,
    "Char": dt.int8,
    "Short": dt.int16,
    "Int": dt.int32,
    "Long": dt.int64,
    "Bool": dt.bool_,
}


class _Kind(type):
    """The class of typed tensor classes: decides what is an instance."""

    dtype: DType
    device: str

    def __instancecheck__(cls, x: Any) -> bool:
        return isinstance(x, Tensor) and x.dtype is cls.dtype and x.device.type == cls.device

    def __repr__(cls) -> str:
        return f"<class '{DType.namespace}.{cls.__qualname__}'>"


class TensorType(metaclass=_Kind):
    """Base of the typed tensor classes, which make tensors of one dtype on one kind of device.

    ``FloatTensor(2, 3)`` has that shape and zeros for elements, ``FloatTensor([1, 2])`` the data,
    ``FloatTensor(torch.Size([2, 3]))`` the shape, ``FloatTensor()`` no elements.

    Raises:
        TypeError: neither sizes nor a sequence, an array or a tensor.
    """

    dtype: DType = dt.float32
    device: str = "cpu"

    def __new__(cls, *data: Any) -> Any:
        """A tensor of the type; it is a Tensor, not an instance in Python's sense."""
        made = constructed(data, cls.dtype)
        return make(to_device(made._data, Device(cls.device).require()))


def _kind(name: str, device: str) -> Any:
    qualified = f"{'cuda.' if device == 'cuda' else ''}{name}Tensor"
    where = "GPU" if device == "cuda" else "host"
    body = {
        "dtype": _DTYPES[name],
        "device": device,
        "__qualname__": qualified,
        "__doc__": f"{_DTYPES[name].name} tensors in {where} memory.",
        "__module__": __name__,
    }
    return _Kind(f"{name}Tensor", (TensorType,), body)


FloatTensor = _kind("Float", "cpu")
DoubleTensor = _kind("Double", "cpu")
HalfTensor = _kind("Half", "cpu")
BFloat16Tensor = _kind("BFloat16", "cpu")
ByteTensor = _kind("Byte", "cpu")
CharTensor = _kind("Char", "cpu")
ShortTensor = _kind("Short", "cpu")
IntTensor = _kind("Int", "cpu")
LongTensor = _kind("Long", "cpu")
BoolTensor = _kind("Bool", "cpu")


class _AnyTensor(type):
    """The class of :class:`Variable`: every tensor is an instance."""

    def __instancecheck__(cls, x: Any) -> bool:
        return isinstance(x, Tensor)


class Variable(metaclass=_AnyTensor):
    """A tensor that can be differentiated, which all tensors have become.

    ``Variable(x, requires_grad=True)`` is a tensor that shares the memory of `x`; `volatile` asks
    for one that nothing is recorded of.

    Source: ``torch.autograd.Variable``.
    """

    def __new__(cls, data: Tensor, requires_grad: bool = False, volatile: bool = False) -> Any:
        """The same memory as `data`, off the tape."""
        return data.detach().requires_grad_(requires_grad and not volatile)


# Those of ``dualgraph.cuda``, by name.
ON_GPU = {f"{name}Tensor": _kind(name, "cuda") for name in _DTYPES}
_ON_HOST = {f"{name}Tensor": globals()[f"{name}Tensor"] for name in _DTYPES}


def type_named(name: str) -> Any:
    """The type that a text such as "torch.cuda.FloatTensor" names; None if there is none such."""
    *package, short = name.split(".")
    return (ON_GPU if package[-1:] == ["cuda"] else _ON_HOST).get(short)


def set_default_tensor_type(t: Any) -> None:
    """Make floating-point tensors of this type by default: its dtype and device.

    Args:
        t: a floating-point tensor type, such as ``DoubleTensor``, or its name.

    Raises:
        TypeError: no such type, or not a floating-point one.

    Source: ``torch.set_default_tensor_type``.
    """
    kind = type_named(t) if isinstance(t, str) else t
    if not isinstance(kind, _Kind):
        raise TypeError(f"invalid type object: {t!r}; expected one such as FloatTensor or its name")
    set_default_dtype(kind.dtype)
    set_default_device(kind.device)


def typename(obj: Any) -> str:
    """What kind of thing `obj` is, in full: for a tensor the name of its legacy type."""
    if isinstance(obj, Tensor):
        return str(obj.type())
    kind = obj if hasattr(obj, "__qualname__") else type(obj)
    module = getattr(kind, "__module__", None) or ""
    name = getattr(kind, "__qualname__", kind.__name__)
    return name if module in ("", "builtins", "__builtin__") else f"{module}.{name}"
