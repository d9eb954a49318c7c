"""Python data that a traced call changes: found after the trace, carried out at every call.

Tensors that end up in attributes, elements, globals or variables of closures become outputs of the
graph. Where such a place is read as well, what it holds is looked up at each call (:class:`Held`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence, Set
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from .._tensor import Tensor
from . import tree
from .bytecode import INCREMENT, STORE, VALUE
from .guards import BLIND, described, is_plain, same
from .objects import has_symbolic
from .places import COMPUTED, MISSING, Element, Place, root_of
from .replay import Call, Slot
from .watch import Seen, Watch

if TYPE_CHECKING:
    from .capture import Capture


class Held(Slot):
    """The tensor that a place holds, whichever it is by then."""

    def __init__(self, place: Place, t: Tensor) -> None:
        self.place = place
        self.type = type(t)
        self.tensor = t  # while tracing
        self.observed = True

    def read(self, call: Call) -> Tensor | None:
        """What the place holds, if that is a tensor."""
        found = self.place.get()
        return found if isinstance(found, Tensor) else None

    def fits(self, now: Tensor | None) -> bool:
        """Whether `now` is of the class and type of the tensor that was traced, off the tape."""
        if now is None or type(now) is not self.type:
            return False
        return super().fits(now) and not (now._fn is not None or now.requires_grad)

    def write(self, call: Call, result: Any) -> None:
        """Overwrite the tensor in place."""
        now = self.read(call)
        assert now is not None
        now._data[...] = result
        now._bump_version()


@dataclass
class Change:
    """A change that a call makes to what `place` holds.

    `how` is "assign", "add" (a number), "extend" (a container, with more) or "fill" (a container,
    with other content). In `what`, outputs of the graph stand for tensors.
    """

    place: Place
    how: str
    what: Any

    def make(self, fill: Callable[[Any], Any]) -> None:
        """Make the change; `fill` puts tensors into `what`."""
        if self.how == "assign":
            self.place.put(fill(self.what))
            return
        if self.how == "add":
            self.place.put(self.place.get() + self.what)
            return
        container = self.place.get()
        what = fill(self.what)
        if self.how == "extend":
            container.update(what) if isinstance(container, set) else container.extend(what)
            return
        container.clear()
        container.update(what) if isinstance(container, dict | set) else container.extend(what)

    def __str__(self) -> str:
        if self.how == "add":
            return f"{self.place.name} += {self.what}"
        verb = {"assign": "assigned", "extend": "extended", "fill": "filled"}[self.how]
        return f"{self.place.name} is {verb}"


class _Direct(Place):
    """A container itself, wherever it is kept."""

    __slots__ = ("container",)

    def __init__(self, container: Any, name: str) -> None:
        self.container = container
        self.name = name
        self.key = (id(container), "container")

    def get(self) -> Any:
        return self.container


def changes_of(watch: Watch, capture: Capture) -> list[Change]:
    """What the traced code changed, of what was there before.

    Raises:
        CaptureFailure: a change that a graph cannot make again.
    """
    found: list[Change] = []
    containers: dict[int, Any] = {}
    for seen in watch.seen.values():
        if not watch.is_outside(seen.place):
            continue
        before, now = seen.before.value, seen.place.get()
        if now is not before and not (is_plain(now) and same(now, before)):
            found.append(_assignment(seen, now, watch, capture))
        for x in seen.before.changed():
            if not isinstance(x, list | dict | set | deque):
                if isinstance(x, np.ndarray) or not callable(x):
                    raise capture.failure(
                        f"{seen.place.name}, {_described(x)}, changes in a compiled function"
                    )
                continue
            containers.setdefault(id(x), (x, seen))
    elements = {
        (id(c.place.parent.get()), c.place.index) for c in found if isinstance(c.place, Element)
    }
    for x, seen in containers.values():
        found += _inside(x, seen, elements, capture)
    return found


def _described(x: Any) -> str:
    return "an array" if isinstance(x, np.ndarray) else "a generator of random numbers"


def _assignment(seen: Seen, now: Any, watch: Watch, capture: Capture) -> Change:
    before = seen.before.value
    only_added = seen.uses <= {INCREMENT, STORE} and INCREMENT in seen.uses
    if only_added and type(now) is int and type(before) is int:
        return Change(seen.place, "add", now - before)
    _refuse_hidden(now, seen.place.name, capture)
    return Change(seen.place, "assign", now)


def _refuse_hidden(now: Any, name: str, capture: Capture) -> None:
    """Raise if an object that is kept holds tensors of the graph out of sight."""
    for _, leaf in tree.flatten(now):
        held = getattr(leaf, "__dict__", None)
        if not isinstance(leaf, Tensor) and isinstance(held, dict) and has_symbolic(held):
            raise capture.failure(
                f"{name} is given a {type(leaf).__name__} that holds tensors computed in the "
                "compiled function",
                "Keep the tensors in lists, tuples, dicts or dataclasses.",
            )


def _inside(x: Any, seen: Seen, assigned: set[tuple[int, Any]], capture: Capture) -> list[Change]:
    """Changes of a container, without those of elements that are known."""
    before = seen.before.content(x)
    whole = seen.place.get() is x and not isinstance(seen.place, _Direct)
    place = seen.place if whole else _Direct(x, f"a {type(x).__name__} in {seen.place.name}")
    _refuse_hidden(list(x.values()) if isinstance(x, dict) else list(x), place.name, capture)
    if isinstance(x, dict):
        if all(k in x for k in before) and [*x][: len(before)] == [*before]:
            return [
                Change(Element(place, k), "assign", v)
                for k, v in x.items()
                if (id(x), k) not in assigned and not (k in before and before[k] is v)
            ]
        return [Change(place, "fill", dict(x))]
    if isinstance(x, set):
        if before <= x and seen.uses <= {STORE, "base", *BLIND}:
            return [Change(place, "extend", list(x - before))]
        return [Change(place, "fill", list(x))]
    after = list(x)
    if isinstance(x, list) and len(after) == len(before):
        return [
            Change(Element(place, i), "assign", v)
            for i, v in enumerate(after)
            if v is not before[i] and (id(x), i) not in assigned
        ]
    unbounded = not isinstance(x, deque) or x.maxlen is None or seen.uses <= {"base", *BLIND}
    if unbounded and len(after) >= len(before) and _same_items(after[: len(before)], before):
        return [Change(place, "extend", after[len(before) :])]
    return [Change(place, "fill", after)]


def _same_items(a: Sequence[Any], b: Sequence[Any]) -> bool:
    return all(x is y for x, y in zip(a, b))


def restore(watch: Watch) -> None:
    """Make all Python data that was seen as it was before the trace."""
    for seen in watch.seen.values():
        if not watch.is_outside(seen.place):
            continue
        before, now = seen.before.value, seen.place.get()
        if now is not before and not (now is MISSING and before is COMPUTED):
            seen.place.put(before)
    for seen in watch.seen.values():
        seen.before.restore()


def hold(watch: Watch, changes: Sequence[Change], capture: Capture, looked_up: Set[Any]) -> None:
    """Let slots stand for tensors in places that are assigned to, or that are in `looked_up`."""
    found: dict[int, dict[Any, tuple[Place, Tensor]]] = {}
    for seen in watch.seen.values():
        for place, t in _tensors(seen.place, seen.before.value, seen):
            found.setdefault(id(t), {})[place.key] = place, t
    assigned = {c.place.key for c in changes if c.how == "assign"}
    moved = {id(x) for c in changes for _, x in tree.flatten(c.what)}
    for (place, t), *others in map(dict.values, found.values()):
        if others or t.requires_grad or id(t._data) in capture.writes:
            continue
        replaced = not assigned.isdisjoint((place.key, root_of(place).key))
        if replaced and id(t) in moved:
            capture.value_of(t)
        read = capture.reads.get(id(t._data))
        if read is None or read[0] is not t:
            continue
        if replaced or described(place) in looked_up:
            slot = Held(place, t)
            slot.value = read[1]
            del capture.reads[id(t._data)]
            capture.slots[place.key] = slot


def _tensors(place: Place, value: Any, seen: Seen) -> Iterator[tuple[Place, Tensor]]:
    """The tensors in a place, or in the containers there, as they were when first seen."""
    if isinstance(value, Tensor):
        yield place, value
    elif isinstance(value, list | tuple | dict) and VALUE in seen.uses:
        content = value if isinstance(value, tuple) else seen.before.content(value)
        for key, x in content.items() if isinstance(content, dict) else enumerate(content):
            yield from _tensors(Element(place, key), x, seen)
