"""What tracing noticed and a person may want to know, with the line of code it concerns."""

from __future__ import annotations

from dataclasses import dataclass

from dualgraph_compiler.graph import Location


@dataclass(frozen=True, slots=True)
class Branch:
    """Python control flow on tensors that became part of the graph: the expression, and where."""

    expression: str
    where: Location

    def __str__(self) -> str:
        return f"`{self.expression}` decides in the graph  # {self.where}"
