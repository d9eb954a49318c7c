"""Control flow: branches that are decided, and what goes in and out of bodies for nothing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import ClassVar

from ..dims import symbols
from ..graph import Graph, Node, inline, prune
from ..graph.nested import bound_names
from ..ops.control import Control, If


@dataclass(frozen=True, slots=True)
class SimplifyControl:
    """Puts the taken branch in place of an `if` whose condition is constant.

    Elsewhere constants move into the bodies that read them, operands that no body reads are no
    longer passed, and results that nothing reads no longer computed.
    """

    name: ClassVar[str] = "simplify control flow"

    def run(self, graph: Graph) -> bool:
        changed = False
        for node in graph.nodes:
            if isinstance(node.op, Control):
                changed |= _take_branch(graph, node) or _trim(graph, node, node.op)
        return changed


def _take_branch(graph: Graph, node: Node) -> bool:
    """Replace an `if` by the branch that its constant condition chooses."""
    op, cond, operands = node.op, node.inputs[0], node.inputs[1:]
    if not isinstance(op, If) or not cond.is_constant or op.sizes:
        return False
    branch = op.then_branch if cond.data.all() else op.else_branch
    with graph.inserting_before(node):
        made = inline(branch, graph, operands)
    for old, new in zip(node.outputs, made, strict=True):
        graph.replace_uses(old, new)
    graph.erase(node)
    return True


def _trim(graph: Graph, node: Node, op: Control) -> bool:
    """Drop operands and results that are not needed."""
    shared = node.inputs[op.first_shared :]
    constant = {
        i
        for i, v in enumerate(shared)
        if v.is_constant and all(b.inputs[i - len(shared)].type == v.type for b in op.graphs)
    }
    gone = constant | set(_unread(op, len(shared), constant))
    kept = _kept_results(graph, node, op)
    if not gone and len(kept) == len(node.outputs):
        return False
    bodies: dict[str, Graph] = {}
    for name in op.bodies:
        body = bodies[name] = getattr(op, name).copy()
        fixed = len(body.inputs) - len(shared)
        for i in constant:
            inside = body.constant(shared[i].data, shared[i].name)
            body.replace_uses(body.inputs[fixed + i], inside)
        body.inputs = [v for i, v in enumerate(body.inputs) if i - fixed not in gone]
        lead = len(body.outputs) - len(node.outputs)  # outputs that are no results
        outputs = [*range(lead), *(lead + i for i in kept)]
        names = [body.output_names[i] for i in outputs]
        body.set_outputs([body.outputs[i] for i in outputs], names)
        prune(body)
    operands = [v for i, v in enumerate(node.inputs) if i - op.first_shared not in gone]
    with graph.inserting_before(node):
        made = graph.add_node(replace(op, **bodies), operands)
    for i, new in zip(kept, made.outputs, strict=True):
        new.name = node.outputs[i].name
        graph.replace_uses(node.outputs[i], new)
    graph.erase(node)
    return True


def _unread(op: Control, count: int, constant: set[int]) -> Iterator[int]:
    """Which of the `count` shared operands no body reads, nor takes a size from."""
    gone = set(constant)
    for i in range(count):
        if i not in gone and all(_may_drop(body, gone, i, count) for body in op.graphs):
            gone.add(i)
            yield i


def _may_drop(body: Graph, gone: set[int], i: int, count: int) -> bool:
    """Whether the body does without its i-th shared input, when those in `gone` go."""
    fixed = len(body.inputs) - count
    value = body.inputs[fixed + i]
    if value.uses or any(value is y for y in body.outputs):
        return False
    others = [v for k, v in enumerate(body.inputs) if k - fixed not in gone and v is not value]
    lost = bound_names([value.type]) - bound_names([v.type for v in others])
    needed = {s.name for node in body.nodes for s in node.op.symbols()}
    needed |= {s.name for v in others for d in v.shape for s in symbols(d)}
    return lost.isdisjoint(needed)


def _kept_results(graph: Graph, node: Node, op: Control) -> list[int]:
    """Which results something reads, or are carried from step to step; at least one."""
    wanted = set(graph.outputs)
    if op.defines_sizes:
        return list(range(len(node.outputs)))
    kept = [i for i, v in enumerate(node.outputs) if i < op.first_optional or v.uses or v in wanted]
    return kept or [0]
