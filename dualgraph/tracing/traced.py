"""What a trace found: the graph, and what a call does with its outputs."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from dualgraph_compiler.graph import Graph, Value
from dualgraph_compiler.ops import Op

from .._tensor import Tensor
from . import tree
from .attributes import Change, Held
from .capture import Capture
from .outputs import OutputIndex, Results
from .replay import GradSlot, Slot

# What a trace says of a tensor outside: the position of a tensor argument, the tensor itself, or
# the slot that it is found in.
Holder: TypeAlias = "int | Tensor | Held"
# Where a param comes from: a tensor, a slot, or the number of that name.
Read: TypeAlias = "Tensor | Slot | str"


@dataclass
class Traced:
    """What a trace found.

    `reads` are where the params come from, in the order of ``graph.params``; `writes` say what was
    overwritten: with the output of that index, and whether the tape leads there; outputs that are
    `replaced` become the tensor's data, and what shared memory with it keeps the old. `slots` are
    those that the trace depends on, `slot_writes` pairs of a slot and of the output that it was
    overwritten with, `grads` pairs of a leaf's slot and what became its gradient: an output, a
    tensor from outside, or None. `result` is the nested result with indices of graph outputs in
    place of tensors. `views` are outputs that are (views of) an argument, of state or of another
    output: of which, and by what ops. `changes` are those of Python data. The first `n_results`
    outputs are the result's. `sized` says that sizes of the arguments are in the result or changes.

    For differentiation: `fns`, the tape entry of every output that has one, and `sources`, the
    tensors gradients lead to, with their entries. The tape lives as long as `capture` does.
    """

    graph: Graph
    capture: Capture
    reads: list[Read]
    result: Any = None
    writes: list[tuple[Holder, int, bool]] = field(default_factory=list)
    replaced: set[int] = field(default_factory=set)
    slots: list[Slot] = field(default_factory=list)
    slot_writes: list[tuple[Slot, int]] = field(default_factory=list)
    grads: list[tuple[GradSlot, int | Tensor | None]] = field(default_factory=list)
    views: dict[int, tuple[Holder | OutputIndex, tuple[Op, ...]]] = field(default_factory=dict)
    changes: list[Change] = field(default_factory=list)
    sized: bool = False
    n_results: int = 0
    checks: list[tuple[int, Exception]] = field(default_factory=list)
    fns: dict[int, Any] = field(default_factory=dict)
    sources: list[tuple[Holder, Any]] = field(default_factory=list)

    def require_gradients(self) -> None:
        """Raise if calls are to be differentiated, and what was captured cannot be.

        Raises:
            CaptureFailure: a loop whose number of steps depends on data may get a gradient, or an
                ``if`` would give zeros where eager code gives no gradient.
        """
        failure = self.capture.no_gradient if self.fns else None
        if failure is None and (self.fns or self.grads):
            failure = self.capture.uneven
        if failure is not None:
            failure.capture = self.capture
            raise failure

    @property
    def is_step(self) -> bool:
        """Whether a call changes or reads more than arguments and tensors of the state."""
        return bool(
            self.slots or self.slot_writes or self.grads or self.changes or self.capture.replay
        )


def labelled(result: Any) -> list[tuple[str, Any]]:
    """The leaves of a result with names for them: output, output0, output.key, ..."""
    leaves = list(tree.flatten(result, ""))
    if len(leaves) == 1:
        return [("output", leaves[0][1])]
    return [
        (f"output{path if not path or path[0].isdigit() else '.' + path}", leaf)
        for path, leaf in leaves
    ]


def finish(
    capture: Capture,
    result: Any,
    inputs: list[Tensor],
    sources: list[tuple[int, Any]],
    changes: Sequence[Change],
) -> Traced:
    """Declare the graph's outputs: the result's tensors, then what was written, then gradients."""
    graph = capture.graph
    outputs: list[Value] = []
    names: list[str] = []

    def declare(value: Value, name: str) -> int:
        outputs.append(value)
        names.append(name)
        return len(outputs) - 1

    traced = Traced(graph, capture, [])
    results = Results(capture, inputs, declare)
    traced.result = results.take(result, [label for label, _ in labelled(result)])
    traced.n_results = len(outputs)
    for change in changes:
        change.what = results.take(change.what, itertools.repeat(change.place.name))
    traced.changes = list(changes)
    traced.views, traced.fns, traced.sized = results.views, results.fns, results.sized
    traced.checks = [
        (declare(ok, f"check{i}"), error) for i, (ok, error) in enumerate(capture.checks)
    ]

    def write(holder: Holder, value: Value, name: str, fn: Any) -> None:
        index = declare(value, name)
        traced.writes.append((holder, index, fn is not None))
        if fn is not None:
            traced.fns[index] = fn

    before = dict(sources)
    for i, (t, v) in enumerate(zip(inputs, graph.inputs, strict=True)):
        if t._data is not v:
            fn = t._fn if t._fn is not before.get(i) else None
            if id(t) in capture.replaced:
                traced.replaced.add(len(outputs))
            write(i, t._data, f"{v.name}.new", fn)
    for w in capture.writes.values():
        data = w.tensor._data
        if id(w.tensor) in capture.replaced:
            if capture.writes.get(id(data)) is w:
                traced.replaced.add(len(outputs))
            data = capture.replaced[id(w.tensor)][1]
        name = capture.names.get(id(data), f"state{len(outputs)}")
        write(w.tensor, w.value, f"{name}.new", w.tensor._fn if w.tensor._fn is not w.fn else None)
    for slot in capture.slots.values():
        _finish_slot(capture, traced, slot, declare)
    graph.set_outputs(outputs, names)
    traced.sources = [*sources, *capture.sources.values()]
    traced.slots = [slot for slot in capture.slots.values() if slot.observed]
    idle = {id(slot.value) for slot in capture.slots.values() if not slot.observed}
    graph.params = [v for v in graph.params if id(v) not in idle]
    traced.reads = reads_of(capture)
    return traced


def _finish_slot(
    capture: Capture, traced: Traced, slot: Slot, declare: Callable[[Value, str], int]
) -> None:
    """Note what a slot is overwritten with; for a gradient, what takes its place."""
    name = slot.value.name if slot.value is not None else f"grad{len(traced.grads)}"
    if type(slot) is GradSlot:
        grad = slot.leaf.grad
        if grad is not slot.proxy or (grad is None and slot.overwritten):
            if grad is not None and (type(grad._data) is Value or id(grad._data) in capture.writes):
                label = name if slot.value is None else f"{name}.new"
                index = declare(capture.value_of(grad), label)
                traced.grads.append((slot, index))
                if grad._fn is not None:  # recorded by backward(create_graph=True)
                    traced.fns[index] = grad._fn
            else:
                traced.grads.append((slot, grad))
            return
    if slot.proxy is not None and slot.proxy._data is not slot.value:
        traced.slot_writes.append((slot, declare(capture.value_of(slot.proxy), f"{name}.new")))


def reads_of(capture: Capture) -> list[Read]:
    """Where the params of a capture's graph come from, in their order."""
    found: dict[int, Read] = {id(v): t for t, v in capture.reads.values()}
    found.update((id(slot.value), slot) for slot in capture.slots.values())
    return [found.get(id(v), v.name) for v in capture.graph.params]
