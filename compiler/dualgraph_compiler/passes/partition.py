"""Splitting a graph of results and gradients into a forward and a backward graph.

What of the forward's work the backward keeps, and what it computes again, is a minimum cut, as in
functorch's ``min_cut_rematerialization_partition`` (He and Yu, 2022); the trade itself is Chen et
al., "Training Deep Nets with Sublinear Memory Cost", 2016. The policy:

- A value kept costs its bytes. Inputs, params and results that eager code keeps as well (`free`)
  cost nothing: the caller holds them, and looks whether they were overwritten since.
- Cheap nodes may run again: movement, creation, and pointwise arithmetic. All else that the results
  need runs once, and its value is kept if the backward reads it: contractions, reductions, library
  kernels, random draws, transcendental functions, control flow.
- At most `CHAIN` cheap nodes in a row run again, so that the backward never repeats a long stretch.
- Work that no result needs waits for the backward unless keeping its outcome is cheaper.
- Of equal choices, the one that repeats least.
"""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from ..graph import Graph, Node, Value, prune
from ..graph.liveness import nbytes
from ..graph.nested import bound_names, definitions
from ..ops.base import Kind, Op
from .min_cut import FlowNetwork

CHAIN = 16


@dataclass(frozen=True, slots=True)
class Partition:
    """The two graphs.

    `forward` gives the joint graph's results, then what else is kept. `backward` takes the joint
    graph's inputs (some of which it may not read), then forward's outputs of the indices `kept`,
    and gives the gradients.
    """

    forward: Graph
    backward: Graph
    kept: list[int]


def is_cheap(op: Op) -> bool:
    """Whether running `op` again is better than keeping its result."""
    if not op.is_pure or op.bodies or op.defines_sizes:
        return False
    if op.kind is Kind.POINTWISE:
        return not op.is_costly
    return op.kind in (Kind.MOVEMENT, Kind.CREATION)


def partition(
    joint: Graph, results: int, late: AbstractSet[Value], free: AbstractSet[Value]
) -> Partition:
    """Split `joint`, whose first `results` outputs are the forward's and the others gradients.

    Args:
        joint: stays as it is.
        late: inputs and params that are known to the backward only, as gradients of results are.
        free: inputs, params and results that may be kept at no cost.
    """
    kept = _kept(joint, joint.outputs[:results], joint.outputs[results:], late, free)
    held = {v for v in kept if v in free and v.node is None}  # the backward is given them anyway
    forward, of_forward = joint.copy_with_map()
    outputs = list(joint.outputs[:results])
    indices = []
    for v in kept:
        if v not in held:
            if v not in free:
                outputs.append(v)
                indices.append(len(outputs) - 1)
            else:
                indices.append(next(i for i, o in enumerate(outputs) if o is v))
    extra = [f"kept{i}" for i in range(len(outputs) - results)]
    forward.set_outputs([of_forward[v] for v in outputs], [*joint.output_names[:results], *extra])
    gone = {of_forward[v] for v in late}
    prune(forward)
    forward.inputs = [v for v in forward.inputs if v not in gone]

    backward, of_backward = joint.copy_with_map()
    backward.set_outputs(backward.outputs[results:], joint.output_names[results:])
    for v in kept:
        if v not in held:
            again = backward.add_input(v.type, _name(joint, v, len(backward.inputs)))
            backward.replace_uses(of_backward[v], again)
    prune(backward)
    return Partition(forward, backward, indices)


def _name(graph: Graph, value: Value, number: int) -> str:
    taken = {v.name for v in [*graph.inputs, *graph.params]}
    name = f"kept_{value.name}" if value.name else f"kept{number}"
    return name if name not in taken else f"kept{number}"


def _kept(
    graph: Graph,
    results: Iterable[Value],
    gradients: Iterable[Value],
    late: AbstractSet[Value],
    free: AbstractSet[Value],
) -> list[Value]:
    """The values that the backward is given, in the order they are computed."""
    required = _ancestors(results)
    backward = _run_late(graph, late, required)
    read = {v for node in backward for v in node.inputs} | set(gradients)
    wanted = [v for v in _values(graph) if v in read and v.node not in backward and v not in late]
    network = _Network(graph, required, free)
    for v in wanted:
        network.want(v)
    kept = network.cut()
    return kept + _sizes(graph, kept, backward, required)


def _values(graph: Graph) -> list[Value]:
    """Inputs, params, and what nodes make, in order."""
    return [*graph.inputs, *graph.params, *(v for node in graph.nodes for v in node.outputs)]


def _ancestors(values: Iterable[Value]) -> set[Node]:
    """The nodes that `values` are computed by."""
    found: set[Node] = set()
    stack = [v.node for v in values if v.node is not None]
    while stack:
        node = stack.pop()
        if node not in found:
            found.add(node)
            stack.extend(v.node for v in node.inputs if v.node is not None)
    return found


def _run_late(graph: Graph, late: AbstractSet[Value], required: set[Node]) -> set[Node]:
    """Nodes that run in the backward only: they need what comes late, or no result needs them."""
    found: set[Node] = set()
    for node in graph.nodes:
        if node not in required and (
            not is_cheap(node.op) or any(v in late or v.node in found for v in node.inputs)
        ):
            found.add(node)
    return found


class _Network:
    """Values as arcs, from "the forward has it" to "the backward is given it or computes it"."""

    def __init__(self, graph: Graph, required: set[Node], free: AbstractSet[Value]) -> None:
        self._graph = graph
        self._required = required
        self._free = free
        self._flow = FlowNetwork(2)
        self._source, self._sink = 0, 1
        self._points: dict[Value, int] = {}  # of a value's arc: its start, which its end follows
        self._chain: dict[Node, int] = {}
        for node in graph.nodes:
            if node in required and is_cheap(node.op):
                before = (self._chain.get(v.node, 0) for v in node.inputs if v.node is not None)
                self._chain[node] = (max(before, default=0) + 1) % CHAIN
        self._unbounded = 8 * sum(nbytes(v.type) + 1 for v in _values(graph)) + 1

    def _runs_again(self, node: Node) -> bool:
        if node not in self._required:
            return True  # it has not run yet
        return bool(self._chain.get(node))

    def want(self, value: Value) -> None:
        """The backward reads `value`."""
        if not value.is_constant:
            self._flow.add_arc(self._point(value) + 1, self._sink, self._unbounded)

    def _point(self, value: Value) -> int:
        """The start of a value's arc, made with the arcs of all it may be computed from."""
        stack = [value]
        while stack:
            v = stack.pop()
            if v in self._points:
                continue
            start = self._points[v] = self._flow.add_point()
            end = self._flow.add_point()
            self._flow.add_arc(start, end, self._cost(v))
            node = v.node
            if node is None or not self._runs_again(node):
                self._flow.add_arc(self._source, start, self._unbounded)
                continue
            stack.extend(x for x in node.inputs if not x.is_constant)
        return self._points[value]

    def _cost(self, value: Value) -> int:
        if value in self._free:
            return 0
        # Of equal sizes, rather what the forward computes in any case.
        extra = value.node is not None and value.node not in self._required
        return 4 * nbytes(value.type) + extra

    def cut(self) -> list[Value]:
        """The values to keep."""
        flow = self._flow
        for v, start in self._points.items():
            if v.node is not None and self._runs_again(v.node):
                for x in v.node.inputs:
                    if not x.is_constant:
                        flow.add_arc(self._points[x] + 1, start, self._unbounded)
        late = flow.cut(self._source, self._sink)
        return [
            v
            for v in _values(self._graph)
            if v in self._points and late[self._points[v] + 1] and not late[self._points[v]]
        ]


def _sizes(
    graph: Graph, kept: list[Value], backward: set[Node], required: set[Node]
) -> list[Value]:
    """What must be kept as well because its size, which only a run tells, is needed."""
    defined = definitions(graph)
    if not defined:
        return []
    known = bound_names([v.type for v in [*graph.inputs, *kept]])
    needed = {s.name for node in graph.nodes if node in backward for s in node.op.symbols()}
    needed |= {
        s.name
        for node in _ancestors(v for n in backward for v in n.inputs)
        for s in node.op.symbols()
    }
    found = []
    for name in sorted(needed & defined.keys() - known):
        value, _ = defined[name]
        if value.node in required and value not in kept and value not in found:
            found.append(value)
    return found
