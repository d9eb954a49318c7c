"""Counts of changes to what compiled functions depend on, so that they need not look each time.

Whoever changes one of these kinds of things calls `note` of its count. What held at one count holds
as long as the count is the same. There are several, so that what is changed all the time in a
training loop (learning rates, say) does not make anybody look at all of a model.
"""

from __future__ import annotations

import itertools
from typing import Any

_numbers = itertools.count(1)


class Changes:
    """`count` is another number after every change; numbers never come back."""

    __slots__ = ("count",)

    def __init__(self) -> None:
        self.count = 0

    def note(self) -> None:
        """Something changed."""
        self.count = next(_numbers)


modules = Changes()  # attributes, members and hooks of modules
tensors = Changes()  # which data a tensor has, and whether it requires a gradient
memory = Changes()  # whether memory may be written to without a new version
optimizers = Changes()  # attributes, groups and state of optimizers
options = Changes()  # options of groups: learning rates, say


class Noting(dict[Any, Any]):
    """A dict that notes when it is changed. Copied and pickled as a plain dict."""

    __slots__ = ()
    changes = modules

    def __setitem__(self, key: Any, value: Any) -> None:
        dict.__setitem__(self, key, value)
        self.changes.note()

    def __delitem__(self, key: Any) -> None:
        dict.__delitem__(self, key)
        self.changes.note()

    def __ior__(self, other: Any) -> Any:  # type: ignore[misc]
        self.update(other)
        return self

    def clear(self) -> None:
        dict.clear(self)
        self.changes.note()

    def pop(self, *args: Any) -> Any:
        found = dict.pop(self, *args)
        self.changes.note()
        return found

    def popitem(self) -> tuple[Any, Any]:
        found = dict.popitem(self)
        self.changes.note()
        return found

    def setdefault(self, key: Any, default: Any = None) -> Any:
        found = dict.setdefault(self, key, default)
        self.changes.note()
        return found

    def update(self, *args: Any, **kwargs: Any) -> None:
        dict.update(self, *args, **kwargs)
        self.changes.note()

    def __reduce__(self) -> Any:
        return dict, (dict(self),)


class Own(Noting):
    """The ``__dict__`` of a module.

    Python itself (``object.__setattr__``) writes to it without a note.
    """

    __slots__ = ()


class Members(Noting):
    """A module's parameters, buffers or submodules."""

    __slots__ = ()
