"""Inlining: a step of eager code that no kernel takes becomes the operations that NumPy runs."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import ClassVar

from ..graph import Graph, Node
from ..ops.eager_steps import EagerCall, EagerGradient
from .rewrite import Worklist


def eager_steps(graph: Graph) -> list[Node]:
    """The nodes that are steps of eager code (see `ops.eager_steps`), in order."""
    return [n for n in graph.nodes if isinstance(n.op, EagerCall | EagerGradient)]


@dataclass(frozen=True, slots=True)
class InlineSteps:
    """Replaces steps of eager code, but for those that are `kept`, by what they consist of."""

    kept: Collection[Node] = ()
    name: ClassVar[str] = "inline_steps"

    def run(self, graph: Graph) -> bool:
        work = Worklist(graph)
        for node in work:
            op = node.op
            if node in self.kept or not isinstance(op, EagerCall | EagerGradient):
                continue
            with graph.inserting_before(node):
                made = op.inline(*node.inputs)
            work.replace(node, made)
        return work.changed
