"""Minimum cuts of flow networks.

Dinic's algorithm (1970): augment along shortest paths only, all of one length at a time. Networks
whose paths are short, as those of recomputation are, need few rounds, each linear in practice;
networkx's algorithms take minutes where this takes a second.
"""

from __future__ import annotations


class FlowNetwork:
    """Points numbered from 0, joined by arcs of integer capacity."""

    def __init__(self, points: int = 0) -> None:
        self._arcs: list[list[int]] = [[] for _ in range(points)]
        self._end: list[int] = []
        self._left: list[int] = []  # arc a ^ 1 is arc a turned round

    def add_point(self) -> int:
        """A new point's number."""
        self._arcs.append([])
        return len(self._arcs) - 1

    def add_arc(self, start: int, end: int, capacity: int) -> None:
        """Let up to `capacity` flow from `start` to `end`."""
        self._arcs[start].append(len(self._end))
        self._end.append(end)
        self._left.append(capacity)
        self._arcs[end].append(len(self._end))
        self._end.append(start)
        self._left.append(0)

    def cut(self, source: int, sink: int) -> list[bool]:
        """Which points are on the sink's side of a minimum cut; of several, the cut nearest it."""
        while (level := self._levels(source, sink)) is not None:
            self._saturate(source, sink, level)
        reaches = [False] * len(self._arcs)
        reaches[sink] = True
        stack = [sink]
        while stack:
            for arc in self._arcs[stack.pop()]:
                point = self._end[arc]
                if self._left[arc ^ 1] and not reaches[point]:
                    reaches[point] = True
                    stack.append(point)
        return reaches

    def _levels(self, source: int, sink: int) -> list[int] | None:
        """The distance of every point from the source; None once the sink is out of reach."""
        level = [-1] * len(self._arcs)
        level[source] = 0
        row = [source]
        while row and level[sink] < 0:
            following = []
            for point in row:
                for arc in self._arcs[point]:
                    end = self._end[arc]
                    if self._left[arc] and level[end] < 0:
                        level[end] = level[point] + 1
                        following.append(end)
            row = following
        return level if level[sink] >= 0 else None

    def _saturate(self, source: int, sink: int, level: list[int]) -> None:
        """Augment until no path that goes one level up at each arc is left."""
        arcs, ends, left = self._arcs, self._end, self._left
        tried = [0] * len(arcs)
        path: list[int] = []
        point = source
        while True:
            if point == sink:
                flow = min(left[arc] for arc in path)
                for arc in path:
                    left[arc] -= flow
                    left[arc ^ 1] += flow
                full = next(i for i, arc in enumerate(path) if not left[arc])
                point = ends[path[full] ^ 1]
                del path[full:]
            for i in range(tried[point], len(arcs[point])):
                arc = arcs[point][i]
                if left[arc] and level[ends[arc]] == level[point] + 1:
                    tried[point] = i
                    path.append(arc)
                    point = ends[arc]
                    break
            else:
                if point == source:
                    return
                level[point] = -1  # a dead end
                point = ends[path.pop() ^ 1]
