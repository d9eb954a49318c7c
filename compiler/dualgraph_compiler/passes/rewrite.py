"""A worklist of nodes for passes that rewrite locally until nothing changes."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence

from ..graph import Graph, Node, Value


class Worklist:
    """Nodes still to look at, first to last; a rewrite queues again what it may have enabled.

    Iterating yields live nodes. ``replace`` erases the node and everything that only it kept
    alive, and queues the new nodes and the consumers of the new values. So a pass costs as much as
    it rewrites, and no pass walks the whole graph twice.
    """

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.changed = False
        self._known = set(graph.nodes)
        self._queue = deque(graph.nodes)
        self._queued = set(self._known)

    def __iter__(self) -> Iterator[Node]:
        while self._queue:
            node = self._queue.popleft()
            if node in self._queued:
                self._queued.discard(node)
                yield node

    def replace(self, node: Node, values: Sequence[Value]) -> None:
        """Put `values`, of the same types, in place of the outputs of `node`."""
        for old, new in zip(node.outputs, values, strict=True):
            if old is new:
                continue
            if old.name and not new.name and new.node is not None:
                new.name = old.name
            self.graph.replace_uses(old, new)
            self._queue_new(new)
            for user in new.uses:
                self.push(user)
        # What stands in its place may find the same sizes.
        again = any(v.node is not None and v.node.op.defines_sizes for v in values)
        self._erase_dead(node, node if again else None)
        self.changed = True

    def push(self, node: Node) -> None:
        """Look at `node` (again)."""
        if node not in self._queued:
            self._queued.add(node)
            self._queue.append(node)

    def _queue_new(self, value: Value) -> None:
        """Queue the nodes that a rewrite made for `value`."""
        stack = [value]
        while stack:
            node = stack.pop().node
            if node is not None and node not in self._known:
                self._known.add(node)
                self.push(node)
                stack.extend(node.inputs)

    def _erase_dead(self, node: Node, replaced: Node | None = None) -> None:
        """Erase what nothing uses; but for `replaced`, ops that define sizes are used."""
        kept = set(self.graph.outputs)
        stack = [node]
        while stack:
            dead = stack.pop()
            used = any(v.uses or v in kept for v in dead.outputs)
            used |= dead.op.defines_sizes and dead is not replaced
            if dead not in self._known or used:
                continue
            producers = [v.node for v in dead.inputs if v.node is not None]
            self.graph.erase(dead)
            self._known.discard(dead)
            self._queued.discard(dead)
            stack.extend(producers)
