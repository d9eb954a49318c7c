"""ONNX for models: export a module, function or training step; load a file as a module."""

from dualgraph._dispatch import captures as _captures
from dualgraph_compiler.errors import OnnxError as OnnxExporterError
from dualgraph_runtime.quantization import quantize

from .export import export
from .module import GraphModule, load
from .parts import Part, body, call, fresh_size
from .training import TrainingStep, export_training_step

__all__ = [
    "GraphModule",
    "OnnxExporterError",
    "Part",
    "TrainingStep",
    "body",
    "call",
    "export",
    "export_training_step",
    "fresh_size",
    "is_in_onnx_export",
    "load",
    "quantize",
]


def is_in_onnx_export() -> bool:
    """Whether the code that asks is being traced, for an export or otherwise."""
    return _captures.current is not None
