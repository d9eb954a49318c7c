"""The tape entry of a compiled call, whose gradients come from compiled graphs."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from dualgraph_compiler.errors import AutogradError, TraceError

from .._dispatch import captures, current_fn, make
from .._tensor import Tensor
from ..autograd.grad_mode import no_grad
from ..autograd.inplace import assign
from ..autograd.tape import CustomNode, Pick, used_up
from .derivative import Now, Plan, Taped
from .replay import Call
from .traced import Holder, Read, Traced


@dataclass
class Operands:
    """Arrays that a call was computed from, by the number of the input and by where they are read.

    `cells` holds the version cell of each that somebody else may overwrite, and its count then.
    """

    inputs: list[Any] = field(default_factory=list)
    state: dict[Read, Any] = field(default_factory=dict)
    cells: dict[Any, tuple[list[int], int]] = field(default_factory=dict)

    @classmethod
    def of(cls, call: Call, traced: Traced) -> Operands:
        """Those of a call, which itself overwrites some: they are copied."""
        made = cls()
        written = {_key(holder) for holder, _, _ in traced.writes}
        for i, t in enumerate(call.arguments):
            made.inputs.append(made._kept(i, t, i in written))
        for read in traced.reads:
            t = call.resolve(read)
            # What was looked up may be another tensor by then: only a copy is sure to stay.
            made.state[read] = made._kept(read, t, t is not read or _key(t) in written)
        return made

    def with_inputs(self, tensors: Iterable[Tensor]) -> Operands:
        """These and further inputs."""
        made = Operands([*self.inputs], self.state, dict(self.cells))
        for t in tensors:
            made.inputs.append(made._kept(len(made.inputs), t, False))
        return made

    def _kept(self, key: Any, t: Tensor, written: bool) -> Any:
        if written:
            return t._data.copy()
        self.cells[key] = t._ver, t._ver[0]
        return t._data

    def params(self, reads: Iterable[Read | Now]) -> list[Any]:
        """Arrays for the params of a program: those kept, or else what is there now."""
        return [r.tensor._data if isinstance(r, Now) else self.state[r] for r in reads]

    def check(self, keys: Iterable[Any]) -> None:
        """Raise AutogradError if one of these operands was overwritten since."""
        for key in keys:
            cell, version = self.cells.get(key, ((0,), 0))
            if cell[0] != version:
                raise AutogradError(
                    "one of the variables needed for gradient computation has been modified by an "
                    "inplace operation: an argument, parameter or result of a compiled function is "
                    f"at version {cell[0]}; expected version {version} instead. Clone the tensor "
                    "before the in-place operation."
                )


class CompiledNode(CustomNode):
    """The tape entry of a run of `taped`, with what the run kept for its backward.

    `kept` are the arrays that the backward of `plan` takes; `seen` the version cells of those of
    them that the caller holds, and their counts then.
    """

    __slots__ = ("_kept", "_plan", "n_outputs", "operands", "taped")
    name = "CompiledBackward"

    def __init__(
        self,
        taped: Taped,
        edges: Sequence[Any] = (),
        operands: Operands | None = None,
        plan: Plan | None = None,
        kept: Sequence[Any] = (),
    ) -> None:
        """Without `operands` the entry of a run that has been differentiated already."""
        super().__init__(edges)
        self.n_outputs = taped.n_outputs
        self.taped = taped
        self.operands = operands
        self._plan = plan
        self._kept = kept

    def watch(self, outputs: Sequence[Tensor]) -> None:
        """Note the versions of those outputs that are kept for the backward."""
        if self._plan is not None and self.operands is not None:
            for index in self._plan.kept:
                if index < self.n_outputs:
                    cell = outputs[index]._ver
                    self.operands.cells["result", index] = cell, cell[0]

    def run(self, g: Any, create_graph: bool) -> Sequence[Any]:
        """See :class:`CustomNode`."""
        return self.run_towards(g, create_graph, None)

    def run_towards(
        self, g: Any, create_graph: bool, useful: Collection[Any] | None
    ) -> Sequence[Any]:
        """Gradients of the operands that lead on, given those of the outputs (None: no gradient).

        Raises:
            AutogradError: an operand was overwritten since, or a backward pass has freed it.
            TraceError: this runs inside a capture.
        """
        given = tuple(i for i, x in enumerate(g) if x is not None)
        if self.operands is None or not self.taped.spent.isdisjoint(given):
            raise used_up("a compiled call")
        if captures.current is not None:
            raise TraceError(
                "a gradient inside a compiled function leads to a compiled call that was made "
                "outside of it: make the call inside"
            )
        wanted = {
            i
            for i, edge in enumerate(self.edges)
            if edge is not None and (useful is None or edge in useful)
        }
        found: dict[int, Any]
        if create_graph:
            found = self._taped_gradients(given, [g[i] for i in given])
        else:
            found = self._gradients(given, [g[i] for i in given], wanted)
        return [found.get(i) for i in range(len(self.edges))]

    def _gradients(
        self, given: tuple[int, ...], fed: list[Any], wanted: Collection[int]
    ) -> dict[int, Any]:
        operands, plan, taped = self.operands, self._plan, self.taped
        assert operands is not None
        fed = [np.asarray(x) if isinstance(x, np.generic) else x for x in fed]
        feeds = [*operands.inputs, *fed]
        results: list[Any] = []
        if plan is not None and given == plan.given:
            whole, results = plan.backward, [("result", i) for i in plan.kept]
            feeds += self._kept
        else:
            taped.expected = given
            whole = taped.joint(given).whole
        part = whole.towards(wanted)
        program = part.program
        count = len(operands.inputs)
        keys = [i if i < count else results[i - count - len(fed)] for i in program.inputs
                if not count <= i < count + len(fed)]  # fmt: skip
        operands.check([*keys, *program.params])
        arrays = program.run(feeds, operands.params(program.params))
        _write(part.written, arrays[len(part.found) :])
        return dict(zip(part.found, arrays, strict=False))

    def _taped_gradients(self, given: tuple[int, ...], fed: list[Tensor]) -> dict[int, Any]:
        """The gradients as tensors that a backward may go on from."""
        assert self.operands is not None
        taped = self.taped.derivative(given)
        operands = self.operands.with_inputs(fed)
        sources = taped.sources[len(self.edges) : len(taped.sources) - len(fed)]
        edges = [*self.edges, *(producer(holder, Call(())) for holder, _ in sources)]
        edges += [_entry(t) for t in fed]
        outputs = run_taped(taped, edges, operands)
        _write(taped.written, [t._data for t in outputs[len(taped.found) :]])
        return dict(zip(taped.found, outputs, strict=False))

    @property
    def is_used_up(self) -> bool:
        """Whether a backward pass has freed the operands."""
        return self.operands is None

    def release(self) -> None:
        """Forget the operands."""
        self.operands = None
        self._kept = ()


def run_taped(taped: Taped, edges: Sequence[Any], operands: Operands) -> list[Tensor]:
    """The outputs of `taped` for these operands, on the tape."""
    plan = taped.plan()
    program = taped.program if plan is None else plan.forward
    count = len(taped.inputs)
    operands.check([*(i for i in program.inputs if i < count), *program.params])
    params = operands.params(program.params)
    known = operands.state.values()
    results = program.run_apart(operands.inputs, params, len(taped.outputs), known=known)
    outputs = [make(r) for r in results[: len(taped.outputs)]]
    if taped.fns:
        kept = [] if plan is None else [results[i] for i in plan.kept]
        node = CompiledNode(taped, edges, operands, plan, kept)
        node.watch(outputs)
        for i, ends in taped.ends.items():
            if any(edges[k] is not None for k in ends):
                outputs[i]._fn = Pick(node, i)
    return outputs


def _write(written: Iterable[Tensor], arrays: Iterable[Any]) -> None:
    """What the backward pass itself overwrites, in hooks for example."""
    with no_grad():
        for t, array in zip(written, arrays, strict=True):
            assign(t, make(array))


def resolved(holder: Holder, call: Call) -> Any:
    """The tensor that a trace calls `holder`, among a call's arguments or from outside."""
    return call.arguments[holder] if type(holder) is int else call.resolve(holder)


def producer(holder: Holder, call: Call) -> Any:
    """The tape entry of a holder's tensor now."""
    return _entry(resolved(holder, call))


def _entry(t: Tensor) -> Any:
    return t._fn if t._base is None else current_fn(t)


def _key(holder: Any) -> int:
    return holder if type(holder) is int else id(holder._data)
