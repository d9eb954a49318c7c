"""What runs cost: the time of each kernel, or of each node, and a table of it."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

_KEPT = 1000  # calls whose times are kept one by one


@dataclass(frozen=True, slots=True)
class Part:
    """A kernel or an interpreted node. `nodes` is its text, as reports have it."""

    nodes: str
    ops: tuple[str, ...]
    interpreted: bool = False


@dataclass(frozen=True, slots=True)
class PartTime:
    """What a part of a program took: `seconds` of all `calls`, and the `best` and `median` of one.

    Those of one are of the last thousand calls. `flops` and `bytes` are what all calls computed and
    moved at the least, None where unknown: see ``dualgraph_compiler.native.Work``.
    """

    part: Part
    calls: int
    seconds: float
    best: float
    median: float
    flops: int | None
    bytes: int | None

    @property
    def gflops(self) -> float | None:
        """Billions of arithmetic operations a second, in a call of median length."""
        return self.flops / self.calls / self.median / 1e9 if self.flops and self.median else None

    @property
    def gbytes(self) -> float | None:
        """Billions of bytes a second, in a call of median length, counting each buffer once."""
        return self.bytes / self.calls / self.median / 1e9 if self.bytes and self.median else None


@dataclass(frozen=True, slots=True)
class Profile:
    """Where the time of `runs` runs went, which took `seconds` in all; print it.

    `median` is that of a run's seconds. `parts` are in the order in which they run. What they leave
    is spent on calling them: checking arrays, making results. The text has medians, which another
    program on the same machine disturbs least.
    """

    runs: int
    seconds: float
    median: float
    parts: tuple[PartTime, ...]

    def __str__(self) -> str:
        if not self.runs:
            return "no runs were timed"
        inside = sum(p.median for p in self.parts)
        whole = max(self.median, inside, 1e-12)
        kind = "nodes" if all(p.part.interpreted for p in self.parts) else "kernels"
        rows = [("median us", "share", "best us", "GFLOP/s", "GB/s", kind)]
        for p in sorted(self.parts, key=lambda p: -p.median):
            rows.append(
                (
                    _micro(p.median),
                    f"{p.median / whole:.1%}",
                    _micro(p.best),
                    _rate(p.gflops),
                    _rate(p.gbytes),
                    p.part.nodes + (" (interpreted)" if p.part.interpreted else ""),
                )
            )
        rest = whole - inside
        rows.append((_micro(rest), f"{rest / whole:.1%}", "", "", "", "calls and results"))
        widths = [max(len(r[i]) for r in rows) for i in range(5)]
        lines = [f"{self.runs} runs, {_micro(self.median)} us each"]
        for r in rows:
            cells = [text.rjust(width) for text, width in zip(r[:5], widths, strict=True)]
            lines.append("  ".join([*cells, r[5]]))
        return "\n".join(lines)


class Tally:
    """Adds up the times of parts. Safe to use from several threads."""

    def __init__(self, parts: Sequence[Part]) -> None:
        self.parts = list(parts)
        self._lock = threading.Lock()
        self.clear()

    def clear(self) -> None:
        """Forget all runs so far."""
        with self._lock:
            self._runs = 0
            self._seconds = 0.0
            self._whole: deque[float] = deque(maxlen=_KEPT)
            self._calls = [0] * len(self.parts)
            self._total = [0.0] * len(self.parts)
            self._last: list[deque[float]] = [deque(maxlen=_KEPT) for _ in self.parts]
            self._work: list[list[int | None]] = [[0, 0] for _ in self.parts]

    def note(
        self,
        nanoseconds: int,
        times: Sequence[tuple[int, int]],
        work: Sequence[tuple[int | None, int | None]] | None = None,
    ) -> None:
        """A run of so many `nanoseconds`: begin and end of each part, its flops and bytes."""
        with self._lock:
            self._runs += 1
            self._seconds += nanoseconds / 1e9
            self._whole.append(nanoseconds / 1e9)
            for i, (begin, end) in enumerate(times):
                seconds = (end - begin) / 1e9
                self._calls[i] += 1
                self._total[i] += seconds
                self._last[i].append(seconds)
                for j, new in enumerate(work[i] if work is not None else (None, None)):
                    old = self._work[i][j]
                    self._work[i][j] = None if old is None or new is None else old + new

    def profile(self) -> Profile:
        """What there is so far."""
        with self._lock:
            columns = (self.parts, self._calls, self._total, self._last, self._work)
            parts = tuple(
                PartTime(part, calls, total, min(last), float(np.median(last)), *work)
                for part, calls, total, last, work in zip(*columns, strict=True)
                if calls
            )
            whole = float(np.median(self._whole)) if self._whole else 0.0
            return Profile(self._runs, self._seconds, whole, parts)


def _micro(seconds: float) -> str:
    return f"{seconds * 1e6:,.1f}"


def _rate(value: float | None) -> str:
    return "" if value is None else f"{value:.3g}"
