"""Functions and classes of the user's that checkpoints may ask for, beside data."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, TypeAlias

__all__ = [
    "add_safe_globals",
    "clear_safe_globals",
    "get_safe_globals",
    "safe_globals",
    "trusted_by_name",
]

SafeGlobal: TypeAlias = Callable[..., Any] | tuple[Callable[..., Any], str]

_trusted: set[SafeGlobal] = set()


def add_safe_globals(safe_globals: Sequence[SafeGlobal]) -> None:
    """Let `load` use these functions and classes in files that ask for them.

    Args:
        safe_globals: functions and classes; or pairs of one and the full name (`"module.name"`)
            that the file calls it by. Whoever writes a file decides what they are called with.
    """
    _trusted.update(safe_globals)


def get_safe_globals() -> list[SafeGlobal]:
    """What has been added."""
    return list(_trusted)


def clear_safe_globals() -> None:
    """Take back everything that has been added."""
    _trusted.clear()


class safe_globals:
    """A context in which `load` may use these functions and classes; see `add_safe_globals`."""

    def __init__(self, safe_globals: Sequence[SafeGlobal]) -> None:
        self.safe_globals = safe_globals

    def __enter__(self) -> None:
        self._new = set(self.safe_globals) - _trusted
        add_safe_globals(self.safe_globals)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        _trusted.difference_update(self._new)


def trusted_by_name() -> dict[str, Any]:
    """What has been added, by the names in files.

    Raises:
        ValueError, TypeError: something that is no function, class or pair with a name.
    """
    found = {}
    for entry in _trusted:
        if not isinstance(entry, tuple):
            found[f"{entry.__module__}.{entry.__qualname__}"] = entry
            continue
        if len(entry) != 2:
            raise ValueError(
                "Expected tuple of length 2 (global, str of callable full path), but got tuple of "
                f"length: {len(entry)}"
            )
        known, name = entry
        if type(name) is not str:
            raise TypeError(
                "Expected second item in tuple to be str of callable full path, but got: "
                f"{type(name)}"
            )
        found[name] = known
    return found
