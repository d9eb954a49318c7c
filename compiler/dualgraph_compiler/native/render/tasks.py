"""Fused kernels as C functions that run ranges of tasks."""

from __future__ import annotations

from collections.abc import Mapping

from ...dims import DimLike
from ..loops import Buffer, Kernel, Tasks
from ..lower.library import Pack, Phase
from ..parallel import cost, split
from .expressions import Lanes
from .kernel import KernelText
from .prelude import Prelude


class TaskText(KernelText):
    """The routine of a fused kernel. See `lower.library.Routine`."""

    def __init__(self, kernel: Kernel, prelude: Prelude, symbols: Mapping[str, int]) -> None:
        self.packs: tuple[Pack, ...] = ()
        self.scratch: tuple[Buffer, ...] = ()
        self.own = kernel.scratch
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
        kernel = split(self.kernel, self.lanes)
        if not any(isinstance(s, Tasks) for s in kernel.body):
            self._phase(1, cost(kernel.body, self.lanes), "")
            super()._render()
            return
        for number, s in enumerate(kernel.body):
            assert isinstance(s, Tasks)
            suffix = f"_{number}" if number else ""
            self._phase(s.number, cost((s,), self.lanes), suffix)
            self._tasks(s)

    def _phase(self, tasks: DimLike, cost: DimLike, suffix: str) -> None:
        self.phases += (Phase(suffix, tasks, cost),)
        self._lines = []
        self._texts.append(self._lines)

    def _tasks(self, s: Tasks) -> None:
        """A loop over a range of tasks, whose counters go on from task to task as in a nest."""
        if not s.axes:
            self._block(s.body, [Lanes()], 1)
            return
        if len(s.axes) == 1 and not s.block:
            counter = s.axes[0]
            self._line(1, f"for (i64 {counter} = first; {counter} < last; {counter}++) {{")
            self._block(s.body, [Lanes()], 2)
            self._line(1, "}")
            return
        names = [str(a) for a in s.axes]
        extents = [a.extent for a in s.axes]
        if s.block:
            names[-1] = f"block{s.axes[-1].number}"
            extents[-1] = (extents[-1] + (s.block - 1)) // s.block
        counts = [self.sizes(e) for e in extents]
        self._first(names, counts)
        self._line(1, "for (i64 task = first; task < last; task++) {")
        if s.block:
            axis = s.axes[-1]
            j, n = f"j{axis.number}", self.sizes(axis.extent)
            self._line(2, f"const i64 {j} = {names[-1]} * {s.block};")
            end = f"{j} + {s.block} < {n} ? {j} + {s.block} : {n}"
            self._line(2, f"const i64 e{axis.number} = {end};")
        self._block(s.body, [Lanes()], 2)
        step = f"{names[0]}++;"
        for i in range(1, len(names)):
            step = f"if (++{names[i]} == {counts[i]}) {{ {names[i]} = 0; {step} }}"
        self._line(2, step)
        self._line(1, "}")

    def _first(self, names: list[str], counts: list[str]) -> None:
        """The counters of the first task."""
        if len(names) == 1:
            self._line(1, f"i64 {names[0]} = first;")
            return
        self._line(1, "i64 at = first;")
        for name, count in zip(reversed(names[1:]), reversed(counts[1:]), strict=True):
            self._line(1, f"i64 {name} = at % {count}; at /= {count};")
        self._line(1, f"i64 {names[0]} = at;")
