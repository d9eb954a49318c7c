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
    """One piece of work: what it is, and who does it how.

    Attributes:
        contenders: by name, a call that does the work once. Ours begin with "dualgraph".
        claim: which of ours is compared with the best peer.
        target: how many times faster than the best peer it is to be.
        unit: of `figures`.
        figures: filled by `measure`, or measured elsewhere.
    """

    title: str
    contenders: dict[str, Work]
    claim: str = "dualgraph compiled, native"
    target: float = 1.0
    unit: str = "us"
    figures: dict[str, float] = field(default_factory=dict)

    @property
    def ours(self) -> list[str]:
        """The names of our contenders."""
        return [name for name in self.figures if name.startswith("dualgraph")]

    @property
    def best_peer(self) -> str | None:
        """Who of the others has the smallest figure."""
        peers = [name for name in self.figures if not name.startswith("dualgraph")]
        return min(peers, key=self.figures.__getitem__, default=None)

    @property
    def ratio(self) -> float | None:
        """The best peer's figure over that of `claim`; None where one of them is missing."""
        best = self.best_peer
        if best is None or self.claim not in self.figures:
            return None
        return self.figures[best] / self.figures[self.claim]


def measure(row: Row, *, blocks: int = 9, block_seconds: float = 0.15, pause: float = 0.02) -> Row:
    """Time every contender of a row, in microseconds; fills and returns it."""
    if row.figures:
        return row
    calls = {name: _calls_per_block(work, block_seconds) for name, work in row.contenders.items()}
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(blocks):
        for name, work in row.contenders.items():
            time.sleep(pause)
            start = time.perf_counter()
            for _ in range(calls[name]):
                work()
            times[name].append((time.perf_counter() - start) / calls[name])
    row.figures = {name: statistics.median(t) * 1e6 for name, t in times.items()}
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
