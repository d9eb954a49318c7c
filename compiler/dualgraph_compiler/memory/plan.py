"""Buffer planning: lifetimes of everything a run computes, and its place in one arena.

``plan_memory`` finds what needs memory of its own and from which node to which; sizes may be
symbolic. ``MemoryPlan.place`` gives every buffer an offset, once the sizes are known.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ..arena import Lifetime, peak, place
from ..dims import DimLike, evaluate
from ..graph.alias import Aliases
from ..graph.core import Graph, Value
from .inplace import InPlacePlan, plan_in_place


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
        return place_storages({s: evaluate(s.size, env) for s in self.storages if not s.escapes})

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


def place_storages(sizes: Mapping[Storage, int]) -> Placement:
    """Give each of these buffers an offset, so that those alive at the same time do not overlap."""
    lifetimes = [Lifetime(n, s.first, s.last) for s, n in sizes.items()]
    offsets, total = place(lifetimes)
    return Placement(
        dict(zip(sizes, offsets, strict=True)),
        dict(sizes),
        total,
        peak(lifetimes),
        sum(sizes.values()),
        sum(n * len(s.values) for s, n in sizes.items()),
    )


def _label(v: Value) -> str:
    return f"%{v.name}" if v.name else (v.node.op.name if v.node is not None else "?")


def _amount(n: int) -> str:
    for unit in ("B", "KiB", "MiB"):
        if n < 1024 or unit == "MiB":
            return f"{n:.4g} {unit}" if unit != "B" else f"{n} B"
        n = n / 1024  # type: ignore[assignment]
    raise AssertionError
