"""Rematerialisation: cheap values are computed again instead of being kept over the peak.

A training step keeps much of the forward for the backward. Of values that are alive while the graph
needs the most memory and not read then, those that one cheap node gives from values that are there
anyway (or from smaller ones) are forgotten, and computed again before they are next read. What is
cheap is as for :mod:`.partition`. Source: Chen et al., "Training Deep Nets with Sublinear Memory
Cost", 2016; Jain et al., "Checkmate", 2020, for the view of it as a trade at the peak.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from ..graph import Graph, Node, Value
from ..graph.liveness import Lifetimes, nbytes
from .partition import is_cheap

_ROUNDS = 8
_DEPTH = 4


@dataclass(frozen=True, slots=True)
class Rematerialize:
    """Repeats cheap nodes while that lowers the peak.

    Graphs whose peak is below `smallest` bytes are left alone: their memory is not worth any time.
    Stands last: merging common subexpressions would undo it.
    """

    smallest: int = 1 << 20
    name: ClassVar[str] = "rematerialise"

    def run(self, graph: Graph) -> bool:
        changed = False
        lives = Lifetimes(graph)
        for _ in range(_ROUNDS):
            if lives.peak < self.smallest:
                break
            made = _relieve(graph, lives)
            if not made:
                break
            after = Lifetimes(graph)
            if after.peak >= lives.peak:
                for repeated in reversed(made):
                    repeated.undo(graph)
                break
            changed, lives = True, after
        return changed


@dataclass(frozen=True, slots=True)
class _Repeated:
    """Nodes that were added, and what the readers of their last result read before."""

    nodes: list[Node]
    readers: list[tuple[Node, tuple[Value, ...]]]

    def undo(self, graph: Graph) -> None:
        """Let everything be as it was."""
        for user, inputs in self.readers:
            graph.set_inputs(user, inputs)
        for node in reversed(self.nodes):
            graph.erase(node)


@dataclass(slots=True)
class _Recipe:
    """How to compute a value again: nodes in order, and the bytes kept alive for it at the peak."""

    nodes: list[Node] = field(default_factory=list)
    kept: dict[Value, int] = field(default_factory=dict)

    def add(self, node: Node, lives: Lifetimes, at: int, depth: int = _DEPTH) -> None:
        """Append what computes `node` again after position `at`."""
        for x in node.inputs:
            owner = lives.owner.get(x, x)
            if x.node is None or x.node in self.nodes or owner in self.kept:
                continue
            last = lives.last[owner]
            if last <= at:
                if depth and _is_candidate(x.node):
                    self.add(x.node, lives, at, depth - 1)
                else:
                    self.kept[owner] = nbytes(owner.type) if last < at else 0
        self.nodes.append(node)


def _is_candidate(node: Node) -> bool:
    return len(node.outputs) == 1 and is_cheap(node.op)


def _relieve(graph: Graph, lives: Lifetimes) -> list[_Repeated]:
    """Compute again after the peak what may be."""
    at = lives.peak_at
    found = []
    for v in lives.alive_at(at):
        if _is_idle(v, lives, at):
            assert v.node is not None
            recipe = _Recipe()
            recipe.add(v.node, lives, at)
            gain = nbytes(v.type) - sum(recipe.kept.values())
            if gain > 0:
                found.append((gain, v, recipe))
    found.sort(key=lambda item: -item[0])
    gone: set[Value] = set()
    read: set[Value] = set()
    made = []
    for _, v, recipe in found:
        inputs = {lives.owner.get(x, x) for node in recipe.nodes for x in node.inputs} - {v}
        if v in read or not gone.isdisjoint(inputs):
            continue  # another one needs it, or it needs what is gone
        gone.add(v)
        read |= inputs
        made.append(_repeat(graph, lives, v, recipe.nodes, at))
    return made


def _is_idle(v: Value, lives: Lifetimes, at: int) -> bool:
    """Whether `v` is cheap, made before the peak, read after it and not at it."""
    if v.node is None or not _is_candidate(v.node) or lives.first[v] == at or v in lives.returned:
        return False
    if lives.last[v] <= at:
        return False
    for shown in lives.shown[v]:
        readers = [lives.position[user] for user in shown.uses]
        assert shown.node is not None
        early = lives.position[shown.node] <= at
        if at in readers or (shown is not v and early and any(i > at for i in readers)):
            return False
    return True


def _repeat(graph: Graph, lives: Lifetimes, v: Value, nodes: list[Node], at: int) -> _Repeated:
    """Let what reads `v` after the peak read it computed again, just before it is first read."""
    late = [user for user in v.uses if lives.position.get(user, -1) > at]
    first = min(late, key=lambda user: lives.position[user])
    again: dict[Value, Value] = {}
    added = []
    with graph.inserting_before(first):
        for node in nodes:
            graph.loc = node.loc
            types = [y.type for y in node.outputs]
            made = graph.add_node(node.op, [again.get(x, x) for x in node.inputs], types)
            again.update(zip(node.outputs, made.outputs, strict=True))
            added.append(made)
    repeated = _Repeated(added, [(user, user.inputs) for user in late])
    for user in late:
        graph.set_inputs(user, [again[v] if x is v else x for x in user.inputs])
    return repeated
