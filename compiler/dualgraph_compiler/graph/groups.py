"""Large graphs in few boxes: neighbouring nodes of one module drawn as one.

Groups are runs of the topological order, so the drawing of groups has no cycles whatever the nodes
in them read.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from .core import Node


def groups_of(nodes: Sequence[Node], most: int) -> list[tuple[str, list[Node]]]:
    """At most `most` runs of nodes with their titles: of one module where that is enough.

    Modules are told apart to the depth at which there are still few enough runs.
    """
    deepest = max((_scope(n).count(".") + 1 for n in nodes), default=0)
    for depth in range(deepest, 0, -1):
        runs = [
            (scope, list(run))
            for scope, run in groupby(nodes, key=lambda n: _cut(_scope(n), depth))
        ]
        if len(runs) <= most:
            return _split_long(runs, most)
    return _split_long([("", list(nodes))], most)


def _scope(node: Node) -> str:
    return node.loc.scope if node.loc is not None else ""


def _cut(scope: str, depth: int) -> str:
    return ".".join(scope.split(".")[:depth])


def _split_long(runs: list[tuple[str, list[Node]]], most: int) -> list[tuple[str, list[Node]]]:
    """Runs that hold more than their share, cut into pieces while there is room."""
    total = sum(len(run) for _, run in runs)
    room = max(most - len(runs), 0)
    out = []
    for scope, run in runs:
        pieces = 1 + room * len(run) // max(total, 1)
        size = -(-len(run) // pieces)
        out += [(scope, run[i : i + size]) for i in range(0, len(run), size)]
    return out
