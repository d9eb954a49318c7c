"""What concerns the whole process, under ONNX Runtime's names."""

from __future__ import annotations

import importlib.metadata
import logging
import platform

from dualgraph_compiler.errors import ArgumentError

from .providers import get_available_providers

_LEVELS = (logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR, logging.CRITICAL)


def set_default_logger_severity(severity: int) -> None:
    """How grave a message must be to be logged: 0 for all, 2 for warnings, 4 for fatal errors.

    Messages go to the logger "dualgraph" of Python's `logging`.
    """
    if severity not in range(len(_LEVELS)):
        raise ArgumentError(f"severity must be an integer from 0 to 4, got {severity!r}")
    logging.getLogger("dualgraph").setLevel(_LEVELS[severity])


def set_default_logger_verbosity(verbosity: int) -> None:
    """Nothing: there are no messages more verbose than severity 0 brings."""


def enable_telemetry_events() -> None:
    """Nothing: nothing is ever sent anywhere."""


def disable_telemetry_events() -> None:
    """Nothing: nothing is ever sent anywhere."""


def set_seed(seed: int) -> None:
    """Have what models draw without a seed of their own follow from this number from now on."""
    if not isinstance(seed, int):
        raise ArgumentError(f"expected an integer, got {seed!r}")
    from dualgraph_compiler.ops.random import set_seed as set_for_ops

    set_for_ops(seed)


def preload_dlls(
    cuda: bool = True, cudnn: bool = True, msvc: bool = True, directory: str = ""
) -> None:
    """Nothing: libraries are loaded where they are first used."""


def print_debug_info() -> None:
    """Print what this is and what it runs on."""
    print(get_build_info())
    print(f"Python {platform.python_version()}, {platform.platform()}, {platform.machine()}")
    print(f"providers: {', '.join(get_available_providers())}")


def has_collective_ops() -> bool:
    """Whether there are operators that speak to other processes: none."""
    return False


def get_version_string() -> str:
    """The version of the distribution that this package is a part of."""
    try:
        return importlib.metadata.version("dualgraph")
    except importlib.metadata.PackageNotFoundError:  # run from its sources
        return "0+unknown"


def get_build_info() -> str:
    """What this is, in a line."""
    return f"dualgraph_runtime {get_version_string()}: kernels are compiled where they run"
