"""What tells kinds of calls apart: keys made of arguments that are no tensors."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np


class Unkeyed(TypeError):
    """An argument that cannot be told from others by what it holds; the message says why."""


class Same:
    """A key that is equal to itself only; holds the object, so that it stays the only one."""

    __slots__ = ("x",)

    def __init__(self, x: Any) -> None:
        self.x = x

    def __eq__(self, other: object) -> bool:
        return type(other) is Same and other.x is self.x

    def __hash__(self) -> int:
        return id(self.x)

    def __repr__(self) -> str:
        return f"a {type(self.x).__name__}"


# Arrays of at most this many bytes are compared at every call.
_LARGEST = 1 << 16


def key_of(leaf: Any) -> Any:
    """A hashable key: equal for two values only if a function cannot tell them apart.

    1, 1.0 and True are different, so are 0.0 and -0.0; a NaN is itself; arrays are their elements.
    Objects with attributes are told apart by who they are, others as their own `__eq__` says.

    Raises:
        Unkeyed: reading `leaf` uses it up, or it may change without notice.
    """
    kind = type(leaf)
    if kind is int or kind is str or kind is bool or leaf is None:
        return kind, leaf
    if kind is float:
        return kind, leaf if leaf and leaf == leaf else repr(leaf)
    if kind is complex or isinstance(leaf, np.generic):
        return kind, repr(leaf)
    if kind is slice:
        return kind, key_of(leaf.start), key_of(leaf.stop), key_of(leaf.step)
    if kind is set or kind is frozenset:
        return kind, *map(key_of, leaf)
    if isinstance(leaf, np.ndarray) and not leaf.dtype.hasobject and leaf.nbytes <= _LARGEST:
        return kind, leaf.dtype.str, leaf.shape, leaf.tobytes()
    if isinstance(leaf, Iterator):
        raise Unkeyed(f"a {kind.__name__}, which is used up as it is read")
    if hasattr(leaf, "__dict__"):
        return Same(leaf)
    try:
        hash(leaf)
    except TypeError:
        raise Unkeyed(f"a {kind.__name__}, which may change between calls") from None
    return kind, leaf


class CallForm:
    """Puts the arguments of calls in the order of the parameters, however they are passed."""

    def __init__(self) -> None:
        self._plans: dict[Any, Callable[..., Any] | None] = {}

    def ordered(
        self, target: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
        """`args` and `kwargs` with as few keywords as there can be, these in the signature's order.

        None if `target` does not take such arguments.
        """
        key = (getattr(target, "__func__", target), len(args), *kwargs)
        try:
            plan = self._plans[key]
        except KeyError:
            plan = self._plans[key] = _plan(target, len(args), kwargs)
        if plan is None:
            return None
        return plan(args, kwargs)  # type: ignore[no-any-return]


def _plan(target: Any, count: int, keywords: Mapping[str, Any]) -> Callable[..., Any] | None:
    try:
        # A decorator may do as it likes with what the function it wraps would call by these names.
        own = inspect.signature(target, follow_wrapped=False)
        wrapped = inspect.signature(target)
    except (ValueError, TypeError):  # a builtin without a signature
        return lambda args, kwargs: (args, dict(kwargs))
    names = {name: name for name in keywords}
    try:
        bound = own.bind(*range(count), **names)
    except TypeError:
        return None
    positional = bound.args[count:]
    order = [name for name in wrapped.parameters if name in bound.kwargs]
    named = (*order, *[name for name in bound.kwargs if name not in order])
    return lambda args, kwargs: (
        (*args, *[kwargs[name] for name in positional]),
        {name: kwargs[name] for name in named},
    )
