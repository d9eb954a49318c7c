"""Checkpointed regions of the tape: what they saved is computed again when a backward needs it.

While the function of a region runs, every entry that it records is replaced by a :class:`StandIn`,
which keeps the entry's place on the tape and none of its values. The first stand-in that a backward
pass reaches lets the region run its function again; entries are found again by their order, and
each is used once. The tape, and so hooks, partial gradients and higher derivatives, are those of a
function that was not checkpointed.

Regions nest: inside of a region that runs for the first time another one does nothing, as the outer
one keeps nothing anyway; when the outer one runs again, the inner one is a region.

In a capture, running again adds the region's nodes to the graph a second time, where the backward
is. They read what came from outside through a :class:`Barrier`, so that no pass merges them with
the first ones. Source: Chen et al., "Training Deep Nets with Sublinear Memory Cost", 2016; the
bookkeeping follows PyTorch's non-reentrant checkpoint.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

from dualgraph_compiler.errors import AutogradError, CheckpointError
from dualgraph_compiler.graph import Value

from .._dispatch import captures
from ..transforms.levels import enter_autocast, transforms
from .grad_mode import local
from .tape import CustomNode, Node, regions, used_up, watchers

if TYPE_CHECKING:
    from .._tensor import Tensor

_counting = threading.Lock()


class StandIn(CustomNode):
    """The entry numbered `index` of a region, without its values."""

    def __init__(self, entry: Any, region: Region, index: int) -> None:
        self.edges = entry.edges
        self.seq = entry.seq
        self.hooks = None
        self.n_outputs = entry.op.n_outputs
        self._name: str = entry.name
        self._outline = _outline(entry)
        self.cells: Sequence[list[int]] = entry.cells if type(entry) is Node else ()
        self._version = entry.version if type(entry) is Node else 0
        self._index = index
        self._region: Region | None = region

    @property
    def name(self) -> str:  # type: ignore[override]
        """As the entry's that it stands for."""
        return self._name

    @property
    def is_used_up(self) -> bool:
        """Whether a backward pass has released it."""
        return self._region is None

    def keep_operands(self, cell: list[int]) -> None:
        """An in-place operation does not make its own operands stale."""
        self.cells = [[cell[0]] if c is cell else c for c in self.cells]

    def run(self, g: Any, create_graph: bool) -> Sequence[Any]:
        """See :class:`CustomNode`."""
        return self.run_towards(g, create_graph, None)

    def run_towards(
        self, g: Any, create_graph: bool, useful: Collection[Any] | None
    ) -> Sequence[Any]:
        """The operands' gradients, by the entry computed again."""
        from .engine import node_gradients

        if self._region is None:
            raise used_up(self._name)
        if sum(c[0] for c in self.cells) != self._version:
            raise self._stale()
        entry = self._region.take(self._index, g)
        if type(entry) is Node:
            found: Sequence[Any] = node_gradients(entry, g, create_graph, self)
            return found
        return entry.run_towards(g, create_graph, useful)  # type: ignore[no-any-return]

    def _stale(self) -> AutogradError:
        return AutogradError(
            "one of the variables needed for gradient computation has been modified by an inplace "
            f"operation: the values that {self._name} of a checkpointed function needs are at "
            f"version {sum(c[0] for c in self.cells)}; expected version {self._version} instead. "
            "Clone the tensor before the in-place operation."
        )

    def release(self) -> None:
        """Forget the region, which is freed when all its entries have."""
        self._region = None


class Region:
    """One call of a checkpointed function.

    `contexts` are entered around its first run and around each further one. With `checked`, what is
    recorded again must have the shapes and dtypes it had at first.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        *,
        preserve_rng_state: bool,
        contexts: tuple[AbstractContextManager[Any], AbstractContextManager[Any]],
        checked: bool,
        early_stop: bool = False,
    ) -> None:
        self._function = function
        self._early_stop = early_stop
        mode = transforms.autocast
        # Without kept conversions, of which the second run would find those of the first.
        self._autocast = None if mode is None else mode.uncached()
        self._args = args
        self._kwargs = kwargs
        self._contexts = contexts
        self._checked = checked
        self._preserve = preserve_rng_state
        self._stream: _Stream | None = None
        self._versions = [(t, t._ver, t._ver[0]) for t in _tensors((args, kwargs))]
        self._recorded: list[Any] = []  # what each entry was, in short
        self._replaced: set[int] = set()
        self._again: dict[int, Any] = {}
        self._running = False

    def first(self) -> Any:
        """The function's result, its entries replaced."""
        if self._preserve:
            self._stream = _Stream()
        self._running = True
        outside = transforms.autocast
        try:
            enter_autocast(self._autocast)
            with _seers((*regions.seers, self)), self._contexts[0]:
                return self._function(*self._args, **self._kwargs)
        finally:
            enter_autocast(outside)
            self._running = False
            if self._stream is not None:
                self._stream.finish()

    def see(self, entry: Any) -> Any:
        """The stand-in of an entry recorded for the first time."""
        index = len(self._recorded)
        self._recorded.append(_outline(entry))
        if type(entry) is Node and not entry.cells:
            return entry  # which keeps no values
        self._replaced.add(index)
        return StandIn(entry, self, index)

    def take(self, index: int, g: Any) -> Any:
        """The entry of that number, computed again unless it is there from an earlier asking."""
        if index not in self._again:
            self._run_again(g)
        return self._again.pop(index)

    def _run_again(self, g: Any) -> None:
        for t, cell, version in self._versions:
            if cell[0] != version:
                raise AutogradError(
                    "one of the variables needed for gradient computation has been modified by an "
                    f"inplace operation: an argument of shape {list(t.shape)} of a checkpointed "
                    f"function is at version {cell[0]}; expected version {version} instead"
                )
        again = _Again(len(self._recorded), stop=self._running or self._early_stop)
        mode, local.grad = local.grad, True
        outside = transforms.autocast
        try:
            enter_autocast(self._autocast)
            with _seers((again,)), _repeating(g, self._stream), self._contexts[1]:
                self._function(*self._args, **self._kwargs)
        except _Enough:
            pass
        finally:
            enter_autocast(outside)
            local.grad = mode
        self._compare(again.entries)
        self._again = {i: e for i, e in enumerate(again.entries) if i in self._replaced}

    def _compare(self, entries: Sequence[Any]) -> None:
        """Raise CheckpointError unless the function did what it did before."""
        if len(entries) != len(self._recorded):
            raise CheckpointError(
                "checkpoint: a different number of operations was recorded when the function was "
                f"run again: {len(entries)} instead of {len(self._recorded)}. The function must "
                "do the same both times"
            )
        if not self._checked:
            return
        for i, (entry, before) in enumerate(zip(entries, self._recorded, strict=True)):
            now = _outline(entry)
            if now != before:
                raise CheckpointError(
                    f"checkpoint: operation {i} of the function was {_text(before)} at first and "
                    f"{_text(now)} when the function was run again, which must do the same"
                )


class _Again:
    """Collects the entries of a run, and ends it after the first `count` if told to."""

    def __init__(self, count: int, *, stop: bool) -> None:
        self.entries: list[Any] = []
        self._count = count
        self._stop = stop

    def see(self, entry: Any) -> Any:
        """Keep an entry."""
        if len(self.entries) < self._count or not self._stop:
            self.entries.append(entry)
        if self._stop and len(self.entries) == self._count:
            raise _Enough
        return entry


class _Enough(BaseException):
    """Ends a run of a function of which a part is wanted: its gradient is taken inside of it."""


@contextmanager
def _seers(seers: Sequence[Any]) -> Iterator[None]:
    before, regions.seers = regions.seers, seers
    with _counting:
        watchers.count += 1
    try:
        yield
    finally:
        regions.seers = before
        with _counting:
            watchers.count -= 1


def is_first_run() -> bool:
    """Whether a region is running for the first time in this thread."""
    return any(type(s) is Region for s in regions.seers)


def _outline(entry: Any) -> Any:
    """The op, and the shapes and dtypes of its operands."""
    if type(entry) is StandIn:
        return entry._outline
    if type(entry) is not Node:
        return entry.name, ()
    return entry.name, tuple((tuple(x.shape), x.dtype) for x in entry.inputs or ())


def _text(outline: Any) -> str:
    name, operands = outline
    shapes = ", ".join(f"{dtype}{list(shape)}" for shape, dtype in operands)
    return f"{name} of ({shapes})"


def _tensors(tree: Any) -> list[Tensor]:
    from .._tensor import Tensor
    from ..tracing.tree import flatten

    return [leaf for _, leaf in flatten(tree) if isinstance(leaf, Tensor)]


class _Stream:
    """Where the default random generator stands."""

    def __init__(self) -> None:
        from .._random import default_generator

        self._generator = default_generator
        self._state = (default_generator._seed, default_generator._offset)
        capture = captures.current
        self._now: Any = (
            default_generator.get_state()
            if capture is None
            else [capture.state_value(t) for t in self._state]
        )

    def finish(self) -> None:
        """In a capture, what was not read before a draw stood at the value it was read with."""
        capture = captures.current
        if capture is not None:
            for i, t in enumerate(self._state):
                if self._now[i] is None and id(t._data) in capture.reads:
                    self._now[i] = capture.reads[id(t._data)][1]

    def values(self) -> dict[Any, Any]:
        """The graph values of the generator's state; none if nothing was drawn."""
        return {t: v for t, v in zip(self._state, self._now, strict=True) if v is not None}

    @contextmanager
    def again(self) -> Iterator[None]:
        """Draw the same numbers inside."""
        now = self._generator.get_state()
        self._generator.set_state(self._now)
        try:
            yield
        finally:
            self._generator.set_state(now)


def _repeating(g: Any, stream: _Stream | None) -> AbstractContextManager[None]:
    """Draw the random numbers of the first run; in a capture, let nothing merge with that."""
    capture = captures.current
    if capture is None:
        return nullcontext() if stream is None else stream.again()
    from ..tracing.phases import repeating

    arrived = [x for x in (g if isinstance(g, list | tuple) else (g,)) if x is not None]
    values = [x if type(x) is Value else capture.value_of(x) for x in arrived[:1]]
    return repeating(capture, values, {} if stream is None else stream.values())
