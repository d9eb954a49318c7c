"""A graph before and after each pass, drawn, with what each pass added, changed and removed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any

from .core import Graph, Node
from .draw import Drawing, drawing, node_tip
from .text import Namer, to_text

if TYPE_CHECKING:
    from ..passes.manager import Pass

_NESTED_DRAWN = 24  # graphs inside a graph
_LISTED = 30  # removed nodes named
_TEXT_LINES = 3000  # of a graph's text on the page


@dataclass
class Step:
    """A state of the graph: `title` is the pass that led to it, `drawn` None where it did nothing.

    `removed` are lines of text; `marks` say of nodes that they are "added", "changed", or "going"
    (the next step removes them). `nested` are the graphs that nodes hold.
    """

    title: str
    milliseconds: float = 0.0
    nodes: int = 0
    drawn: Drawing | None = None
    nested: list[tuple[str, Drawing]] = field(default_factory=list)
    text: str = ""
    ops: str = ""
    removed: list[str] = field(default_factory=list)
    marks: dict[Node, str] = field(default_factory=dict)
    state: dict[Node, tuple[Any, ...]] = field(default_factory=dict)
    names: dict[Node, str] = field(default_factory=dict)

    def count(self, mark: str) -> int:
        """How many nodes have this mark."""
        return sum(m == mark for m in self.marks.values())


def single_step(graph: Graph, title: str = "graph") -> Step:
    """The graph as it is."""
    step = Step(title, nodes=len(graph), drawn=drawing(graph))
    text = to_text(graph).splitlines()
    more = len(text) - _TEXT_LINES
    step.text = "\n".join(text[:_TEXT_LINES] + ([f"... {more} more lines"] if more > 0 else []))
    ops = Counter(node.op.name for node in graph.nodes)
    step.ops = ", ".join(f"{name} ×{n}" for name, n in ops.most_common(8))
    step.nested = list(islice(_nested(graph, ""), _NESTED_DRAWN))
    step.state = {n: (n.op, *n.inputs) for n in graph.nodes}
    return step


def _nested(graph: Graph, path: str) -> Iterator[tuple[str, Drawing]]:
    """The graphs that nodes hold, and those in them, under names that say where they are."""
    names = None
    for node in graph.nodes:
        for name in node.op.bodies:
            names = names or Namer(graph)
            title = f"{path}{names[node.outputs[0]]} {node.op.name}, {name}"
            body: Graph = getattr(node.op, name)
            yield title, drawing(body)
            yield from _nested(body, f"{title} › ")


def steps_of(graph: Graph, passes: Iterable[Pass] | None = None) -> list[Step]:
    """The graph as traced, then a copy of it after each of the passes (default: all)."""
    from ..compile import pipeline
    from ..passes.manager import PassManager

    work = graph.copy()
    steps = [single_step(work, "as traced")]
    shown = steps[0]
    for p in pipeline() if passes is None else passes:
        shown.names = _names(work)
        (record,) = PassManager([p]).run(work)
        step = single_step(work, p.name) if record.changed else Step(p.name, nodes=len(work))
        step.milliseconds = record.seconds * 1e3
        steps.append(step)
        if step.drawn is not None:
            _mark(shown, step)
            shown = step
    return steps


def _names(graph: Graph) -> dict[Node, str]:
    names = Namer(graph)
    return {n: node_tip(n, names) for n in graph.nodes}


def _mark(before: Step, after: Step) -> None:
    for node, state in after.state.items():
        if node not in before.state:
            after.marks[node] = "added"
        elif before.state[node] != state:
            after.marks[node] = "changed"
    gone = [n for n in before.state if n not in after.state]
    for node in gone:
        before.marks[node] = "going"
    after.removed = _listed([before.names[n] for n in gone])


def _listed(lines: Sequence[str]) -> list[str]:
    more = len(lines) - _LISTED
    return [*lines[:_LISTED], *([f"... and {more} more"] if more > 0 else [])]
