"""ONNX for models: export a module, function or training step; load a file as a module."""

from dualgraph_runtime.quantization import quantize

from .export import export
from .module import GraphModule, load
from .parts import Part, body, call, fresh_size
from .training import TrainingStep, export_training_step

__all__ = [
    "GraphModule",
    "Part",
    "TrainingStep",
    "body",
    "call",
    "export",
    "export_training_step",
    "fresh_size",
    "load",
    "quantize",
]
