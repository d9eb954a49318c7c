"""Dead-code elimination: nodes, constants and params that no output depends on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ..graph import Graph


@dataclass(frozen=True, slots=True)
class RemoveDeadCode:
    """Erases what no output needs. Inputs stay: they are the graph's signature."""

    name: ClassVar[str] = "remove dead code"

    def run(self, graph: Graph) -> bool:
        kept = set(graph.outputs)
        before = len(graph)
        # Last to first: a node's consumers are gone before it is looked at, so one walk is enough.
        for node in graph.reversed_nodes():
            if not any(v.uses or v in kept for v in node.outputs):
                graph.erase(node)
        dropped = graph.drop_unused()
        return len(graph) != before or dropped > 0
