"""Hooks on entries of the tape: ``grad_fn.register_hook`` and ``register_prehook``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .. import _changes
from .._dispatch import make
from .inplace import RemovableHandle

Hook = Callable[..., Any]


def _tensor(g: Any) -> Any:
    if g is None or hasattr(g, "_data"):
        return g
    return make(np.asarray(g) if isinstance(g, np.generic) else g)


def _like(new: Any, old: Any) -> Any:
    """A hook's result as the pass has it: tensors where `old` is one, else data."""
    return new if new is None or old is None or hasattr(old, "_data") else new._data


def before(entry: Any, fn: Hook) -> RemovableHandle:
    """Call ``fn(grad_outputs)`` before the entry's rule; a result replaces them."""
    if getattr(getattr(entry, "op", None), "n_outputs", 1) == 1:
        if entry.hooks is None:
            entry.hooks = {}

        def hook(g: Any) -> Any:
            found = fn((g,))
            return None if found is None else found[0]

        return RemovableHandle(entry.hooks, hook, _changes.tensors)
    return RemovableHandle(_hooked(entry).before, fn, _changes.tensors)


def after(entry: Any, fn: Hook) -> RemovableHandle:
    """Call ``fn(grad_inputs, grad_outputs)`` after the rule; a result replaces the first."""
    return RemovableHandle(_hooked(entry).after, fn, _changes.tensors)


def after_leaf(leaf: Any, fn: Hook) -> RemovableHandle:
    """Call ``fn((), (grad,))`` after a gradient has accumulated in a leaf."""
    if leaf.post_hooks is None:
        leaf.post_hooks = {}
    return RemovableHandle(leaf.post_hooks, lambda g: fn((), (g,)), _changes.tensors)


class _HookedRule:
    """In an entry's place of its rule: the rule, and the hooks around it.

    What else is asked of an op, such as what it saves, the op answers.
    """

    accelerator = None

    def __init__(self, owner: Any, rule: Callable[..., Any]) -> None:
        self.owner = owner
        self.rule = rule
        self.before: dict[int, Hook] = {}
        self.after: dict[int, Hook] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self.owner, name)

    def vjp(self, g: Any, *rest: Any) -> Sequence[Any]:
        """As the op's rule."""
        several = isinstance(g, tuple | list)
        gs = list(g) if several else [g]
        for hook in list(self.before.values()):
            new = hook(tuple(map(_tensor, gs)))
            if new is not None:
                gs = [_like(a, b) for a, b in zip(new, gs, strict=True)]
        found = self.rule(type(g)(gs) if several else gs[0], *rest)
        values = [x() if callable(x) and not hasattr(x, "shape") else x for x in found]
        for hook in list(self.after.values()):
            new = hook(tuple(map(_tensor, values)), tuple(map(_tensor, gs)))
            if new is not None:
                new = new if isinstance(new, tuple) else (new,)
                values = [_like(a, b) for a, b in zip(new, values, strict=True)]
        return values


def _hooked(entry: Any) -> _HookedRule:
    """The hooks around an entry's rule, set up at first."""
    if "op" in getattr(type(entry), "__slots__", ()):  # a recorded operation
        if type(entry.op) is not _HookedRule:
            entry.op = _HookedRule(entry.op, entry.op.vjp)
        return entry.op
    held = entry.__dict__.get("_hooked")
    if held is None:
        run = entry.run_towards
        held = entry.__dict__["_hooked"] = _HookedRule(entry, run)
        entry.run_towards = held.vjp
    return held  # type: ignore[no-any-return]
