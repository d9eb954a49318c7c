"""GPUs: which there are, their memory, waiting for them. CuPy is imported only for one's use."""

from __future__ import annotations

import contextlib
import importlib.util
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dualgraph_compiler.errors import OutOfMemory as OutOfMemoryError
from dualgraph_runtime.device import Device

if TYPE_CHECKING:
    from ._tensor import Tensor

__all__ = [
    "OutOfMemoryError",
    "current_device",
    "device",
    "device_count",
    "empty_cache",
    "get_device_capability",
    "get_device_name",
    "get_device_properties",
    "get_rng_state",
    "get_rng_state_all",
    "init",
    "initial_seed",
    "is_available",
    "is_bf16_supported",
    "is_initialized",
    "is_tf32_supported",
    "manual_seed",
    "manual_seed_all",
    "max_memory_allocated",
    "max_memory_reserved",
    "mem_get_info",
    "memory_allocated",
    "memory_reserved",
    "reset_peak_memory_stats",
    "seed",
    "seed_all",
    "set_device",
    "set_rng_state",
    "set_rng_state_all",
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


def init() -> None:
    """Nothing: GPUs are ready when first used."""


def set_device(device: Any) -> None:
    """Let ``Device("cuda")`` stand for this GPU from now on; nothing for a negative number."""
    where = _device(device)
    if where.index is not None and where.index >= 0:
        where.xp.cuda.Device(where.index).use()


@contextlib.contextmanager
def device(device: Any) -> Iterator[None]:
    """Let ``Device("cuda")`` stand for this GPU in a `with` block."""
    where = _device(device)
    with where.xp.cuda.Device(where.index or 0):
        yield


@dataclass(frozen=True)
class _Properties:
    """What a GPU is: memory in bytes, compute capability, and how many multiprocessors."""

    name: str
    major: int
    minor: int
    total_memory: int
    multi_processor_count: int


def get_device_properties(device: Any = None) -> _Properties:
    """A GPU's name, compute capability (major, minor), memory and number of multiprocessors."""
    where = Device("cuda") if device is None else _device(device)
    found = where.xp.cuda.runtime.getDeviceProperties(where.index or 0)
    return _Properties(
        get_device_name(where),
        int(found["major"]),
        int(found["minor"]),
        int(found["totalGlobalMem"]),
        int(found["multiProcessorCount"]),
    )


def get_device_capability(device: Any = None) -> tuple[int, int]:
    """A GPU's compute capability: (major, minor)."""
    found = get_device_properties(device)
    return found.major, found.minor


def is_bf16_supported(including_emulation: bool = True) -> bool:
    """Whether bfloat16 can be computed with: wherever there is a GPU."""
    return is_available() and (including_emulation or get_device_capability()[0] >= 8)


def synchronize(device: Any = None) -> None:
    """Wait until everything started on the GPU has finished."""
    (Device("cuda") if device is None else _device(device)).synchronize()


def empty_cache() -> None:
    """Give memory that is cached but unused back to the driver."""
    if is_available():
        Device("cuda").xp.get_default_memory_pool().free_all_blocks()


def is_tf32_supported() -> bool:
    """Whether float32 products may be rounded to fewer bits: they never are."""
    return False


def memory_allocated(device: Any = None) -> int:
    """Bytes of GPU memory in use."""
    return int(_pool().used_bytes()) if is_available() else 0


def memory_reserved(device: Any = None) -> int:
    """Bytes of GPU memory held from the driver, in use or not."""
    return int(_pool().total_bytes()) if is_available() else 0


# What is held was in use together, or nearly so: the pool keeps no other peak.
max_memory_allocated = max_memory_reserved = memory_reserved


def reset_peak_memory_stats(device: Any = None) -> None:
    """Give back what is not in use, so that the peak is what is in use from now on."""
    empty_cache()


def mem_get_info(device: Any = None) -> tuple[int, int]:
    """Bytes of the GPU's memory: free, and in all."""
    where = Device("cuda") if device is None else _device(device)
    free, total = where.xp.cuda.runtime.memGetInfo()
    return int(free), int(total)


def manual_seed(seed: int) -> None:
    """Seed the default generator, which serves every device."""
    from ._random import default_generator

    default_generator.manual_seed(seed)


manual_seed_all = manual_seed


def seed() -> None:
    """Seed the default generator from the operating system."""
    from ._random import default_generator

    default_generator.seed()


seed_all = seed


def initial_seed() -> int:
    """The seed of the default generator."""
    from ._random import default_generator

    return default_generator.initial_seed()


def get_rng_state(device: Any = "cuda") -> Tensor:
    """The state of the default generator, which serves every device: uint8 [16]."""
    from ._random import default_generator

    return default_generator.get_state()


def set_rng_state(new_state: Tensor, device: Any = "cuda") -> None:
    """Set the state of the default generator, which serves every device."""
    from ._random import default_generator

    default_generator.set_state(new_state)


def get_rng_state_all() -> list[Tensor]:
    """The state of the default generator, once for each GPU."""
    return [get_rng_state() for _ in range(device_count())]


def set_rng_state_all(new_states: list[Tensor]) -> None:
    """Set the state of the default generator to the first of these, if there is one."""
    for state in new_states[:1]:
        set_rng_state(state)


def _pool() -> Any:
    return Device("cuda").xp.get_default_memory_pool()


def _device(device: Any) -> Device:
    return Device("cuda", device) if isinstance(device, int) else Device(device)


def __getattr__(name: str) -> Any:
    """Typed constructors (``cuda.FloatTensor``), and ``cuda.amp``."""
    if name == "amp":
        return importlib.import_module("dualgraph.amp.cuda_amp")
    from .legacy import ON_GPU

    if name in ON_GPU:
        return ON_GPU[name]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
