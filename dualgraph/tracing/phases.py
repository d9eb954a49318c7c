"""Recording in phases: what is recorded as of a later time, and what is recorded once more.

The backward pass of a compiled call is recorded later than the call itself: state is read and
written anew. A checkpointed region is recorded once more, reading what it read before.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from dualgraph_compiler.errors import TraceError
from dualgraph_compiler.graph import Value
from dualgraph_compiler.ops.barrier import Barrier

from .replay import Effect, GradSlot
from .spans import Spans

if TYPE_CHECKING:
    from .._tensor import Tensor
    from .capture import Capture


@dataclass
class Later:
    """State that was read and written in one phase, and where its tape begins (`sources`)."""

    reads: dict[int, tuple[Tensor, Value]] = field(default_factory=dict)
    writes: Writes = field(default_factory=lambda: Writes())
    sources: list[tuple[Tensor, Any]] = field(default_factory=list)


@dataclass
class Written:
    """State that was overwritten: the tensor, its value now, its tape entry and version before."""

    tensor: Tensor
    value: Value
    fn: Any
    version: int


class Writes(dict[int, Written]):
    """What was written, by the identity of arrays, and in what memory."""

    def __init__(self) -> None:
        super().__init__()
        self.spans = Spans()

    def __setitem__(self, key: int, written: Written) -> None:
        super().__setitem__(key, written)
        self.spans.add(written.tensor._data)


class Repeat:
    """What is recorded again: values `made` by it, and barriers for those from before."""

    def __init__(self, after: tuple[Value, ...]) -> None:
        self.made: set[Value] = set()
        self._after = after
        self._barriers: dict[Value, Value] = {}

    def value(self, capture: Capture, value: Value) -> Value:
        """`value`, through a barrier if it is from before and not a param or constant."""
        if value in self.made or (value.node is None and value not in capture.graph.inputs):
            return value
        found = self._barriers.get(value)
        if found is None:
            found = capture.graph.call(Barrier(), (value, *self._after))
            self._barriers[value] = found
            self.made.add(found)
        return found


@contextmanager
def later(capture: Capture) -> Iterator[Later]:
    """Go on recording as of a later time: state is read and overwritten anew.

    Raises:
        TraceError: gradients kept in leaves, or Python data, are read or changed.
    """
    before = capture.reads, capture.writes, capture.sources, capture.slots
    capture.earlier = Later(capture.reads, capture.writes)
    count = len(capture.replay)
    later = Later()
    capture.reads, capture.writes = later.reads, later.writes
    capture.sources, capture.slots = dict(capture.sources), dict(capture.slots)
    try:
        with capture:
            yield later
        new = [slot for key, slot in capture.slots.items() if key not in before[3]]
        if len(capture.replay) > count or any(s.observed or s.overwritten for s in new):
            raise TraceError(
                "the backward pass of a compiled function reads gradients or Python data (in "
                "a hook, or the backward of a custom Function); this cannot be captured"
            )
        later.sources += [s for fn, s in capture.sources.items() if fn not in before[2]]
    finally:
        for key, slot in capture.slots.items():
            if key not in before[3] and type(slot) is GradSlot:
                slot.leaf.grad = slot.before
        for w in later.writes.values():
            w.tensor._fn = w.fn
            w.tensor._ver[0] = w.version
        capture.reads, capture.writes, capture.sources, capture.slots = before
        capture.earlier = Later()
        capture.outside.clear()
        del capture.replay[count:]
        capture.effects_made = sum(type(r) is Effect for r in capture.replay)
        capture.close()


@contextmanager
def repeating(
    capture: Capture, after: Sequence[Value], state: Mapping[Tensor, Value]
) -> Iterator[None]:
    """Record again what was recorded before, with nodes that no pass merges with those.

    They read values from before through barriers, which follow `after`; state has the values
    `state`, and afterwards those it had.
    """
    outer, capture.repeat = capture.repeat, Repeat(tuple(after))
    before = {id(t._data): capture.writes.get(id(t._data)) for t in state}
    for t, value in state.items():
        again = capture.graph.call(Barrier(), (value,))
        capture.repeat.made.add(again)
        capture.writes[id(t._data)] = Written(t, again, t._fn, t._ver[0])
    try:
        yield
    finally:
        capture.repeat = outer
        for t in state:
            written = before[id(t._data)]
            now = capture.writes.pop(id(t._data))
            t._ver[0] = now.version
            if written is not None:
                capture.writes[id(t._data)] = written
