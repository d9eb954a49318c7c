"""Places in one arena for values that live for a while: best fit over lifetimes.

The interface is `place`: sizes and lifetimes in, offsets and the arena's size out. It runs when
sizes are known, which for symbolic ones is when a program is first called with them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

ALIGNMENT = 64  # bytes: a cache line, and the widest vector


@dataclass(frozen=True, slots=True)
class Lifetime:
    """`size` bytes, needed from step `first` to step `last`, both included."""

    size: int
    first: int
    last: int


def place(lifetimes: Sequence[Lifetime]) -> tuple[list[int], int]:
    """Offsets, multiples of ALIGNMENT, and the number of bytes in all.

    Large ones are placed first, each in the smallest gap that the others alive at any of its steps
    leave.
    """
    offsets = [0] * len(lifetimes)
    placed: list[tuple[int, int, Lifetime]] = []  # offset, end, what
    total = 0
    order = sorted(range(len(lifetimes)), key=lambda i: (-lifetimes[i].size, i))
    for i in order:
        own = lifetimes[i]
        size = -(-own.size // ALIGNMENT) * ALIGNMENT
        others = sorted((o, e) for o, e, t in placed if t.first <= own.last and own.first <= t.last)
        offset = _best_gap(others, size)
        offsets[i] = offset
        placed.append((offset, offset + size, own))
        total = max(total, offset + size)
    return offsets, total


def _best_gap(taken: list[tuple[int, int]], size: int) -> int:
    """The start of the smallest gap of `size` between taken ranges, else of the end."""
    best, room = -1, 0
    end = 0
    for start, stop in taken:
        gap = start - end
        if gap >= size and (best < 0 or gap < room):
            best, room = end, gap
        end = max(end, stop)
    return best if best >= 0 else end
