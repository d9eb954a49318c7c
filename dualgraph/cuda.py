"""GPUs: how many there are, and waiting for them. CuPy is imported only when a GPU is asked for."""

from __future__ import annotations

from typing import Any

from dualgraph_runtime.device import Device

__all__ = [
    "current_device",
    "device_count",
    "empty_cache",
    "get_device_name",
    "is_available",
    "is_initialized",
    "manual_seed",
    "manual_seed_all",
    "synchronize",
]


def is_available() -> bool:
    """Whether there is a GPU, and CuPy to use it with."""
    return Device("cuda").is_available()


def is_initialized() -> bool:
    """Whether there is a GPU ready for use."""
    return is_available()


def device_count() -> int:
    """The number of GPUs that can be used."""
    return int(Device("cuda").xp.cuda.runtime.getDeviceCount()) if is_available() else 0


def current_device() -> int:
    """The number of the GPU that ``Device("cuda")`` stands for."""
    return int(Device("cuda").xp.cuda.Device().id)


def get_device_name(device: Any = None) -> str:
    """What the GPU is called."""
    where = Device("cuda") if device is None else _device(device)
    name = where.xp.cuda.runtime.getDeviceProperties(where.index or 0)["name"]
    return name.decode() if isinstance(name, bytes) else str(name)


def synchronize(device: Any = None) -> None:
    """Wait until everything started on the GPU has finished."""
    (Device("cuda") if device is None else _device(device)).synchronize()


def empty_cache() -> None:
    """Give memory that is cached but unused back to the driver."""
    if is_available():
        Device("cuda").xp.get_default_memory_pool().free_all_blocks()


def manual_seed(seed: int) -> None:
    """Seed the default generator, which serves every device."""
    from ._random import default_generator

    default_generator.manual_seed(seed)


manual_seed_all = manual_seed


def _device(device: Any) -> Device:
    return Device("cuda", device) if isinstance(device, int) else Device(device)
