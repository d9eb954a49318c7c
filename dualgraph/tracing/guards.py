"""What a trace took for granted of Python data and state: compared before its graph runs again."""

from __future__ import annotations

import enum
import operator
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from types import BuiltinFunctionType, FunctionType, MethodType
from typing import Any

import numpy as np

from dualgraph_compiler.dtypes import DType
from dualgraph_runtime.device import Device

from .._changes import Members, Noting
from .._tensor import Tensor
from .bytecode import BASE, IDENTITY, INCREMENT, METHOD, STORE
from .objects import has_attributes, is_library_class
from .places import COMPUTED, MISSING, Attribute, Element, Method, Place, assigned_quietly
from .watch import Seen

_PLAIN: tuple[type, ...] = (
    *(int, float, bool, complex, str, bytes, type(None), type(...), range, slice),
    *(np.generic, np.dtype, DType, Device, enum.Enum, frozenset),
)
_FUNCTIONS = (FunctionType, BuiltinFunctionType, MethodType, type)
# Methods that change a container in a way that does not depend on what is in it.
BLIND = frozenset(METHOD + name for name in ("append", "extend", "add", "update", "appendleft"))


def same(a: Any, b: Any) -> bool:
    """Whether two plain values cannot be told apart: ``1``, ``1.0`` and ``True`` can."""
    if a is b:
        return True
    if type(a) is not type(b):
        return False
    if isinstance(a, list | tuple | deque):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, dict):
        return len(a) == len(b) and all(
            same(k, m) and same(x, y) for (k, x), (m, y) in zip(a.items(), b.items())
        )
    if isinstance(a, float | complex | np.generic):
        return repr(a) == repr(b)  # -0.0 is not 0.0, and nan is nan
    return bool(a == b)


def is_plain(x: Any) -> bool:
    """Whether `x` is a number, string or the like, or nested containers of such."""
    if isinstance(x, list | tuple | deque | set):
        return all(map(is_plain, x))
    if isinstance(x, dict):
        return all(map(is_plain, x)) and all(map(is_plain, x.values()))
    return isinstance(x, _PLAIN)


class Guard:
    """One comparison: what `place` holds now with what it held.

    `test` is a Python expression over ``v``, what is there now, and names in `constants`; or None
    where nothing may be there. `inside` says that it looks at what kind of tensor is there.
    """

    __slots__ = ("constants", "expected", "inside", "place", "test")

    def __init__(
        self,
        place: Place,
        test: str | None,
        expected: Any,
        *,
        inside: bool = False,
        **constants: Any,
    ) -> None:
        self.place = place
        self.test = test
        self.expected = expected
        self.inside = inside
        self.constants = constants

    @property
    def told(self) -> bool:
        """Whether what it looks at cannot change without a note of it in ``_changes``."""
        if not self.place.stable:
            return False
        expected = self.expected
        if isinstance(expected, Noting):
            return True
        if type(expected) is Tensor:
            return not assigned_quietly(self.place)
        if isinstance(expected, tuple):
            return is_plain(expected)
        return not isinstance(expected, list | dict | set | deque | np.ndarray)

    def holds(self) -> bool:
        """Whether the comparison holds now."""
        now = self.place.get()
        if self.test is None:
            return now is self.expected
        if now is MISSING or now is COMPUTED:
            return False
        names = {**NAMES, **self.constants, "v": now}
        return bool(eval(self.test, names))

    def difference(self) -> Difference:
        """What was there and what is there now."""
        now = self.place.get()
        before, after = shown(self.expected), shown(now)
        return Difference(self.place.name, before, after, self.place, frozenset(_held(self, now)))

    def __str__(self) -> str:
        return f"{self.place.name} is {shown(self.expected)}"


@dataclass(frozen=True, slots=True)
class Difference:
    """Something that is not as it was when traced: `name` was `before` and is `now`, in words.

    `held` are the places of tensors that were expected to stay, see ``attributes.described``.
    """

    name: str
    before: str
    now: str
    place: Place | None = None
    held: frozenset[Any] = frozenset()


def _held(guard: Guard, now: Any) -> Iterable[Any]:
    if isinstance(guard.expected, Tensor) and isinstance(now, Tensor):
        yield described(guard.place)
    elif isinstance(guard.expected, list | tuple) and "kept" in guard.constants:
        for i, x in enumerate(guard.constants["alive"]):
            if isinstance(x, Tensor):
                yield described(Element(guard.place, i))


def described(place: Place) -> Any:
    """What identifies a place in another trace of the same function."""
    if isinstance(place, Element):
        return (described(place.parent), place.index)
    if isinstance(place, Attribute):
        return (id(place.owner), place.attribute)
    return place.key


def like(t: Any, kind: tuple[Any, ...]) -> bool:
    """Whether `t` is a tensor of this dtype and shape that requires a gradient as it did."""
    return isinstance(t, Tensor) and kind_of(t) == kind


def kind_of(t: Tensor) -> tuple[Any, ...]:
    """Class, dtype, shape, and whether a gradient is required."""
    return type(t), t._data.dtype, tuple(t._data.shape), t.requires_grad


NAMES: dict[str, Any] = {"same": same, "like": like, "ids": lambda v: [*map(id, v)]}


def shown(x: Any) -> str:
    """A value in few words."""
    if isinstance(x, Tensor):
        return f"a tensor {x._type()}" if hasattr(x, "_data") else "a tensor"
    if isinstance(x, np.ndarray):
        return f"an array {x.dtype} {list(x.shape)}"
    if isinstance(x, FunctionType | type):
        return x.__qualname__
    text = repr(x) if is_plain(x) or x is MISSING or x is COMPUTED else f"a {type(x).__name__}"
    return text if len(text) <= 60 else f"{text[:57]}..."


def guards_of(seen: Seen, read: Callable[[Tensor], bool]) -> Iterable[Guard]:
    """The comparisons that a place met in a trace needs.

    `read` says of a tensor whether the graph reads this one: then no other may take its place.
    """
    place, value, uses = seen.place, seen.before.value, seen.uses
    if value is not COMPUTED and isinstance(place, Attribute) and place.is_of_class:
        cls = type(place.owner)
        shared = Attribute(cls, place.attribute, f"{cls.__name__}.{place.attribute}")
        yield from guards_of(Seen(shared, seen.before, uses), read)
    if isinstance(place, Element) and type(place.index) is int and place.index < 0:
        n = len(place.parent.get())  # the index counts from the end
        yield Guard(place.parent, "len(v) == n", n, n=n)
    if uses <= {STORE}:
        return
    if value is MISSING or value is COMPUTED:
        yield Guard(place, None, value)
        if value is COMPUTED and isinstance(place, Attribute) and has_attributes(place.owner):
            owner = place.owner if isinstance(place.owner, type) else type(place.owner)
            method = Method(owner, place.attribute)
            found = method.get()
            if not is_library_class(owner) and hasattr(type(found), "__get__"):
                yield Guard(method, "v is value", found, value=found)
    elif uses <= {INCREMENT, STORE} and type(value) is int:
        yield Guard(place, "type(v) is int", int)
    elif isinstance(value, list | tuple | dict | set | deque) and uses <= {BASE, STORE, *BLIND}:
        yield Guard(place, "type(v) is kind", type(value), kind=type(value))
    else:
        if IDENTITY in uses and isinstance(value, list | tuple | dict | set | deque):
            yield Guard(place, "v is value", value, value=value)
        yield from _content(place, value, read, seen)


def _content(place: Place, value: Any, read: Callable[[Tensor], bool], seen: Seen) -> Any:
    if value is None or isinstance(value, (bool, enum.Enum, *_FUNCTIONS)):
        yield Guard(place, "v is value or v == value" if _bound(value) else "v is value", value,
                    value=value)  # fmt: skip
    elif isinstance(value, Tensor):
        if read(value):
            yield Guard(place, "v is value", value, value=value)
        else:
            yield Guard(place, "like(v, kind)", value, inside=True, kind=kind_of(value))
    elif is_plain(value) and type(value) is not Members:  # whose copies are of another type
        copy = _copied(value, seen)
        test = "same(v, value)" if isinstance(value, list | dict | set | deque) else (
            "v is value or same(v, value)"
        )  # fmt: skip
        yield Guard(place, test, copy, value=copy)
    elif isinstance(value, list | tuple | dict | set | deque):
        yield from _elements(place, value, read, seen)
    elif isinstance(value, np.ndarray):
        copy = _copied(value, seen)
        yield Guard(
            place,
            "v.dtype == a.dtype and v.shape == a.shape and v.tobytes() == b",
            copy,
            a=copy,
            b=copy.tobytes(),
        )
    else:
        yield Guard(place, "v is value", value, value=value)


def _bound(x: Any) -> bool:
    return isinstance(x, MethodType | BuiltinFunctionType)


def _copied(value: Any, seen: Seen) -> Any:
    """A copy of a plain container as it was when first seen."""
    if isinstance(value, tuple):
        items = [_copied(x, seen) for x in value]
        if hasattr(type(value), "_make") and not all(map(operator.is_, items, value)):
            return type(value)._make(items)  # type: ignore[attr-defined]
        if type(value) is not tuple or all(map(operator.is_, items, value)):
            return value
        return tuple(items)
    if not isinstance(value, list | dict | set | deque | np.ndarray):
        return value
    now = seen.before.content(value)
    if isinstance(value, np.ndarray | set):
        return now
    if isinstance(value, dict):
        fresh: Any = {k: _copied(x, seen) for k, x in now.items()}
        if type(value) is not dict:
            filled = value.copy()
            filled.clear()
            filled.update(fresh)
            return filled
        return fresh
    items = [_copied(x, seen) for x in now]
    if type(value) is list:
        return items
    return deque(items, value.maxlen) if isinstance(value, deque) else type(value)(items)


def _elements(place: Place, value: Any, read: Callable[[Tensor], bool], seen: Seen) -> Any:
    """Guards of a container and of what is in it."""
    content: Any = value if isinstance(value, tuple) else seen.before.content(value)
    kind = type(value)
    if isinstance(value, set | deque):
        kept = [*map(id, content)]
        yield Guard(
            place, "type(v) is kind and ids(v) == kept", value, kind=kind, kept=kept, alive=content
        )
        return
    if isinstance(value, dict):
        keys, items = [*content], [*content.values()]
        yield Guard(place, "type(v) is kind and [*v] == keys", value, kind=kind, keys=keys)
    else:
        keys, items = [*range(len(content))], [*content]
        if all(_by_identity(x, read) for x in items):
            yield Guard(
                place, "type(v) is kind and ids(v) == kept", value,
                kind=kind, kept=[*map(id, items)], alive=items,
            )  # fmt: skip
            return
        yield Guard(place, "type(v) is kind and len(v) == n", value, kind=kind, n=len(items))
    for key, x in zip(keys, items):
        yield from _content(Element(place, key), x, read, seen)


def _by_identity(x: Any, read: Callable[[Tensor], bool]) -> bool:
    return read(x) if isinstance(x, Tensor) else has_attributes(x)
