"""Compiling a graph: C text, the buffers it works on, and the order of what is not C.

The table of buffers is made in `slots.py`, the text around the routines in `functions.py`. Given
the same graph, the same program comes out, byte for byte.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import count, pairwise
from typing import Any

from ..dims import symbols
from ..dtypes import int64
from ..graph import Graph, Node, Value
from ..graph.alias import Aliases
from ..graph.nested import definitions
from ..graph.text import node_text
from ..memory.inplace import checked_pairs
from .control import Body, ControlRoutine
from .donation import Donations
from .exact import Exact, prepare_exact
from .functions import Functions
from .fuse import Partition, Step, StepKind, partition
from .loops import Buffer
from .lower import library, routines
from .lower.library import Routine
from .order import clustered, readers_of
from .plan import Home, Interpreted, Laid, Program, Segment
from .prepare import prepare
from .reading import Reading
from .render.prelude import Prelude
from .render.tasks import TaskText
from .schedule import Context, kernel_of
from .slots import Buffers, Table, table
from .target import Target
from .timing import Timing

_STREAMED = 8 * 1024 * 1024  # bytes of a result that is written past the caches


def build(
    graph: Graph,
    target: Target | None = None,
    donate: Iterable[tuple[int, Value]] = (),
    exact: Exact | None = None,
    *,
    timed: bool = False,
) -> Program:
    """Compile `graph`, which stays as it is; with `timed`, to a text that notes kernels' times.

    Each of `donate` is a permission: output `i` is the new value of the input or param `v` for
    (i, v), and may be computed in its memory. With `exact` results are those of the eager kernels
    to the last bit.

    Raises:
        ArgumentError: a pair that names no output, or neither an input nor a param, or whose types
            differ.
    """
    target = target or Target()
    left: dict[Node, str] = {}
    if exact is None:
        prepared = prepare(graph, target)
    else:
        prepared, left = prepare_exact(graph, exact)
    pairs = _in_copy(graph, prepared, checked_pairs(graph, donate))
    if left:  # eager kernels come before what writes over state, but results may be views of it
        storages = Aliases(prepared).storages
        seen = frozenset[Value]().union(*(storages[v] for v in prepared.outputs))
        pairs = [(v, target) for v, target in pairs if target not in seen]
    functions = Functions(Prelude(target.vector_bytes), _symbols(prepared))
    functions.prelude.is_exact = exact is not None
    return _Builder(prepared, partition(prepared, left), target, functions, pairs).build(timed)


def _in_copy(graph: Graph, copy: Graph, donate: Mapping[Value, Value]) -> list[tuple[Value, Value]]:
    """What replaces which input or param, as values of an optimised copy."""
    params = {v.name: v for v in copy.params}
    new = dict(zip(graph.inputs, copy.inputs, strict=True))
    new |= {v: params[v.name] for v in graph.params if v.name in params}
    index = {v: i for i, v in reversed([*enumerate(graph.outputs)])}
    pairs = [(copy.outputs[index[v]], new[target]) for v, target in donate.items() if target in new]
    return [(v, target) for v, target in pairs if v.node is not None]


class _Builder:
    """Builds a program; or, with `is_body`, a body of one of its nodes of control flow.

    `constant` are inputs that do not change while the program, or the loop around it, runs; `step`
    is where that loop's routine puts the number of its step.
    """

    def __init__(
        self,
        graph: Graph,
        parts: Partition,
        target: Target,
        functions: Functions,
        donate: list[tuple[Value, Value]],
        *,
        is_body: bool = False,
        constant: frozenset[Value] = frozenset(),
        step: Buffer | None = None,
    ) -> None:
        self.graph = graph
        self.parts = parts
        self.target = target
        self.functions = functions
        self.donate = donate
        self.is_body = is_body
        self.constant = constant
        self.step = step
        self.prelude = functions.prelude
        self.symbols = functions.symbols
        self.defined = definitions(graph)
        self.steps = list(parts.steps)
        self.buffers = Buffers(graph, parts.aliases)
        self.names = self.buffers.names
        self.buffer = self.buffers.of
        in_memory = {n for s in self.steps for n in s.nodes}
        self.reading = Reading(parts.virtual, in_memory, self.buffer, parts.aliases)

    def planned(self) -> tuple[list[Routine | None], Table]:
        """The routines of the steps, in the order they run in, and the table of their buffers."""
        made = self._routines()
        views = self.prelude.is_exact
        return made, table(self.graph, self.steps, made, self.buffers, self.step, shows_views=views)

    def build(self, timed: bool) -> Program:
        made, places = self.planned()
        bodies = self.functions.lines(made, places.number)
        timing = Timing(self.steps, made) if timed else None
        if timing is not None:
            bodies = timing.around(bodies)
            self.functions.add(timing.text())
        steps, ends = self._add_entries(bodies, places)
        if places.packed:
            self.functions.add_packing("pack", places.packed, places.number)
        return Program(
            text=self.functions.text(),
            symbols=tuple(self.symbols),
            slots=tuple(places.slots),
            steps=tuple(steps),
            inputs=tuple((v.name, v.type) for v in self.graph.inputs),
            params=tuple((v.name, v.type) for v in self.graph.params),
            constants=tuple(v.data for v in places.constants),
            outputs=tuple(
                (places.number[places.copies.get(i, self.buffer(v))], v.shape, v.dtype)
                for i, v in enumerate(self.graph.outputs)
            ),
            packs="pack" if places.packed else "",
            kernels=tuple(
                "; ".join(node_text(n, self.names) for n in s.nodes)
                for s in self.steps
                if s.kind is not StepKind.INTERPRETED
            ),
            boundaries=tuple(
                f"{node_text(s.nodes[0], self.names)}: {s.reason}"
                for s in self.steps
                if s.reason and s.kind is StepKind.FUSED
            ),
            assumptions=tuple(self.graph.assumptions),
            shares=self.functions.shares,
            index_errors=tuple(self.prelude.errors),
            donated=places.donated,
            laid=_laid(made, places, ends) if self.prelude.is_exact else None,
            work=timing.work if timing is not None else (),
        )

    # -- routines ---------------------------------------------------------------------------------

    def _routines(self) -> list[Routine | None]:
        """The functions that compute the steps, once these are in the order they run in."""
        made = {s: self._routine(s) for s in self.steps}
        readers = readers_of(self.steps)
        if self.donate:
            uses = {s: self._uses(s, r) for s, r in made.items()}
            chooser = Donations(self.steps, made, uses, self._operands, readers, self.buffer)
            root = self.buffers.root
            shown = {root(v) for v in self.graph.outputs}
            chosen = chooser.choose([(root(v), t) for v, t in self.donate if t not in shown])
            for d in chosen:
                self.buffers.compute_over(d.value, d.target)
            made.update({d.step: self._routine(d.step) for d in chosen})
        self.steps = clustered(self.steps, readers)
        return [made[s] for s in self.steps]

    def _uses(self, step: Step, routine: Routine | None) -> set[Buffer]:
        """What a step reads."""
        if routine is None:
            return {self.buffer(v) for v in step.nodes[0].inputs}
        return set(routine.reads)

    def _operands(self, step: Step) -> set[Buffer]:
        """Memory that the node of a library step reads."""
        found: set[Value] = set()
        pending = list(step.nodes[0].inputs)
        while pending:
            v = self.buffers.root(pending.pop())
            virtual = v.node in self.parts.virtual and v.node not in self.reading.in_memory
            if virtual and v.node is not None:
                pending += v.node.inputs
            else:
                found.add(v)
        return {self.buffer(v) for v in found}

    def _routine(self, step: Step) -> Routine | None:
        """The function that computes a step; None for an interpreted one."""
        if step.kind is StepKind.INTERPRETED:
            return None
        if step.kind is StepKind.LIBRARY:
            context = Context(self.reading, self.buffer, self.names, self.constant, self.step)
            rule = library.RULES[type(step.nodes[0].op)]
            return rule.routine(step, context, self.prelude, self.symbols)
        if step.kind is StepKind.ROUTINE:
            context = Context(self.reading, self.buffer, self.names, self.constant)
            node = step.nodes[0]
            return routines.RULES[type(node.op)](node, context, self.prelude, self.symbols)
        if step.kind is StepKind.CONTROL:
            node = step.nodes[0]
            op: Any = node.op
            bodies = [self._body(node, body) for body in op.held]
            text = node_text(node, self.names)
            return ControlRoutine(node, self.buffer, bodies, text, self._is_constant)
        kernel = kernel_of(step, self.reading, self.buffer, self.names)
        return TaskText(kernel, self.prelude, self.symbols, self._streamed(step))

    def _streamed(self, step: Step) -> frozenset[Buffer]:
        """Results that no one reads here and that are too large to stay in a cache."""
        if self.is_body:
            return frozenset()
        replaced = {v for v, _ in self.donate}
        found: set[Buffer] = set()
        for v in self.graph.outputs:
            size = v.size * v.dtype.itemsize
            alone = v.node in step.nodes and not v.uses and v not in replaced
            if alone and isinstance(size, int) and size >= _STREAMED:
                found.add(self.buffer(v))
        return frozenset(found)

    def _is_constant(self, value: Value) -> bool:
        """Whether a value is the same whenever this graph runs, as far as packing goes."""
        return value.is_constant or value in self.constant

    def _body(self, node: Node, graph: Graph) -> Body:
        """A body of a node of control flow.

        What all steps of a loop share is constant there, as are constants that a branch is given.
        """
        op: Any = node.op
        loops = op.op.name != "if"
        shared = list(zip(graph.inputs[::-1], node.inputs[::-1], strict=False))[: op.shared]
        constant = frozenset(v for v, given in shared if loops or self._is_constant(given))
        step = Buffer(int64, 1, "the number of the step") if loops else None
        functions = self.functions
        inner = _Builder(
            graph,
            partition(graph),
            self.target,
            functions,
            [],
            is_body=True,
            constant=constant,
            step=step,
        )
        made, places = inner.planned()
        slots, number = places.slots, places.number

        def lines() -> list[str]:
            return [x for body in functions.lines(made, number) for x in body]

        outputs: list[tuple[int, bool]] = []
        for v in graph.outputs:
            slot = number[inner.buffer(v)]
            own = slots[slot].home is Home.OUTPUT and (slot, True) not in outputs
            outputs.append((slot, own))
        arena = {number[b]: b for b in number if slots[number[b]].home is Home.ARENA}
        return Body(
            graph=graph,
            number=number,
            count=len(slots),
            inputs=[number[inner.buffer(v)] for v in graph.inputs],
            outputs=outputs,
            memory=[b for i, b in arena.items() if not slots[i].own] + list(places.packed),
            own=[b for i, b in arena.items() if slots[i].own],
            packed=places.packed,
            step=number.get(step) if step is not None else None,
            literals=[(number[inner.buffer(v)], v) for v in places.constants],
            make_lines=lines,
        )

    # -- entries ----------------------------------------------------------------------------------

    def _add_entries(
        self, bodies: Sequence[list[str]], places: Table
    ) -> tuple[list[Segment | Interpreted], list[int]]:
        """Write the functions that the runtime calls.

        Returns the order of everything, and the number of the step before which each part ends.
        """
        found: list[Segment | Interpreted] = []
        ends: list[int] = []
        lines: list[str] = []
        serial = count()

        def finish(end: int) -> None:
            if lines:
                name = f"run{next(serial)}"
                self.functions.add(self.functions.entry(name, lines))
                found.append(Segment(name))
                ends.append(end)
                lines.clear()

        for i, (step, body) in enumerate(zip(self.steps, bodies, strict=True)):
            if step.kind is not StepKind.INTERPRETED:
                lines += body
                continue
            finish(i)
            found.append(self._interpreted(step.nodes[0], step.reason, places.number))
            ends.append(i + 1)
        for i, b in places.copies.items():
            source = places.number[self.buffer(self.graph.outputs[i])]
            lines.append(self.functions.copy(source, places.number[b], b))
        finish(len(self.steps))
        return found, ends

    def _interpreted(self, node: Node, reason: str, number: dict[Buffer, int]) -> Interpreted:
        return Interpreted(
            node.op,
            tuple((number[self.buffer(v)], v.shape) for v in node.inputs),
            tuple(number[self.buffer(v)] for v in node.outputs),
            reason,
            node_text(node, self.names),
            tuple(
                (name, number[self.buffer(v)], axis)
                for name, (v, axis) in self.defined.items()
                if v.node is node
            ),
            self._bodies_of(node),
        )

    def _bodies_of(self, node: Node) -> tuple[Program, ...]:
        """The bodies of interpreted control flow as programs of their own.

        Not those that use sizes of this graph, which are others for each of these sizes, and not
        where every bit counts.
        """
        op: Any = node.op
        if not op.bodies or op.symbols() or self.prelude.is_exact:
            return ()
        return tuple(build(body, self.target) for body in op.graphs)


def _laid(routines: Sequence[Routine | None], places: Table, ends: Sequence[int]) -> Laid:
    """What is known of the results of interpreted nodes."""
    host = {i for i, s in enumerate(places.slots) if s.home is Home.HOST}
    dead = [
        tuple(i for i in sorted(host) if start <= places.slots[i].last < end)
        for start, end in pairwise([0, *ends])
    ]
    read = {places.number[b] for r in routines if r is not None for b in r.reads}
    return Laid(tuple(dead), frozenset(read & host))


def _symbols(graph: Graph) -> dict[str, int]:
    """The symbolic sizes of a graph, numbered by name."""
    found = {s.name for v in [*graph.inputs, *graph.params] for d in v.shape for s in symbols(d)}
    for node in graph.nodes:
        found |= {s.name for v in node.outputs for d in v.shape for s in symbols(d)}
        found |= {s.name for s in node.op.symbols()}
    return {name: i for i, name in enumerate(sorted(found))}
