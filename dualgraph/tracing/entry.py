"""Running what was traced, once for every call of its kind.

Where nothing can require a gradient, the values of parameters are folded into the graph (batch norm
into convolutions, say), guarded by their versions: after an in-place change they are folded anew.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from typing import Any

from dualgraph_compiler.compile import Numerics
from dualgraph_compiler.graph import bind_shapes

from .._dispatch import apply, make, symbolic
from .._tensor import Tensor
from ..autograd.grad_mode import set_grad_enabled
from ..autograd.inplace import assign
from ..autograd.tape import Pick
from . import tree
from .derivative import Backward, CompiledNode, resolved
from .program import Program
from .replay import Call
from .trace import OutputIndex, Traced


class Entry:
    """One traced call, and the programs made from it."""

    def __init__(self, traced: Traced) -> None:
        self.traced = traced
        self.n_results = traced.n_results
        result = traced.result
        self._flat = type(result) is tuple and [
            x.index if isinstance(x, OutputIndex) else None for x in result
        ] == [*range(traced.n_results)]
        self.effects = bool(traced.writes or traced.is_step)
        self._step = traced.is_step
        self._symbolic = [(v.name, v.type) for v in traced.graph.inputs]
        self._frozen: tuple[Any, Program] | None = None
        self._open: Program | None = None
        self._backward: Backward | None = None
        self._lock = threading.Lock()

    def reads_any(self, tensors: Sequence[Tensor]) -> bool:
        """Whether one of these arguments is state as well."""
        given = {id(t._data) for t in tensors}
        return any(isinstance(t, Tensor) and id(t._data) in given for t in self.traced.reads)

    def begin(self, tensors: Sequence[Tensor]) -> Call | None:
        """Start a call: read numbers, make effects. None if what was traced is not this call."""
        call = Call(tensors)
        if not self._step:
            return call
        if not all(slot.matches(call) for slot in self.traced.slots):
            return None
        try:
            for step in self.traced.capture.replay:
                if not step.run(call):
                    call.roll_back()
                    return None
        except BaseException:
            call.roll_back()
            raise
        return call

    def run(self, call: Call) -> Any:
        """The result of the call, with writes and gradients carried out.

        If the graph fails, nothing is written and effects are undone.
        """
        traced = self.traced
        tensors = call.arguments
        arrays = [t._data for t in tensors]
        taped = bool(traced.fns)
        try:
            program = self._unfrozen() if taped or self.effects else self._folded()
            params = [call.resolve(r)._data for r in program.params]
            results = program.run(arrays, params, donate=self._may_donate(call))
        except BaseException:
            call.roll_back()
            raise
        self._separate(results, program.shared, [*arrays, *params])
        outputs = [make(r) for r in results]
        if taped:
            node = CompiledNode(self, call)
            for i in traced.fns:
                outputs[i]._fn = Pick(node, i)
        for holder, index, recorded in traced.writes:
            target = resolved(holder, call)
            if results[index] is target._data:  # computed where it belongs
                target._bump_version()
                continue
            with set_grad_enabled(recorded):
                assign(target, outputs[index])
        for slot, index in traced.slot_writes:
            slot.write(call, results[index])
        for leaf, new in traced.grads:
            leaf.put(call, outputs[new] if isinstance(new, int) else new)
        for index, (holder, ops) in traced.views.items():
            shown = resolved(holder, call)
            for op in ops:
                shown = apply(self._concrete(op, arrays), shown)
            outputs[index] = shown

        def fill(result: Any) -> Any:
            return tree.map_leaves(
                lambda x: outputs[x.index] if isinstance(x, OutputIndex) else x, result
            )

        for change in traced.changes:
            change.make(fill)
        return tuple(outputs[: self.n_results]) if self._flat else fill(traced.result)

    def _may_donate(self, call: Call) -> bool:
        """Whether new state may be computed over the old: nothing will ask for the old values."""
        if self.traced.fns or symbolic.open_graphs:
            return False
        return all(resolved(h, call)._base is None for h, _, _ in self.traced.writes)

    def _separate(self, results: list[Any], shared: Sequence[int], operands: Iterable[Any]) -> None:
        """Copy those of the `shared` results that are an operand, another result, or a view of one.

        Nobody would know of the writes to one that change the other.
        """
        if not shared:
            return
        taken = {id(a) for a in operands}
        for i in shared:
            r = results[i]
            if i not in self.traced.views and (r.base is not None or id(r) in taken):
                results[i] = r.copy()
            taken.add(id(r))

    def _concrete(self, op: Any, arrays: Sequence[Any]) -> Any:
        return op.resolve(bind_shapes(self._symbolic, arrays)) if op.symbols() else op

    def _unfrozen(self) -> Program:
        if self._open is None:
            # What a step computes must not depend on how it is run, down to the last bit.
            numerics: Numerics = "strict" if self._step else "standard"
            traced = self.traced
            donate: list[tuple[int, Any]] = (
                []
                if traced.fns
                else [
                    *((i, holder) for holder, i, _ in traced.writes),
                    *((i, slot) for slot, i in traced.slot_writes),
                ]
            )
            self._open = Program(traced.graph, traced.reads, numerics=numerics, donate=donate)
        return self._open

    def _folded(self) -> Program:
        """A program with the state's values folded in, made anew when a version has changed."""
        reads: Any = self.traced.reads
        versions = [(id(t._data), t._ver[0]) for t in reads]
        frozen = self._frozen
        if frozen is None or frozen[0] != versions:
            graph = self.traced.graph.copy()
            for v, t in zip(graph.params, reads, strict=True):
                v.data = t._data
            frozen = self._frozen = versions, Program(graph, reads, freeze=True)
        return frozen[1]

    def backward(self) -> Backward:
        """The backward program, made when first needed."""
        with self._lock:
            if self._backward is None:
                self._backward = Backward(self.traced)
            return self._backward
