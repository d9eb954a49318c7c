"""The operations, one class each, by family. See :mod:`dualgraph_compiler.ops.base`."""

from . import f  # isort: skip  (first: the families and it import each other)
from . import movement, padding, pointwise, rearrange, reduction, slicing
from .base import REGISTRY, Kind, Onnx, Op, op

__all__ = [
    "REGISTRY",
    "Kind",
    "Onnx",
    "Op",
    "op",
    "f",
    "movement",
    "padding",
    "pointwise",
    "rearrange",
    "reduction",
    "slicing",
]
