"""Fused kernels as C functions that run ranges of tasks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from ..index import Axis, Index, of_axis
from ..loops import Buffer, Kernel, Load, Loop, Tasks, expressions
from ..lower.library import Pack, Phase
from ..parallel import cost, split
from .expressions import Lanes
from .kernel import KernelText
from .prelude import Prelude

_SHORTEST, _LONGEST = 256, 32 * 1024  # bytes of rows that are worth fetching, and fit a cache
_CACHED = 256 * 1024  # bytes that are in a cache anyway


def _next_row(row: Axis, loop: Loop) -> Load | None:
    """What the first pass over the next row reads from memory; None where that is not clear."""
    n = loop.axis.extent
    for e in expressions(loop.body):
        if not isinstance(e, Load) or e.guards or not isinstance(n, int):
            continue
        size, total = n * e.dtype.itemsize, e.buffer.size
        rows = e.at.stride(loop.axis) == 1 and e.at.stride(row) == n
        cached = isinstance(total, int) and total * e.dtype.itemsize <= _CACHED
        if rows and not cached and _SHORTEST <= size <= _LONGEST:
            return replace(e, at=e.at.substitute({row: of_axis(row) + Index((), 1)}))
    return None


class TaskText(KernelText):
    """The routine of a fused kernel. See `lower.library.Routine`."""

    def __init__(
        self,
        kernel: Kernel,
        prelude: Prelude,
        symbols: Mapping[str, int],
        streamed: frozenset[Buffer] = frozenset(),
    ) -> None:
        self.streamed = streamed
        self.packs: tuple[Pack, ...] = ()
        self.phases: tuple[Phase, ...] = ()
        self._texts: list[list[str]] = []
        super().__init__(kernel, prelude, symbols)

    def text(self, name: str, counters: object = ()) -> str:
        """The function of each phase."""
        return "\n".join(
            self._function(name + p.suffix, lines, ("first", "last"))
            for p, lines in zip(self.phases, self._texts, strict=True)
        )

    def _render(self) -> None:
        split_up = split(self.kernel, self.lanes)
        self.scratch, self.own = split_up.shared, split_up.own
        self._name_buffers((*self.scratch, *self.own))
        for number, body in enumerate(split_up.bodies):
            suffix = f"_{number}" if number else ""
            last = body[-1] if body else None
            tasks = last.number if isinstance(last, Tasks) else 1
            self.phases += (Phase(suffix, tasks, cost(body, self.lanes)),)
            self._lines = []
            self._texts.append(self._lines)
            if isinstance(last, Tasks):
                self._block(body[:-1], [Lanes()], 1)
                self._tasks(last)
            else:
                self._block(body, [Lanes()], 1)
            if self.streamed:
                self._line(1, f"{self.prelude.streamed()}();")

    def _passes(self, s: Tasks) -> None:
        """What is done for a task; its second pass over a row fetches the next row.

        What one pass reads it reads as fast as memory gives it, while later ones compute.
        """
        passes = [b for b in s.body if isinstance(b, Loop) and b.lanes]
        ahead = _next_row(s.counter, passes[0]) if len(passes) > 1 else None
        self._ahead = (passes[1], ahead) if ahead is not None else None
        self._block(s.body, [Lanes()], 2)

    def _tasks(self, s: Tasks) -> None:
        """A loop over a range of tasks, whose counters go on from task to task as in a nest."""
        if not s.axes:
            self._block(s.body, [Lanes()], 1)
            return
        axes = (*s.axes[:-1], s.counter)
        if len(axes) == 1:
            i = str(axes[0])
            self._line(1, f"for (i64 {i} = first; {i} < last; {i}++) {{")
        else:
            names, counts = [str(a) for a in axes], [self.sizes(a.extent) for a in axes]
            self._line(1, "i64 at = first;")
            for name, count in zip(reversed(names[1:]), reversed(counts[1:]), strict=True):
                self._line(1, f"i64 {name} = at % {count}; at /= {count};")
            self._line(1, f"i64 {names[0]} = at;")
            self._line(1, "for (i64 task = first; task < last; task++) {")
        if s.block != 0:
            number, n, block = s.axes[-1].number, self.sizes(s.axes[-1].extent), self.sizes(s.block)
            begin, end = f"j{number}", f"e{number}"
            self._block_of[number] = s.block
            self._line(2, f"const i64 {begin} = {s.counter} * {block};")
            rest = f"{begin} + {block} < {n} ? {begin} + {block} : {n}"
            self._line(2, f"const i64 {end} = {rest};")
        self._passes(s)
        if len(axes) > 1:
            step = f"{names[0]}++;"
            for name, count in zip(names[1:], counts[1:], strict=True):
                step = f"if (++{name} == {count}) {{ {name} = 0; {step} }}"
            self._line(2, step)
        self._line(1, "}")
