"""What a compiled function has traced so far, and finding what fits a call."""

from __future__ import annotations

import threading
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any

from .._tensor import Tensor
from .arguments import Accepts, acceptance
from .checks import Guards
from .entry import Entry
from .replay import Call
from .shortcut import MOST, is_current, shortcut_of
from .sizes import Pattern, Shapes, Sizes


@dataclass
class Cached:
    """One trace: what it is for, how it runs, and how it came about.

    `entry` is None where the call cannot be captured, for the reason `fallback`. `why` says what
    was different from the traces there were.
    """

    values: Hashable
    pattern: Pattern
    guards: Guards
    entry: Entry | None
    why: str = ""
    fallback: str = ""
    hits: int = 0
    seconds: float = 0.0
    learned: bool = False
    accepts: Accepts | None = None
    shortcut: Any = None
    _shapes: Shapes | None = None

    def learn(self, args: Sequence[Any]) -> None:
        """Prepare `again` for calls like the one with these arguments, without keywords."""
        if not self.learned:
            self.learned = True
            self.accepts = acceptance(args) if self.pattern.is_fixed else None

    def is_repeated(self, shapes: Shapes) -> bool:
        """Whether calls with tensors of these shapes are worth a shortcut: the last one had them.

        Where sizes may vary, a shortcut is good for one size only.
        """
        if self.pattern.is_free:  # but there the frame is good for all of them
            return True
        last, self._shapes = self._shapes, shapes
        return last == shapes

    @property
    def calls(self) -> int:
        """How many calls it has served, with the first."""
        return self.hits + 1 + (0 if self.shortcut is None else int(self.shortcut.hits))

    def shorten(self, args: Sequence[Any], shortcuts: tuple[Any, ...]) -> tuple[Any, ...]:
        """`shortcuts`, with one for calls like the one that was just made with these arguments."""
        before = self.shortcut
        if before is not None and before in shortcuts and is_current(before):
            return shortcuts
        made = shortcut_of(self, args)
        if made is None:
            return shortcuts
        if before is not None:
            self.hits += before.hits
        self.shortcut = made
        return made, *[s for s in shortcuts if s is not before][: MOST - 1]

    def again(self, args: Sequence[Any]) -> Call | None:
        """A call begun, if it is one like those before, which is found out quickly."""
        accepts, entry = self.accepts, self.entry
        if accepts is None or entry is None:
            return None
        tensors = accepts(args)
        if tensors is None or not self.guards.hold():
            return None
        call = entry.begin(tensors)
        if call is not None:
            self.hits += 1
        return call

    def begin(self, values: Hashable, shapes: Shapes, tensors: list[Tensor]) -> Call | bool:
        """A call begun, if this is for a call with these arguments; True if it runs eagerly."""
        if self.values != values or not self.pattern.fits(shapes) or not self.guards.hold():
            return False
        if self.entry is None:
            self.hits += 1
            return True
        call = self.entry.begin(tensors)
        if call is None:
            return False
        self.hits += 1
        return call


@dataclass
class Kind:
    """Calls that differ in nothing but sizes, Python values and state.

    `looked_up` are places of state where another tensor may be at every call. `changed` collects,
    of what made new traces necessary, the values met. `labels` are the names of the arguments that
    are no tensors.
    """

    sizes: Sizes
    labels: list[str] = field(default_factory=list)
    entries: list[Cached] = field(default_factory=list)
    looked_up: set[Any] = field(default_factory=set)
    changed: dict[str, list[str]] = field(default_factory=dict)
    full: bool = False
    lock: threading.RLock = field(default_factory=threading.RLock)

    def find(
        self, values: Hashable, shapes: Shapes, tensors: list[Tensor]
    ) -> tuple[Cached, Call | bool] | None:
        """What fits a call; the last found is tried first."""
        for i, cached in enumerate(self.entries):
            call = cached.begin(values, shapes, tensors)
            if call is not False:
                if i:
                    with self.lock:
                        self.entries = [cached, *(c for c in self.entries if c is not cached)]
                return cached, call
        return None

    def compare(self, values: Any, shapes: Shapes) -> str:
        """What is different in a call for which nothing fits, in words; it is remembered."""
        if not self.entries:
            return "the first call of its kind"
        last = self.entries[0]
        for cached in self.entries:
            if cached.values == values and cached.pattern.fits(shapes):
                difference = cached.guards.difference()
                if difference is None:
                    return self._changed("gradients or optimizer state", "", "")
                if difference.place is not None:
                    self.looked_up |= difference.held
                return self._changed(difference.name, difference.before, difference.now)
        if last.values != values:
            before: Any = last.values
            for label, a, b in zip(self.labels, before, values, strict=True):
                if a != b:
                    return self._changed(f"argument {label}", _value(a), _value(b))
        for i, (want, shape) in enumerate(zip(last.pattern.shapes, shapes, strict=True)):
            for axis, (m, n) in enumerate(zip(want, shape, strict=True)):
                if m != n and isinstance(m, int):
                    return self._changed(self.sizes.label((i, axis)), str(m), str(n))
        return self._changed("a comparison of sizes", last.pattern.answered(), "")

    def _changed(self, name: str, before: str, now: str) -> str:
        met = self.changed.setdefault(name, [])
        for value in (before, now):
            if value and value not in met:
                met.append(value)
        return f"{name}: {before}, then {now}" if now else name

    def values_in_words(self, values: Any) -> list[str]:
        """The arguments that are no tensors, as `values` has them."""
        return [f"{label} = {_value(x)}" for label, x in zip(self.labels, values, strict=False)]

    def summary(self) -> str:
        """What kept changing, with the values met."""
        lines = [
            f"{name}: {', '.join(met[:8])}{', ...' * (len(met) > 8)}" if met else name
            for name, met in self.changed.items()
        ]
        return "; ".join(lines)


def _value(key: Any) -> str:
    """A part of a key of values, in words."""
    if isinstance(key, tuple) and len(key) == 2 and isinstance(key[0], type):
        return str(key[1]) if key[0] in (float, complex) else repr(key[1])
    return repr(key)
