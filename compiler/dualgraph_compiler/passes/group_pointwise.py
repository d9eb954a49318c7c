"""Pointwise grouping: which pointwise nodes one fused kernel can compute.

The result is a table beside the graph, not a rewriting: the graph stays one that every executor,
exporter and printer understands, and a code generator reads from the table what to emit, in which
order, with which buffers.

Members of a kernel share one iteration shape; operands from outside may broadcast into it. Values
of a single element are computed once, before the loop. Views are free: they have no kernel, and
their readers index through them.

Why the kernels cannot wait for each other in a circle: every node has a *stage*, the largest number
of edges that cannot be fused on any path to it, or any later one before its readers'. Only nodes of
one stage are grouped, by fusible edges. A path that leaves a group takes an edge that raises the
stage, and stages never fall. Then kernels with a single reader are joined to it, which makes no
circle either.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass, field

from ..dims import Shape
from ..graph import Graph, Node, Value
from ..graph.text import Namer, node_text
from ..ops.base import Kind
from ..ops.movement import Reshape


@dataclass(frozen=True, slots=True, eq=False)
class Kernel:
    """Nodes computed together, in an order they can run in.

    `inputs` are values read from outside (through views, the viewed value's view), `outputs` those
    that something outside reads; every other value exists only inside. `shape` is the shape of the
    loop. A kernel of one node may be of any kind; larger ones are pointwise throughout.
    """

    id: int
    nodes: tuple[Node, ...]
    inputs: tuple[Value, ...]
    outputs: tuple[Value, ...]
    shape: Shape

    @property
    def is_fused(self) -> bool:
        return len(self.nodes) > 1


@dataclass(frozen=True, slots=True)
class Grouping:
    """The kernels of a graph, in an order they can run in, and the views between them.

    `boundaries` says of each value that passes from one pointwise kernel to another why the two
    are not one.
    """

    graph: Graph
    kernels: tuple[Kernel, ...]
    views: tuple[Node, ...]
    boundaries: dict[Value, str] = field(default_factory=dict)

    def summary(self) -> str:
        """Such as "42 nodes in 17 kernels, 5 views"."""
        nodes = sum(len(k.nodes) for k in self.kernels)
        text = f"{_count(nodes, 'node')} in {_count(len(self.kernels), 'kernel')}"
        return text + (f", {_count(len(self.views), 'view')}" if self.views else "")

    def __str__(self) -> str:
        names = Namer(self.graph)
        lines = []
        for kernel in self.kernels:
            head = f"# kernel {kernel.id}"
            if kernel.is_fused:
                reads = ", ".join(names[v] for v in kernel.inputs)
                writes = ", ".join(names[v] for v in kernel.outputs)
                shape = ", ".join(map(str, kernel.shape))
                head += f": [{shape}], reads {reads}, writes {writes}"
            lines.append(head)
            lines += [f"  {node_text(n, names)}" for n in kernel.nodes]
        if self.views:
            lines.append("# views")
            lines += [f"  {node_text(n, names)}" for n in self.views]
        for value, reason in self.boundaries.items():
            lines.append(f"# {names[value]} is stored: {reason}")
        lines.append(f"# {self.summary()}")
        return "\n".join(lines)


def _count(n: int, what: str) -> str:
    return f"{n} {what}{'' if n == 1 else 's'}"


def group_pointwise(graph: Graph) -> Grouping:
    """Partition the nodes of `graph` into kernels and views."""
    views = _views(graph)
    groups = _Groups(graph, views)
    groups.join_by_stage()
    groups.join_single_readers()
    kernels = _kernels(graph, groups)
    return Grouping(graph, kernels, tuple(n for n in graph.nodes if n in views), _stored(kernels))


def _views(graph: Graph) -> set[Node]:
    """Nodes whose result is an operand under other strides."""
    views: set[Node] = set()
    strided: set[Value] = set()  # values whose memory is not in row-major order
    for node in graph.nodes:
        if node.op.kind is not Kind.MOVEMENT or not node.op.is_view:
            continue
        if not isinstance(node.op, Reshape):
            strided.update(node.outputs)
        elif node.inputs[0] in strided:
            continue  # a copy
        views.add(node)
    return views


class _Groups:
    """Union-find over the nodes of a graph."""

    def __init__(self, graph: Graph, views: set[Node]) -> None:
        self.graph = graph
        self.views = views
        self.nodes = [n for n in graph.nodes if n not in views]
        self._parent: dict[Node, Node] = {n: n for n in self.nodes}
        self._kept = set(graph.outputs)

    def find(self, node: Node) -> Node:
        parent = self._parent
        while parent[node] is not node:
            parent[node] = parent[parent[node]]
            node = parent[node]
        return node

    def join(self, producer: Node, consumer: Node) -> None:
        """The consumer stands for the group: its shape is the loop's."""
        self._parent[self.find(producer)] = self.find(consumer)

    def join_by_stage(self) -> None:
        """Join producers and consumers of one stage."""
        stage = self._stages()
        self._sink(stage)
        for node in self.nodes:
            for v in node.inputs:
                if self._is_fusible(v, node) and stage[v.node] == stage[node]:  # type: ignore[index]
                    self.join(v.node, node)  # type: ignore[arg-type]

    def _stages(self) -> dict[Node, int]:
        stage: dict[Node, int] = {}
        for node in self.graph.nodes:
            stage[node] = max(
                (stage[v.node] + (not self._is_fusible(v, node)) for v in node.inputs if v.node),
                default=0,
            )
        return stage

    def _sink(self, stage: dict[Node, int]) -> None:
        """Move nodes to the later stage that alone reads them, where that saves storing them."""
        for node in reversed(self.nodes):
            readers = [(v, user) for v in node.outputs for user in v.uses]
            stages = {stage[user] for _, user in readers}
            if len(stages) != 1 or stages == {stage[node]} or self._kept & {*node.outputs}:
                continue
            saves = all(
                self._is_stored(v, stage) or list(v.uses) == [node]
                for v in node.inputs
                if v.node is not None
            )
            if saves and all(self._is_fusible(v, user) for v, user in readers):
                stage[node] = stages.pop()

    def _is_stored(self, value: Value, stage: dict[Node, int]) -> bool:
        """Whether `value` is written to memory whatever becomes of one of its readers."""
        assert value.node is not None
        here = stage[value.node]
        return value in self._kept or any(
            not self._is_fusible(value, user) or stage[user] != here for user in value.uses
        )

    def join_single_readers(self) -> None:
        """Join a group to the only kernel that reads it."""
        members = self.members()
        for root in reversed(list(members)):
            readers = self._readers(members[root])
            reader = readers.pop() if len(readers) == 1 else None
            if reader is not None:
                crossing = (
                    (v, user)
                    for node in members[root]
                    for v in node.outputs
                    for user in v.uses
                    if self.find(user) is not root
                )
                if all(self._is_fusible(v, user, scalars=True) for v, user in crossing):
                    self.join(root, reader)

    def _readers(self, nodes: list[Node]) -> set[Node | None]:
        """The groups that read what `nodes` make; None stands for views and the caller."""
        own = self.find(nodes[0])
        found: set[Node | None] = set()
        for node in nodes:
            for v in node.outputs:
                if v in self._kept:
                    found.add(None)
                for user in v.uses:
                    found.add(None if user in self.views else self.find(user))
        found.discard(own)
        return found

    def _is_fusible(self, value: Value, user: Node, *, scalars: bool = False) -> bool:
        """Whether `user` could read `value` from a register rather than from memory."""
        producer = value.node
        if producer is None or not (_is_pointwise(producer) and _is_pointwise(user)):
            return False
        shape = user.outputs[0].shape
        return value.shape == shape or (scalars and all(d == 1 for d in value.shape))

    def members(self) -> dict[Node, list[Node]]:
        """Groups in the order of their first nodes."""
        out: dict[Node, list[Node]] = {}
        for node in self.nodes:
            out.setdefault(self.find(node), []).append(node)
        return out


def _is_pointwise(node: Node) -> bool:
    return node.op.kind is Kind.POINTWISE and node.op.is_pure and len(node.outputs) == 1


def _kernels(graph: Graph, groups: _Groups) -> tuple[Kernel, ...]:
    """The groups as kernels, sorted so that each comes after what it reads."""
    kept = set(graph.outputs)
    members = groups.members()
    source = _sources(graph, groups.views)
    waits_for: dict[Node, set[Node]] = {}
    readers: dict[Node, list[Node]] = {root: [] for root in members}
    for root, nodes in members.items():
        producers = {source[v.node] for n in nodes for v in n.inputs if v.node is not None}
        needed = {groups.find(p) for p in producers if p is not None} - {root}
        waits_for[root] = needed
        for other in needed:
            readers[other].append(root)
    # Of the kernels that are ready, the one that comes first in the graph: the order is stable.
    roots = list(members)
    rank = {root: i for i, root in enumerate(roots)}
    ready = [rank[root] for root in roots if not waits_for[root]]
    kernels: list[Kernel] = []
    while ready:
        root = roots[heapq.heappop(ready)]
        kernels.append(_kernel(len(kernels), root, members[root], kept))
        for reader in readers[root]:
            waits_for[reader].discard(root)
            if not waits_for[reader]:
                heapq.heappush(ready, rank[reader])
    assert len(kernels) == len(members), "kernels wait for each other in a circle"
    return tuple(kernels)


def _sources(graph: Graph, views: set[Node]) -> dict[Node, Node | None]:
    """For each node itself, for a view the node whose memory it shows (None: not a node's)."""
    source: dict[Node, Node | None] = {}
    for node in graph.nodes:
        if node not in views:
            source[node] = node
        else:
            base = node.inputs[0].node
            source[node] = source[base] if base is not None else None
    return source


def _kernel(number: int, root: Node, nodes: list[Node], kept: set[Value]) -> Kernel:
    inside = set(nodes)
    reads = dict.fromkeys(v for n in nodes for v in n.inputs if v.node not in inside)
    writes = (
        v for n in nodes for v in n.outputs if v in kept or any(u not in inside for u in v.uses)
    )
    return Kernel(number, tuple(nodes), tuple(reads), tuple(writes), root.outputs[0].shape)


def _stored(kernels: Sequence[Kernel]) -> dict[Value, str]:
    """Why values pass from one pointwise kernel to another through memory."""
    kernel_of = {node: k for k in kernels for node in k.nodes}
    out: dict[Value, str] = {}
    for kernel in kernels:
        for value in kernel.outputs:
            if value.node is None or not _is_pointwise(value.node):
                continue
            for user in value.uses:
                reader = kernel_of.get(user)
                if reader is None or reader is kernel or not _is_pointwise(user):
                    continue
                if reader.shape == kernel.shape:
                    why = "needs something else computed from it first"
                else:
                    why = "has another shape"
                out[value] = f"its reader, kernel {reader.id}, {why}"
                break
    return out
