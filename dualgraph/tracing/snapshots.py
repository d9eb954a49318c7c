"""What Python data was like when a trace first met it, so that changes are found and undone."""

from __future__ import annotations

import pickle
import random
from collections import deque
from types import BuiltinMethodType
from typing import Any

import numpy as np

from .places import MUTABLE

# More elements than this in nested containers are not looked into.
_MOST = 100_000
# Callables with results of earlier calls inside.
_Cached = type(__import__("functools").lru_cache(lambda: None))


class Snapshot:
    """A value, and copies of the containers and arrays in it that may change in place."""

    __slots__ = ("copies", "value")

    def __init__(self, value: Any) -> None:
        self.value = value
        self.copies: list[tuple[Any, Any]] = []
        if type(value) not in _IMMUTABLE:
            self._take(value, set())

    def _take(self, value: Any, met: set[int]) -> None:
        if id(value) in met or len(met) > _MOST:
            return
        if isinstance(value, MUTABLE):
            met.add(id(value))
            copy = list(value) if isinstance(value, list | deque) else _plain_copy(value)
            self.copies.append((value, copy))
            if not isinstance(value, set):
                for x in copy.values() if isinstance(copy, dict) else copy:
                    if type(x) not in _IMMUTABLE:
                        self._take(x, met)
        elif isinstance(value, tuple):
            met.add(id(value))
            for x in value:
                self._take(x, met)
        elif type(value) is BuiltinMethodType:  # ``items.append``
            self._take(value.__self__, met)
        elif isinstance(value, np.ndarray):
            self.copies.append((value, value.copy()))
        elif (state := state_of(value)) is not None:
            self.copies.append((value, state))

    def changed(self) -> list[Any]:
        """The containers, arrays and generators that are not as they were."""
        return [x for x, copy in self.copies if not _is_as(x, copy)]

    def content(self, container: Any) -> Any:
        """What was in a container."""
        return next(copy for x, copy in self.copies if x is container)

    def restore(self) -> None:
        """Make what changed as it was."""
        for x, copy in self.copies:
            if not _is_as(x, copy):
                _refill(x, copy)


# Values without anything inside that could change.
_IMMUTABLE = (int, float, bool, str, type(None), bytes, complex)


def _plain_copy(x: Any) -> Any:
    return dict(x) if isinstance(x, dict) else set(x)


def state_of(x: Any) -> Any:
    """The state of a generator of random numbers, or the misses of a cache; None for the rest."""
    if isinstance(x, np.random.Generator):
        return pickle.dumps(x.bit_generator.state)
    if isinstance(x, np.random.RandomState):
        return pickle.dumps(x.get_state())
    if isinstance(x, random.Random):
        return x.getstate()
    if type(x) is _Cached:
        return x.cache_info().misses
    return None


def _is_as(x: Any, copy: Any) -> bool:
    if isinstance(x, list | deque):
        return len(x) == len(copy) and all(a is b for a, b in zip(x, copy))
    if isinstance(x, dict):
        same = len(x) == len(copy) and all(a is b for a, b in zip(x.values(), copy.values()))
        return same and all(a is b or a == b for a, b in zip(x, copy))
    if isinstance(x, set):
        return len(x) == len(copy) and {*map(id, x)} == {*map(id, copy)}
    if isinstance(x, np.ndarray):
        return x is copy or (x.shape == copy.shape and x.tobytes() == copy.tobytes())
    return bool(state_of(x) == copy)


def _refill(x: Any, copy: Any) -> None:
    if isinstance(x, list):
        x[:] = copy
    elif isinstance(x, np.ndarray):
        x[...] = copy
    elif isinstance(x, deque):
        x.clear()
        x.extend(copy)
    elif isinstance(x, dict | set):
        x.clear()
        x.update(copy)
    elif type(x) is _Cached:
        x.cache_clear()  # it may hold tensors of the trace
    else:
        _rewind(x, copy)


def _rewind(generator: Any, state: Any) -> None:
    """Give a generator of random numbers a state that `state_of` has given."""
    if isinstance(generator, np.random.Generator):
        generator.bit_generator.state = pickle.loads(state)
    elif isinstance(generator, np.random.RandomState):
        generator.set_state(pickle.loads(state))
    elif isinstance(generator, random.Random):
        generator.setstate(state)


class GlobalRandomState:
    """The state of NumPy's and Python's own generators."""

    def __init__(self) -> None:
        self._generators = np.random.mtrand._rand, random._inst
        self._states = [*map(state_of, self._generators)]

    def changed(self) -> bool:
        """Whether something was drawn since; makes it undone."""
        now = [*map(state_of, self._generators)]
        for generator, was, is_now in zip(self._generators, self._states, now):
            if is_now != was:
                _rewind(generator, was)
        return now != self._states
