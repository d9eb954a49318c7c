"""Devices: where arrays live and which array module computes on them.

The only place that imports CuPy, and only when a GPU is asked for. Asking for one that is not there
is an error that says what is missing, never a silent use of the CPU.
"""

from __future__ import annotations

import contextlib
import functools
import re
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Any

import numpy as np

from dualgraph_compiler.errors import DeviceError

INSTALL_HINT = (
    "install it with `pip install 'dualgraph[cuda12]'` or `'dualgraph[cuda13]'`, whichever the "
    "driver supports (nvidia-smi shows it)"
)


class Device:
    """``Device("cpu")``, ``Device("cuda")`` or ``Device("cuda:1")``; equal by value, hashable.

    `type` is "cpu" or "cuda"; `index` the number of the GPU, None where none was stated (then the
    first). Naming a device does not need it to be there; using it does.

    Raises:
        DeviceError: the text names no device.
    """

    __slots__ = ("index", "type")

    type: str
    index: int | None

    def __init__(self, spec: str | Device, index: int | None = None) -> None:
        if isinstance(spec, Device):
            self.type, self.index = spec.type, spec.index
            return
        match = re.fullmatch(r"(cpu|cuda)(?::(\d+))?", spec) if isinstance(spec, str) else None
        if match is None or (match[2] is not None and index is not None):
            raise DeviceError(f"expected a device such as 'cpu', 'cuda' or 'cuda:1', got {spec!r}")
        self.type = match[1]
        self.index = int(match[2]) if match[2] is not None else index
        if self.type == "cpu" and self.index not in (None, 0):
            raise DeviceError(f"there is one CPU device, got index {self.index}")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Device) and other.type == self.type and other.index == self.index

    def __hash__(self) -> int:
        return hash((self.type, self.index))

    def __str__(self) -> str:
        return self.type if self.index is None else f"{self.type}:{self.index}"

    def __repr__(self) -> str:
        index = "" if self.index is None else f", index={self.index}"
        return f"device(type={self.type!r}{index})"

    @property
    def xp(self) -> Any:
        """The array module: NumPy, or CuPy on a GPU.

        Raises:
            DeviceError: there is no such GPU here, or no CuPy to use it with.
        """
        if self.type == "cpu":
            return np
        problem = self._problem()
        if problem:
            raise DeviceError(problem)
        return _cupy()

    def is_available(self) -> bool:
        """Whether arrays can be put on this device."""
        return self.type == "cpu" or not self._problem()

    def require(self) -> Device:
        """This device; raises DeviceError if it is not there."""
        _ = self.xp
        return self

    def synchronize(self) -> None:
        """Wait until everything started on this device has finished.

        Raises:
            IndexOutOfRange: an operation on a GPU had been given an index out of range.
        """
        if self.type == "cuda":
            with self.active():
                self.xp.cuda.get_current_stream().synchronize()
            _raise_failed()

    def active(self) -> AbstractContextManager[Any]:
        """A context in which new arrays of `xp` go to this device."""
        if self.type == "cpu":
            return contextlib.nullcontext()
        device: AbstractContextManager[Any] = self.xp.cuda.Device(self.index or 0)
        return device

    def _problem(self) -> str:
        """Why this GPU cannot be used; empty if it can."""
        found = _gpu_problem()
        if found:
            return f"{self} was asked for, but {found}"
        count = _gpu_count()
        if (self.index or 0) >= count:
            have = "there is one GPU, number 0" if count == 1 else f"there are {count} GPUs"
            return f"{self} was asked for, but {have}"
        return ""


CPU = Device("cpu")


def device_of(array: Any) -> Device:
    """Where an array of NumPy or CuPy is."""
    if type(array).__module__.partition(".")[0] == "cupy":
        return Device("cuda", int(array.device.id))
    return CPU


def to_device(array: Any, device: Device | str) -> Any:
    """`array` on `device`: itself where it is there already, else a copy.

    Args:
        array: an array of NumPy or CuPy.

    Raises:
        DeviceError: the device is not there.
        IndexOutOfRange: from the GPU, if an index it was given earlier turns out to be wrong.
    """
    device = device if isinstance(device, Device) else Device(device)
    source = device_of(array)
    if device.type == "cpu":
        if source.type == "cpu":
            return array
        on_host = array.get()
        _raise_failed()
        return on_host
    if source.type == "cuda" and source.index == (device.index or 0):
        return array
    with device.active():
        return device.xp.asarray(array)


def _raise_failed() -> None:
    """Raise for an index out of range that a GPU was given earlier."""
    from dualgraph_compiler.kernels.postponed import raise_failed

    raise_failed()


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """CuPy warns on import about more than one installed copy and the like; that is not ours."""
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@functools.cache
def _cupy() -> Any:
    with _quiet():
        import cupy
    return cupy


@functools.cache
def _gpu_problem() -> str:
    """Why no GPU can be used; empty if one can."""
    try:
        cupy = _cupy()
    except ImportError as error:
        return f"CuPy cannot be imported ({error}); {INSTALL_HINT}"
    try:
        if cupy.cuda.runtime.getDeviceCount() > 0:
            return ""
        return "CUDA finds no GPU"
    except Exception as error:  # no driver, a driver too old, ...: CUDARuntimeError and others
        return f"CUDA finds no usable GPU ({error})"


@functools.cache
def _gpu_count() -> int:
    return int(_cupy().cuda.runtime.getDeviceCount())
