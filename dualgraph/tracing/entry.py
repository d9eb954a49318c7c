"""Running what was traced, once for every call of its kind.

Where nothing can require a gradient, the values of parameters are folded into the graph (batch norm
into convolutions, say), guarded by their versions: after an in-place change they are folded anew.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from dualgraph_compiler.errors import TraceError
from dualgraph_compiler.graph import bind_shapes
from dualgraph_compiler.ops.base import array_module

from .. import _changes
from .._dispatch import apply, make, symbolic
from .._tensor import Tensor
from ..autograd.grad_mode import set_grad_enabled
from ..autograd.inplace import assign
from ..autograd.tape import Pick, seen, watchers
from . import tree
from .compiled_node import CompiledNode, Operands, producer, resolved
from .derivative import Now, Plan, Taped
from .failure import CaptureFailure
from .outputs import Fill, OutputIndex, described
from .program import Mode, Program
from .replay import Call, Slot
from .settled import Settled
from .traced import Read, Traced


class Entry:
    """One traced call, and the programs made from it."""

    def __init__(self, traced: Traced, mode: Mode) -> None:
        self.traced = traced
        self.n_results = traced.n_results
        result = traced.result
        self.n_outputs = len(traced.graph.outputs)
        self._flat = type(result) is tuple and [
            x.index if isinstance(x, OutputIndex) and not x.number else None for x in result
        ] == [*range(traced.n_results)]
        self.effects = bool(traced.writes or traced.is_step)
        # Calls that do nothing but compute a tensor or a tuple of them, and no views.
        self._single = isinstance(result, OutputIndex) and not result.number and result.index == 0
        # Numbers of outputs in the result's place, unless it is one of them or a tuple of all.
        self.nested = None if self._flat or self._single else described(result)
        self.is_plain = (self._flat or self._single or self.nested is not None) and not (
            self.effects or traced.views or traced.changes or traced.checks or traced.sized
        )
        self._step = traced.is_step
        if self._step and not mode.is_native:
            # What a step computes does not depend on how it is run, down to the last bit.
            mode = replace(mode, numerics="strict")
        self._mode = mode
        params = traced.graph.params
        self._reads: dict[str, Read | Now] = {
            v.name: r for v, r in zip(params, traced.reads, strict=True)
        }
        self._symbolic = [(v.name, v.type) for v in traced.graph.inputs]
        self._written = [holder for holder, _, _ in traced.writes]
        self._settled: Settled | None = None
        self._frozen: Frozen | None = None
        self._open: Program | None = None
        self.taped = self._tape() if traced.fns else None

    def require_backward(self) -> None:
        """Raise CaptureFailure if calls may be differentiated, and that cannot be captured."""
        if self.taped is not None and self.taped.plan() is None:
            why = self.taped.why_not
            if isinstance(why, TraceError):
                failure = why if isinstance(why, CaptureFailure) else CaptureFailure(str(why))
                failure.capture = self.traced.capture
                raise failure from why

    def reads_any(self, tensors: Sequence[Tensor]) -> bool:
        """Whether one of these arguments is (part of) state as well."""
        state = [t._data for t in self.traced.reads if isinstance(t, Tensor)]
        for t in tensors:
            data = t._data
            if data.base is not None:  # may be a view of anything
                xp = array_module(data)
                if any(type(s) is type(data) and xp.may_share_memory(s, data) for s in state):
                    return True
            elif any([s is data or s.base is data for s in state]):  # noqa: C419 - faster
                return True
        return False

    def programs(self) -> Iterator[tuple[str, Program]]:
        """What calls have run so far, each under a name."""
        if self._open is not None:
            yield "whole", self._open
        if self._frozen is not None:
            yield "whole, state folded in", self._frozen.program
        if self.taped is not None:
            yield from self.taped.programs()

    def begin(self, tensors: Sequence[Tensor]) -> Call | None:
        """Start a call: read numbers, make effects. None if what was traced is not this call."""
        call = Call(tensors)
        settled = self._settled
        if settled is None or not settled.holds():
            return self._begin_anew(call)
        call.settled = settled
        if not self._step:
            return call
        call.entries = settled.entries
        for leaf in settled.bare:
            if leaf.grad is not None:
                return None
        options = _changes.options.count
        if settled.at[2] == options:
            call.numbers = settled.numbers.copy() if settled.reads_numbers else settled.numbers
            return call if self._prepare(call, settled.slots, settled.steps) else None
        steps = self.traced.capture.replay
        if not self._prepare(call, settled.slots, steps):
            return None
        call.settled = self._settled = settled.with_options(call, steps, options)
        return call

    def _begin_anew(self, call: Call) -> Call | None:
        at = Settled.now()
        slots, steps = self.traced.slots, self.traced.capture.replay
        if not self._prepare(call, slots, steps):
            return None
        call.settled = self._settled = Settled(call, slots, steps, at)
        return call

    def _prepare(self, call: Call, slots: Sequence[Slot], steps: Sequence[Any]) -> bool:
        """Whether what is looked up and read fits what was traced; then effects were made."""
        for slot in slots:
            if not slot.matches(call):
                return False
        try:
            for step in steps:
                if not step.run(call):
                    call.roll_back()
                    return False
        except BaseException:
            call.roll_back()
            raise
        return True

    def entangled(self, call: Call) -> bool:
        """Whether arguments of a call that writes may share memory with each other, or state.

        Which of them sees a write to another one then depends on the memory.
        """
        arguments, settled = call.arguments, call.settled
        if settled is not None and settled.apart(arguments, self.traced.reads):
            return False
        return _overlapping(arguments) or self.reads_any(arguments)

    def run(self, call: Call) -> Any:
        """The result of the call, with writes and gradients carried out.

        If the graph fails, or a check of it does, nothing is written and effects are undone.
        """
        if self.is_plain:
            found = self._run_plain(call)
            if found is not None:
                return found
        traced = self.traced
        tensors = call.arguments
        arrays = [t._data for t in tensors]
        taped = self.taped
        plan = None if taped is None else taped.plan()
        count = self.n_outputs
        try:
            if plan is not None:
                program = plan.forward
            else:
                program = self._unfrozen() if taped or self.effects else self._folded()
            params = self._params(program, call)
            donate = program.donates and self._may_donate(call)
            results = program.run_apart(arrays, params, count, shown=traced.views, donate=donate)
            for index, error in traced.checks:
                if not results[index]:
                    raise copy.copy(error).with_traceback(None)
        except BaseException:
            call.roll_back()
            raise
        outputs = [make(r) for r in results[:count]]
        if taped is not None:
            self._put_on_tape(taped, plan, call, results, outputs)
        for holder, index, recorded in traced.writes:
            target = resolved(holder, call)
            if index in traced.replaced:
                target.data = outputs[index]
                continue
            if results[index] is target._data:  # computed where it belongs
                target._bump_version()
                continue
            with set_grad_enabled(recorded):
                assign(target, outputs[index])
        for slot, index in traced.slot_writes:
            slot.write(call, results[index])
        for leaf, new in traced.grads:
            leaf.put(call, outputs[new] if isinstance(new, int) else new)
        for index, (of, ops) in traced.views.items():
            shown = outputs[of.index] if isinstance(of, OutputIndex) else resolved(of, call)
            for op in ops:
                shown = apply(self._concrete(op, arrays), shown)
            outputs[index] = shown

        if self._flat and not traced.changes:
            return tuple(outputs[: self.n_results])
        fill = partial(tree.map_leaves, Fill(outputs, self._sizes(arrays)))
        for change in traced.changes:
            change.make(fill)
        return fill(traced.result)

    def _run_plain(self, call: Call) -> Any:
        """`run` in fewer steps, of a call that computes and no more; None if that cannot be."""
        taped, count = self.taped, self.n_outputs
        plan = None if taped is None else taped.plan()
        program = self._program()
        params = self._params(program, call) if program.params else ()
        outputs = program.tensors(call.arguments, params, count)
        if outputs is None:
            return None
        if taped is not None:
            results = outputs if plan is None else [t._data for t in outputs[:count]]
            if plan is not None:
                results += outputs[count:]
            self._put_on_tape(taped, plan, call, results, outputs)
        if self._single:
            return outputs[0]
        if not self._flat:
            return tree.map_leaves(Fill(outputs, {}), self.traced.result)
        return outputs if len(outputs) == self.n_results else outputs[: self.n_results]

    def program_of_shortcut(self) -> Program | None:
        """What plain calls run; None where there are others, or state is looked up for them."""
        if not self.is_plain or self._settled is None or not self._settled.holds():
            return None
        program = self._program()
        reads = program.params
        return program if all(isinstance(r, Tensor) for r in reads) else None

    @property
    def folded_state(self) -> Frozen | None:
        """The state that what calls run was made for."""
        return None if self.taped is not None else self._frozen

    def finish_shortcut(self, arguments: Sequence[Tensor], outputs: Sequence[Any]) -> None:
        """Put the outputs of a plain call on the tape."""
        taped, count = self.taped, self.n_outputs
        assert taped is not None
        call = Call(arguments)
        results = [*(t._data for t in outputs[:count]), *outputs[count:]]
        self._put_on_tape(taped, taped.plan(), call, results, outputs)

    @property
    def is_flat(self) -> bool:
        """Whether the result is a tuple of tensors and not one tensor."""
        return not self._single

    def _program(self) -> Program:
        """What calls without effects run."""
        taped = self.taped
        plan = None if taped is None else taped.plan()
        if plan is not None:
            return plan.forward
        return self._unfrozen() if taped is not None else self._folded()

    def _put_on_tape(
        self,
        taped: Taped,
        plan: Plan | None,
        call: Call,
        results: Sequence[Any],
        outputs: Sequence[Tensor],
    ) -> None:
        """Give the outputs that lead to operands a tape entry; `results` are the arrays."""
        node: Any = self._node(taped, plan, call, results)
        if plan is not None:
            node.watch(outputs)
        if watchers.count:
            node = seen(node)
        for i in self.traced.fns:
            outputs[i]._fn = Pick(node, i)

    def _params(self, program: Program, call: Call) -> list[Any]:
        """The arrays that a call feeds to the params of `program`."""
        if call.settled is not None:
            return call.settled.arrays(program, call)
        return [call.resolve(r)._data for r in program.params]

    def _sizes(self, arrays: Sequence[Any]) -> dict[str, int]:
        """The sizes that are symbols of the graph."""
        return bind_shapes(self._symbolic, arrays) if self.traced.sized else {}

    @property
    def _is_recorded(self) -> bool:
        """Whether calls may be differentiated from outside, or write what is on the tape."""
        return self.taped is not None and (
            bool(self.taped.expected) or any(recorded for _, _, recorded in self.traced.writes)
        )

    def _may_donate(self, call: Call) -> bool:
        """Whether new state may be computed over the old: nothing will ask for the old values."""
        if self.traced.checks:
            return False
        if self._is_recorded or symbolic.open_graphs:
            return False
        if call.settled is None:
            return all(resolved(h, call)._base is None for h in self._written)
        return call.settled.owns_memory(call, self._written)

    def _node(
        self, taped: Taped, plan: Plan | None, call: Call, results: Sequence[Any]
    ) -> CompiledNode:
        """The tape entry of a call."""
        if not taped.expected:
            return CompiledNode(taped)  # all was differentiated inside
        edges = [producer(holder, call) for holder, _ in taped.sources]
        kept = [] if plan is None else [results[i] for i in plan.kept]
        return CompiledNode(taped, edges, Operands.of(call, self.traced), plan, kept)

    def _tape(self) -> Taped:
        """What differentiates the call from outside."""
        traced = self.traced
        graph = traced.graph
        traced.graph = graph.copy()  # the one the tape leads through will grow
        private = [i for _, i, _ in traced.writes] + [i for _, i in traced.slot_writes]
        return Taped(
            traced.capture,
            self._mode,
            list(graph.inputs),
            list(graph.outputs),
            self._reads,
            dict(traced.fns),
            traced.sources,
            private=frozenset([*private, *traced.views]),
        )

    def _concrete(self, op: Any, arrays: Sequence[Any]) -> Any:
        return op.resolve(bind_shapes(self._symbolic, arrays)) if op.symbols() else op

    def _unfrozen(self) -> Program:
        if self._open is None:
            traced = self.traced
            donate: list[tuple[int, Any]] = (
                []
                if self._is_recorded
                else [
                    *((i, h) for h, i, _ in traced.writes if i not in traced.replaced),
                    *((i, slot) for slot, i in traced.slot_writes),
                ]
            )
            self._open = Program.optimised(traced.graph, self._reads, self._mode, donate=donate)
        return self._open

    def _folded(self) -> Program:
        """A program with the state's values folded in, made anew when a version has changed.

        Where memory may be written to without a new version, one with nothing folded in.
        """
        frozen = self._frozen
        known = frozen is not None and frozen.count == (
            _changes.tensors.count,
            _changes.memory.count,
        )
        if known and frozen.cells == frozen.versions:  # type: ignore[union-attr]
            return frozen.program  # type: ignore[union-attr]
        count = _changes.tensors.count, _changes.memory.count
        reads: Any = self.traced.reads
        cells = [t._ver for t in reads]
        if any(len(cell) > 1 for cell in cells):
            return self._unfrozen()
        versions, arrays = [cell.copy() for cell in cells], [t._data for t in reads]
        if (
            frozen is None
            or frozen.versions != versions
            or any(a is not b for a, b in zip(frozen.arrays, arrays, strict=True))
        ):
            graph = self.traced.graph.copy()
            for v, data in zip(graph.params, arrays, strict=True):
                v.data = data
            program = Program.optimised(graph, self._reads, self._mode, freeze=True)
        else:
            program = frozen.program
        self._frozen = Frozen(count, cells, versions, arrays, program)
        return program


def _overlapping(tensors: Sequence[Tensor]) -> bool:
    arrays = [t._data for t in tensors]
    return any(
        type(a) is type(b) and array_module(a).may_share_memory(a, b)
        for i, a in enumerate(arrays)
        for b in arrays[:i]
    )


@dataclass
class Frozen:
    """A program that the state's values are folded into: which arrays, at which versions.

    As long as the counts of changes are `count`, the arrays and version `cells` are the same ones.
    """

    count: tuple[int, int]
    cells: list[list[int]]
    versions: list[list[int]]
    arrays: list[Any]
    program: Program
