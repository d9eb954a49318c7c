"""What an optimizer holds, in dicts that tell compiled functions of changes: options and state."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

from dualgraph import _changes
from dualgraph._dispatch import captures
from dualgraph._tensor import Tensor
from dualgraph_compiler.errors import TraceError

__all__ = ["Entries", "Group", "Listed", "State", "is_fixed", "save_group"]


class Entries(_changes.Noting):
    """The state of one parameter, by name."""

    __slots__ = ()
    changes = _changes.optimizers


class State(Entries):
    """The state of an optimizer, by parameter; that of a new one is empty."""

    __slots__ = ()

    @classmethod
    def of(cls, state: Mapping[Any, Any]) -> State:
        """Such a dict of what another one holds."""
        return cls((k, Entries(v) if type(v) is dict else v) for k, v in state.items())

    def __missing__(self, key: Any) -> Entries:
        found = self[key] = Entries()
        return found


class Listed(list[Any]):
    """A list of parameters, or of groups, that notes when it is changed. Copied as a plain list."""

    __slots__ = ()

    def __reduce_ex__(self, protocol: Any) -> Any:
        return list, (list(self),)


def _noting(name: str) -> Callable[..., Any]:
    method = getattr(list, name)

    @functools.wraps(method)
    def noting(self: Listed, *args: Any, **kwargs: Any) -> Any:
        found = method(self, *args, **kwargs)
        _changes.optimizers.note()
        return found

    return noting


for _name in (
    *("append", "extend", "insert", "remove", "pop", "clear", "sort", "reverse"),
    *("__setitem__", "__delitem__", "__iadd__", "__imul__"),
):
    setattr(Listed, _name, _noting(_name))


class Group(_changes.Noting):
    """Parameters and their options.

    An option that a compiled function reads guards its graph; one that it changes is changed again
    at every call.
    """

    __slots__ = ()
    changes = _changes.options

    def __getitem__(self, key: str) -> Any:
        value = dict.__getitem__(self, key)
        if captures.current is not None:
            _guard(self, key)
        return value

    def get(self, key: str, default: Any = None) -> Any:
        """The option, or `default`."""
        if captures.current is not None:
            _guard(self, key)
        return dict.get(self, key, default)

    def __setitem__(self, key: str, value: Any) -> None:
        if captures.current is None:
            super().__setitem__(key, value)
            return
        if isinstance(value, Tensor) and value.is_symbolic:
            raise TraceError(
                f"option {key!r} of a parameter group cannot be a tensor computed in a compiled "
                "function; set it outside"
            )
        change = super().__setitem__
        captures.current.effect(lambda: change(key, value), lambda: save_group(self))

    def update(self, *args: Any, **kwargs: Any) -> None:
        """Change several options."""
        if captures.current is None:
            super().update(*args, **kwargs)
            return
        for key, value in dict(*args, **kwargs).items():
            self[key] = value

    def __reduce__(self) -> Any:
        return Group, (dict(self),)


def _guard(group: Group, key: str) -> None:
    if captures.current is not None:
        read = _Read(group, key)
        what = f"option {key!r} of a parameter group"
        captures.current.guard(what, read, read(), read.is_steady)


class _Read:
    """An option's value, in a form that compares."""

    def __init__(self, group: Group, key: str) -> None:
        self.group = group
        self.key = key

    def __call__(self) -> Any:
        value = dict.get(self.group, self.key)
        if isinstance(value, Tensor):
            return id(value)
        return [*map(id, value or ())] if self.key == "params" else value

    def is_steady(self) -> bool:
        """Whether every change of the option is noted."""
        value = dict.get(self.group, self.key)
        return type(value) is Listed if self.key == "params" else is_fixed(value)


def is_fixed(value: Any) -> bool:
    """Whether the value of an option cannot change without another one taking its place."""
    if isinstance(value, tuple):
        return all(map(is_fixed, value))
    return value is None or isinstance(value, int | float | str)


def save_group(group: dict[str, Any]) -> Callable[[], None]:
    """A function that gives the group's options the values they have now."""
    kept = dict(group)
    rate = kept.get("lr")
    data = rate._data.copy() if isinstance(rate, Tensor) else None

    def restore() -> None:
        dict.clear(group)
        dict.update(group, kept)
        _changes.options.note()
        if isinstance(rate, Tensor):
            rate._data[...] = data

    return restore
