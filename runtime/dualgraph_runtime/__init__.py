"""The runtime: devices, and sessions that run ONNX models without the code that made them.

import dualgraph_runtime as rt
session = rt.InferenceSession("m.onnx", providers=["CPUExecutionProvider"])
session.run(None, {"x": array})

Names and meanings are those of ONNX Runtime's Python interface: ``import dualgraph_runtime as ort``
carries a script written for it.
"""

from dualgraph_compiler.errors import (
    DeviceError,
    DualGraphError,
    FeedError,
    NoSuchModel,
    NotAnOnnxFile,
    OnnxError,
    RunStopped,
)

from . import capi
from .binding import IOBinding
from .device import CPU, Device, device_of, to_device
from .host import (
    disable_telemetry_events,
    enable_telemetry_events,
    get_build_info,
    get_version_string,
    has_collective_ops,
    preload_dlls,
    print_debug_info,
    set_default_logger_severity,
    set_default_logger_verbosity,
    set_seed,
)
from .model import ModelMetadata, NodeArg
from .options import (
    ExecutionMode,
    ExecutionOrder,
    GraphOptimizationLevel,
    RunOptions,
    SessionOptions,
)
from .profile import Profile
from .providers import get_all_providers, get_available_providers, get_device
from .session import InferenceSession
from .values import OrtDevice, OrtValue, copy_tensors

__all__ = [
    "CPU",
    "Device",
    "DeviceError",
    "DualGraphError",
    "ExecutionMode",
    "ExecutionOrder",
    "FeedError",
    "GraphOptimizationLevel",
    "IOBinding",
    "InferenceSession",
    "ModelMetadata",
    "NoSuchModel",
    "NodeArg",
    "NotAnOnnxFile",
    "OnnxError",
    "OrtDevice",
    "OrtValue",
    "Profile",
    "RunOptions",
    "RunStopped",
    "SessionOptions",
    "capi",
    "copy_tensors",
    "device_of",
    "disable_telemetry_events",
    "enable_telemetry_events",
    "get_all_providers",
    "get_available_providers",
    "get_build_info",
    "get_device",
    "get_version_string",
    "has_collective_ops",
    "preload_dlls",
    "print_debug_info",
    "set_default_logger_severity",
    "set_default_logger_verbosity",
    "set_seed",
    "to_device",
]


def __getattr__(name: str) -> str:
    if name == "__version__":  # looked up when asked for: it takes a while
        return get_version_string()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
