"""Control flow as functions of the text: the bodies of `If`, `Scan` and `Loop`, compiled.

A body is a graph of its own, and becomes a function that reads its buffers from a table, as the
whole program does. The node becomes a function that fills the table: with the operands, or the
slices of them that a step sees, and with the places that results belong in. A carried value goes to
and fro between two buffers, or through the result that stacks all of its values. What a body keeps
for itself lies in the program's arena.

Large constants of a body become operands, so that they are kept where all others are.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from ..dims import symbols
from ..errors import ShapeError
from ..graph import Graph, Node, Value
from ..graph.nested import definitions, inline
from ..ops.base import Kind, Op
from ..types import TensorType
from .loops import Buffer
from .lower.library import Pack, Phase
from .render.types import literal, memory

Prepare = Callable[[Graph], Graph]


@dataclass(frozen=True, slots=True, repr=False, eq=False)
class Control(Op):
    """`op` with the bodies it holds made for its operands.

    `shared` of each body's inputs, the last ones, are the same in all steps.
    """

    op: Any
    held: tuple[Graph, ...]
    shared: int
    types: tuple[TensorType, ...]
    name: ClassVar[str] = "control"
    kind: ClassVar[Kind] = Kind.CONTROL

    @property
    def n_outputs(self) -> int:  # type: ignore[override]
        return len(self.types)

    def infer(self, *operands: TensorType) -> Any:
        return self.types if len(self.types) != 1 else self.types[0]

    def symbols(self) -> set[Any]:
        found = {s for t in self.types for d in t.shape for s in symbols(d)}
        for body in self.held:
            found |= {s for v in body.inputs for d in v.shape for s in symbols(d)}
            for node in body.nodes:
                found |= node.op.symbols()
                found |= {s for v in node.outputs for d in v.shape for s in symbols(d)}
        return found

    def __str__(self) -> str:
        return str(self.op)


def compiled_control(node: Node, prepare: Prepare, is_native: Callable[[Graph], bool]) -> Any:
    """The results of a node of control flow whose bodies can be compiled; else None.

    The graph's next nodes are the new ones.
    """
    op: Any = node.op
    if op.name not in ("if", "loop", "scan") or op.defines_sizes or not op.is_pure:
        return None
    given = _given(op, node.inputs)
    shared = len(given) - (op.carried + op.scanned if op.name == "scan" else 0)
    shared -= 1 + op.carried if op.name == "loop" else 0
    constants: list[Any] = []
    bodies: list[Graph] = []
    for body in op.graphs:
        try:
            prepared = prepare(_specialised(body, given))
        except ShapeError:
            return None
        if not is_native(prepared) or prepared.assumptions or definitions(prepared):
            return None
        bodies.append(prepared)
    for i, body in enumerate(bodies):
        large = [v for v in body.constants if v.data.size > 1]
        before, constants = constants, [*constants, *(v.data for v in large)]
        bodies[i] = _with_operands(body, large, before)
    for body in bodies:  # the operands that later bodies have brought
        for data in constants[len(body.inputs) - len(given) :]:
            body.add_input(TensorType(_dtype(data), data.shape))
    types = tuple(v.type for v in node.outputs)
    made = Control(op, tuple(bodies), shared + len(constants), types)
    graph = node.graph
    return graph.call(made, [*node.inputs, *(graph.constant(c) for c in constants)])


def _dtype(data: Any) -> Any:
    from ..dtypes import dtype_of

    return dtype_of(data)


def _given(op: Any, inputs: Sequence[Value]) -> list[TensorType]:
    """The types of a body's inputs."""
    from ..dtypes import int64

    types = [v.type for v in inputs]
    if op.name == "if":
        return types[1:]
    if op.name == "loop":
        return [TensorType(int64, ()), *types[2:]]
    first, last = op.carried, op.carried + op.scanned
    slices = [t.with_shape(t.shape[1:]) for t in types[first:last]]
    return [*types[:first], *slices, *types[last:]]


def _specialised(body: Graph, types: Sequence[TensorType]) -> Graph:
    """A body for operands of these types, its sizes those of the graph around it."""
    out = Graph(body.name)
    inputs = [out.add_input(t, v.name) for v, t in zip(body.inputs, types, strict=True)]
    out.set_outputs(inline(body, out, inputs))
    return out


def _with_operands(body: Graph, large: Sequence[Value], before: Sequence[Any]) -> Graph:
    """A body whose large constants are inputs, behind those of the bodies before it."""
    for data in before:
        body.add_input(TensorType(_dtype(data), data.shape))
    for v in large:
        body.replace_uses(v, body.add_input(v.type))
    body.drop_unused()
    return body


@dataclass(eq=False)
class Body:
    """A compiled body: its table has `count` entries, numbered by `number`.

    `outputs`: for each the entry, and whether the body computes it there, where it is told to.
    `memory` and `own` are buffers of its own, `own` ones of each thread; `packed` are those among
    them that are filled once for all steps. `step` is the entry of the number of the step, where it
    is read. `literals` are entries that are single numbers.
    """

    graph: Graph
    number: dict[Buffer, int]
    count: int
    inputs: list[int]
    outputs: list[tuple[int, bool]]
    memory: list[Buffer]
    own: list[Buffer]
    packed: dict[Buffer, Pack]
    step: int | None
    literals: list[tuple[int, Value]]
    make_lines: Callable[[], list[str]]
    _lines: list[str] | None = None

    def lines(self) -> list[str]:
        """What runs its steps."""
        if self._lines is None:
            self._lines = self.make_lines()
        return self._lines


class ControlRoutine:
    """What a step of control flow is to the builder of a program. See `lower.library.Routine`.

    `entry` makes its functions; it has no phases, since its bodies' steps share their work.
    """

    checked = True
    phases: tuple[Phase, ...] = ()
    arguments: tuple[str, ...] = ()

    def __init__(
        self,
        node: Node,
        buffer: Callable[[Value], Buffer],
        bodies: list[Body],
        text: str,
        is_constant: Callable[[Value], bool],
    ) -> None:
        self.node, self.bodies = node, bodies
        op: Any = node.op
        self.op: Control = op
        self.operands = [buffer(v) for v in node.inputs]
        self.results = [buffer(v) for v in node.outputs]
        self.reads: tuple[Buffer, ...] = tuple(dict.fromkeys(self.operands))
        self.writes: tuple[Buffer, ...] = tuple(self.results)
        count = self.op.op.carried if self.op.op.name != "if" else 0
        self.carried = [
            tuple(Buffer(v.dtype, v.size, f"a carried value, {i}") for i in range(2))
            for v in node.outputs[:count]
        ]
        self.stacked = self._stacked(bodies[0]) if count else {}
        self.packs = tuple(self._packed_before(is_constant))
        loaded = {p.packed for p in self.packs}
        kept = [b for body in bodies for b in body.memory if b not in loaded]
        pairs = [pair for k, pair in enumerate(self.carried) if k not in self.stacked]
        self.scratch: tuple[Buffer, ...] = (*kept, *(b for pair in pairs for b in pair))
        self.own: tuple[Buffer, ...] = tuple(b for body in bodies for b in body.own)
        self.notes: tuple[str, ...] = (text,)

    def _packed_before(self, is_constant: Callable[[Value], bool]) -> Iterator[Pack]:
        """What bodies pack of constants of the graph around them, which packs it for all runs."""
        for body in self.bodies:
            sources = dict(zip(body.inputs[::-1], self.node.inputs[::-1], strict=False))
            for pack in body.packed.values():
                source = sources.get(body.number[pack.source])
                if source is not None and is_constant(source):
                    yield replace(pack, source=self.operands[self.node.inputs.index(source)])

    def _stacked(self, body: Body) -> dict[int, int]:
        """Carried values that are stacked, too: by number, the result that holds all of them.

        They are computed where that has a place for them, and the next step reads them there.
        """
        count, first = len(self.carried), len(body.outputs) - len(self.results)
        slots = {body.outputs[first + k]: k for k in range(count)}
        found: dict[int, int] = {}
        for j in range(count, len(self.results)):
            slot, _ = body.outputs[first + j]
            if (slot, True) in slots:
                found.setdefault(slots[slot, True], j)
        return found

    def text(self, name: str) -> str:
        return ""

    def entry(self, name: str, number: dict[Buffer, int], sizes: Callable[[Any], str]) -> str:
        """The function that runs the node, called `name`; the bodies' are called `name`_0, ..."""
        lines = _Lines(self, name, number, sizes)
        {"if": lines.branches, "scan": lines.scan, "loop": lines.loop}[self.op.op.name]()
        return "\n".join(lines.lines)


class _Lines:
    """Writes the function of a node of control flow."""

    def __init__(
        self,
        routine: ControlRoutine,
        name: str,
        number: dict[Buffer, int],
        sizes: Callable[[Any], str],
    ) -> None:
        self.routine, self.name, self.number, self.sizes = routine, name, number, sizes
        self.lines: list[str] = []

    def line(self, depth: int, text: str) -> None:
        self.lines.append("  " * depth + text)

    def outer(self, buffer: Buffer) -> str:
        return f"b[{self.number[buffer]}]"

    def branches(self) -> None:
        cond, *operands = self.routine.operands
        for i, body in enumerate(self.routine.bodies):
            test = f"if (*(const u8 *){self.outer(cond)}) {{" if i == 0 else "} else {"
            self.line(1, test)
            self.line(2, f"void *c[{body.count + 1}];")
            self._fixed(body, 2)
            for k, b in enumerate(operands):
                self._set(body.inputs[k], self.outer(b), 2)
            places = [self.outer(b) for b in self.routine.results]
            self._outputs(body, places, 2)
            self._call(i, 2)
            self._copies(body, places, 2)
        self.line(1, "}")

    def scan(self) -> None:
        op, body = self.routine.op.op, self.routine.bodies[0]
        operands, n, m = self.routine.operands, op.carried, op.scanned
        self._begin(body, [*operands[n + m :]], n + m, operands[:n])
        length = self.sizes(op.length)
        self.line(1, f"for (i64 step = 0; step < {length}; step++) {{")
        self.line(2, f"const i64 at = {f'{length} - 1 - step' if op.reverse else 'step'};")
        for k in range(n, n + m):
            size = self.sizes(body.graph.inputs[k].size)
            place = (
                f"({memory(body.graph.inputs[k].dtype)} *){self.outer(operands[k])} + at * {size}"
            )
            self._set(body.inputs[k], place, 2)
        self._step(body, 0, "at")
        self.line(1, "}")
        self._end(body, 0)

    def loop(self) -> None:
        op, body = self.routine.op.op, self.routine.bodies[0]
        limit, cond, *operands = self.routine.operands
        n = op.carried
        self._begin(body, operands[n:], 1 + n, operands[:n])
        self.line(1, f"const i64 limit = *(const i64 *){self.outer(limit)};")
        self.line(1, "i64 step = 0;")
        self._set(body.inputs[0], "&step", 1)
        self.line(1, "u8 goes_on;")
        going = f"*(const u8 *){self.outer(cond)}"
        bound = f" && step < {self.sizes(op.trips)}" if len(self.routine.results) > n else ""
        test = f"goes_on && step < limit{bound}"
        self.line(1, f"for (goes_on = {going}; {test}; step++) {{")
        self._step(body, 1, "step", "&goes_on")
        self.line(1, "}")
        self._end(body, 1)

    # -- parts ------------------------------------------------------------------------------------

    def _begin(
        self,
        body: Body,
        shared: Sequence[Buffer],
        skipped: int,
        carried: Sequence[Buffer],
    ) -> None:
        """The table, what is in it throughout, and where the carried values begin."""
        self.line(1, f"void *c[{body.count + 1}];")
        self._fixed(body, 1)
        for k, b in enumerate(shared):
            self._set(body.inputs[skipped + k], self.outer(b), 1)
        loaded = {p.packed for p in self.routine.packs}
        for packed, pack in body.packed.items():
            if packed in loaded:
                continue
            source = f"c[{body.number[pack.source]}]"
            self.line(1, f"{pack.function}({source}, c[{body.number[packed]}]);")
        for k, b in enumerate(carried):
            self.line(1, f"void *now{k} = {self.outer(b)};")

    def _step(self, body: Body, first: int, at: str, going: str = "") -> None:
        """One run of the body: its outputs from `first` on are carried, the rest are stacked."""
        carried = self.routine.carried
        if body.step is not None:
            self._set(body.step, "&step", 2)
        for k in range(len(carried)):
            self._set(body.inputs[first + k], f"now{k}", 2)
        places = [going] if first else []
        stacks: list[str] = []
        for k, b in enumerate(self.routine.results[len(carried) :], start=first + len(carried)):
            v = body.graph.outputs[k]
            stacks.append(f"({memory(v.dtype)} *){self.outer(b)} + {at} * {self.sizes(v.size)}")
        for k, (one, other) in enumerate(carried):
            if k in self.routine.stacked:
                place = stacks[self.routine.stacked[k] - len(carried)]
            else:
                place = f"step % 2 ? {self.outer(one)} : {self.outer(other)}"
            self.line(2, f"void *const next{k} = {place};")
            places.append(f"next{k}")
        places += stacks
        there = {first + j for j in self.routine.stacked.values()}
        self._outputs(body, places, 2)
        self._call(0, 2)
        self._copies(body, places, 2, there)
        for k in range(len(carried)):
            self.line(2, f"now{k} = next{k};")

    def _end(self, body: Body, first: int) -> None:
        for k, b in enumerate(self.routine.results[: len(self.routine.carried)]):
            self._copy(self.outer(b), f"now{k}", body.graph.outputs[first + k], 1)

    def _fixed(self, body: Body, depth: int) -> None:
        for b in (*body.memory, *body.own):
            self.line(depth, f"c[{body.number[b]}] = {self.outer(b)};")
        for slot, v in body.literals:
            t = memory(v.dtype)
            number = literal(v.data.reshape(()).item(), v.dtype)
            self.line(depth, f"static {t} number{slot} = {number};")
            self.line(depth, f"c[{slot}] = &number{slot};")

    def _set(self, slot: int, text: str, depth: int) -> None:
        self.line(depth, f"c[{slot}] = (void *)({text});")

    def _outputs(self, body: Body, places: Sequence[str], depth: int) -> None:
        for (slot, own), place in zip(body.outputs, places, strict=True):
            if own:
                self._set(slot, place, depth)

    def _copies(
        self, body: Body, places: Sequence[str], depth: int, there: Collection[int] = ()
    ) -> None:
        """Outputs that are an input, or another output: copied once the body has run.

        But for those numbered in `there`.
        """
        pairs = zip(body.outputs, places, body.graph.outputs, strict=True)
        for i, ((slot, own), place, v) in enumerate(pairs):
            if not own and i not in there:
                self._copy(place, f"c[{slot}]", v, depth)

    def _copy(self, to: str, place: str, v: Value, depth: int) -> None:
        count = f"(size_t){self.sizes(v.size)} * sizeof({memory(v.dtype)})"
        self.line(depth, f"memcpy({to}, {place}, {count});")

    def _call(self, i: int, depth: int) -> None:
        call = f"{self.name}_{i}(c, dims, team)"
        self.line(depth, f"if ((status = {call})) return status;")
