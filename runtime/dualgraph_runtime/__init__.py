"""The runtime: devices, and sessions that run ONNX models without the code that made them.

import dualgraph_runtime as rt
session = rt.InferenceSession("m.onnx", providers=["CPUExecutionProvider"])
session.run(None, {"x": array})
"""

from dualgraph_compiler.errors import DeviceError, DualGraphError, FeedError, OnnxError

from .binding import IOBinding, OrtValue
from .device import CPU, Device, device_of, to_device
from .model import ModelMetadata, NodeArg
from .options import GraphOptimizationLevel, SessionOptions
from .providers import get_all_providers, get_available_providers, get_device
from .session import InferenceSession

__all__ = [
    "CPU",
    "Device",
    "DeviceError",
    "DualGraphError",
    "FeedError",
    "GraphOptimizationLevel",
    "IOBinding",
    "InferenceSession",
    "ModelMetadata",
    "NodeArg",
    "OnnxError",
    "OrtValue",
    "SessionOptions",
    "device_of",
    "get_all_providers",
    "get_available_providers",
    "get_device",
    "to_device",
]
