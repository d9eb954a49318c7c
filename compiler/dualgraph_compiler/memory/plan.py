"""Buffer planning: lifetimes of everything a run computes, and its place in one arena.

``plan_memory`` finds what needs memory of its own and from which node to which; sizes may be
symbolic. ``MemoryPlan.place`` gives every buffer an offset, once the sizes are known.
"""

from __future__ import annotations

import bisect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ..dims import DimLike, evaluate
from ..graph.alias import Aliases
from ..graph.core import Graph, Value
from .inplace import InPlacePlan, plan_in_place

ALIGNMENT = 64  # bytes: a cache line, and the widest vector

# Up to this many buffers, the largest is placed first; beyond, they are placed as they come, which
# takes time that grows with their number rather than with its square.
_MANY = 2000


@dataclass(frozen=True, slots=True, eq=False)
class Storage:
    """One buffer: the values that lie in it one after the other, in the order they are written.

    `size` in bytes. It is needed from the node at position `first` of the plan's order to the one
    at `last`, both included. Where `escapes`, an output lies in it: it is the caller's afterwards
    and has no place in the arena.
    """

    values: tuple[Value, ...]
    size: DimLike
    first: int
    last: int
    escapes: bool


@dataclass(frozen=True, slots=True, eq=False)
class MemoryPlan:
    """Every buffer that a run of `graph` needs, in the order of first use."""

    graph: Graph
    in_place: InPlacePlan
    storages: tuple[Storage, ...]

    def place(self, sizes: Mapping[str, int] | None = None) -> Placement:
        """Offsets of the buffers that do not escape, for these sizes of the symbolic dims."""
        env = sizes or {}
        return place({s: evaluate(s.size, env) for s in self.storages if not s.escapes}, self)

    def __str__(self) -> str:
        kept = sum(s.escapes for s in self.storages)
        return (
            f"{len(self.storages)} buffers, {kept} of them results; {self.in_place}\n"
            + "\n".join(
                f"  [{s.first:>4}, {s.last:>4}] {s.size} bytes"
                f"{' (result)' if s.escapes else ''}: {', '.join(map(_label, s.values))}"
                for s in self.storages
            )
        )


@dataclass(frozen=True, slots=True, eq=False)
class Placement:
    """Where buffers lie in the arena; all figures in bytes.

    `arena_bytes` is what the arena takes, `peak_bytes` the most that is alive at a time, below
    which no arena can be, and `total_bytes` what all buffers together would take; `value_bytes`
    counts each value computed in place besides.
    """

    offsets: dict[Storage, int]
    sizes: dict[Storage, int]
    arena_bytes: int
    peak_bytes: int
    total_bytes: int
    value_bytes: int

    def __str__(self) -> str:
        return (
            f"arena {_amount(self.arena_bytes)} for {len(self.offsets)} buffers of "
            f"{_amount(self.total_bytes)} ({_amount(self.value_bytes)} of values); "
            f"at least {_amount(self.peak_bytes)} are alive at once"
        )


def plan_memory(
    graph: Graph, in_place: InPlacePlan | None = None, *, row_major: bool = False
) -> MemoryPlan:
    """The buffers of `graph`, given (or making) a plan of what is computed in place.

    `row_major` is what :class:`Aliases` takes.
    """
    in_place = in_place or plan_in_place(graph, row_major=row_major)
    aliases = Aliases(graph, in_place.order, row_major=row_major)
    homes = in_place.homes()
    groups: dict[Value, list[Value]] = {}
    for node in aliases.nodes:
        for v in node.outputs:
            home = homes.get(v, v)
            if v in aliases.storages[v] and home not in aliases.outside:
                groups.setdefault(home, []).append(v)
    return MemoryPlan(graph, in_place, tuple(_storage(aliases, g) for g in groups.values()))


def _storage(aliases: Aliases, values: Sequence[Value]) -> Storage:
    written = [aliases.position[v.node] for v in values if v.node is not None]
    return Storage(
        tuple(values),
        values[0].size * values[0].dtype.itemsize,
        written[0],
        max(*written, *(aliases.last_read(v) for v in values)),
        any(v in aliases.escaping for v in values),
    )


def place(sizes: Mapping[Storage, int], plan: MemoryPlan | None = None) -> Placement:
    """Give each of these buffers an offset, so that those alive at the same time do not overlap."""
    padded = {s: -(-n // ALIGNMENT) * ALIGNMENT for s, n in sizes.items()}
    offsets = _by_time(padded) if len(padded) > _MANY else _by_size(padded)
    return Placement(
        offsets,
        dict(sizes),
        max((offsets[s] + padded[s] for s in padded), default=0),
        _peak(padded),
        sum(sizes.values()),
        sum(n * len(s.values) for s, n in sizes.items()),
    )


def _by_size(sizes: Mapping[Storage, int]) -> dict[Storage, int]:
    """Largest first, each into the tightest gap between those alive with it."""
    offsets: dict[Storage, int] = {}
    placed: list[tuple[int, int, int, int]] = []  # offset, end, first, last; sorted
    for storage in sorted(sizes, key=lambda s: (-sizes[s], s.first)):
        size, first, last = sizes[storage], storage.first, storage.last
        best, room, end = -1, 0, 0
        for start, stop, a, b in placed:
            if a > last or b < first:
                continue
            gap = start - end
            if gap >= size and (best < 0 or gap < room):
                best, room = end, gap
            end = max(end, stop)
        offset = best if best >= 0 else end
        offsets[storage] = offset
        bisect.insort(placed, (offset, offset + size, first, last))
    return offsets


def _by_time(sizes: Mapping[Storage, int]) -> dict[Storage, int]:
    """In the order of first use, each into the tightest free block."""
    offsets: dict[Storage, int] = {}
    free: list[tuple[int, int]] = []  # start, end; sorted, no two adjacent
    top = 0
    ending = sorted(sizes, key=lambda s: s.last)
    gone = 0
    for storage in sorted(sizes, key=lambda s: s.first):
        while ending[gone].last < storage.first:
            dead = ending[gone]
            _release(free, offsets[dead], offsets[dead] + sizes[dead])
            gone += 1
        size = sizes[storage]
        fitting = [(b - a, i) for i, (a, b) in enumerate(free) if b - a >= size]
        if fitting:
            i = min(fitting)[1]
            start, end = free.pop(i)
            if start + size < end:
                free.insert(i, (start + size, end))
        else:
            start = free.pop()[0] if free and free[-1][1] == top else top
            top = start + size
        offsets[storage] = start
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


def _peak(sizes: Mapping[Storage, int]) -> int:
    """The most bytes alive at any node."""
    changes: dict[int, int] = {}
    for s, n in sizes.items():
        changes[s.first] = changes.get(s.first, 0) + n
        changes[s.last + 1] = changes.get(s.last + 1, 0) - n
    now = most = 0
    for at in sorted(changes):
        now += changes[at]
        most = max(most, now)
    return most


def _label(v: Value) -> str:
    return f"%{v.name}" if v.name else (v.node.op.name if v.node is not None else "?")


def _amount(n: int) -> str:
    for unit in ("B", "KiB", "MiB"):
        if n < 1024 or unit == "MiB":
            return f"{n:.4g} {unit}" if unit != "B" else f"{n} B"
        n = n / 1024  # type: ignore[assignment]
    raise AssertionError
