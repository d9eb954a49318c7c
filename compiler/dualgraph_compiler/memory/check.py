"""An independent check of memory plans: a run in which every write is followed on paper.

Nothing here looks at lifetimes. Each value remembers which cells of memory it lies in and which
write it expects to find there; the nodes are gone through in order, and whoever would read a cell
that holds something else has found a mistake.
"""

from __future__ import annotations

from ..errors import GraphError
from ..graph.alias import Sharing, sharing
from ..graph.core import Node, Value
from ..ops.movement import Reshape
from .inplace import InPlacePlan
from .plan import Placement, Storage


def check_plan(
    plan: InPlacePlan, placement: Placement | None = None, *, row_major: bool = False
) -> None:
    """Raise unless running `plan`, its buffers placed by `placement` if given, is sound.

    Checked: the order holds every node once and after its operands; no value is read after its
    memory was written again; what is computed in place fits there, and its kernel allows it; state
    is written only by the nodes from `first_write` on, and by nothing but donations; no output lies
    in the arena.

    Raises:
        GraphError: it is not; the message says which node and why.
    """
    _Walk(plan, placement, row_major).run()


class _Walk:
    def __init__(self, plan: InPlacePlan, placement: Placement | None, row_major: bool) -> None:
        self.plan = plan
        self.row_major = row_major
        graph = plan.graph
        self.targets = {graph.outputs[i]: v for i, v in plan.donated.items()}
        self.buffer: dict[Value, Storage] = {}
        self.neighbours: dict[Storage, list[Storage]] = {}
        if placement is not None:
            self._take(placement)
        # Where each value lies, and which write it is that made the cell what the value shows.
        self.lies: dict[Value, dict[object, int]] = {}
        self.written: dict[object, int] = {}
        self.clock = 0
        self.strided: set[Value] = set()
        for v in (*graph.inputs, *graph.params, *graph.constants):
            self.lies[v] = self._write(v)

    def _take(self, placement: Placement) -> None:
        spans = sorted(
            (start, start + placement.sizes[s], i, s)
            for i, (s, start) in enumerate(placement.offsets.items())
        )
        for k, (_, end, _, s) in enumerate(spans):
            self.buffer.update(dict.fromkeys(s.values, s))
            near = self.neighbours.setdefault(s, [s])
            for start, other_end, _, other in spans[k + 1 :]:
                if start >= end:
                    break
                if other_end > start:  # an empty buffer overlaps nothing
                    near.append(other)
                    self.neighbours.setdefault(other, [other]).append(s)

    def run(self) -> None:
        graph, plan = self.plan.graph, self.plan
        if sorted(map(id, plan.order)) != sorted(map(id, graph.nodes)):
            raise GraphError("the plan does not hold every node of the graph once")
        for i, node in enumerate(plan.order):
            self._step(i, node)
        for i, v in enumerate(graph.outputs):
            self._read(v, f"output {i}")
            if any(isinstance(cell, Storage) for cell in self.lies[v]):
                raise GraphError(f"output {i}, {v!r}, lies in the arena")
            for cell in self.lies[v]:
                if cell in self.targets.values() and self.targets.get(v) is not cell:
                    raise GraphError(f"output {i}, {v!r}, shows state that the run overwrites")

    def _step(self, at: int, node: Node) -> None:
        for v in node.inputs:
            if v not in self.lies:
                raise GraphError(f"{node!r} comes before its operand {v!r}")
            self._read(v, repr(node))
        if at >= self.plan.first_write:
            results = [v for v in node.outputs if v in self.plan.graph.outputs]
            if not results or any(v not in self.targets for v in results):
                raise GraphError(f"{node!r} makes more than donated results after state is written")
        how = sharing(node.op)
        if self.row_major and isinstance(node.op, Reshape):
            how = Sharing.FRESH if node.inputs[0] in self.strided else Sharing.VIEW
        elif how is not Sharing.FRESH:
            self.strided.update(node.outputs)
        made: list[dict[object, int]] = []
        for i, v in enumerate(node.outputs):
            shown = {} if how is Sharing.FRESH else dict(self.lies[node.inputs[0]])
            own = {} if how is Sharing.VIEW else self._result(at, node, i, v)
            if any(cell in other for other in made for cell in own):
                raise GraphError(f"{node!r} writes two results to one place")
            made.append(own)
            self.lies[v] = shown | own

    def _result(self, at: int, node: Node, i: int, v: Value) -> dict[object, int]:
        """Let `node` write result `i` where the plan has it."""
        operand, target = self.plan.reused.get(v), self.targets.get(v)
        home = operand if operand is not None else target
        if home is None:
            return self._write(self.buffer.get(v, v), node)
        if home.type != v.type or not node.op.writes_into:
            raise GraphError(f"{node!r} cannot compute its result in the memory of {home!r}")
        if target is not None and at < self.plan.first_write:
            raise GraphError(f"{node!r} writes to state while later nodes may fail")
        cells = self.lies[home]
        if operand is not None and any(c in self._outside() for c in cells):
            raise GraphError(f"{node!r} overwrites {home!r}, which it may not")
        if len(cells) != 1:
            raise GraphError(f"{node!r}: where {home!r} lies is not certain")
        (cell,) = cells
        if self.buffer.get(v, cell) is not cell:
            raise GraphError(f"{node!r} is placed away from the operand that it reuses")
        allowed = node.op.reusable(i, len(node.inputs))
        for j, x in enumerate(node.inputs):
            if cell in self.lies[x] and not (x is home and j in allowed):
                raise GraphError(f"{node!r} overwrites its operand {j} while reading it")
        return self._write(cell, node)

    def _outside(self) -> set[Value]:
        graph = self.plan.graph
        return {*graph.inputs, *graph.params, *graph.constants}

    def _write(self, cell: object, node: Node | None = None) -> dict[object, int]:
        """Write to a cell; what overlaps it holds something else from now on."""
        self.clock += 1
        if isinstance(cell, Storage):
            others = self.neighbours[cell]
            if node is not None:
                for x in node.inputs:
                    for other in others:
                        if other is not cell and other in self.lies[x]:
                            raise GraphError(f"{node!r} overwrites its operand {x!r}")
            for other in others:
                self.written[other] = self.clock
        self.written[cell] = self.clock
        return {cell: self.clock}

    def _read(self, v: Value, reader: str) -> None:
        for cell, expected in self.lies[v].items():
            if self.written[cell] != expected:
                raise GraphError(f"{reader} reads {v!r}, which has been overwritten by then")
