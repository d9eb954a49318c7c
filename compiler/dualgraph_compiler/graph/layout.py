"""Layered drawing of directed acyclic graphs: boxes in rows, edges downwards.

The method of Sugiyama, Tagawa and Toda (1981): rows by longest path, fewer crossings by median
sweeps, columns by Brandes and Köpf (2001), "Fast and Simple Horizontal Coordinate Assignment".
"""

from __future__ import annotations

from bisect import bisect_right, insort
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from .columns import assign_columns

Point = tuple[float, float]

_ROW_GAP = 26.0
_LANE = 16.0  # width kept free for an edge that passes a row
_SWEEPS = 12


@dataclass(frozen=True, slots=True)
class Layout:
    """`centres` of the boxes; `routes`, for each edge, the points it runs through, top to
    bottom."""

    centres: list[Point]
    routes: list[list[Point]]
    width: float
    height: float


class Layers:
    """Nodes in rows; edges that span several rows run through `lanes`, nodes without a box.

    Nodes 0..n-1 are boxes, the rest lanes. `up` and `down` are neighbours in the adjacent rows.
    """

    def __init__(self, count: int, edges: Sequence[tuple[int, int]]) -> None:
        self.boxes = count
        self.chains: list[list[int]] = []  # per edge: source, lanes, target
        row = _rows(count, edges)
        self.rows: list[list[int]] = [[] for _ in range(max(row, default=-1) + 1)]
        self.up: list[list[int]] = [[] for _ in range(count)]
        self.down: list[list[int]] = [[] for _ in range(count)]
        for node, r in enumerate(row):
            self.rows[r].append(node)
        for a, b in edges:
            chain = [a]
            for r in range(row[a] + 1, row[b]):
                chain.append(len(self.up))
                self.rows[r].append(len(self.up))
                self.up.append([])
                self.down.append([])
            chain.append(b)
            for upper, lower in pairwise(chain):
                self.down[upper].append(lower)
                self.up[lower].append(upper)
            self.chains.append(chain)

    def is_lane(self, node: int) -> bool:
        return node >= self.boxes


def layout(sizes: Sequence[Point], edges: Sequence[tuple[int, int]]) -> Layout:
    """Place boxes of the given (width, height), joined by `edges` (distinct pairs, no cycles)."""
    layers = Layers(len(sizes), edges)
    _reduce_crossings(layers)
    widths = [sizes[n][0] if n < len(sizes) else _LANE for n in range(len(layers.up))]
    x = assign_columns(layers, widths)
    left = min((x[n] - widths[n] / 2 for n in range(len(x))), default=0.0)
    x = [v - left for v in x]
    tops, heights, y = [], [], 0.0
    for row in layers.rows:
        heights.append(max((sizes[n][1] for n in row if n < len(sizes)), default=0.0))
        tops.append(y)
        y += heights[-1] + _ROW_GAP
    row_of = {n: r for r, row in enumerate(layers.rows) for n in row}
    centres = [(x[n], tops[row_of[n]] + heights[row_of[n]] / 2) for n in range(len(sizes))]
    routes = []
    for a, *lanes, b in layers.chains:
        points = [(x[a], centres[a][1] + sizes[a][1] / 2)]
        for lane in lanes:
            r = row_of[lane]
            points += [(x[lane], tops[r]), (x[lane], tops[r] + heights[r])]
        points.append((x[b], centres[b][1] - sizes[b][1] / 2))
        routes.append(points)
    width = max((x[n] + widths[n] / 2 for n in range(len(x))), default=0.0)
    return Layout(centres, routes, width, max(y - _ROW_GAP, 0.0))


def _rows(count: int, edges: Sequence[tuple[int, int]]) -> list[int]:
    """Longest path from a source; nodes with more readers than operands move down to these."""
    down: list[list[int]] = [[] for _ in range(count)]
    waiting = [0] * count
    for a, b in edges:
        down[a].append(b)
        waiting[b] += 1
    operands = list(waiting)
    row = [0] * count
    order = [n for n in range(count) if not waiting[n]]
    for n in order:
        for m in down[n]:
            row[m] = max(row[m], row[n] + 1)
            waiting[m] -= 1
            if not waiting[m]:
                order.append(m)
    for n in reversed(order):
        if down[n] and len(down[n]) > operands[n]:
            row[n] = min(row[m] for m in down[n]) - 1
    return row


def _reduce_crossings(layers: Layers) -> None:
    """Order each row by the medians of its neighbours, from above and from below in turn."""
    _initial_order(layers)
    best, fewest = [list(r) for r in layers.rows], _crossings(layers)
    for sweep in range(_SWEEPS):
        if not fewest:
            break
        downwards = sweep % 2 == 0
        rows = layers.rows[1:] if downwards else layers.rows[-2::-1]
        position = {n: i for row in layers.rows for i, n in enumerate(row)}
        for row in rows:
            near = layers.up if downwards else layers.down
            key = {n: _median([position[m] for m in near[n]], position[n]) for n in row}
            row.sort(key=key.__getitem__)
            for i, n in enumerate(row):
                position[n] = i
        crossings = _crossings(layers)
        if crossings < fewest:
            best, fewest = [list(r) for r in layers.rows], crossings
    layers.rows = best


def _initial_order(layers: Layers) -> None:
    """Depth first from the sources, so that a chain starts out as a column."""
    rank: dict[int, int] = {}
    starts = [n for row in layers.rows for n in row if not layers.up[n]]
    for start in starts:
        stack = [start]
        while stack:
            n = stack.pop()
            if n not in rank:
                rank[n] = len(rank)
                stack.extend(reversed(layers.down[n]))
    for row in layers.rows:
        row.sort(key=rank.__getitem__)


def _median(positions: list[int], otherwise: int) -> float:
    if not positions:
        return float(otherwise)
    positions.sort()
    middle = len(positions) // 2
    if len(positions) % 2:
        return float(positions[middle])
    return (positions[middle - 1] + positions[middle]) / 2


def _crossings(layers: Layers) -> int:
    total = 0
    for upper, lower in pairwise(layers.rows):
        position = {n: i for i, n in enumerate(lower)}
        seen: list[int] = []
        for n in upper:
            ends = sorted(position[m] for m in layers.down[n])
            total += sum(len(seen) - bisect_right(seen, e) for e in ends)
            for e in ends:
                insort(seen, e)
    return total
