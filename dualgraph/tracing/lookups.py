"""What a capture of a whole call depends on besides tensors: slots, numbers, effects, guards."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from dualgraph_compiler.errors import TraceError
from dualgraph_compiler.graph import Graph

from .._dispatch import captures, make
from ..autograd.tape import Leaf
from .failure import CaptureFailure
from .phases import Writes
from .replay import Call, Effect, EntrySlot, GradSlot, Guarded, Number, Slot, Steady, never

if TYPE_CHECKING:
    from .._tensor import Tensor
    from .capture import Capture
    from .watch import Watch


class Lookups:
    """State that a call looks up, and Python data that it reads or changes.

    With `whole` the capture is of one call that will be replayed as such: gradients and the state
    of optimizers are `slots` then, and `replay` lists the Python data that the call reads or
    changes (see :mod:`.replay`).
    """

    graph: Graph
    names: dict[int, str]
    whole: bool
    writes: Writes
    watch: Watch | None
    slots: dict[Any, Slot]

    def __init__(self) -> None:
        self.slots = {}
        self.replay: list[Number | Effect | Guarded] = []
        self.effects_made = 0  # of them
        self.held: dict[int, Slot] = {}  # by the identity of what a slot holds
        self._gradients: dict[Leaf, Tensor | None] = {}  # as slots are, of a graph that is built
        self._numbers: dict[Any, Tensor] = {}
        self._kept: list[Tensor] = []  # alive, so that identities stay unique
        self._tracing = Call(())

    @property
    def root(self) -> Capture:
        """The outermost capture that this one is part of."""
        raise NotImplementedError

    def failure(self, why: str, advice: str = "") -> CaptureFailure:
        """The error for something that cannot be captured."""
        raise NotImplementedError

    def _free_name(self, wish: str) -> str:
        raise NotImplementedError

    def track(self, leaf: Leaf, t: Tensor, argument: int | None = None) -> None:
        """Let a symbolic tensor stand for the gradient that `leaf`, of tensor `t`, has."""
        if not self.whole:
            self._gradients.setdefault(leaf, leaf.grad)
            return
        if leaf in self.slots:
            return
        owner = self.names.get(id(t._data))
        slot = self.slots[leaf] = GradSlot(leaf, argument, owner)
        if leaf.grad is not None:
            if leaf.grad._fn is not None:
                raise TraceError(
                    "a gradient that was recorded by backward(create_graph=True) cannot be state "
                    "of a compiled function; detach it first"
                )
            slot.proxy = leaf.grad = self._add_slot(slot, leaf.grad, f"{owner or 'leaf'}.grad")

    def observe(self, leaf: Leaf) -> None:
        """Note that whether `leaf` has a gradient, and which, matters."""
        slot = self.slots.get(leaf)
        if slot is not None and not slot.overwritten:
            slot.observed = True

    def overwrite(self, leaf: Leaf) -> None:
        """Note that `leaf` is given another gradient: what it had does not matter from here on."""
        slot = self.slots.get(leaf)
        if slot is not None:
            slot.overwritten = True

    def entry(
        self, state: Callable[[], Any], key: Any, name: str, fresh: Any, steady: Steady = never
    ) -> EntrySlot:
        """The slot for entry `name` of ``state()[key]``."""
        found = self.slots.get((id(state()), key, name))
        if found is None:
            found = EntrySlot(state, key, name, fresh, steady)
            self.slots[id(state()), key, name] = found
            with self.suspended():
                now = found.read()
            found.observed = True
            owner = self.names.get(id(key._data)) or "state"
            found.proxy = self._add_slot(found, now, f"{owner}.{name}")
        return found  # type: ignore[return-value]

    def _add_slot(self, slot: Slot, now: Tensor, name: str) -> Tensor:
        slot.value = self.graph.add_param(now._data, self._free_name(name))
        self.held[id(now)] = slot
        self._kept.append(now)
        return make(slot.value)

    def number(
        self, key: Any, name: str, read: Callable[[], Any], steady: Steady = never
    ) -> Tensor:
        """What `read` gives at each call, at this point of it, as a 0-d float64."""
        effects = self.effects_made
        found = self._numbers.get((key, name, effects))
        if found is None:
            name = self._free_name(name)
            self.replay.append(Number(name, read, steady))
            with self.suspended():
                now = np.asarray(read(), np.float64)
            value = self.graph.add_param(now, name)
            found = self._numbers[key, name, effects] = make(value)
        return found

    def effect(
        self,
        act: Callable[[], Any],
        save: Callable[[], Callable[[], None]],
        steady: Steady = never,
    ) -> None:
        """Change Python data now, again at each call, and not at all if the call fails.

        Raises:
            TraceError: the capture is not of a call.
        """
        self.require_whole("changing Python data")
        with self.suspended():
            step = Effect(act, save, steady)
            step.run(self._tracing)
        self.replay.append(step)
        self.effects_made += 1

    def guard(
        self, what: str, read: Callable[[], Any], expected: Any, steady: Steady = never
    ) -> None:
        """The traced graph fits only calls for which `read` gives `expected`."""
        self.replay.append(Guarded(what, read, copy.copy(expected), steady))

    def guard_methods(self, cls: type, *names: str) -> None:
        """The traced graph fits only while `cls` has these methods."""
        watch = self.root.watch
        if watch is not None:
            watch.methods.update(((cls, name), getattr(cls, name)) for name in names)

    def guard_data(self, t: Tensor, what: str) -> None:
        """Python sees the elements of state tensor `t`: the graph is for these elements only.

        Raises:
            TraceError: `t` was written to inside, so that its elements are not known.
        """
        if not self.whole:
            return
        if id(t._data) in self.writes:
            raise self.failure(f"{what} needs the data of a tensor that is computed while traced")
        self.guard(
            f"data of {self.names.get(id(t._data), 'a tensor')}", lambda: _bytes(t), _bytes(t)
        )

    def require_whole(self, what: str) -> None:
        """Raise unless the capture is of one whole call."""
        if not self.whole:
            raise TraceError(
                f"{what} is not possible in a graph that is only built: put it in a function and "
                "give that to dg.compile"
            )

    @contextmanager
    def suspended(self) -> Iterator[None]:
        """Run eagerly inside."""
        saved, captures.current = captures.current, None
        try:
            yield
        finally:
            captures.current = saved


def _bytes(t: Tensor) -> bytes:
    return t._data.tobytes()  # type: ignore[no-any-return]
