"""Says how the nodes of a model in steps run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from dualgraph_compiler.onnx.lift import operator_name
from dualgraph_compiler.onnx.stepwise import Plan, Segment
from dualgraph_compiler.onnx.values import FUNCTIONS
from dualgraph_compiler.onnx.values.reference import REFERENCE

if TYPE_CHECKING:
    import onnx

    from .specialized import Special
    from .walker import Runnable

Graphs = Sequence[tuple[tuple[int, Segment, Any], "Runnable"]]
Bodies = Sequence[tuple[tuple[int, int, str], Plan]]


def report(
    specials: Sequence[Special], plan: Plan, bodies: Bodies, graphs: Graphs, why: object
) -> str:
    """The single graphs of a model, its steps, those of the graphs that its nodes hold, and why."""
    lines = [f"one graph for {s.about}: {s.runnable.way}" for s in specials]
    return "\n".join([*lines, f"in steps: {why}", *_steps(plan, bodies, graphs, "")])


def _steps(plan: Plan, bodies: Bodies, graphs: Graphs, indent: str) -> Iterator[str]:
    for step in plan.steps:
        if isinstance(step, Segment):
            nodes = [plan.nodes[i] for i in step.nodes]
            made = Counter(g.way for (of, at, _), g in graphs if of == id(plan) and at == step)
            ways = ", ".join(f"{n} {way}" for way, n in made.items()) or "made when it runs"
            known = f"; made for the contents of {', '.join(sorted(step.known))}" * bool(step.known)
            sized = f"; sizes from {', '.join(sorted(step.sized))}" * bool(step.sized)
            yield f"{indent}graph of {len(nodes)} nodes ({_operators(nodes)}): {ways}{known}{sized}"
            continue
        node = plan.nodes[step.node]
        name = node.name or (*node.output, "?")[0]
        yield f"{indent}{name!r} ({operator_name(node)}): {way(node)}"
        for (of, at, attribute), body in bodies:
            if of == id(plan) and at == step.node:
                yield f"{indent}  {attribute}:"
                yield from _steps(body, bodies, graphs, indent + "    ")


def way(node: onnx.NodeProto) -> str:
    """How a node that is no part of a graph runs."""
    operator = operator_name(node)
    if operator in FUNCTIONS:
        return "on Python values"
    return "by onnx.reference" if operator in REFERENCE else "on numbers of its strings"


def _operators(nodes: Sequence[onnx.NodeProto]) -> str:
    counts = Counter(operator_name(node) for node in nodes)
    return ", ".join(f"{op} {n}x" if n > 1 else op for op, n in counts.items())
