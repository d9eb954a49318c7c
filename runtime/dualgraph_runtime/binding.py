"""Inputs and outputs bound to memory of the caller's, under ONNX Runtime's names.

binding = session.io_binding()
binding.bind_cpu_input("x", x)
binding.bind_ortvalue_output("y", OrtValue.ortvalue_from_shape_and_type([8, 10], np.float32))
session.run_with_iobinding(binding)

Memory is that of the CPU; sessions on a GPU copy from it and to it.
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from dualgraph_compiler.dtypes import BY_ONNX, DType, as_dtype, dtype_of
from dualgraph_compiler.errors import ArgumentError, DeviceError, FeedError

from .model import type_name

if TYPE_CHECKING:
    from .session import InferenceSession


class OrtValue:
    """A tensor in the CPU's memory: an array with ONNX Runtime's names for its parts."""

    def __init__(self, array: np.ndarray[Any, Any]) -> None:
        self._array = array

    @staticmethod
    def ortvalue_from_numpy(
        numpy_obj: np.ndarray[Any, Any], /, device_type: str = "cpu", device_id: int = 0
    ) -> OrtValue:
        """A value in the memory of an array, if that is contiguous, else of a copy of it."""
        _require_cpu(device_type, device_id)
        array = np.require(numpy_obj, requirements=("C", "A"))
        dtype_of(array)
        return OrtValue(array)

    @staticmethod
    def ortvalue_from_shape_and_type(
        shape: Sequence[int], element_type: Any, device_type: str = "cpu", device_id: int = 0
    ) -> OrtValue:
        """A value that is not initialised.

        Args:
            element_type: a NumPy dtype or the number of ``onnx.TensorProto.DataType``.
        """
        _require_cpu(device_type, device_id)
        return OrtValue(np.empty(tuple(shape), _dtype(element_type).np))

    def numpy(self) -> np.ndarray[Any, Any]:
        """The array, sharing the value's memory."""
        return self._array

    def shape(self) -> list[int]:
        """The sizes of its dimensions."""
        return list(self._array.shape)

    def data_ptr(self) -> int:
        """The address of its first element."""
        return int(self._array.ctypes.data)

    def data_type(self) -> str:
        """Its type, as in ``tensor(float)``."""
        return type_name(dtype_of(self._array))

    def element_type(self) -> int:
        """The number of its element type in ``onnx.TensorProto.DataType``."""
        return dtype_of(self._array).onnx

    def tensor_size_in_bytes(self) -> int:
        """The size of its memory."""
        return int(self._array.nbytes)

    def device_name(self) -> str:
        """ "cpu"."""
        return "cpu"

    def has_value(self) -> bool:
        """Whether there is a tensor; always."""
        return True

    def is_tensor(self) -> bool:
        """Whether this is a tensor; always."""
        return True

    def update_inplace(self, data: np.ndarray[Any, Any]) -> None:
        """Copy an array of the same type and shape into the value.

        Raises:
            FeedError: it has another type or shape.
        """
        if data.dtype != self._array.dtype or data.shape != self._array.shape:
            raise FeedError(
                f"expected {self._array.dtype} of shape {self.shape()}, got {data.dtype} of shape "
                f"{list(data.shape)}"
            )
        self._array[...] = data


class IOBinding:
    """What a session reads its inputs from and writes its outputs to, made by ``io_binding``.

    Outputs that are bound without memory get some of their own at each run.
    """

    def __init__(self, session: InferenceSession) -> None:
        self._inputs: dict[str, np.ndarray[Any, Any]] = {}
        self._outputs: dict[str, np.ndarray[Any, Any] | None] = {}
        self._results: list[np.ndarray[Any, Any]] = []
        self._known_inputs = [arg.name for arg in session.get_inputs()]
        self._known_outputs = [arg.name for arg in session.get_outputs()]

    def bind_cpu_input(self, name: str, arr_on_cpu: np.ndarray[Any, Any]) -> None:
        """Read an input from an array, at every run as it is then."""
        self._inputs[self._known(name, self._known_inputs, "input")] = arr_on_cpu

    def bind_input(
        self,
        name: str,
        device_type: str,
        device_id: int,
        element_type: Any,
        shape: Sequence[int],
        buffer_ptr: int,
    ) -> None:
        """Read an input from memory at an address, which must stay valid."""
        _require_cpu(device_type, device_id)
        self.bind_cpu_input(name, _at(buffer_ptr, shape, element_type))

    def bind_ortvalue_input(self, name: str, ortvalue: OrtValue) -> None:
        """Read an input from a value."""
        self.bind_cpu_input(name, ortvalue.numpy())

    def bind_output(
        self,
        name: str,
        device_type: str = "cpu",
        device_id: int = 0,
        element_type: Any = None,
        shape: Sequence[int] | None = None,
        buffer_ptr: int | None = None,
    ) -> None:
        """Compute an output, and write it to memory at an address if there is one."""
        _require_cpu(device_type, device_id)
        given = None
        if buffer_ptr is not None:
            if shape is None or element_type is None:
                raise ArgumentError("memory for an output needs `shape` and `element_type`, too")
            given = _at(buffer_ptr, shape, element_type)
        self._outputs[self._known(name, self._known_outputs, "output")] = given

    def bind_ortvalue_output(self, name: str, ortvalue: OrtValue) -> None:
        """Write an output into a value, which must have its type and shape."""
        self._outputs[self._known(name, self._known_outputs, "output")] = ortvalue.numpy()

    def get_outputs(self) -> list[OrtValue]:
        """The results of the last run, in the order in which outputs were bound."""
        return [OrtValue(r) for r in self._results]

    def copy_outputs_to_cpu(self) -> list[np.ndarray[Any, Any]]:
        """Copies of the results of the last run."""
        return [r.copy() for r in self._results]

    def clear_binding_inputs(self) -> None:
        """Bind no input."""
        self._inputs.clear()

    def clear_binding_outputs(self) -> None:
        """Bind no output."""
        self._outputs.clear()
        self._results = []

    def synchronize_inputs(self) -> None:
        """Nothing: memory of the CPU is there when it is written."""

    def synchronize_outputs(self) -> None:
        """Nothing: a run ends when its results are there."""

    def _known(self, name: str, known: Sequence[str], what: str) -> str:
        if name not in known:
            raise FeedError(
                f"no {what} {name!r}; there are {', '.join(map(repr, known)) or 'none'}"
            )
        return name


def bound(binding: IOBinding) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    """The arrays of a binding by name: those of the inputs, and those for the outputs or None."""
    return binding._inputs, binding._outputs


def settle(binding: IOBinding, results: list[np.ndarray[Any, Any]]) -> None:
    """Note the results of a run, in the order of the bound outputs."""
    binding._results = results


def write(result: np.ndarray[Any, Any], given: np.ndarray[Any, Any] | None) -> np.ndarray[Any, Any]:
    """A result, in the array given for it if there is one.

    Raises:
        FeedError: that has another dtype or shape than the result.
    """
    if given is None:
        return result
    if given.dtype != result.dtype or given.shape != result.shape:
        raise FeedError(
            f"an output is {result.dtype} of shape {list(result.shape)}, but the array for it is "
            f"{given.dtype} of shape {list(given.shape)}"
        )
    given[...] = result
    return given


def _dtype(element_type: Any) -> DType:
    if isinstance(element_type, int) and not isinstance(element_type, bool):
        if element_type not in BY_ONNX:
            raise ArgumentError(f"there is no element type {element_type}")
        return BY_ONNX[element_type]
    return as_dtype(element_type)


def _at(address: int, shape: Sequence[int], element_type: Any) -> np.ndarray[Any, Any]:
    """An array over memory at an address."""
    dtype = _dtype(element_type).np
    nbytes = math.prod(shape) * dtype.itemsize
    if not nbytes:
        return np.empty(tuple(shape), dtype)
    memory = (ctypes.c_char * nbytes).from_address(address)
    return np.ndarray(tuple(shape), dtype, memoryview(memory).cast("B"))


def _require_cpu(device_type: str, device_id: int) -> None:
    if device_type != "cpu" or device_id:
        raise DeviceError(f"values are bound in the memory of the cpu, not of {device_type}")
