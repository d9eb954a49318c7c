"""What concerns the whole process, under ONNX Runtime's names."""

from __future__ import annotations

import importlib.metadata
import logging

from dualgraph_compiler.errors import ArgumentError

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
