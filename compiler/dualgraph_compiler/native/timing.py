"""Programs that note when each of their kernels begins and ends.

The text of a timed program has an array more, two times for each kernel, which the runtime reads
after a run. Kernels themselves are those of the program that is not timed.
"""

from __future__ import annotations

from collections.abc import Sequence

from .lower.library import Routine
from .plan import Work
from .steps import Step

TIMES = "kernel_times"

_CLOCK = """\
#include <time.h>
// For each kernel, nanoseconds of the monotonic clock when its last run began and when it ended.
i64 {times}[{count}];
static i64 now(void) {{
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (i64)t.tv_sec * 1000000000 + t.tv_nsec;
}}
"""


class Timing:
    """Times the `steps` of a program that are compiled; `routines` compute them."""

    def __init__(self, steps: Sequence[Step], routines: Sequence[Routine | None]) -> None:
        self._routines = routines
        pairs = zip(steps, routines, strict=True)
        self.work = tuple(_work(s, r) for s, r in pairs if r is not None)

    def text(self) -> str:
        """The times, and the clock."""
        return _CLOCK.format(times=TIMES, count=max(2 * len(self.work), 1))

    def around(self, bodies: Sequence[list[str]]) -> list[list[str]]:
        """The lines of each step, between what notes the time; none of an interpreted step."""
        found: list[list[str]] = []
        place = 0
        for body, routine in zip(bodies, self._routines, strict=True):
            if routine is None:
                found.append(body)
                continue
            begin, end = f"  {TIMES}[{place}] = now();", f"  {TIMES}[{place + 1}] = now();"
            found.append([begin, *body, end])
            place += 2
        return found


def _work(step: Step, routine: Routine) -> Work:
    flops = [
        n.op.flops(n.outputs[0].type, *(v.type for v in n.inputs)) if n.outputs else None
        for n in step.nodes
    ]
    known = [x for x in flops if x is not None]
    buffers = dict.fromkeys((*routine.reads, *routine.writes))
    return Work(
        ops=tuple(n.op.name for n in step.nodes),
        bytes=sum((b.size * b.dtype.itemsize for b in buffers), 0),
        flops=sum(known, 0) if len(known) == len(flops) else None,
    )
