"""Columns of a layered drawing: Brandes and Köpf (2001).

Nodes are aligned with the medians of their neighbours into vertical blocks, which makes long edges
straight; blocks are packed from the left. Done in all four directions, the results are balanced by
taking for each node the mean of the two middle ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .layout import Layers

_GAP = 22.0


def assign_columns(layers: Layers, widths: Sequence[float]) -> list[float]:
    """The horizontal centre of every node (lanes included)."""
    if not layers.rows:
        return []
    conflicts = _conflicts(layers)
    results = []
    for upwards in (False, True):
        for leftwards in (False, True):
            rows = [row[::-1] if leftwards else row for row in layers.rows]
            near = layers.down if upwards else layers.up
            root = _align(rows[::-1] if upwards else rows, near, conflicts)
            x = _pack(rows, root, widths)
            results.append([-v for v in x] if leftwards else x)
    return _balance(results, widths)


def _conflicts(layers: Layers) -> set[tuple[int, int]]:
    """Edges that cross an edge between two lanes: the other one shall be straight."""
    found: set[tuple[int, int]] = set()
    for upper, lower in pairwise(layers.rows):
        position = {n: i for i, n in enumerate(upper)}
        done, low = 0, 0
        for i, node in enumerate(lower):
            inner = next(
                (m for m in layers.up[node] if layers.is_lane(node) and layers.is_lane(m)), None
            )
            if inner is None and i < len(lower) - 1:
                continue
            high = position[inner] if inner is not None else len(upper) - 1
            for other in lower[done : i + 1]:
                for m in layers.up[other]:
                    both = layers.is_lane(other) and layers.is_lane(m)
                    if not both and not low <= position[m] <= high:
                        found.add((m, other))
            done, low = i + 1, high
    return found


def _align(
    rows: Sequence[Sequence[int]], near: Sequence[Sequence[int]], conflicts: set[tuple[int, int]]
) -> list[int]:
    """The root of each node's block; `near` are the neighbours in the row before."""
    root = list(range(len(near)))
    position = {n: i for row in rows for i, n in enumerate(row)}
    for row in rows:
        last = -1
        for node in row:
            others = sorted(near[node], key=position.__getitem__)
            count = len(others)
            if not count:
                continue
            for other in others[(count - 1) // 2 : count // 2 + 1]:
                crosses = (other, node) in conflicts or (node, other) in conflicts
                if last < position[other] and not crosses:
                    root[node] = root[other]
                    last = position[other]
                    break
    return root


def _pack(
    rows: Sequence[Sequence[int]], root: Sequence[int], widths: Sequence[float]
) -> list[float]:
    """Blocks as far left as their neighbours allow, then closed up to those on their right."""
    after: dict[int, dict[int, float]] = {r: {} for r in root}
    before: dict[int, dict[int, float]] = {r: {} for r in root}
    for row in rows:
        for a, b in pairwise(row):
            space = (widths[a] + widths[b]) / 2 + _GAP
            left, right = root[a], root[b]
            after[left][right] = before[right][left] = max(space, after[left].get(right, 0.0))
    order = _sorted_blocks(after, before)
    x = dict.fromkeys(order, 0.0)
    for block in order:
        x[block] = max((x[b] + s for b, s in before[block].items()), default=0.0)
    for block in reversed(order):
        if after[block]:
            x[block] = max(x[block], min(x[b] - s for b, s in after[block].items()))
    return [x[r] for r in root]


def _sorted_blocks(
    after: dict[int, dict[int, float]], before: dict[int, dict[int, float]]
) -> list[int]:
    waiting = {block: len(b) for block, b in before.items()}
    order = [block for block, n in waiting.items() if not n]
    for block in order:
        for other in after[block]:
            waiting[other] -= 1
            if not waiting[other]:
                order.append(other)
    return order


def _balance(results: Sequence[Sequence[float]], widths: Sequence[float]) -> list[float]:
    """The four results moved onto the narrowest, then for each node the mean of the middle two."""

    def extent(x: Sequence[float]) -> tuple[float, float]:
        return (
            min(v - w / 2 for v, w in zip(x, widths)),
            max(v + w / 2 for v, w in zip(x, widths)),
        )

    extents = [extent(x) for x in results]
    low, high = min(extents, key=lambda e: e[1] - e[0])
    moved = []
    for i, (x, (left, right)) in enumerate(zip(results, extents)):
        shift = high - right if i % 2 else low - left
        moved.append([v + shift for v in x])
    return [sum(sorted(four)[1:3]) / 2 for four in zip(*moved)]
