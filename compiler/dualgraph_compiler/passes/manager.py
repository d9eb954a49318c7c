"""Runs passes in order, times them, and between them checks that the graph is still valid."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Protocol

from ..errors import GraphError
from ..graph import Graph, to_text, verify


class Pass(Protocol):
    """A rewriting of graphs in place. Its settings, if any, are its fields."""

    name: ClassVar[str]

    def run(self, graph: Graph) -> bool:
        """Rewrite `graph`, leaving it valid; returns whether anything changed."""


@dataclass(frozen=True, slots=True)
class PassRecord:
    """What one pass did: nodes `before` and `after`, seconds, and the graph's text if asked for."""

    name: str
    before: int
    after: int
    changed: bool
    seconds: float
    text: str | None = None


class PassManager:
    """Runs `passes` in order.

    Args:
        passes: what to run; the same pass may stand there twice.
        verify: check every invariant after each pass that changed something. The default follows
            the environment variable ``DUALGRAPH_VERIFY``.
        snapshots: keep the text of the graph after each pass, to display.
    """

    def __init__(
        self, passes: Sequence[Pass], *, verify: bool | None = None, snapshots: bool = False
    ) -> None:
        self.passes = list(passes)
        self.verify = os.environ.get("DUALGRAPH_VERIFY") == "1" if verify is None else verify
        self.snapshots = snapshots

    def run(self, graph: Graph) -> list[PassRecord]:
        """Rewrite `graph` in place.

        Raises:
            GraphError: with `verify`, a pass left an invalid graph; the message names the pass.
        """
        if self.verify:
            verify(graph)
        return [self._run_one(p, graph) for p in self.passes]

    def _run_one(self, p: Pass, graph: Graph) -> PassRecord:
        before, text = len(graph), to_text(graph) if self.verify else None
        started = time.perf_counter()
        changed = _run_nested(p, graph) | p.run(graph)
        seconds = time.perf_counter() - started
        if self.verify:
            try:
                verify(graph)
            except GraphError as error:
                raise GraphError(f"the pass {p.name!r} broke the graph: {error}") from error
            if not changed and to_text(graph) != text:
                raise GraphError(f"the pass {p.name!r} changed the graph and reported no change")
        snapshot = to_text(graph) if self.snapshots else None
        return PassRecord(p.name, before, len(graph), changed, seconds, snapshot)


def _run_nested(p: Pass, graph: Graph) -> bool:
    """Run `p` on the graphs that nodes hold, innermost first; whether any changed."""
    any_changed = False
    for node in graph.nodes:
        for name in node.op.bodies:
            body: Graph = getattr(node.op, name).copy()  # the one an op holds never changes
            if _run_nested(p, body) | p.run(body):
                graph.set_op(node, replace(node.op, **{name: body}))
                any_changed = True
    return any_changed
