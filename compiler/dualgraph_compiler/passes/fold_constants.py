"""Constant folding: what depends on constants alone is computed now."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ..errors import GraphError
from ..graph import Graph, Node
from ..ops.base import Kind
from ..ops.quantize import DequantizeLinear
from ..types import TensorType, is_static, type_of


@dataclass(frozen=True, slots=True)
class FoldConstants:
    """Evaluates pure nodes whose operands are all constants, through the ops' eager kernels.

    A result larger than its operands is kept only up to `limit` bytes, so that a graph never grows
    out of proportion, but for weights that are dequantised; from a movement op, which would only
    repeat elements, up to `repeat_limit`.
    """

    limit: int = 1 << 16
    repeat_limit: int = 1 << 10
    name: ClassVar[str] = "fold constants"

    def run(self, graph: Graph) -> bool:
        changed = False
        # First to last: a folded node's result is a constant by the time its consumers come up.
        for node in graph.nodes:
            if self._is_foldable(graph, node):
                changed |= _fold(graph, node)
        return changed

    def _is_foldable(self, graph: Graph, node: Node) -> bool:
        constant = all(graph.owns_constant(v) and v.data is not None for v in node.inputs)
        # What a loop costs, or whether it ends, is not known: it runs when it is called.
        if not node.op.is_pure or not constant or node.op.bodies:
            return False
        if node.op.symbols() or not all(is_static(v.shape) for v in node.outputs):
            return False
        if isinstance(node.op, DequantizeLinear):
            return True  # which would else be done again in every run
        made = sum(_nbytes(v.type) for v in node.outputs)
        read = sum(_nbytes(v.type) for v in node.inputs)
        limit = self.repeat_limit if node.op.kind is Kind.MOVEMENT else self.limit
        return made <= max(limit, read)


def _nbytes(t: TensorType) -> int:
    return int(t.size) * int(t.dtype.itemsize)


def _fold(graph: Graph, node: Node) -> bool:
    try:
        with np.errstate(all="ignore"):
            result = node.op(*(v.data for v in node.inputs))
    except Exception:
        return False  # such as an index out of range: the run reports it, at the user's line
    results = (result,) if node.op.n_outputs == 1 else result
    for value, data in zip(node.outputs, results, strict=True):
        data = np.asarray(data) if isinstance(data, np.generic) else data
        if type_of(data) != value.type:
            raise GraphError(f"{node.op} declares {value.type} but computes {type_of(data)}")
        graph.replace_uses(value, graph.constant(data))
    graph.erase(node)
    return True
