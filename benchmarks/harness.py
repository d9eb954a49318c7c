"""Timing several contenders for one piece of work, fairly.

Contenders take turns in short blocks, with a pause before each: a peer's spinning threads slow
whoever runs next. What is reported for each is the median over its blocks of the time per call.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field

Work = Callable[[], object]


@dataclass
class Row:
    """One piece of work: what it is, and who does it how (name -> a call that does it once)."""

    title: str
    contenders: dict[str, Work]
    ours: tuple[str, ...] = ("dualgraph",)
    microseconds: dict[str, float] = field(default_factory=dict)

    def ratios(self) -> list[tuple[str, str, float]]:
        """(ours, peer, peer time / our time) for every pair."""
        peers = [n for n in self.microseconds if n not in self.ours]
        return [
            (ours, peer, self.microseconds[peer] / self.microseconds[ours])
            for ours in self.ours
            if ours in self.microseconds
            for peer in peers
        ]


def measure(row: Row, *, blocks: int = 9, block_seconds: float = 0.15, pause: float = 0.02) -> Row:
    """Time every contender of a row; fills and returns it."""
    calls = {name: _calls_per_block(work, block_seconds) for name, work in row.contenders.items()}
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(blocks):
        for name, work in row.contenders.items():
            time.sleep(pause)
            start = time.perf_counter()
            for _ in range(calls[name]):
                work()
            times[name].append((time.perf_counter() - start) / calls[name])
    row.microseconds = {name: statistics.median(t) * 1e6 for name, t in times.items()}
    return row


def _calls_per_block(work: Work, seconds: float) -> int:
    """How many calls fill a block, found by calling (which also warms up)."""
    for _ in range(3):
        work()
    n = 1
    while True:
        start = time.perf_counter()
        for _ in range(n):
            work()
        took = time.perf_counter() - start
        if took > seconds / 4:
            return max(1, int(n * seconds / took))
        n *= 4
