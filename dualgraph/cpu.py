"""The CPU as a device, for programs that treat all alike: PyTorch's ``torch.cpu``."""

from __future__ import annotations

import importlib
from typing import Any

__all__ = [
    "current_device",
    "device_count",
    "is_available",
    "is_initialized",
    "set_device",
    "synchronize",
]


def is_available() -> bool:
    """Whether there is a CPU: yes."""
    return True


def is_initialized() -> bool:
    """Whether the CPU is ready for use: yes."""
    return True


def device_count() -> int:
    """The number of CPUs as devices: one."""
    return 1


def current_device() -> str:
    """The device in use: "cpu"."""
    return "cpu"


def set_device(device: Any) -> None:
    """Nothing: there is one CPU."""


def synchronize(device: Any = None) -> None:
    """Nothing: the CPU computes at once."""


def __getattr__(name: str) -> Any:
    # It builds on tensors, which build on the package that this is part of.
    if name == "amp":
        return importlib.import_module("dualgraph.amp.cpu_amp")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
