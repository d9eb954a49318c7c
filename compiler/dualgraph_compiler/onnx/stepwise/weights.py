"""Which initializers of a model are its weights, where it is no single graph."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from ..lift import with_nested
from ..weights import is_weight, settings_of

if TYPE_CHECKING:
    import onnx


def weights_of(
    nodes: Sequence[onnx.NodeProto], initializers: Mapping[str, onnx.TensorProto]
) -> dict[str, bool]:
    """The names of weights that nodes read, and whether each is only a statistic of batch norm."""
    settings = settings_of(nodes)
    found: dict[str, bool] = {}
    for node in with_nested(nodes):
        for i, name in enumerate(node.input):
            if name in initializers and is_weight(initializers[name], settings):
                statistic = node.op_type == "BatchNormalization" and i >= 3
                found[name] = found.get(name, True) and statistic
    return found
