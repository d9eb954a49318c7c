"""The table of buffers of a program: whose memory each is, and how long it is needed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ..graph import Graph, Node, Value
from ..graph.alias import Sharing, sharing
from ..graph.text import Namer
from .loops import Buffer
from .lower.library import Pack, Routine
from .plan import Home, Slot
from .render.kernel import comment
from .steps import Step, StepKind


class Buffers:
    """The buffers of a graph's values; `aliases` are values that are in another one's memory."""

    def __init__(self, graph: Graph, aliases: Mapping[Value, Value]) -> None:
        self.names = Namer(graph)
        self.by_root: dict[Value, Buffer] = {}
        self.targets: dict[Value, Value] = {}  # what is computed over an input or param
        self.merged: dict[Buffer, Buffer] = {}
        self._aliases = aliases

    def root(self, value: Value) -> Value:
        return self._aliases.get(value, value)

    def of(self, value: Value) -> Buffer:
        """The buffer of a value that is in memory."""
        root = self.root(value)
        if root not in self.by_root:
            name = comment(self.names[root])
            self.by_root[root] = Buffer(root.dtype, root.size, name)
        return self.by_root[root]

    def compute_over(self, value: Value, target: Value) -> None:
        """Have a value computed in the memory of an input or param."""
        old = self.of(value)
        self.targets[value] = target
        self.by_root[value] = self.merged[old] = self.by_root[target]


@dataclass(frozen=True, slots=True)
class Table:
    """Where every buffer of a program is.

    `number` gives each buffer's slot. `constants` are those that are in memory, `packed` the
    buffers that some of them are packed into. Outputs that are an operand, or that another output
    is, are copied to the buffer in `copies` when all else is done; `donated` names the input or
    param that an output is computed over.
    """

    slots: list[Slot]
    number: dict[Buffer, int]
    constants: list[Value]
    packed: dict[Buffer, Pack]
    copies: dict[int, Buffer]
    donated: dict[int, int]


def table(
    graph: Graph,
    steps: Sequence[Step],
    routines: Sequence[Routine | None],
    buffers: Buffers,
    counter: Buffer | None,
    *,
    shows_views: bool,
) -> Table:
    """The table of the buffers that `routines`, one for each step that is compiled, work on.

    `counter` is where a loop around the graph puts the number of its step. With `shows_views`,
    interpreted nodes may give views of what they read.
    """
    donated = _donated(graph, buffers)
    homes, copies, constants = _homes(graph, steps, buffers, donated)
    first, last = _lives(graph, steps, routines, buffers, shows_views)
    slots: list[Slot] = []
    number: dict[Buffer, int] = {}

    def add(buffer: Buffer, slot: Slot) -> None:
        number[buffer] = len(slots)
        slots.append(slot)

    shapes = {buffers.root(v): v.shape for v in reversed(graph.outputs)}
    for root, b in buffers.by_root.items():
        if b in number:
            continue
        home, position = homes.get(root, (Home.ARENA, 0))
        if home is Home.CONSTANT and b not in last:
            home = Home.SOURCE
        shape = shapes.get(root, root.shape) if home is Home.OUTPUT else root.shape
        add(b, Slot(home, position, b.dtype, shape, first.get(b, 0), last.get(b, 0)))
    packed = {p.packed: p for r in routines if r is not None for p in r.packs}
    for i, b in enumerate(packed):
        add(b, Slot(Home.PACKED, i, b.dtype, (b.size,)))
    for i, routine in enumerate(routines):
        for b in routine.scratch if routine is not None else ():
            add(b, Slot(Home.ARENA, 0, b.dtype, (b.size,), i, i))
        for b in routine.own if routine is not None else ():
            add(b, Slot(Home.ARENA, 0, b.dtype, (b.size,), i, i, own=True))
    if counter in last:
        add(counter, Slot(Home.INPUT, 0, counter.dtype, (1,)))
    number.update({old: number[b] for old, b in buffers.merged.items()})
    for i, b in copies.items():
        add(b, Slot(Home.OUTPUT, i, b.dtype, graph.outputs[i].shape))
    return Table(slots, number, constants, packed, copies, donated)


def _donated(graph: Graph, buffers: Buffers) -> dict[int, int]:
    """For outputs, the first of equal ones, whose memory they are computed in."""
    number = {v: i for i, v in enumerate([*graph.inputs, *graph.params])}
    found: dict[Value, int] = {}
    for i, v in enumerate(graph.outputs):
        if buffers.root(v) in buffers.targets:
            found.setdefault(buffers.root(v), i)
    return {i: number[buffers.targets[v]] for v, i in found.items()}


def _homes(
    graph: Graph, steps: Sequence[Step], buffers: Buffers, donated: Mapping[int, int]
) -> tuple[dict[Value, tuple[Home, int]], dict[int, Buffer], list[Value]]:
    """Homes of values, the outputs that are copied, and the constants that are in memory."""
    homes: dict[Value, tuple[Home, int]] = {}
    for kind, values in ((Home.INPUT, graph.inputs), (Home.PARAM, graph.params)):
        for i, v in enumerate(values):
            homes[v] = (kind, i)
            buffers.of(v)
    for v in graph.outputs:
        buffers.of(v)
    for step in steps:
        if step.kind is StepKind.INTERPRETED:
            for v in (*step.nodes[0].inputs, *step.nodes[0].outputs):
                buffers.of(v)
            for v in step.nodes[0].outputs:
                homes[v] = (Home.HOST, 0)
    constants = [v for v in graph.constants if v in buffers.by_root]
    homes |= {v: (Home.CONSTANT, i) for i, v in enumerate(constants)}
    homes |= {v: homes[t] for v, t in buffers.targets.items()}
    copies: dict[int, Buffer] = {}
    for i, v in enumerate(graph.outputs):
        home = homes.setdefault(buffers.root(v), (Home.OUTPUT, i))
        if home != (Home.OUTPUT, i) and home[0] is not Home.HOST and i not in donated:
            copies[i] = Buffer(v.dtype, v.size, "a copy")
    return homes, copies, constants


def _lives(
    graph: Graph,
    steps: Sequence[Step],
    routines: Sequence[Routine | None],
    buffers: Buffers,
    shows_views: bool,
) -> tuple[dict[Buffer, int], dict[Buffer, int]]:
    """The first and the last step that reads or writes each buffer."""
    first: dict[Buffer, int] = {}
    last: dict[Buffer, int] = {}
    for i, (step, routine) in enumerate(zip(steps, routines, strict=True)):
        if routine is not None:
            used = [*routine.reads, *routine.writes]
        else:
            node = step.nodes[0]
            used = [buffers.of(v) for v in (*node.inputs, *node.outputs)]
        for b in used:
            first.setdefault(b, i)
            last[b] = i
    for v in graph.outputs:  # those that are copied when all is done
        last[buffers.of(v)] = len(steps)
    if shows_views:
        for step in reversed(steps):
            if step.kind is StepKind.INTERPRETED:
                _outlive(step.nodes[0], last, buffers)
    return first, last


def _outlive(node: Node, last: dict[Buffer, int], buffers: Buffers) -> None:
    """What an eager kernel gives a view of is needed as long as the view is."""
    if sharing(node.op) is not Sharing.FRESH:
        shown = buffers.of(node.inputs[0])
        last[shown] = max(last[shown], *(last[buffers.of(v)] for v in node.outputs))
