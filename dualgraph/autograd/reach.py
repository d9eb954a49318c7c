"""Where the tape leads: questions about what a backward pass from some entries would meet."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from .tape import CustomNode, Leaf, Node, Pick


def leading_to(roots: Sequence[tuple[Any, Any]], targets: dict[Any, Any]) -> set[Any]:
    """Producers reachable from the roots with an operand that is, or leads to, a target."""
    found: set[Any] = set()
    order: list[Any] = []
    seen: set[Any] = set()
    stack = [fn for fn, _ in roots]
    while stack:
        fn = stack.pop()
        if fn in seen:
            continue
        seen.add(fn)
        order.append(fn)
        stack.extend(e for e in parents(fn) if e is not None)
    for fn in sorted(order, key=lambda n: n.seq):
        if any(e in found or e in targets for e in parents(fn)):
            found.add(fn)
    return found


def parents(fn: Any) -> Sequence[Any]:
    """The entries that an entry of the tape was computed from (None: no gradient wanted)."""
    if type(fn) is Leaf:
        return ()
    return (fn.node,) if type(fn) is Pick else fn.edges


def leads_to_used_up(fn: Any, known: dict[Any, bool]) -> bool:
    """Whether a backward pass from `fn` meets an entry that an earlier one has freed.

    `known` keeps the answers, so that asking for many entries of one tape costs one walk.
    """
    order: list[Any] = []
    stack = [fn]
    seen = set(known)
    while stack:
        entry = stack.pop()
        if entry is None or entry in seen:
            continue
        seen.add(entry)
        order.append(entry)
        stack.extend(parents(entry))
    for entry in sorted(order, key=lambda n: n.seq):
        freed = isinstance(entry, Node | CustomNode) and entry.is_used_up
        known[entry] = freed or any(known.get(e, False) for e in parents(entry))
    return known[fn]


def walked(fns: Iterable[Any]) -> set[Any]:
    """These entries of the tape and all that they were computed from."""
    seen: set[Any] = set()
    stack = list(fns)
    while stack:
        fn = stack.pop()
        if fn is not None and fn not in seen:
            seen.add(fn)
            stack.extend(parents(fn))
    return seen


def reached(fns: Mapping[int, Any], ends: Sequence[Any]) -> dict[int, frozenset[int]]:
    """For each producer, the numbers of those `ends` of the tape that a backward from it meets."""
    masks: dict[Any, int] = {}
    for i, end in enumerate(ends):
        masks[end] = masks.get(end, 0) | 1 << i
    for fn in sorted(walked(fns.values()), key=lambda n: n.seq):
        mask = masks.get(fn, 0)
        for parent in parents(fn):
            mask |= masks.get(parent, 0)
        masks[fn] = mask
    return {
        i: frozenset(k for k in range(len(ends)) if masks[fn] >> k & 1) for i, fn in fns.items()
    }
