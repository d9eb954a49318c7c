"""ONNX for models: export a module, function or training step; load a file as a module."""

from .export import export
from .module import GraphModule, load
from .training import TrainingStep, export_training_step

__all__ = ["GraphModule", "TrainingStep", "export", "export_training_step", "load"]
