"""How many bytes the values of a graph take, and how many are alive at a time."""

from __future__ import annotations

from ..dims import Dim, evaluate, symbols
from ..types import TensorType
from .core import Graph, Value

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


def live_bytes(graph: Graph) -> list[int]:
    """Bytes alive while each node runs, in order: what nodes have made and something still reads.

    Inputs, params and constants are the caller's and do not count; a view counts as what it views.
    """
    owner: dict[Value, Value] = {}
    last: dict[Value, int] = {}
    made: dict[Value, int] = {}
    count = 0
    for i, node in enumerate(graph.nodes):
        count = i + 1
        view = node.op.is_view or node.op.may_alias
        for v in node.inputs:
            last[owner.get(v, v)] = i
        for v in node.outputs:
            owner[v] = owner.get(node.inputs[0], node.inputs[0]) if view else v
            if owner[v] is v:
                made[v] = i
            last[owner[v]] = i
    for v in graph.outputs:
        last[owner.get(v, v)] = count - 1
    change = [0] * (count + 1)
    for v, first in made.items():
        size = nbytes(v.type)
        change[first] += size
        change[last[v] + 1] -= size
    alive, now = [], 0
    for i in range(count):
        now += change[i]
        alive.append(now)
    return alive


def peak_bytes(graph: Graph) -> int:
    """The most bytes alive at any time of a run, as :func:`live_bytes` counts them."""
    return max(live_bytes(graph), default=0)
