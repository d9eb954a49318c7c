"""ONNX for models: export a module or function, load a file as a module."""

from .export import export
from .module import GraphModule, load

__all__ = ["GraphModule", "export", "load"]
