"""Dead-code elimination: nodes, constants and params that no output depends on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ..graph import Graph, prune


@dataclass(frozen=True, slots=True)
class RemoveDeadCode:
    """Erases what no output needs. Inputs stay: they are the graph's signature."""

    name: ClassVar[str] = "remove dead code"

    def run(self, graph: Graph) -> bool:
        return prune(graph)
