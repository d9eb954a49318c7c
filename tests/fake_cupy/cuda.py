"""`cupy.cuda`: devices, streams, and what the CUDA runtime says about itself."""

from __future__ import annotations

import threading
import types
from typing import Any


class CUDARuntimeError(RuntimeError):
    """What CUDA raises where there is no driver or no device."""


class _Current(threading.local):
    device = 0


current = _Current()
count = 1  # of GPUs; 0 stands for a driver that finds none, -1 for no driver


def get_device_count() -> int:
    if count < 0:
        raise CUDARuntimeError("cudaErrorInsufficientDriver: CUDA driver version is insufficient")
    return count


class Device:
    """A GPU; as a context manager, the one that new arrays go to."""

    def __init__(self, device: int | Device | None = None) -> None:
        if isinstance(device, Device):
            device = device.id
        self.id = current.device if device is None else int(device)
        self._before: list[int] = []

    def use(self) -> None:
        if not 0 <= self.id < get_device_count():
            raise CUDARuntimeError("cudaErrorInvalidDevice: invalid device ordinal")
        current.device = self.id

    def __enter__(self) -> Device:
        self._before.append(current.device)
        self.use()
        return self

    def __exit__(self, *exception: object) -> None:
        current.device = self._before.pop()

    def synchronize(self) -> None:
        pass

    def __int__(self) -> int:
        return self.id

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Device) and other.id == self.id

    def __hash__(self) -> int:
        return hash(self.id)

    def __repr__(self) -> str:
        return f"<CUDA Device {self.id}>"


class Stream:
    """A stream; everything here happens at once, so there is never anything to wait for."""

    null: Stream
    ptr = 0

    def __init__(self, null: bool = False, non_blocking: bool = False, ptds: bool = False) -> None:
        self.null_stream = null

    def synchronize(self) -> None:
        pass

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *exception: object) -> None:
        pass


Stream.null = Stream(null=True)


def make_module() -> Any:
    """`cupy.cuda`, as a module object."""
    cuda: Any = types.ModuleType("cupy.cuda")
    runtime: Any = types.ModuleType("cupy.cuda.runtime")
    runtime.getDeviceCount = get_device_count
    runtime.getDevice = lambda: current.device
    runtime.CUDARuntimeError = CUDARuntimeError
    runtime.getDeviceProperties = lambda device: {"name": b"Stand-in GPU", "major": 0, "minor": 0}
    runtime.runtimeGetVersion = lambda: 13000
    runtime.driverGetVersion = lambda: 13000
    cuda.runtime = runtime
    cuda.Device = Device
    cuda.Stream = Stream
    cuda.get_current_stream = lambda device_id=-1: Stream.null
    cuda.is_available = lambda: count > 0
    return cuda
