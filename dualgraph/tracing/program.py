"""Running what was traced: the forward graph, and the backward graph made from its tape.

Where nothing can require a gradient, the values of parameters are folded into the graph (batch norm
into convolutions, say), guarded by their versions: after an in-place change they are folded anew.

The backward graph is not derived from the forward graph but from the tape kept while tracing, so
that ``detach``, ``no_grad`` blocks, hooks and custom functions mean what they mean in eager code.
It computes the forward values it needs again.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from dualgraph_compiler.compile import Numerics, optimize
from dualgraph_compiler.dims import evaluate
from dualgraph_compiler.errors import AutogradError, TraceError
from dualgraph_compiler.graph import Graph, Interpreter, Value, bind_shapes
from dualgraph_compiler.ops.base import array_module

from .._dispatch import apply, current_fn, make
from .._tensor import Tensor
from ..autograd.engine import run_backward
from ..autograd.grad_mode import set_grad_enabled
from ..autograd.inplace import assign
from ..autograd.tape import CustomNode, Pick
from . import tree
from .replay import Call
from .trace import Holder, OutputIndex, Traced, reads_of


class Program:
    """An optimised graph ready to run, and which state tensors are its params."""

    def __init__(
        self,
        graph: Graph,
        reads: Sequence[Any],
        *,
        freeze: bool = False,
        numerics: Numerics = "standard",
    ) -> None:
        by_name = {v.name: t for v, t in zip(graph.params, reads, strict=True)}
        small = optimize(graph, freeze=freeze, numerics=numerics)
        self.params = [by_name[v.name] for v in small.params]
        needed = {v for node in small.nodes for v in node.inputs} | set(small.outputs)
        self.inputs = [i for i, v in enumerate(small.inputs) if v in needed]
        self._graph = small
        self._interpreters: dict[Any, Interpreter] = {}  # by array module

    def run(self, arrays: Sequence[Any], params: Sequence[Any] | None = None) -> list[Any]:
        """Outputs for these inputs, with the state tensors' arrays of now unless given."""
        if params is None:
            params = [t._data for t in self.params]
        xp = np
        for a in arrays or params:  # operands on the CPU may stand beside them: seeds of random ops
            if type(a) is not np.ndarray and (xp := array_module(a)) is not np:
                break
        interpreter = self._interpreters.get(xp)
        if interpreter is None:
            interpreter = self._interpreters[xp] = Interpreter(self._graph, xp)
        return interpreter.run(arrays, params)


class Entry:
    """One traced call, and the programs made from it."""

    def __init__(self, traced: Traced) -> None:
        self.traced = traced
        self.n_results = sum(isinstance(x, OutputIndex) for _, x in tree.flatten(traced.result))
        result = traced.result
        self._flat = type(result) is tuple and all(isinstance(x, OutputIndex) for x in result)
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
            results = program.run(arrays, params)
        except BaseException:
            call.roll_back()
            raise
        self._separate(results, [*arrays, *params])
        outputs = [make(r) for r in results]
        if taped:
            node = CompiledNode(self, call)
            for i in traced.fns:
                outputs[i]._fn = Pick(node, i)
        for holder, index, recorded in traced.writes:
            with set_grad_enabled(recorded):
                assign(_resolved(holder, tensors), outputs[index])
        for slot, index in traced.slot_writes:
            slot.write(call, results[index])
        for leaf, new in traced.grads:
            leaf.put(call, outputs[new] if isinstance(new, int) else new)
        for index, (holder, ops) in traced.views.items():
            shown = _resolved(holder, tensors)
            for op in ops:
                shown = apply(self._concrete(op, arrays), shown)
            outputs[index] = shown
        if self._flat:
            return tuple(outputs[: self.n_results])
        return tree.map_leaves(
            lambda x: outputs[x.index] if isinstance(x, OutputIndex) else x, traced.result
        )

    def _separate(self, results: list[Any], operands: Iterable[Any]) -> None:
        """Copy results that share memory with an operand or with each other.

        Nobody would know of the writes to one that change the other.
        """
        taken = {id(a) for a in operands}
        views = []
        for i, r in enumerate(results):
            if r.base is not None:
                views.append(i)
            elif id(r) in taken:
                results[i] = r.copy()
            taken.add(id(r))
        for i in views:
            if i not in self.traced.views:
                results[i] = results[i].copy()

    def _concrete(self, op: Any, arrays: Sequence[Any]) -> Any:
        return op.resolve(bind_shapes(self._symbolic, arrays)) if op.symbols() else op

    def _unfrozen(self) -> Program:
        if self._open is None:
            # What a step computes must not depend on how it is run, down to the last bit.
            numerics: Numerics = "strict" if self._step else "standard"
            self._open = Program(self.traced.graph, self.traced.reads, numerics=numerics)
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


class Backward:
    """From inputs, state and gradients of outputs to gradients of what had one outside.

    `outputs` are the indices of the outputs whose gradients are fed, `wanted` says of each source
    of the trace whether a gradient comes out for it.
    """

    def __init__(self, traced: Traced) -> None:
        capture = traced.capture
        graph = capture.graph
        traced.graph = graph.copy()  # the forward graph stays as it is
        self.outputs = list(traced.fns)
        self.types = [graph.outputs[i].type for i in self.outputs]
        targets: dict[Any, Any] = dict.fromkeys(fn for _, fn in traced.sources)
        writes = len(capture.writes)
        # Hooks of outside leaves run where their gradients arrive, outside.
        hooks = [(fn, fn.hooks) for fn in targets]
        with capture:
            try:
                for fn in targets:
                    fn.hooks = None
                names = [capture._free_name(f"grad_output{i}") for i in self.outputs]
                given = [graph.add_input(t, n) for t, n in zip(self.types, names, strict=True)]
                run_backward(
                    list(zip(traced.fns.values(), given, strict=True)),
                    targets=targets,
                    accumulate=False,
                )
            finally:
                for fn, saved in hooks:
                    fn.hooks = saved
                capture.close()
        if len(capture.writes) != writes:
            raise TraceError(
                "the backward pass of a compiled function writes to tensors from outside (in a "
                "hook, or the backward of a custom Function); this cannot be captured"
            )
        found: list[Value | None] = [targets[fn] for _, fn in traced.sources]
        self.wanted = [g is not None for g in found]
        graph.set_outputs([g for g in found if g is not None])
        self.program = Program(graph, reads_of(capture))
        traced.fns = dict.fromkeys(traced.fns)  # the tape is not needed any longer
        traced.sources = [(holder, None) for holder, _ in traced.sources]


class CompiledNode(CustomNode):
    """The tape entry of a compiled call; its gradients come from the compiled backward graph."""

    name = "CompiledBackward"

    def __init__(self, entry: Entry, call: Call) -> None:
        traced = entry.traced
        tensors = call.arguments
        super().__init__([_producer(holder, tensors) for holder, _ in traced.sources])
        self.n_outputs = len(traced.graph.outputs)
        self.entry = entry
        # Operands as they are now: those the call itself overwrites are copied.
        written = {_key(holder) for holder, _, _ in traced.writes}
        self.inputs: list[Any] | None = []
        self.state: dict[Any, Any] = {}
        self.cells: dict[Any, tuple[list[int], int]] = {}
        for i, t in enumerate(tensors):
            self.inputs.append(self._kept(i, t, i in written))
        for read in traced.reads:
            t = call.resolve(read)
            key = id(t._data)
            # What was looked up may be another tensor by then: only a copy is sure to stay.
            self.state[read] = self._kept(key, t, key in written or t is not read)

    def _kept(self, key: Any, t: Tensor, written: bool) -> Any:
        if written:
            return t._data.copy()
        self.cells[key] = t._ver, t._ver[0]
        return t._data

    def run(self, g: Any, create_graph: bool) -> list[Any]:
        """Gradients of the operands, given those of the outputs (None where nothing flows).

        Raises:
            AutogradError: an operand was overwritten since, this is the second backward pass, or
                higher derivatives are asked for.
        """
        if self.inputs is None:
            raise AutogradError(
                "Trying to backward through the graph a second time: the operands of a compiled "
                "call are freed after the first. Specify retain_graph=True if you need to backward "
                "twice."
            )
        if create_graph:
            raise AutogradError(
                "create_graph=True does not reach through a compiled call: compile a function that "
                "computes the higher derivative inside, or call the model eagerly"
            )
        backward = self.entry.backward()
        program = backward.program
        tensors = (r for r in program.params if isinstance(r, Tensor))
        used = [*program.inputs, *(id(t._data) for t in tensors)]
        for key in used:
            cell, version = self.cells.get(key, ((0,), 0))
            if cell[0] != version:
                raise AutogradError(
                    "one of the variables needed for gradient computation has been modified by an "
                    "inplace operation: an argument or parameter of a compiled function is at "
                    f"version {cell[0]}; expected version {version} instead"
                )
        feeds = [*self.inputs, *self._gradients(backward, g)]
        state = [self.state[r] if r in self.state else r._data for r in program.params]  # noqa: SIM401 - a slot has no data
        found = iter(program.run(feeds, state))
        return [next(found) if wanted else None for wanted in backward.wanted]

    def _gradients(self, backward: Backward, g: Sequence[Any]) -> list[Any]:
        """The outputs' gradients, zeros for those to which nothing flowed."""
        assert self.inputs is not None
        env = None
        out = []
        for i, type in zip(backward.outputs, backward.types, strict=True):
            x = g[i]
            if x is None:
                env = env or bind_shapes(self.entry._symbolic, self.inputs)
                like = next((v for v in g if v is not None), None)
                xp = array_module(like)
                x = xp.zeros([evaluate(d, env) for d in type.shape], type.dtype.np)
            out.append(np.asarray(x) if isinstance(x, np.generic) else x)
        return out

    def release(self) -> None:
        """Forget the operands."""
        self.inputs = None
        self.state = {}


def _resolved(holder: Any, tensors: Sequence[Tensor]) -> Any:
    return tensors[holder] if type(holder) is int else holder


def _producer(holder: Holder, tensors: Sequence[Tensor]) -> Any:
    t = _resolved(holder, tensors)
    return t._fn if t._base is None else current_fn(t)


def _key(holder: Any) -> int:
    return holder if type(holder) is int else id(holder._data)
