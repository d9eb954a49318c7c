"""What a compiled call does besides running its graph, and what must hold for it to run.

Three things that tracing meets are no tensor computation. They are noted in the order met, and
gone through in that order on every call, before the graph runs:

- :class:`Number`   a Python number that changes between calls (a learning rate): read, and fed to
  the graph as a 0-d value, never baked in.
- :class:`Effect`   a change of Python data (a scheduler's step): made again, and undone should the
  call fail.
- :class:`Guarded`    a Python value that the trace depended on: if it differs now, the traced graph
  does not fit this call.

A :class:`Slot` is state found by looking it up instead of by holding a tensor: a leaf's gradient,
an entry of an optimizer's state. Other tensors may be there at every call.

Many of these come out the same at every call, since nobody changed anything: then they are *steady*
(:mod:`.settled`), as far as every change of what they depend on is noted in ``_changes``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from dualgraph_compiler.graph import Value

from .._dispatch import make
from ..autograd.tape import Leaf

if TYPE_CHECKING:
    from .._tensor import Tensor
    from .settled import Settled

# Whether a change of optimizers or tensors is noted whenever something comes out another way.
Steady: TypeAlias = "Callable[[], bool]"


def never() -> bool:
    """What says that something is not steady."""
    return False


class Call:
    """One call on its way: its tensor arguments, numbers read so far, and how to take it back.

    `entries` are those found so far: looking them up takes longer than most other things here.
    `settled` is what calls have found so far that have settled, if nothing is another way now.
    """

    __slots__ = ("arguments", "entries", "numbers", "settled", "undo")

    def __init__(self, arguments: Sequence[Tensor]) -> None:
        self.arguments = arguments
        self.numbers: dict[str, Tensor] = {}
        self.undo: list[Callable[[], None]] = []
        self.entries: dict[EntrySlot, Tensor] = {}
        self.settled: Settled | None = None

    def resolve(self, read: Any) -> Any:
        """The tensor that a param is read from in this call."""
        if isinstance(read, Slot):
            return read.read(self)
        return self.numbers[read] if type(read) is str else read

    def roll_back(self) -> None:
        """Undo every effect, last first."""
        while self.undo:
            self.undo.pop()()


@dataclass(frozen=True, slots=True)
class Number:
    """Param `name` of the graph is what `read` gives at each call."""

    name: str
    read: Callable[[], Any]
    steady: Steady = never

    def run(self, call: Call) -> bool:
        """Read the number."""
        call.numbers[self.name] = make(np.asarray(self.read(), np.float64))
        return True


@dataclass(frozen=True, slots=True)
class Effect:
    """`act` changes Python data; `save`, called just before, returns how to undo it.

    It is steady if, once made, making it again changes nothing.
    """

    act: Callable[[], Any]
    save: Callable[[], Callable[[], None]]
    steady: Steady = never

    def run(self, call: Call) -> bool:
        """Act, so that it can be undone."""
        call.undo.append(self.save())
        self.act()
        return True


@dataclass(frozen=True, slots=True)
class Guarded:
    """The traced graph fits only while `read` gives `expected`; `what` says of what."""

    what: str
    read: Callable[[], Any]
    expected: Any
    steady: Steady = never

    def run(self, call: Call) -> bool:
        """Whether the value is the expected one still."""
        return bool(self.read() == self.expected)


class Slot:
    """State looked up at every call.

    While tracing, the symbolic tensor `proxy` stands in its place, `value` being what it was at the
    start; None where there was nothing. `observed` says whether the trace depends on it. Once it is
    `overwritten`, what is seen there is the trace's own.
    """

    observed: bool = False
    overwritten: bool = False

    proxy: Tensor | None = None
    value: Value | None = None
    steady: Steady = staticmethod(never)

    def read(self, call: Call) -> Tensor | None:
        """What is there now."""
        raise NotImplementedError

    def write(self, call: Call, result: Any) -> None:
        """Overwrite what is there with an array, in place; the array may be there already."""
        raise NotImplementedError

    def matches(self, call: Call) -> bool:
        """Whether what is there now is of the kind that was traced."""
        return self.fits(self.read(call))

    def fits(self, now: Tensor | None) -> bool:
        """Whether `now` is of the kind that was traced."""
        if now is None or self.value is None:
            return now is None and self.value is None
        t = self.value.type
        return bool(now._data.shape == t.shape and now.dtype is t.dtype)


class GradSlot(Slot):
    """The gradient kept in a leaf: of the tensor argument numbered `argument`, or a fixed leaf.

    `owner` is the name of its tensor, where that has one.
    """

    def __init__(self, leaf: Leaf, argument: int | None, owner: str | None) -> None:
        self.leaf = leaf
        self.argument = argument
        self.owner = owner
        self.before = leaf.grad  # while tracing

    def _leaf(self, call: Call) -> Leaf:
        if self.argument is None:
            return self.leaf
        return call.arguments[self.argument]._fn  # type: ignore[no-any-return]

    def read(self, call: Call) -> Tensor | None:
        """The gradient."""
        return self._leaf(call).grad

    def matches(self, call: Call) -> bool:
        """Whether the argument, if it is one's, is a leaf; then as for all slots."""
        if self.argument is not None and type(call.arguments[self.argument]._fn) is not Leaf:
            return False
        return super().matches(call)

    def fits(self, now: Tensor | None) -> bool:
        """Whether `now` is there or not, and of what type, as in the trace; and off the tape."""
        return super().fits(now) and (now is None or now._fn is None)

    def write(self, call: Call, result: Any) -> None:
        """Overwrite the gradient in place."""
        grad = self._leaf(call).grad
        assert grad is not None
        if result is not grad._data:
            grad._data[...] = result
        grad._bump_version()

    def put(self, call: Call, grad: Tensor | None) -> None:
        """Make `grad` the leaf's gradient."""
        self._leaf(call).grad = grad


class EntrySlot(Slot):
    """Entry `name` of the state of `key`; `fresh` makes what it starts from."""

    def __init__(
        self, state: Callable[[], Any], key: Any, name: str, fresh: Any, steady: Steady = never
    ) -> None:
        self.steady = steady
        self._state = state
        self._key = key
        self._name = name
        self._fresh: Callable[[], Tensor] = fresh

    def present(self) -> Tensor | None:
        """The entry, if there is one."""
        found = self._state().get(self._key)
        return None if found is None else found.get(self._name)

    def read(self, call: Call | None = None) -> Tensor:
        """The entry, or what it starts from."""
        found = None if call is None else call.entries.get(self)
        if found is not None:
            return found
        found = self.present()
        if found is None:
            return self._fresh()
        if call is not None:
            call.entries[self] = found
        return found

    def write(self, call: Call, result: Any) -> None:
        """Overwrite the entry in place, or make it."""
        found = call.entries.get(self)
        if found is None:
            found = self.present()
        if found is None:
            self._state()[self._key][self._name] = make(result)
        elif result is not found._data:
            found._data[...] = result
