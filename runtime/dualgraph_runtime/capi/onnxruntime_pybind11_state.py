"""ONNX Runtime's exceptions: the classes of ours that say the same.

``except ort.capi.onnxruntime_pybind11_state.InvalidArgument`` catches what a session raises for
inputs that do not fit. `Fail` and `RuntimeException` catch whatever goes wrong.
"""

from dualgraph_compiler.errors import (
    DeviceError,
    DualGraphError,
    FeedError,
    NoSuchModel,
    NotAnOnnxFile,
    OnnxError,
)

EPFail = DeviceError
Fail = DualGraphError
InvalidArgument = FeedError
InvalidGraph = OnnxError
InvalidProtobuf = NotAnOnnxFile
NoModel = OnnxError
NoSuchFile = NoSuchModel
NotImplemented = OnnxError
RuntimeException = DualGraphError

__all__ = [
    "EPFail",
    "Fail",
    "InvalidArgument",
    "InvalidGraph",
    "InvalidProtobuf",
    "NoModel",
    "NoSuchFile",
    "NotImplemented",
    "RuntimeException",
]
