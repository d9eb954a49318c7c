"""A count of changes to what compiled functions depend on, so that they need not look each time.

Whoever assigns to an attribute of a module, registers a hook, or changes what kind of tensor a
tensor is, calls `note`. A guard that held at one count holds as long as the count is the same.
"""

from __future__ import annotations

import itertools
from typing import Any

_numbers = itertools.count(1)


class Changes:
    """`count` is another number after every change; numbers never come back."""

    count = 0

    def note(self) -> None:
        """Something changed."""
        self.count = next(_numbers)


changes = Changes()


class Members(dict[str, Any]):
    """A dict of a module's parameters, buffers or submodules: changing it is noted.

    Copied and pickled as a plain dict.
    """

    def __setitem__(self, key: str, value: Any) -> None:
        dict.__setitem__(self, key, value)
        changes.note()

    def __delitem__(self, key: str) -> None:
        dict.__delitem__(self, key)
        changes.note()

    def __ior__(self, other: Any) -> Members:  # type: ignore[override,misc]
        self.update(other)
        return self

    def clear(self) -> None:
        dict.clear(self)
        changes.note()

    def pop(self, *args: Any) -> Any:
        changes.note()
        return dict.pop(self, *args)

    def popitem(self) -> tuple[str, Any]:
        changes.note()
        return dict.popitem(self)

    def setdefault(self, key: str, default: Any = None) -> Any:
        changes.note()
        return dict.setdefault(self, key, default)

    def update(self, *args: Any, **kwargs: Any) -> None:
        dict.update(self, *args, **kwargs)
        changes.note()

    def __reduce__(self) -> Any:
        return dict, (dict(self),)
