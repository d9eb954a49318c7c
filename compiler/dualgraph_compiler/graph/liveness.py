"""How many bytes the values of a graph take, and how many are alive at a time."""

from __future__ import annotations

from ..dims import Dim, evaluate, symbols
from ..types import TensorType
from .core import Graph, Node, Value

# What a symbolic size counts as where sizes are weighed against each other.
_GUESS = 32


def nbytes(t: TensorType) -> int:
    """Bytes of a value of this type; symbolic sizes are taken to be 32, or within their bounds."""
    count = int(t.dtype.itemsize)
    for d in t.shape:
        count *= _guessed(d) if isinstance(d, Dim) else d
    return count


def _guessed(d: Dim) -> int:
    env = {s.name: min(max(_GUESS, s.min), s.max or _GUESS) for s in symbols(d)}
    return max(int(evaluate(d, env)), 0)


class Lifetimes:
    """From when to when the memory of each value is needed, if nodes run in order.

    Inputs, params and constants are the caller's and do not count; a view lives in the memory of
    what it shows, its `owner`. `first` and `last` are positions of nodes, by owner; `shown` are the
    values that live in an owner's memory. `bytes_at` says how much is alive while each node runs.
    """

    def __init__(self, graph: Graph) -> None:
        self.position: dict[Node, int] = {}
        self.owner: dict[Value, Value] = {}
        self.first: dict[Value, int] = {}
        self.last: dict[Value, int] = {}
        self.shown: dict[Value, list[Value]] = {}
        for i, node in enumerate(graph.nodes):
            self.position[node] = i
            view = node.op.is_view or node.op.may_alias
            for v in node.inputs:
                self.last[self.owner.get(v, v)] = i
            for v in node.outputs:
                shows = self.owner.get(node.inputs[0], node.inputs[0]) if view else v
                self.owner[v] = shows
                self.shown.setdefault(shows, []).append(v)
                self.last[shows] = i
                if shows is v:
                    self.first[v] = i
        count = len(self.position)
        self.returned = {self.owner.get(v, v) for v in graph.outputs}
        for v in self.returned:
            self.last[v] = count
        change = [0] * (count + 1)
        for v, i in self.first.items():
            size = nbytes(v.type)
            change[i] += size
            change[min(self.last[v] + 1, count)] -= size
        self.bytes_at: list[int] = []
        now = 0
        for i in range(count):
            now += change[i]
            self.bytes_at.append(now)

    @property
    def peak(self) -> int:
        """The most bytes alive at any time."""
        return max(self.bytes_at, default=0)

    @property
    def peak_at(self) -> int:
        """The first node that runs when most bytes are alive."""
        return self.bytes_at.index(self.peak)

    def alive_at(self, position: int) -> list[Value]:
        """The owners alive while a node runs, in the order they are made."""
        return [v for v, i in self.first.items() if i <= position <= self.last[v]]


def peak_bytes(graph: Graph) -> int:
    """The most bytes alive at any time of a run, as :class:`Lifetimes` counts them."""
    return Lifetimes(graph).peak
