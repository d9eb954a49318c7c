"""Differentiating a compiled call from outside: the backward graph made from its tape.

The backward graph is not derived from the forward graph but from the tape kept while tracing, so
that ``detach``, ``no_grad`` blocks, hooks and custom functions mean what they mean in eager code.
It computes the forward values it needs again.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from dualgraph_compiler.dims import evaluate
from dualgraph_compiler.errors import AutogradError, TraceError
from dualgraph_compiler.graph import Value, bind_shapes
from dualgraph_compiler.ops.base import array_module

from .._dispatch import current_fn
from .._tensor import Tensor
from ..autograd.engine import run_backward
from ..autograd.tape import CustomNode
from .program import Program
from .replay import Call
from .trace import Holder, Traced, reads_of

if TYPE_CHECKING:
    from .entry import Entry


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
        super().__init__([_producer(holder, call) for holder, _ in traced.sources])
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


def resolved(holder: Holder, call: Call) -> Any:
    """The tensor that a trace calls `holder`, among a call's arguments or from outside."""
    return call.arguments[holder] if type(holder) is int else call.resolve(holder)


def _producer(holder: Holder, call: Call) -> Any:
    t = resolved(holder, call)
    return t._fn if t._base is None else current_fn(t)


def _key(holder: Any) -> int:
    return holder if type(holder) is int else id(holder._data)
