"""Alias analysis: in whose memory each value may lie, who reads that memory, who sees it outside.

A value either has memory of its own (it *is* a storage), shows memory of its operand (a view), or,
where only a run can tell, may do either: reshaping copies if the layout allows no view. So every
value has a set of storages it may lie in, each named by the value it belongs to. Inputs, params
and constants are storages too. Two values whose sets are disjoint never share memory, as long as
the arrays fed for inputs and params do not: that is for whoever feeds them to see to.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence

from ..ops.base import Kind, Op
from ..ops.movement import Reshape
from .core import Graph, Node, Value


class Sharing(enum.Enum):
    """What the result of an op has to do with the memory of its first operand."""

    FRESH = "has memory of its own"
    MAYBE = "may be a view"
    VIEW = "is a view"


def sharing(op: Op) -> Sharing:
    """Whether the eager kernel of `op` gives a view of its first operand."""
    if op.may_alias:
        return Sharing.MAYBE
    if op.kind is not Kind.MOVEMENT or not op.is_view:
        return Sharing.FRESH
    return Sharing.MAYBE if isinstance(op, Reshape) else Sharing.VIEW


class Aliases:
    """The alias analysis of one graph, its nodes taken in `order` (default: as they stand).

    With `row_major`, kernels are assumed to write their results in rows, as generated code does:
    then a reshape of what lies in rows is known to be a view, and of anything else to be a copy.
    Without, nothing is assumed of layouts, as befits NumPy's kernels.
    """

    def __init__(
        self, graph: Graph, order: Sequence[Node] | None = None, *, row_major: bool = False
    ) -> None:
        self.graph = graph
        self.nodes = list(graph.nodes) if order is None else list(order)
        self.position = {node: i for i, node in enumerate(self.nodes)}
        self.outside = {*graph.inputs, *graph.params, *graph.constants}
        self.storages: dict[Value, frozenset[Value]] = {v: frozenset((v,)) for v in self.outside}
        self._strided: set[Value] = set()  # what is not known to lie in rows
        for node in self.nodes:
            self._add(node, row_major)
        self.readers: dict[Value, list[int]] = {}
        for i, node in enumerate(self.nodes):
            for storage in {s for v in node.inputs for s in self.storages[v]}:
                self.readers.setdefault(storage, []).append(i)
        self.escaping = {s for v in graph.outputs for s in self.storages[v]}

    def _add(self, node: Node, row_major: bool) -> None:
        how = sharing(node.op)
        if how is Sharing.MAYBE and row_major and isinstance(node.op, Reshape):
            how = Sharing.FRESH if node.inputs[0] in self._strided else Sharing.VIEW
        elif how is not Sharing.FRESH:
            self._strided.update(node.outputs)
        for v in node.outputs:
            own = frozenset((v,))
            if how is Sharing.FRESH:
                self.storages[v] = own
            else:
                shown = self.storages[node.inputs[0]]
                self.storages[v] = shown if how is Sharing.VIEW else shown | own

    def owns(self, value: Value) -> bool:
        """Whether `value` surely has memory of its own, all of it."""
        storages = self.storages[value]
        return len(storages) == 1 and value in storages

    def may_share(self, a: Value, b: Value) -> bool:
        """Whether the two may lie in the same memory."""
        return not self.storages[a].isdisjoint(self.storages[b])

    def last_read(self, storage: Value) -> int:
        """The position of the last node that may read this memory; -1 if none does."""
        readers = self.readers.get(storage)
        return readers[-1] if readers else -1

    def escapes(self, value: Value) -> bool:
        """Whether an output may lie in the memory of `value`."""
        return not self.storages[value].isdisjoint(self.escaping)
