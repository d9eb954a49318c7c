"""Which initializers of a model are weights, and which set its nodes up."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING, Literal

from ..dtypes import BY_ONNX
from .lift import with_nested

if TYPE_CHECKING:
    import onnx

# What becomes of weights: constants of the graph, or params, which can be trained.
Weights = Literal["constant", "param"]

# Operators whose later float operands set them up and are no weights of the model.
_SETTINGS = {"Resize", "Upsample", "Clip", "Pad", "Dropout", "OneHot", "Range", "Pow", "CumSum"}


def settings_of(nodes: Iterable[onnx.NodeProto]) -> set[str]:
    """The names of operands that set nodes up, those of nested graphs included."""
    found: set[str] = set()
    for node in with_nested(nodes):
        if node.op_type in _SETTINGS:
            found.update(node.input[1:])
    return found


def is_weight(initializer: onnx.TensorProto, settings: Collection[str]) -> bool:
    """Whether an initializer that is not among `settings` can be trained."""
    if initializer.name in settings or not initializer.dims:
        return False
    dtype = BY_ONNX.get(initializer.data_type)
    return dtype is not None and dtype.is_floating_point
