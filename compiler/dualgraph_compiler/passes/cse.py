"""Common-subexpression elimination: equal ops on the same operands are computed once."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ..graph import Graph, Node, Value
from ..ops.base import Op
from .pattern import COMMUTATIVE

# Constants up to this size are compared by content; larger ones are equal only if the same array.
_COMPARED_BYTES = 1024


@dataclass(frozen=True, slots=True)
class MergeCommon:
    """Merges nodes of equal op and operands, first to last, and equal constants."""

    name: ClassVar[str] = "merge common subexpressions"

    def run(self, graph: Graph) -> bool:
        changed = _merge_constants(graph)
        first: dict[Hashable, Node] = {}
        for node in graph.nodes:
            if not node.op.is_pure:
                continue
            kept = first.setdefault(_key(node), node)
            if kept is node:
                continue
            for old, new in zip(node.outputs, kept.outputs, strict=True):
                new.name = new.name or old.name
                graph.replace_uses(old, new)
            graph.erase(node)
            changed = True
        return changed


def _key(node: Node) -> Hashable:
    operands = tuple(map(id, node.inputs))
    if type(node.op) in COMMUTATIVE:
        operands = tuple(sorted(operands))
    return type(node.op), _attributes(node.op), operands


def _attributes(op: Op) -> Hashable:
    """The op, told apart from one whose attributes are merely ==: 0.0 and -0.0, 1 and True."""
    values = op.attributes().values()
    return (op, repr(op)) if any(isinstance(v, float | bool) for v in values) else op


def _merge_constants(graph: Graph) -> bool:
    first: dict[Hashable, Value] = {}
    changed = False
    for value in graph.constants:
        data = value.data
        if isinstance(data, np.ndarray) and data.nbytes <= _COMPARED_BYTES:
            key: Hashable = (value.type, data.tobytes())
        else:
            key = (value.type, id(data))
        kept = first.setdefault(key, value)
        if kept is not value and (value.uses or any(v is value for v in graph.outputs)):
            graph.replace_uses(value, kept)
            changed = True
    return changed
