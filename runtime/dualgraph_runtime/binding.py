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

from dualgraph_compiler.errors import ArgumentError, FeedError

from .values import OrtValue, dtype_named, require_cpu

if TYPE_CHECKING:
    from .session import InferenceSession


class IOBinding:
    """What a session reads its inputs from and writes its outputs to, made by ``io_binding``.

    Outputs that are bound without memory get some of their own at each run.
    """

    def __init__(self, session: InferenceSession) -> None:
        self._inputs: dict[str, np.ndarray[Any, Any]] = {}
        self._outputs: dict[str, np.ndarray[Any, Any] | None] = {}
        self._results: list[np.ndarray[Any, Any]] = []
        inputs = [*session.get_inputs(), *session.get_overridable_initializers()]
        self._known_inputs = [arg.name for arg in inputs]
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
        require_cpu(device_type, device_id)
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
        require_cpu(device_type, device_id)
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

    def get_outputs_as_ortvaluevector(self) -> list[OrtValue]:
        """`get_outputs`."""
        return self.get_outputs()

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


def _at(address: int, shape: Sequence[int], element_type: Any) -> np.ndarray[Any, Any]:
    """An array over memory at an address."""
    dtype = dtype_named(element_type).np
    nbytes = math.prod(shape) * dtype.itemsize
    if not nbytes:
        return np.empty(tuple(shape), dtype)
    memory = (ctypes.c_char * nbytes).from_address(address)
    return np.ndarray(tuple(shape), dtype, memoryview(memory).cast("B"))
