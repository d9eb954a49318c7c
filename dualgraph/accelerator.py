"""The device that computes fastest, whatever it is called: PyTorch's ``torch.accelerator``."""

from __future__ import annotations

from typing import Any

from dualgraph_runtime.device import Device

from . import cuda

__all__ = [
    "current_accelerator",
    "current_device_index",
    "device_count",
    "device_index",
    "is_available",
    "set_device_index",
    "synchronize",
]


def is_available() -> bool:
    """Whether there is a GPU, and CuPy to use it with."""
    return cuda.is_available()


def device_count() -> int:
    """The number of GPUs that can be used."""
    return cuda.device_count()


def current_accelerator(check_available: bool = False) -> Device | None:
    """``device("cuda")``, or None where there is no GPU."""
    return Device("cuda") if cuda.is_available() else None


def current_device_index() -> int:
    """The number of the GPU in use."""
    return cuda.current_device()


def set_device_index(device: Any, /) -> None:
    """Let ``device("cuda")`` stand for this GPU from now on."""
    cuda.set_device(device)


device_index = cuda.device


def synchronize(device: Any = None, /) -> None:
    """Wait until everything started on the GPU has finished."""
    cuda.synchronize(device)
