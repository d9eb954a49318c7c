"""The order in which the steps of a program run."""

from __future__ import annotations

import heapq
from collections.abc import Sequence

from ..graph import Value
from .donation import Readers
from .steps import Step, StepKind


def readers_of(steps: Sequence[Step]) -> Readers:
    """The steps that read what a step computes, or need the sizes that it defines."""
    writer = {v: s for s in steps for n in s.nodes for v in n.outputs}
    readers: Readers = {s: {} for s in steps}
    for s in steps:
        for other in _needed(s, writer):
            readers[other][s] = None
    for s in steps:
        if any(n.op.defines_sizes for n in s.nodes):
            readers[s].update({later: None for later in steps if later.epoch > s.epoch})
    return readers


def clustered(steps: Sequence[Step], readers: Readers) -> list[Step]:
    """Steps in an order in which interpreted ones interrupt the others as rarely as they can."""
    waits: dict[Step, set[Step]] = {s: set() for s in steps}
    for s, others in readers.items():
        for reader in others:
            waits[reader].add(s)

    rank = {s: i for i, s in enumerate(steps)}
    native: list[int] = []
    foreign: list[int] = []

    def ready(s: Step) -> None:
        heapq.heappush(foreign if s.kind is StepKind.INTERPRETED else native, rank[s])

    for s in steps:
        if not waits[s]:
            ready(s)
    out: list[Step] = []
    while native or foreign:
        s = steps[heapq.heappop(native or foreign)]
        out.append(s)
        for reader in readers[s]:
            waits[reader].discard(s)
            if not waits[reader]:
                ready(reader)
    assert len(out) == len(steps), "steps wait for each other in a circle"
    return out


def _needed(step: Step, writer: dict[Value, Step]) -> set[Step]:
    """The steps that must have run before."""
    found: set[Step] = set()
    seen: set[Value] = set()
    pending = [v for n in step.nodes for v in n.inputs]
    while pending:
        v = pending.pop()
        if v in seen:
            continue
        seen.add(v)
        if v in writer:
            found.add(writer[v])
        elif v.node is not None:
            pending += v.node.inputs
    found.discard(step)
    return found
