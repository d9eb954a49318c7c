"""Decomposition: composite ops become the simpler ops they are defined by."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ..errors import GraphError, ShapeError
from ..graph import Graph, Value
from ..ops.base import Kind
from .rewrite import Worklist


@dataclass(frozen=True, slots=True)
class Decompose:
    """Replaces each composite by its ``decompose``, and the composites in that, too.

    New nodes take the composite's source location. Not for graphs that are exported or shown:
    there the composite's name is worth more.
    """

    name: ClassVar[str] = "decompose"

    def run(self, graph: Graph) -> bool:
        work = Worklist(graph)
        for node in work:
            if node.op.kind is not Kind.COMPOSITE:
                continue
            try:
                with graph.inserting_before(node):
                    made = node.op.decompose(*node.inputs)
            except ShapeError:
                continue  # its formula needs a size that is symbolic: it stays whole
            values: tuple[Value, ...] = (made,) if node.op.n_outputs == 1 else tuple(made)
            for old, new in zip(node.outputs, values, strict=True):
                if new.type != old.type:
                    raise GraphError(f"{node.op} is {old.type}, its decomposition {new.type}")
            work.replace(node, values)
        return work.changed
