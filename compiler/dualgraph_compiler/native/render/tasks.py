"""Fused kernels as C functions that run ranges of tasks."""

from __future__ import annotations

from collections.abc import Mapping

from ..loops import Kernel, Tasks
from ..lower.library import Pack, Phase
from ..parallel import cost, split
from .expressions import Lanes
from .kernel import KernelText
from .prelude import Prelude


class TaskText(KernelText):
    """The routine of a fused kernel. See `lower.library.Routine`."""

    def __init__(self, kernel: Kernel, prelude: Prelude, symbols: Mapping[str, int]) -> None:
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
            self._line(2, f"const i64 {begin} = {s.counter} * {block};")
            rest = f"{begin} + {block} < {n} ? {begin} + {block} : {n}"
            self._line(2, f"const i64 {end} = {rest};")
        self._block(s.body, [Lanes()], 2)
        if len(axes) > 1:
            step = f"{names[0]}++;"
            for name, count in zip(names[1:], counts[1:], strict=True):
                step = f"if (++{name} == {count}) {{ {name} = 0; {step} }}"
            self._line(2, step)
        self._line(1, "}")
