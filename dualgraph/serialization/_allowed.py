"""What a checkpoint may ask for: names that PyTorch writes, and what they are here.

Every function checks what it is given, since a damaged or hostile file may give it anything.
"""

from __future__ import annotations

import math
from collections import Counter, OrderedDict
from collections.abc import Callable
from typing import Any, NoReturn

from dualgraph_compiler.errors import DeviceError, SerializationError
from dualgraph_runtime.device import Device

from .._dispatch import make
from .._tensor import _PRIVATE, Size, Tensor
from ..nn.parameter import Parameter
from ._machine import Allowed, Machine
from ._names import DTYPES, STORAGES
from ._storage import UntypedStorage

__all__ = ["ALLOWED", "TypedStorage", "rebuild"]


class TypedStorage:
    """A storage as a pickle names it: memory, and what its elements are."""

    def __init__(self, storage: UntypedStorage, dtype: Any) -> None:
        self.storage = storage
        self.dtype = dtype  # None for bytes


def _require(condition: bool, what: str) -> None:
    if not condition:
        raise SerializationError(what)


# -- tensors --------------------------------------------------------------------------------------


def rebuild(source: TypedStorage, offset: Any, size: Any, stride: Any, dtype: Any) -> Tensor:
    """A tensor on a storage; tensors on one storage share memory and version.

    Args:
        source: the storage.
        offset: where the first element is, in elements.
        size: the shape.
        stride: distances between neighbours, in elements.
        dtype: what the elements are.

    Raises:
        SerializationError: the tensor would reach beyond its storage.
    """
    numbers = (offset, *size, *stride)
    _require(
        len(size) == len(stride)
        and len(size) <= 64
        and all(type(n) is int and 0 <= n < 2**62 for n in numbers),
        f"a tensor has offset {offset}, size {size} and stride {stride}",
    )
    storage = source.storage
    _require(not storage._foreign or dtype.itemsize == 1, f"{dtype} of another byte order")
    held = storage.nbytes() // dtype.itemsize
    last = offset + sum((n - 1) * step for n, step in zip(size, stride)) if 0 not in size else -1
    _require(
        last < held,
        f"a tensor of size {size} with stride {stride} and offset {offset} does not fit into a "
        f"storage of {held} elements",
    )
    elements = storage._data[: held * dtype.itemsize].view(dtype.np)
    count = math.prod(size)
    if tuple(stride) == _contiguous(size) or count == 0:
        array = elements[offset : offset + count].reshape(size)
    else:
        with storage.device.active():
            array = storage.device.xp.lib.stride_tricks.as_strided(
                elements[offset:], size, [step * dtype.itemsize for step in stride]
            )
    tensor = make(array)
    tensor._ver = storage._version
    return tensor


def _contiguous(size: Any) -> tuple[int, ...]:
    steps = [1]
    for n in reversed(size[1:]):
        steps.append(steps[-1] * max(n, 1))
    return tuple(reversed(steps)) if size else ()


def _typed(storage: Any) -> TypedStorage:
    _require(isinstance(storage, TypedStorage), "a tensor is not on a storage")
    return storage  # type: ignore[no-any-return]


def _finish(
    machine: Machine, tensor: Tensor, requires_grad: Any = False, metadata: Any = None
) -> Tensor:
    bits = metadata or {}
    if bits.get("conj") or bits.get("neg"):
        # Views that PyTorch negates when they are read; here, new tensors.
        machine.charge(tensor.nbytes)
        source, result = tensor._data, tensor._data.copy()
        tensor = make(result)

        def compute() -> None:
            data = source.conj() if bits.get("conj") else source
            result[...] = -data if bits.get("neg") else data

        machine.later(compute)
    if requires_grad:
        tensor.requires_grad_()
    return tensor


def _rebuild_tensor(machine: Machine, storage: Any, offset: Any, size: Any, stride: Any) -> Tensor:
    source = _typed(storage)
    _require(source.dtype is not None, "a tensor of no dtype")
    return rebuild(source, offset, size, stride, source.dtype)


def _rebuild_tensor_v2(
    machine: Machine,
    storage: Any,
    offset: Any,
    size: Any,
    stride: Any,
    requires_grad: Any,
    hooks: Any,
    metadata: Any = None,
) -> Tensor:
    tensor = _rebuild_tensor(machine, storage, offset, size, stride)
    return _finish(machine, tensor, requires_grad, metadata)


def _rebuild_tensor_v3(
    machine: Machine,
    storage: Any,
    offset: Any,
    size: Any,
    stride: Any,
    requires_grad: Any,
    hooks: Any,
    dtype: Any,
    metadata: Any = None,
) -> Tensor:
    _require(dtype in DTYPES.values(), "a tensor of no dtype")
    tensor = rebuild(_typed(storage), offset, size, stride, dtype)
    return _finish(machine, tensor, requires_grad, metadata)


def _rebuild_parameter(
    machine: Machine, data: Any, requires_grad: Any = True, hooks: Any = None
) -> Tensor:
    _require(isinstance(data, Tensor), "a parameter without data")
    return Parameter(data, bool(requires_grad))


def _rebuild_parameter_with_state(
    machine: Machine, data: Any, requires_grad: Any, hooks: Any, state: Any
) -> Tensor:
    return _with_attributes(_rebuild_parameter(machine, data, requires_grad), state)


def _rebuild_from_type(
    machine: Machine, function: Any, kind: Any, arguments: Any, state: Any
) -> Tensor:
    tensor = machine.call(function, arguments)
    _require(isinstance(tensor, Tensor), "a tensor that is none")
    if isinstance(kind, type):
        _require(issubclass(kind, Tensor), f"a tensor of type {kind.__name__}")
        tensor.__class__ = kind
    else:
        _require(kind is _TENSOR, "a tensor of no type")
    return _with_attributes(tensor, state)


def _with_attributes(tensor: Tensor, state: Any) -> Tensor:
    attributes = (state[0] if isinstance(state, tuple) else state) or {}
    for name, value in attributes.items():
        _require(isinstance(name, str), "an attribute that has no name")
        if name not in _PRIVATE and not hasattr(Tensor, name):
            tensor.__dict__[name] = value
    return tensor


def _unsupported(what: str) -> Callable[..., NoReturn]:
    def refuse(machine: Machine, *arguments: Any) -> NoReturn:
        raise SerializationError(f"it holds {what}, which dualgraph does not have")

    return refuse


def _layout(machine: Machine, name: Any) -> Any:
    _require(name == "torch.strided", f"it holds a tensor of layout {name}")
    return "strided"


# -- everything else ------------------------------------------------------------------------------


def _encode(machine: Machine, text: Any, encoding: Any = "utf-8") -> bytes:
    # How protocol 2 writes bytes.
    _require(type(text) is str and encoding in ("latin1", "utf-8"), "bytes that are none")
    machine.charge(len(text))
    return text.encode(encoding)  # type: ignore[no-any-return]


def _bytearray(machine: Machine, content: Any = b"", encoding: Any = None) -> bytearray:
    if encoding is not None:
        content = _encode(machine, content, encoding)
    _require(type(content) in (bytes, bytearray), "a bytearray of something else")
    machine.charge(len(content))
    return bytearray(content)


def _no_bytes(machine: Machine) -> bytes:
    return b""


def _complex(machine: Machine, real: Any = 0.0, imag: Any = 0.0) -> complex:
    _require(type(real) in (int, float) and type(imag) in (int, float), "a complex of no numbers")
    return complex(real, imag)


def _collection(kind: Any) -> Callable[..., Any]:
    def build(machine: Machine, content: Any = ()) -> Any:
        _require(type(content) in (list, tuple, dict), f"a {kind.__name__} of something else")
        machine.charge(16 * len(content))
        if isinstance(content, dict):
            return kind(content)
        if kind is OrderedDict:
            result = OrderedDict()
            for key, value in content:
                (key,) = machine.keys([key])
                result[key] = value
            return result
        return kind(machine.keys(list(content)))

    return build


def _size(machine: Machine, content: Any = ()) -> Size:
    _require(
        type(content) in (list, tuple) and all(type(n) is int for n in content),
        "a size that is not made of integers",
    )
    machine.charge(8 * len(content))
    return Size(content)


def _device(machine: Machine, kind: Any, index: Any = None) -> Device:
    _require(type(kind) is str and (index is None or type(index) is int), "a device of no name")
    try:  # there is one CPU; PyTorch counts it, too
        return Device("cpu") if kind == "cpu" else Device(kind, index)
    except DeviceError as error:
        raise SerializationError(str(error)) from None


_TENSOR = Allowed("torch.Tensor", _unsupported("a tensor that is made by its constructor"))

_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "torch._utils._rebuild_tensor": _rebuild_tensor,
    "torch._utils._rebuild_tensor_v2": _rebuild_tensor_v2,
    "torch._utils._rebuild_tensor_v3": _rebuild_tensor_v3,
    "torch._utils._rebuild_parameter": _rebuild_parameter,
    "torch._utils._rebuild_parameter_with_state": _rebuild_parameter_with_state,
    "torch._tensor._rebuild_from_type_v2": _rebuild_from_type,
    "torch.nn.parameter.Parameter": _rebuild_parameter,
    "torch._utils._rebuild_qtensor": _unsupported("a quantized tensor"),
    "torch._utils._rebuild_sparse_tensor": _unsupported("a sparse tensor"),
    "torch._utils._rebuild_nested_tensor": _unsupported("a nested tensor"),
    "torch._utils._rebuild_wrapper_subclass": _unsupported("a tensor of a subclass"),
    "torch._utils._rebuild_meta_tensor_no_storage": _unsupported("a tensor without data"),
    "torch._utils._rebuild_device_tensor_from_numpy": _unsupported("a tensor of another device"),
    "torch._utils._rebuild_device_tensor_from_cpu_tensor": _unsupported(
        "a tensor of another device"
    ),
    "torch.serialization._get_layout": _layout,
    "torch.Size": _size,
    "torch.device": _device,
    "_codecs.encode": _encode,
    "builtins.bytearray": _bytearray,
    "builtins.bytes": _no_bytes,
    "builtins.complex": _complex,
    "builtins.set": _collection(set),
    "builtins.frozenset": _collection(frozenset),
    "collections.OrderedDict": _collection(OrderedDict),
    "collections.Counter": _collection(Counter),
}

ALLOWED: dict[str, Any] = {
    **{name: Allowed(name, function) for name, function in _FUNCTIONS.items()},
    **{f"torch.{name}": dtype for name, dtype in DTYPES.items()},
    **STORAGES,
    "torch.Tensor": _TENSOR,
    "torch._tensor.Tensor": _TENSOR,
}
