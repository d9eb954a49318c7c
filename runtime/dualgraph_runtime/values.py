"""Values in the CPU's memory and the devices they name, under ONNX Runtime's names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from dualgraph_compiler.dtypes import BY_ONNX, DType, as_dtype, dtype_of
from dualgraph_compiler.errors import ArgumentError, DeviceError, FeedError

from .model import type_name


class OrtValue:
    """A tensor in the CPU's memory: an array with ONNX Runtime's names for its parts.

    What is no tensor (a list of arrays, the value of an optional) is kept as it is.
    """

    def __init__(self, value: Any) -> None:
        self._value = value

    @staticmethod
    def ortvalue_from_numpy(
        numpy_obj: np.ndarray[Any, Any], /, device_type: str = "cpu", device_id: int = 0
    ) -> OrtValue:
        """A value in the memory of an array, if that is contiguous, else of a copy of it."""
        require_cpu(device_type, device_id)
        array = np.require(numpy_obj, requirements=("C", "A"))
        dtype_of(array)
        return OrtValue(array)

    @staticmethod
    def ortvalue_from_numpy_with_onnx_type(
        data: np.ndarray[Any, Any], /, onnx_element_type: int
    ) -> OrtValue:
        """A value in the memory of an array, read as elements of another type of the same width.

        Args:
            onnx_element_type: the number of ``onnx.TensorProto.DataType``, such as that of
                bfloat16 for an array of uint16.
        """
        dtype = dtype_named(onnx_element_type).np
        array = np.require(data, requirements=("C", "A"))
        if array.dtype.itemsize != dtype.itemsize:
            raise ArgumentError(f"elements of {array.dtype} cannot be read as {dtype}: other width")
        return OrtValue(array.view(dtype))

    @staticmethod
    def ortvalue_from_shape_and_type(
        shape: Sequence[int], element_type: Any, device_type: str = "cpu", device_id: int = 0
    ) -> OrtValue:
        """A value that is not initialised.

        Args:
            element_type: a NumPy dtype or the number of ``onnx.TensorProto.DataType``.
        """
        require_cpu(device_type, device_id)
        return OrtValue(np.empty(tuple(shape), dtype_named(element_type).np))

    @staticmethod
    def from_dlpack(data: Any, /) -> OrtValue:
        """A value in the memory of anything that speaks DLPack."""
        return OrtValue(np.from_dlpack(data))

    def numpy(self) -> np.ndarray[Any, Any]:
        """The array, sharing the value's memory."""
        if not self.is_tensor():
            raise FeedError(f"a value of type {self.data_type()} is no array")
        array: np.ndarray[Any, Any] = self._value
        return array

    def shape(self) -> list[int]:
        """The sizes of its dimensions."""
        return list(self.numpy().shape)

    def data_ptr(self) -> int:
        """The address of its first element."""
        return int(self.numpy().ctypes.data)

    def data_type(self) -> str:
        """Its type, as in ``tensor(float)``."""
        if self.is_tensor():
            return _array_type(self._value)
        if self.is_tensor_sequence():
            element = _array_type(self._value[0]) if self._value else "tensor(float)"
            return f"seq({element})"
        return "optional" if self._value is None else type(self._value).__name__

    def element_type(self) -> int:
        """The number of its element type in ``onnx.TensorProto.DataType``."""
        return dtype_of(self.numpy()).onnx

    def tensor_size_in_bytes(self) -> int:
        """The size of its memory."""
        return int(self.numpy().nbytes)

    def device_name(self) -> str:
        """ "cpu"."""
        return "cpu"

    def has_value(self) -> bool:
        """Whether there is something; only an optional may hold nothing."""
        return self._value is not None

    def is_tensor(self) -> bool:
        """Whether this is a tensor."""
        return isinstance(self._value, np.ndarray)

    def is_tensor_sequence(self) -> bool:
        """Whether this is a list of tensors."""
        return isinstance(self._value, list)

    def is_sparse_tensor(self) -> bool:
        """Whether this is a sparse tensor; never."""
        return False

    def update_inplace(self, data: np.ndarray[Any, Any]) -> None:
        """Copy an array of the same type and shape into the value.

        Raises:
            FeedError: it has another type or shape.
        """
        array = self.numpy()
        if data.dtype != array.dtype or data.shape != array.shape:
            raise FeedError(
                f"expected {array.dtype} of shape {self.shape()}, got {data.dtype} of shape "
                f"{list(data.shape)}"
            )
        array[...] = data

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray[Any, Any]:
        return np.array(self.numpy(), dtype, copy=copy)

    def __dlpack__(self, **options: Any) -> Any:
        return self.numpy().__dlpack__(**options)

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.numpy().__dlpack_device__()


def held(value: OrtValue) -> Any:
    """What a value holds: an array, or what is no tensor."""
    return value._value


def copy_tensors(src: Sequence[OrtValue], dst: Sequence[OrtValue], stream: Any = None) -> None:
    """Copy tensors into others of the same types and shapes."""
    if len(src) != len(dst):
        raise ArgumentError(f"{len(src)} values to copy, but {len(dst)} to copy into")
    for source, target in zip(src, dst, strict=True):
        target.update_inplace(source.numpy())


class OrtDevice:
    """A device by ONNX Runtime's name and number for it; memory of values is the CPU's."""

    _TYPES = {"cpu": 0, "cuda": 1, "gpu": 1}

    def __init__(self, name: str, device_id: int) -> None:
        self._name = name
        self._id = device_id

    @staticmethod
    def make(ort_device_name: str, device_id: int, vendor_id: int = -1) -> OrtDevice:
        """A device of this name ("cpu", "cuda").

        Raises:
            DeviceError: there is no kind of device of that name.
        """
        if ort_device_name.lower() not in OrtDevice._TYPES:
            known = " and ".join(map(repr, OrtDevice._TYPES))
            raise DeviceError(f"there is no device {ort_device_name!r}; there are {known}")
        return OrtDevice(ort_device_name.lower(), device_id)

    def device_id(self) -> int:
        """Its number."""
        return self._id

    def device_type(self) -> int:
        """ONNX Runtime's number of its kind: 0 for a CPU, 1 for a GPU."""
        return self._TYPES[self._name]

    def device_mem_type(self) -> int:
        """The kind of its memory: 0, the ordinary one."""
        return 0

    def device_vendor_id(self) -> int:
        """The maker of the device: 0, which is none in particular."""
        return 0


def _array_type(array: np.ndarray[Any, Any]) -> str:
    if array.dtype.kind in "OUST":
        return "tensor(string)"
    return type_name(dtype_of(array))


def dtype_named(element_type: Any) -> DType:
    """The dtype of a NumPy dtype or a number of ``onnx.TensorProto.DataType``."""
    if isinstance(element_type, int) and not isinstance(element_type, bool):
        if element_type not in BY_ONNX:
            raise ArgumentError(f"there is no element type {element_type}")
        return BY_ONNX[element_type]
    return as_dtype(element_type)


def require_cpu(device_type: str, device_id: int) -> None:
    """Raise DeviceError unless values can be put on this device."""
    if device_type != "cpu" or device_id:
        raise DeviceError(f"values are bound in the memory of the cpu, not of {device_type}")
