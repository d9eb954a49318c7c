"""Differentiating a compiled call from outside: graphs made from the tape of its trace.

A gradient is not derived from the forward graph but from the tape kept while tracing, so that
``detach``, ``no_grad`` blocks, hooks and custom functions mean what they mean in eager code. The
walk over the tape extends the traced graph; forward and backward are optimised as one graph, and
then split in two, with values that the forward keeps for the backward
(:mod:`dualgraph_compiler.passes.partition`).

Walked with ``create_graph``, the tape gives gradients that are on the tape in turn: another
:class:`Taped`, to be run and differentiated as the first is, to any order.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

from dualgraph_compiler.compile import optimize
from dualgraph_compiler.graph import Graph, Value, prune
from dualgraph_compiler.passes.partition import partition

from .._dispatch import make
from .._tensor import Tensor
from ..autograd.engine import run_backward
from ..autograd.function import FunctionNode
from ..autograd.reach import leads_to_used_up, reached, walked
from ..autograd.recompute import StandIn
from .attributes import changes_of, restore
from .capture import Capture, Source
from .failure import CaptureFailure, Place
from .phases import later
from .program import Mode, Program
from .traced import Holder, Read
from .watch import Watch

# Numbers of the outputs whose gradients are given.
Given = tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Now:
    """A param that is read when the backward runs."""

    tensor: Tensor


@dataclass
class Taped:
    """Outputs of a graph, and the tape that leads to them from `sources`.

    `inputs` are the graph inputs they are computed from, `reads` where params come from, by name.
    `fns` are the tape entries of those outputs that have one; `private` those whose arrays nobody
    else sees. Where the outputs are gradients, `found` says which source each is of, and `ends`
    which sources it leads to in turn; the last ones are what `written` becomes. Outputs that are
    `spent` were differentiated while tracing, and what that needed was freed.
    """

    capture: Capture
    mode: Mode
    inputs: Sequence[Value]
    outputs: Sequence[Value]
    reads: dict[str, Read | Now]
    fns: dict[int, Any]
    sources: Sequence[tuple[Holder, Any]]
    private: Collection[int] = ()
    found: Sequence[int] = ()
    written: Sequence[Tensor] = ()
    ends: dict[int, frozenset[int]] = field(default_factory=dict)
    # Calls are expected to be differentiated as the last one was.
    expected: Given = ()
    spent: frozenset[int] = frozenset()
    why_not: Exception | None = None  # there is no plan
    _plans: dict[Given, Plan | None] = field(default_factory=dict)
    _joints: dict[Given, Joint] = field(default_factory=dict)
    _derivatives: dict[Given, Taped] = field(default_factory=dict)
    _program: Program | None = None
    _lock: Any = field(default_factory=threading.RLock)
    n_outputs: int = 0

    def __post_init__(self) -> None:
        self.n_outputs = len(self.outputs)
        known: dict[Any, bool] = {}
        self.spent = frozenset(i for i, fn in self.fns.items() if leads_to_used_up(fn, known))
        self.expected = tuple(sorted(i for i in self.fns if i not in self.spent))

    @property
    def program(self) -> Program:
        """What gives the outputs alone."""
        if self._program is None:
            graph, _ = self._graph(self.outputs, self.inputs)
            self._program = Program.optimised(graph, self.reads, self.mode)
        return self._program

    def plan(self) -> Plan | None:
        """How to run a call; None where its gradients cannot be had, as the backward will say."""
        given = self.expected
        if not given:
            return None
        if given not in self._plans:
            with self._lock:
                try:
                    self._plans[given] = self.joint(given).split(given)
                except Exception as error:
                    self._plans[given] = None
                    self.why_not = self.why_not or error
        return self._plans[given]

    def programs(self) -> Iterator[tuple[str, Program]]:
        """What there is so far, each under a name."""
        if self._program is not None:
            yield "results", self._program
        for plan in self._plans.values():
            if plan is not None:
                yield "forward", plan.forward
                yield from (("backward", program) for program in plan.backward.programs())
        for joint in self._joints.values():
            yield from (("backward alone", program) for program in joint.programs())
        for taped in self._derivatives.values():
            for name, program in taped.programs():
                yield f"derivative {name}", program

    def joint(self, given: Given) -> Joint:
        """Outputs and gradients as one graph."""
        with self._lock:
            found = self._joints.get(given)
            if found is None:
                found = self._joints[given] = self._joined(given)
            return found

    def derivative(self, given: Given) -> Taped:
        """The gradients of all sources, on a tape in turn."""
        with self._lock:
            found = self._derivatives.get(given)
            if found is None:
                found = self._derivatives[given] = self._differentiated(given)
            return found

    def _graph(
        self, outputs: Iterable[Value], inputs: Iterable[Value]
    ) -> tuple[Graph, dict[Value, Value]]:
        """The part of the capture's graph that computes `outputs`."""
        graph, new = self.capture.graph.copy_with_map()
        graph.set_outputs([new[v] for v in outputs])
        prune(graph)
        graph.inputs = [new[v] for v in inputs]
        return graph, new

    def _joined(self, given: Given) -> Joint:
        walk = _Walk(self, given, create_graph=False)
        found = tuple(i for i, g in enumerate(walk.gradients) if g is not None)
        gradients = [walk.gradients[i]._data for i in found]
        state = [w.value for w in walk.later.writes.values()]
        outputs = [*self.outputs, *gradients, *state]
        graph, _ = self._graph(outputs, [*self.inputs, *walk.given])
        small = optimize(graph, numerics=self.mode.numerics)
        late = set(small.inputs[len(self.inputs) :])
        free = {a for a, v in zip(small.inputs, self.inputs, strict=False) if v in walk.read}
        params = {v.name: v for v in small.params}
        anew = {v.name for _, v in walk.later.reads.values()}
        for v in self.capture.graph.params:
            if v.name in params:
                if v.name in anew:
                    late.add(params[v.name])
                elif v in walk.read:
                    free.add(params[v.name])
        for i, v in enumerate(self.outputs):
            if v in walk.read and i not in self.private:
                free.add(small.outputs[i])
        written = tuple(w.tensor for w in walk.later.writes.values())
        reads = walk.reads(self.reads)
        return Joint(small, len(self.outputs), late, free, reads, found, written, self.mode)

    def _differentiated(self, given: Given) -> Taped:
        walk = _Walk(self, given, create_graph=True)
        found = [i for i, g in enumerate(walk.gradients) if g is not None]
        arrived = [walk.gradients[i] for i in found]
        state = list(walk.later.writes.values())
        roots = [(len(self.inputs) + i, fn) for i, fn in enumerate(walk.roots)]
        made = Taped(
            self.capture,
            self.mode,
            [*self.inputs, *walk.given],
            [*(g._data for g in arrived), *(w.value for w in state)],
            walk.reads(self.reads),
            {i: g._fn for i, g in enumerate(arrived) if g._fn is not None},
            [*self.sources, *walk.later.sources, *roots],
            private=range(len(found), len(found) + len(state)),
            found=found,
            written=[w.tensor for w in state],
        )
        made.ends = reached(made.fns, [fn for _, fn in made.sources])
        return made


class _Walk:
    """A walk over the tape, from the outputs `given` to the sources; it extends the graph.

    `gradients` has a tensor or None for each source; `given` are the new inputs, `roots` their tape
    entries, `read` the values that the new nodes read.
    """

    def __init__(self, taped: Taped, given: Given, *, create_graph: bool) -> None:
        capture = taped.capture
        last = next(capture.graph.reversed_nodes(), None)
        targets: dict[Any, Any] = dict.fromkeys(fn for _, fn in taped.sources)
        # Hooks of outside leaves run where their gradients arrive, outside.
        hooks = [(fn, fn.hooks) for fn in targets]
        self._watch = Watch(type(self).__init__) if self._runs_code(taped, given) else None
        with later(capture) as self.later, self._watch or nullcontext():
            try:
                for fn in targets:
                    fn.hooks = None
                starts = [capture.input(taped.outputs[i].type, f"grad_output{i}") for i in given]
                if create_graph:
                    for t in starts:
                        t._fn = Source()
                fed: list[Any] = starts if create_graph else [t._data for t in starts]
                run_backward(
                    [(taped.fns[i], g) for i, g in zip(given, fed, strict=True)],
                    retain_graph=True,
                    create_graph=create_graph,
                    targets=targets,
                    accumulate=False,
                )
            finally:
                for fn, saved in hooks:
                    fn.hooks = saved
        if self._watch is not None:
            self._refuse_effects(capture, self._watch)
        found = [targets[fn] for _, fn in taped.sources]
        self.gradients = [g if g is None or create_graph else make(g) for g in found]
        self.given = [t._data for t in starts]
        self.roots = [t._fn for t in starts]
        self.read: set[Value] = set()
        for node in capture.graph.reversed_nodes():
            if node is last:
                break
            self.read.update(node.inputs)

    def _runs_code(self, taped: Taped, given: Given) -> bool:
        """Whether the user's code takes part: hooks, custom functions, checkpointed ones."""
        entries = walked([taped.fns[i] for i in given])
        return any(fn.hooks or isinstance(fn, FunctionNode | StandIn) for fn in entries)

    def _refuse_effects(self, capture: Capture, watch: Watch) -> None:
        watch.resolve()
        try:
            changes = changes_of(watch, capture)
        finally:
            restore(watch)
        if changes or watch.random:
            what = f"changes Python data: {changes[0]}" if changes else "draws random numbers"
            code = next(iter(watch._executed), None)
            where = code and Place(
                code.co_filename, code.co_firstlineno, code.co_name, code.co_name
            )
            raise CaptureFailure(
                f"the backward pass of a compiled function (a hook, the backward of a custom "
                f"Function, a checkpointed function) {what}; a graph would not do it again",
                where,
            )

    def reads(self, before: dict[str, Read | Now]) -> dict[str, Read | Now]:
        """Where params come from, those that were new in this walk too."""
        return {**before, **{v.name: Now(t) for t, v in self.later.reads.values()}}


@dataclass
class Joint:
    """The optimised graph of `results` outputs, then gradients, then new values of state.

    `late` and `free` are as for :func:`partition`; `found` says which source each gradient is of,
    `written` which tensors the last outputs overwrite.
    """

    graph: Graph
    results: int
    late: set[Value]
    free: set[Value]
    reads: dict[str, Read | Now]
    found: tuple[int, ...]
    written: tuple[Tensor, ...]
    mode: Mode
    _whole: Gradients | None = None

    def split(self, given: Given) -> Plan:
        """Forward and backward apart."""
        parts = partition(self.graph, self.results, self.late, self.free)
        forward = Program(parts.forward, self.reads, self.mode)
        return Plan(given, forward, self._gradients(parts.backward), parts.kept)

    @property
    def whole(self) -> Gradients:
        """The gradients from operands alone, for calls that kept nothing or other values."""
        if self._whole is None:
            graph = self.graph.copy()
            graph.set_outputs(graph.outputs[self.results :])
            prune(graph)
            self._whole = self._gradients(graph)
        return self._whole

    def programs(self) -> Iterator[Program]:
        """Of those that give the gradients from operands alone, those that have run."""
        return iter(()) if self._whole is None else self._whole.programs()

    def _gradients(self, graph: Graph) -> Gradients:
        return Gradients(graph, self.reads, self.mode, self.found, self.written)


@dataclass
class Plan:
    """How a call is run of which the gradients of the outputs `given` are to be propagated.

    `forward` gives the outputs and then what else is kept. `backward` takes, behind its other
    inputs, the results of forward with the numbers `kept`.
    """

    given: Given
    forward: Program
    backward: Gradients
    kept: list[int]


class Gradients:
    """A graph for gradients of the sources numbered `found`, and what `written` becomes."""

    def __init__(
        self,
        graph: Graph,
        reads: dict[str, Read | Now],
        mode: Mode,
        found: Given,
        written: tuple[Tensor, ...],
    ) -> None:
        self.program = Program(graph, reads, mode)
        self.found = found
        self.written = written
        self._reads = reads
        self._parts: dict[Given, Gradients] = {}

    def programs(self) -> Iterator[Program]:
        """Of what there is so far, those that have run."""
        if self.program.has_run:
            yield self.program
        for part in self._parts.values():
            yield from part.programs()

    def towards(self, wanted: Collection[int]) -> Gradients:
        """The same for the sources `wanted` only."""
        found = tuple(i for i in self.found if i in wanted)
        if found == self.found:
            return self
        part = self._parts.get(found)
        if part is None:
            graph = self.program.graph.copy()
            of = dict(zip(self.found, graph.outputs, strict=False))
            graph.set_outputs([*(of[i] for i in found), *graph.outputs[len(self.found) :]])
            prune(graph)
            mode = self.program.mode
            part = self._parts[found] = Gradients(graph, self._reads, mode, found, self.written)
        return part
