"""Compiling a graph: C text, the buffers it works on, and the order of what is not C.

Given the same graph, the same program comes out, byte for byte.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

from ..dims import symbols
from ..dtypes import int64
from ..graph import Graph, Node, Value
from ..graph.alias import Aliases, Sharing, sharing
from ..graph.nested import definitions
from ..graph.text import Namer, node_text
from ..memory.inplace import checked_pairs
from .control import Body, ControlRoutine
from .donation import Donations
from .exact import Exact, prepare_exact
from .fuse import Partition, Step, StepKind, partition
from .loops import Buffer
from .lower import library, routines
from .lower.library import Pack, Phase, Routine
from .order import clustered, readers_of
from .parallel import WORTH
from .plan import Home, Interpreted, Laid, Program, Segment, Slot
from .prepare import prepare
from .reading import Reading
from .render.kernel import comment
from .render.prelude import Prelude
from .render.tasks import TaskText
from .render.types import SIZES, Sizes, memory
from .schedule import Context, kernel_of
from .target import Target
from .timing import Timing

_STREAMED = 8 * 1024 * 1024  # bytes of a result that is written past the caches

# How the text reaches the runtime's threads. `run` shares tasks among them and returns when all are
# done, with 0 or with a status that is not; it may as well do everything itself.
TEAM = f"""\
typedef int (*Step)(void *const *b, const i64 *dims, i64 first, i64 last, i64 thread);
typedef struct Team {{
  int (*run)(const struct Team *, Step, void *const *b, const i64 *dims, i64 tasks, i64 cost);
}} Team;
static inline int share(const Team *team, Step step, void *const *b, const i64 *dims, i64 tasks,
                        i64 cost) {{
  if (tasks < 1) return 0;
  if (!team || tasks < 2 || cost < {WORTH}) return step(b, dims, 0, tasks, 0);
  return team->run(team, step, b, dims, tasks, cost);
}}
"""


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
    builder = _Builder(prepared, partition(prepared, left), target, pairs)
    builder.prelude.is_exact = exact is not None
    return builder.build(timed)


def _in_copy(graph: Graph, copy: Graph, donate: Mapping[Value, Value]) -> list[tuple[Value, Value]]:
    """What replaces which input or param, as values of an optimised copy."""
    params = {v.name: v for v in copy.params}
    new = dict(zip(graph.inputs, copy.inputs, strict=True))
    new |= {v: params[v.name] for v in graph.params if v.name in params}
    index = {v: i for i, v in reversed([*enumerate(graph.outputs)])}
    pairs = [(copy.outputs[index[v]], new[target]) for v, target in donate.items() if target in new]
    return [(v, target) for v, target in pairs if v.node is not None]


class _Builder:
    """Builds a program; with `within`, the body of a node of that builder's graph.

    `constant` are inputs that do not change while the program, or the loop around it, runs; `step`
    is where that loop's routine puts the number of its step.
    """

    def __init__(
        self,
        graph: Graph,
        parts: Partition,
        target: Target,
        donate: list[tuple[Value, Value]],
        within: _Builder | None = None,
        constant: frozenset[Value] = frozenset(),
        step: Buffer | None = None,
    ) -> None:
        self.graph = graph
        self.within = within
        self.step = step
        self.parts = parts
        self.target = target
        self.constant = constant
        self.names = Namer(graph)
        self.prelude: Prelude = within.prelude if within else Prelude(target.vector_bytes)
        self.symbols: dict[str, int] = within.symbols if within else _symbols(graph)
        self.defined = definitions(graph)
        self.known: dict[str, str] = within.known if within else {}  # kernels by their text
        self.functions: list[str] = within.functions if within else []
        self.donate = donate
        self.targets: dict[Value, Value] = {}  # what is computed over an input or param
        self.merged: dict[Buffer, Buffer] = {}
        self.copies: dict[int, Buffer] = {}  # outputs that are copied when all else is done
        self.steps = list(parts.steps)
        self.buffers: dict[Value, Buffer] = {}
        self.homes: dict[Value, tuple[Home, int]] = {}
        self.extra: list[tuple[Buffer, int, bool]] = []  # scratch memory, its step, whose it is
        self.packed: dict[Buffer, Pack] = {}
        self.ends: list[int] = []  # of what the runtime calls, in numbers of steps
        in_memory = {n for s in self.steps for n in s.nodes}
        self.reading = Reading(parts.virtual, in_memory, self.buffer, parts.aliases)

    def root(self, value: Value) -> Value:
        return self.parts.aliases.get(value, value)

    def buffer(self, value: Value) -> Buffer:
        """The buffer of a value that is in memory."""
        root = self.root(value)
        if root not in self.buffers:
            name = comment(self.names[root])
            self.buffers[root] = Buffer(root.dtype, root.size, name)
        return self.buffers[root]

    def planned(self) -> tuple[list[Routine | None], list[Slot], dict[Buffer, int]]:
        """The routines of the steps, the table of buffers, and where each is in it."""
        kernels = self._routines()
        for i, k in enumerate(kernels):
            self.extra += [(b, i, False) for b in (k.scratch if k is not None else ())]
            self.extra += [(b, i, True) for b in (k.own if k is not None else ())]
            self.packed.update({p.packed: p for p in (k.packs if k is not None else ())})
        self._find_homes()
        return kernels, *self._slots(kernels)

    def build(self, timed: bool) -> Program:
        kernels, slots, number = self.planned()
        bodies = self._functions(kernels, number)
        timing = Timing(self.steps, kernels) if timed else None
        if timing is not None:
            bodies = timing.around(bodies)
            self.functions.append(timing.text())
        steps, entries = self._entries(bodies, number)
        sizes = [SIZES] if self.symbols else []
        packs = self._packing(number)
        shares = any("share(team" in x for x in (*self.functions, *entries))
        text = "\n".join([self.prelude.text(), *sizes, TEAM, *self.functions, *entries, *packs])
        return Program(
            text=text,
            symbols=tuple(self.symbols),
            slots=tuple(slots),
            steps=tuple(steps),
            inputs=tuple((v.name, v.type) for v in self.graph.inputs),
            params=tuple((v.name, v.type) for v in self.graph.params),
            constants=tuple(v.data for v in self._constants()),
            outputs=tuple(
                (number[self.copies.get(i, self.buffer(v))], v.shape, v.dtype)
                for i, v in enumerate(self.graph.outputs)
            ),
            packs="pack" if packs else "",
            kernels=tuple(
                self._kernel_line(s) for s in self.steps if s.kind is not StepKind.INTERPRETED
            ),
            boundaries=tuple(
                f"{node_text(s.nodes[0], self.names)}: {s.reason}"
                for s in self.steps
                if s.reason and s.kind is StepKind.FUSED
            ),
            assumptions=tuple(self.graph.assumptions),
            shares=shares,
            index_errors=tuple(self.prelude.errors),
            donated=self._donated(),
            laid=self._laid(kernels, slots, number) if self.prelude.is_exact else None,
            work=timing.work if timing is not None else (),
        )

    def _laid(
        self, kernels: Sequence[Routine | None], slots: Sequence[Slot], number: dict[Buffer, int]
    ) -> Laid:
        """What is known of the results of interpreted nodes."""
        host = {i for i, s in enumerate(slots) if s.home is Home.HOST}
        ends = [0, *self.ends]
        dead = [
            tuple(i for i in sorted(host) if start <= slots[i].last < end)
            for start, end in pairwise(ends)
        ]
        read = {number[b] for k in kernels if k is not None for b in k.reads}
        return Laid(tuple(dead), frozenset(read & host))

    def _routines(self) -> list[Routine | None]:
        """The functions that compute the steps, once these are in the order they run in."""
        made = {s: self._routine(s) for s in self.steps}
        readers = readers_of(self.steps)
        if self.donate:
            uses = {s: self._uses(s, r) for s, r in made.items()}
            chooser = Donations(self.steps, made, uses, self._operands, readers, self.buffer)
            shown = {self.root(v) for v in self.graph.outputs}
            wanted = [(self.root(v), t) for v, t in self.donate if t not in shown]
            chosen = chooser.choose(wanted)
            self.targets = {d.value: d.target for d in chosen}
            for d in chosen:
                old = self.buffer(d.value)
                self.buffers[d.value] = self.merged[old] = self.buffers[d.target]
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
            v = self.root(pending.pop())
            virtual = v.node in self.parts.virtual and v.node not in self.reading.in_memory
            if virtual and v.node is not None:
                pending += v.node.inputs
            else:
                found.add(v)
        return {self.buffer(v) for v in found}

    def _donated(self) -> dict[int, int]:
        """For outputs, the first of equal ones, whose memory they are computed in."""
        number = {v: i for i, v in enumerate([*self.graph.inputs, *self.graph.params])}
        found: dict[Value, int] = {}
        for i, v in enumerate(self.graph.outputs):
            if self.root(v) in self.targets:
                found.setdefault(self.root(v), i)
        return {i: number[self.targets[v]] for v, i in found.items()}

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
        if self.within:
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
        inner = _Builder(graph, partition(graph), self.target, [], self, constant, step)
        kernels, slots, number = inner.planned()

        def lines() -> list[str]:
            return [x for body in inner._functions(kernels, number) for x in body]

        outputs: list[tuple[int, bool]] = []
        for v in graph.outputs:
            slot = number[inner.buffer(v)]
            own = slots[slot].home is Home.OUTPUT and (slot, True) not in outputs
            outputs.append((slot, own))
        arena = {number[b]: b for b in number if slots[number[b]].home is Home.ARENA}
        constants = inner._constants()
        return Body(
            graph=graph,
            number=number,
            count=len(slots),
            inputs=[number[inner.buffer(v)] for v in graph.inputs],
            outputs=outputs,
            memory=[b for i, b in arena.items() if not slots[i].own] + list(inner.packed),
            own=[b for i, b in arena.items() if slots[i].own],
            packed=inner.packed,
            step=number.get(step) if step is not None else None,
            literals=[(number[inner.buffer(v)], v) for v in constants],
            make_lines=lines,
        )

    def _kernel_line(self, step: Step) -> str:
        return "; ".join(node_text(n, self.names) for n in step.nodes)

    # -- memory -----------------------------------------------------------------------------------

    def _constants(self) -> list[Value]:
        return [v for v in self.graph.constants if v in self.buffers]

    def _find_homes(self) -> None:
        for i, v in enumerate(self.graph.inputs):
            self.homes[v] = (Home.INPUT, i)
            self.buffer(v)
        for i, v in enumerate(self.graph.params):
            self.homes[v] = (Home.PARAM, i)
            self.buffer(v)
        for v in self.graph.outputs:
            self.buffer(v)
        for step in self.steps:
            if step.kind is StepKind.INTERPRETED:
                for v in (*step.nodes[0].inputs, *step.nodes[0].outputs):
                    self.buffer(v)
                for v in step.nodes[0].outputs:
                    self.homes[v] = (Home.HOST, 0)
        for i, v in enumerate(self._constants()):
            self.homes[v] = (Home.CONSTANT, i)
        self.homes.update({v: self.homes[t] for v, t in self.targets.items()})
        donated = self._donated()
        for i, v in enumerate(self.graph.outputs):
            home = self.homes.setdefault(self.root(v), (Home.OUTPUT, i))
            if home != (Home.OUTPUT, i) and home[0] is not Home.HOST and i not in donated:
                self.copies[i] = Buffer(v.dtype, v.size, "a copy")

    def _slots(self, kernels: Sequence[Routine | None]) -> tuple[list[Slot], dict[Buffer, int]]:
        """The table of buffers, and where each buffer is in it."""
        first: dict[Buffer, int] = {}
        last: dict[Buffer, int] = {}
        for i, (step, kernel) in enumerate(zip(self.steps, kernels, strict=True)):
            if kernel is not None:
                used = [*kernel.reads, *kernel.writes]
            else:
                node = step.nodes[0]
                used = [self.buffer(v) for v in (*node.inputs, *node.outputs)]
            for b in used:
                first.setdefault(b, i)
                last[b] = i
        for v in self.graph.outputs:  # those that are copied when all is done
            last[self.buffer(v)] = len(self.steps)
        for step in reversed(self.steps):
            if step.kind is StepKind.INTERPRETED:
                self._outlive(step.nodes[0], last)
        slots: list[Slot] = []
        number: dict[Buffer, int] = {}
        shapes = {self.root(v): v.shape for v in reversed(self.graph.outputs)}
        for root, b in self.buffers.items():
            if b in number:
                continue
            home, position = self.homes.get(root, (Home.ARENA, 0))
            if home is Home.CONSTANT and b not in last:
                home = Home.SOURCE
            shape = shapes.get(root, root.shape) if home is Home.OUTPUT else root.shape
            number[b] = len(slots)
            slots.append(Slot(home, position, b.dtype, shape, first.get(b, 0), last.get(b, 0)))
        for i, b in enumerate(self.packed):
            number[b] = len(slots)
            slots.append(Slot(Home.PACKED, i, b.dtype, (b.size,)))
        for b, i, own in self.extra:
            number[b] = len(slots)
            slots.append(Slot(Home.ARENA, 0, b.dtype, (b.size,), i, i, own))
        if self.step in last:
            number[self.step] = len(slots)
            slots.append(Slot(Home.INPUT, 0, self.step.dtype, (1,)))
        number.update({old: number[b] for old, b in self.merged.items()})
        for i, b in self.copies.items():
            number[b] = len(slots)
            slots.append(Slot(Home.OUTPUT, i, b.dtype, self.graph.outputs[i].shape))
        return slots, number

    def _outlive(self, node: Node, last: dict[Buffer, int]) -> None:
        """What an eager kernel gives a view of is needed as long as the view is."""
        if self.prelude.is_exact and sharing(node.op) is not Sharing.FRESH:
            shown = self.buffer(node.inputs[0])
            last[shown] = max(last[shown], *(last[self.buffer(v)] for v in node.outputs))

    # -- text -------------------------------------------------------------------------------------

    def _functions(
        self, kernels: Sequence[Routine | None], number: dict[Buffer, int]
    ) -> list[list[str]]:
        """For each step the lines that run it; `functions` gets the kernels, equal ones once."""
        bodies: list[list[str]] = []
        for kernel in kernels:
            if kernel is None:
                bodies.append([])
                continue
            if isinstance(kernel, ControlRoutine):
                bodies.append(self._control(kernel, number))
                continue
            anonymous = kernel.text("?")
            if anonymous not in self.known:
                self.known[anonymous] = f"kernel{len(self.known)}"
                self.functions.append(kernel.text(self.known[anonymous]) + "\n")
            name = self.known[anonymous]
            lines = [f"  // {comment(n)}" for n in kernel.notes]
            for phase in kernel.phases:
                function, line = self._phase(kernel, phase, name, len(self.functions), number)
                self.functions += function
                lines += line
            bodies.append(lines)
        return bodies

    def _control(self, kernel: ControlRoutine, number: dict[Buffer, int]) -> list[str]:
        """The functions of a node of control flow and of its bodies, and the lines that run it."""
        for body in kernel.bodies:
            body.lines()  # which makes the functions that they call
        name = f"control{len(self.functions)}"
        for i, body in enumerate(kernel.bodies):
            self.functions.append("static " + self._entry(f"{name}_{i}", body.lines()))
        lines = kernel.entry(name, number, Sizes(self.symbols)).split("\n")
        self.functions.append("static " + self._entry(name, lines))
        notes = [f"  // {comment(n)}" for n in kernel.notes]
        return [*notes, f"  if ((status = {name}(b, dims, team))) return status;"]

    def _phase(
        self, kernel: Routine, phase: Phase, name: str, serial: int, number: dict[Buffer, int]
    ) -> tuple[list[str], list[str]]:
        """How a phase of a step is run: called by the entry, or shared by way of a function."""
        name += phase.suffix
        args = [f"b[{number[b]}]" for b in (*kernel.reads, *kernel.writes, *kernel.scratch)]
        if isinstance(phase.tasks, int) and phase.tasks <= 0:
            return [], []
        if phase.tasks == 1 or (isinstance(phase.cost, int) and phase.cost < WORTH):
            args += [f"b[{number[b]}]" for b in kernel.own]
            tasks = Sizes(self.symbols)(phase.tasks)
            call = f"{name}({', '.join([*args, *kernel.arguments, '0', tasks])})"
            checked = f"if ((status = {call})) return status;"
            return [], [f"  {checked if kernel.checked else f'{call};'}"]
        for b in kernel.own:
            line = 64 // b.dtype.itemsize
            step = Sizes(self.symbols)((b.size + (line - 1)) // line * line)
            args.append(f"({memory(b.dtype)} *)b[{number[b]}] + thread * {step}")
        call = f"{name}({', '.join([*args, *kernel.arguments, 'first', 'last'])});"
        body = [f"  return {call}"] if kernel.checked else [f"  {call}", "  return 0;"]
        function = (
            f"static int step{serial}(void *const *b, const i64 *dims, i64 first, i64 last, "
            f"i64 thread) {{\n  (void)dims, (void)thread;\n"
            + "\n".join([*self._sizes("\n".join(body)), *body])
            + "\n}\n"
        )
        sizes = Sizes(self.symbols)
        shared = f"share(team, step{serial}, b, dims, {sizes(phase.tasks)}, {sizes(phase.cost)})"
        return [function], [f"  if ((status = {shared})) return status;"]

    def _sizes(self, body: str) -> list[str]:
        """Definitions of the symbolic sizes that a body reads."""
        used = set(re.findall(r"\bn\d+\b", body))
        return [f"  const i64 n{i} = dims[{i}];" for i in self.symbols.values() if f"n{i}" in used]

    def _entries(
        self, bodies: Sequence[list[str]], number: dict[Buffer, int]
    ) -> tuple[list[Segment | Interpreted], list[str]]:
        """The order of everything, and the functions that the runtime calls."""
        steps: list[Segment | Interpreted] = []
        entries: list[str] = []
        lines: list[str] = []

        def finish(end: int) -> None:
            if lines:
                name = f"run{len(entries)}"
                entries.append(self._entry(name, lines))
                steps.append(Segment(name))
                self.ends.append(end)
                lines.clear()

        for i, (step, body) in enumerate(zip(self.steps, bodies, strict=True)):
            if step.kind is not StepKind.INTERPRETED:
                lines += body
                continue
            finish(i)
            node = step.nodes[0]
            steps.append(self._interpreted(node, step.reason, number))
            self.ends.append(i + 1)
        lines += self._copying(number)
        finish(len(self.steps))
        return steps, entries

    def _copying(self, number: dict[Buffer, int]) -> Iterator[str]:
        """Outputs that are an operand, or that another output is, get memory of their own."""
        for i, b in self.copies.items():
            source = number[self.buffer(self.graph.outputs[i])]
            bytes_ = Sizes(self.symbols)(b.size * b.dtype.itemsize)
            yield f"  memcpy(b[{number[b]}], b[{source}], (size_t)({bytes_}));"

    def _packing(self, number: dict[Buffer, int]) -> list[str]:
        """The function that packs constants."""
        if not self.packed:
            return []
        calls = [
            f"  {p.function}(b[{number[p.source]}], b[{number[b]}]);"
            for b, p in self.packed.items()
        ]
        return ["void pack(void *const *b) {\n" + "\n".join(calls) + "\n}\n"]

    def _entry(self, name: str, lines: Sequence[str]) -> str:
        body = "\n".join(lines)
        head = self._sizes(body)
        head += ["  int status;"] if "status" in body else []
        inside = "\n".join([*head, body])
        return (
            f"int {name}(void *const *b, const i64 *dims, const Team *team) {{\n"
            f"  (void)b, (void)dims, (void)team;\n{inside}\n  return 0;\n}}\n"
        )

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


def _symbols(graph: Graph) -> dict[str, int]:
    """The symbolic sizes of a graph, numbered by name."""
    found = {s.name for v in [*graph.inputs, *graph.params] for d in v.shape for s in symbols(d)}
    for node in graph.nodes:
        found |= {s.name for v in node.outputs for d in v.shape for s in symbols(d)}
        found |= {s.name for s in node.op.symbols()}
    return {name: i for i, name in enumerate(sorted(found))}
