"""Timing contenders for one piece of work side by side."""

from __future__ import annotations

import contextlib
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

Work = Callable[[], Any]


def interleaved_medians(
    contenders: Mapping[str, Work], *, blocks: int = 9, block_seconds: float = 0.03
) -> dict[str, float]:
    """Median seconds a call of each contender.

    They take turns in short blocks, so that whatever else the machine does meets all alike.
    """
    calls = {name: _calls_per_block(work, block_seconds) for name, work in contenders.items()}
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(blocks):
        for name, work in contenders.items():
            start = time.perf_counter()
            for _ in range(calls[name]):
                work()
            times[name].append((time.perf_counter() - start) / calls[name])
    return {name: statistics.median(t) for name, t in times.items()}


def _calls_per_block(work: Work, seconds: float) -> int:
    work()  # builds, traces, fills caches
    start, n = time.perf_counter(), 0
    while n < 3 or time.perf_counter() - start < seconds / 3:
        work()
        n += 1
    return max(1, round(n * seconds / (time.perf_counter() - start)))


@contextlib.contextmanager
def one_blas_thread() -> Iterator[bool]:
    """Let NumPy's BLAS use one thread inside, if threadpoolctl is there to arrange it.

    For matrices as small as the demo's, several threads spend more time on each other than on the
    work; on a busy machine they make it many times slower. Yields whether it was arranged.
    """
    try:
        from threadpoolctl import threadpool_limits
    except ImportError:
        yield False
        return
    with threadpool_limits(limits=1, user_api="blas"):
        yield True
