"""Parameter groups: dicts of options that tell a capture when they are read or changed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from dualgraph._dispatch import captures
from dualgraph._tensor import Tensor
from dualgraph_compiler.errors import TraceError

__all__ = ["Group", "save_group"]


class Group(dict[str, Any]):
    """Parameters and their options.

    An option that a compiled function reads guards its graph; one that it changes is changed again
    at every call.
    """

    __slots__ = ()

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
            dict.__setitem__(self, key, value)
            return
        if isinstance(value, Tensor) and value.is_symbolic:
            raise TraceError(
                f"option {key!r} of a parameter group cannot be a tensor computed in a compiled "
                "function; set it outside"
            )
        captures.current.effect(
            lambda: dict.__setitem__(self, key, value), lambda: save_group(self)
        )


def _guard(group: Group, key: str) -> None:
    if captures.current is not None:
        read = _Read(group, key)
        captures.current.guard(f"option {key!r} of a parameter group", read, read())


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


def save_group(group: dict[str, Any]) -> Callable[[], None]:
    """A function that gives the group's options the values they have now."""
    kept = dict(group)
    rate = kept.get("lr")
    data = rate._data.copy() if isinstance(rate, Tensor) else None

    def restore() -> None:
        dict.clear(group)
        dict.update(group, kept)
        if isinstance(rate, Tensor):
            rate._data[...] = data

    return restore
