"""The operations, one class each, by family. See :mod:`dualgraph_compiler.ops.base`."""

from . import movement, pointwise, reduction
from .base import REGISTRY, Kind, Onnx, Op, op

__all__ = ["REGISTRY", "Kind", "Onnx", "Op", "movement", "op", "pointwise", "reduction"]
