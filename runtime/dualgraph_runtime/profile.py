"""What runs cost: the time of each kernel, or of each node, and a table of it."""

from __future__ import annotations

import math
import threading
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Part:
    """A kernel or an interpreted node. `nodes` is its text, as reports have it."""

    nodes: str
    ops: tuple[str, ...]
    interpreted: bool = False


@dataclass(frozen=True, slots=True)
class PartTime:
    """What a part of a program took: `seconds` of all `calls`, of which the best took `best`.

    `flops` and `bytes` are what all calls computed and moved at the least, None where unknown: see
    ``dualgraph_compiler.native.Work``.
    """

    part: Part
    calls: int
    seconds: float
    best: float
    flops: int | None
    bytes: int | None

    @property
    def gflops(self) -> float | None:
        """Billions of arithmetic operations a second."""
        return self.flops / self.seconds / 1e9 if self.flops and self.seconds else None

    @property
    def gbytes(self) -> float | None:
        """Billions of bytes a second, counting each buffer once."""
        return self.bytes / self.seconds / 1e9 if self.bytes and self.seconds else None


@dataclass(frozen=True, slots=True)
class Profile:
    """Where the time of `runs` runs went, which took `seconds` in all; print it.

    `parts` are in the order in which they run. What they leave of `seconds` is spent on calling
    them: checking arrays, making results.
    """

    runs: int
    seconds: float
    parts: tuple[PartTime, ...]

    def __str__(self) -> str:
        if not self.runs:
            return "no runs were timed"
        inside = sum(p.seconds for p in self.parts)
        kind = "nodes" if all(p.part.interpreted for p in self.parts) else "kernels"
        rows = [("us/run", "share", "best us", "GFLOP/s", "GB/s", kind)]
        for p in sorted(self.parts, key=lambda p: -p.seconds):
            rows.append(
                (
                    _micro(p.seconds / self.runs),
                    f"{p.seconds / max(self.seconds, 1e-12):.1%}",
                    _micro(p.best),
                    _rate(p.gflops),
                    _rate(p.gbytes),
                    p.part.nodes + (" (interpreted)" if p.part.interpreted else ""),
                )
            )
        rest = max(self.seconds - inside, 0.0)
        share = f"{rest / max(self.seconds, 1e-12):.1%}"
        rows.append((_micro(rest / self.runs), share, "", "", "", "calls and results"))
        widths = [max(len(r[i]) for r in rows) for i in range(5)]
        lines = [f"{self.runs} runs, {_micro(self.seconds / self.runs)} us each"]
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
            self._calls = [0] * len(self.parts)
            self._total = [0.0] * len(self.parts)
            self._best = [math.inf] * len(self.parts)
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
            for i, (begin, end) in enumerate(times):
                seconds = (end - begin) / 1e9
                self._calls[i] += 1
                self._total[i] += seconds
                self._best[i] = min(self._best[i], seconds)
                for j, new in enumerate(work[i] if work is not None else (None, None)):
                    old = self._work[i][j]
                    self._work[i][j] = None if old is None or new is None else old + new

    def profile(self) -> Profile:
        """What there is so far."""
        with self._lock:
            columns = (self.parts, self._calls, self._total, self._best, self._work)
            parts = tuple(
                PartTime(part, calls, total, best, *work)
                for part, calls, total, best, work in zip(*columns, strict=True)
                if calls
            )
            return Profile(self._runs, self._seconds, parts)


def _micro(seconds: float) -> str:
    return f"{seconds * 1e6:,.1f}"


def _rate(value: float | None) -> str:
    return "" if value is None else f"{value:.3g}"
