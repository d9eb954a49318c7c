"""Places in one arena for values that live for a while.

Sizes and lifetimes in, offsets and the arena's size out. It runs when sizes are known, which for
symbolic ones is when a graph is first run with them.
"""

from __future__ import annotations

import bisect
from collections.abc import Sequence
from dataclasses import dataclass

ALIGNMENT = 64  # bytes: a cache line, and the widest vector

# Up to this many values, the largest is placed first; beyond, they are placed as they come, which
# takes time that grows with their number rather than with its square.
_MANY = 2000


@dataclass(frozen=True, slots=True)
class Lifetime:
    """`size` bytes, needed from step `first` to step `last`, both included."""

    size: int
    first: int
    last: int


def place(lifetimes: Sequence[Lifetime]) -> tuple[list[int], int]:
    """Offsets, multiples of ALIGNMENT, and the number of bytes in all."""
    sizes = [_padded(t.size) for t in lifetimes]
    offsets = (_by_time if len(sizes) > _MANY else _by_size)(lifetimes, sizes)
    return offsets, max((o + n for o, n in zip(offsets, sizes, strict=True)), default=0)


def peak(lifetimes: Sequence[Lifetime]) -> int:
    """The most bytes alive at any step: no arena can be smaller."""
    changes: dict[int, int] = {}
    for t in lifetimes:
        size = _padded(t.size)
        changes[t.first] = changes.get(t.first, 0) + size
        changes[t.last + 1] = changes.get(t.last + 1, 0) - size
    now = most = 0
    for at in sorted(changes):
        now += changes[at]
        most = max(most, now)
    return most


def _padded(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT


def _by_size(lifetimes: Sequence[Lifetime], sizes: Sequence[int]) -> list[int]:
    """Largest first, each into the tightest gap that those alive with it leave."""
    offsets = [0] * len(sizes)
    placed: list[tuple[int, int, int, int]] = []  # offset, end, first, last; sorted
    for i in sorted(range(len(sizes)), key=lambda i: (-sizes[i], lifetimes[i].first, i)):
        size, first, last = sizes[i], lifetimes[i].first, lifetimes[i].last
        best, room, end = -1, 0, 0
        for start, stop, a, b in placed:
            if a > last or b < first:
                continue
            gap = start - end
            if gap >= size and (best < 0 or gap < room):
                best, room = end, gap
            end = max(end, stop)
        offsets[i] = best if best >= 0 else end
        bisect.insort(placed, (offsets[i], offsets[i] + size, first, last))
    return offsets


def _by_time(lifetimes: Sequence[Lifetime], sizes: Sequence[int]) -> list[int]:
    """In the order of first use, each into the tightest free block."""
    offsets = [0] * len(sizes)
    free: list[tuple[int, int]] = []  # start, end; sorted, no two adjacent
    top = gone = 0
    ending = sorted(range(len(sizes)), key=lambda i: lifetimes[i].last)
    for i in sorted(range(len(sizes)), key=lambda i: lifetimes[i].first):
        while lifetimes[ending[gone]].last < lifetimes[i].first:
            dead = ending[gone]
            _release(free, offsets[dead], offsets[dead] + sizes[dead])
            gone += 1
        size = sizes[i]
        fitting = [(b - a, k) for k, (a, b) in enumerate(free) if b - a >= size]
        if fitting:
            k = min(fitting)[1]
            start, end = free.pop(k)
            if start + size < end:
                free.insert(k, (start + size, end))
        else:
            start = free.pop()[0] if free and free[-1][1] == top else top
            top = start + size
        offsets[i] = start
    return offsets


def _release(free: list[tuple[int, int]], start: int, end: int) -> None:
    """Add a block to the free ones, joined with its neighbours."""
    if start == end:
        return
    i = bisect.bisect(free, (start, end))
    if i < len(free) and free[i][0] == end:
        end = free.pop(i)[1]
    if i and free[i - 1][1] == start:
        i -= 1
        start = free.pop(i)[0]
    free.insert(i, (start, end))
