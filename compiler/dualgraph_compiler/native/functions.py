"""The C functions of a program: kernels, what shares their tasks among threads, and entries."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from .control import ControlRoutine
from .loops import Buffer
from .lower.library import Pack, Phase, Routine
from .parallel import WORTH
from .render.kernel import comment
from .render.prelude import Prelude
from .render.types import SIZES, Sizes, memory

# How the text reaches the runtime's threads. `run` shares tasks among them and returns when all are
# done, with 0 or with a status that is not; it may as well do everything itself.
TEAM = f"""\
typedef int (*Step)(void *const *b, const i64 *dims, i64 first, i64 last, i64 thread);
typedef struct Team {{
  int (*run)(const struct Team *, Step, void *const *b, const i64 *dims, i64 tasks, i64 cost);
}} Team;
static inline int share(const Team *team, Step step, void *const *b, const i64 *dims, i64 tasks,
                        i64 cost) {{
  if (tasks < 1) return 0;
  if (!team || tasks < 2 || cost < {WORTH}) return step(b, dims, 0, tasks, 0);
  return team->run(team, step, b, dims, tasks, cost);
}}
"""


class Functions:
    """Collects the functions of a program; bodies of control flow add to those of their program.

    `symbols` numbers the symbolic sizes, `number` gives everywhere the slot of a buffer.
    """

    def __init__(self, prelude: Prelude, symbols: Mapping[str, int]) -> None:
        self.prelude = prelude
        self.symbols = symbols
        self._kernels: dict[str, str] = {}  # names of kernels by their text
        self._texts: list[str] = []

    @property
    def shares(self) -> bool:
        """Whether any step may be shared among threads."""
        return any("share(team" in x for x in self._texts)

    def add(self, text: str) -> None:
        self._texts.append(text)

    def text(self) -> str:
        """The whole translation unit."""
        sizes = [SIZES] if self.symbols else []
        return "\n".join([self.prelude.text(), *sizes, TEAM, *self._texts])

    def lines(
        self, routines: Sequence[Routine | None], number: dict[Buffer, int]
    ) -> list[list[str]]:
        """For each step the lines that run it; functions are added, equal kernels once."""
        return [[] if r is None else self._routine(r, number) for r in routines]

    def _routine(self, routine: Routine, number: dict[Buffer, int]) -> list[str]:
        if isinstance(routine, ControlRoutine):
            return self._control(routine, number)
        anonymous = routine.text("?")
        if anonymous not in self._kernels:
            self._kernels[anonymous] = f"kernel{len(self._kernels)}"
            self.add(routine.text(self._kernels[anonymous]) + "\n")
        name = self._kernels[anonymous]
        lines = [f"  // {comment(n)}" for n in routine.notes]
        for phase in routine.phases:
            lines += self._phase(routine, phase, name, number)
        return lines

    def _control(self, routine: ControlRoutine, number: dict[Buffer, int]) -> list[str]:
        """The functions of a node of control flow and of its bodies, and the lines that run it."""
        for body in routine.bodies:
            body.lines()  # which makes the functions that they call
        name = f"control{len(self._texts)}"
        for i, body in enumerate(routine.bodies):
            self.add("static " + self.entry(f"{name}_{i}", body.lines()))
        lines = routine.entry(name, number, Sizes(self.symbols)).split("\n")
        self.add("static " + self.entry(name, lines))
        notes = [f"  // {comment(n)}" for n in routine.notes]
        return [*notes, f"  if ((status = {name}(b, dims, team))) return status;"]

    def _phase(
        self, routine: Routine, phase: Phase, name: str, number: dict[Buffer, int]
    ) -> list[str]:
        """How a phase of a step is run: called by the entry, or shared by way of a function."""
        name += phase.suffix
        sizes = Sizes(self.symbols)
        args = [f"b[{number[b]}]" for b in (*routine.reads, *routine.writes, *routine.scratch)]
        if isinstance(phase.tasks, int) and phase.tasks <= 0:
            return []
        if phase.tasks == 1 or (isinstance(phase.cost, int) and phase.cost < WORTH):
            args += [f"b[{number[b]}]" for b in routine.own]
            call = f"{name}({', '.join([*args, *routine.arguments, '0', sizes(phase.tasks)])})"
            checked = f"if ((status = {call})) return status;"
            return [f"  {checked if routine.checked else f'{call};'}"]
        for b in routine.own:
            line = 64 // b.dtype.itemsize
            step = sizes((b.size + (line - 1)) // line * line)
            args.append(f"({memory(b.dtype)} *)b[{number[b]}] + thread * {step}")
        call = f"{name}({', '.join([*args, *routine.arguments, 'first', 'last'])});"
        body = [f"  return {call}"] if routine.checked else [f"  {call}", "  return 0;"]
        shared = f"step{len(self._texts)}"
        self.add(
            f"static int {shared}(void *const *b, const i64 *dims, i64 first, i64 last, "
            f"i64 thread) {{\n  (void)dims, (void)thread;\n"
            + "\n".join([*self._sizes("\n".join(body)), *body])
            + "\n}\n"
        )
        call = f"share(team, {shared}, b, dims, {sizes(phase.tasks)}, {sizes(phase.cost)})"
        return [f"  if ((status = {call})) return status;"]

    def _sizes(self, body: str) -> list[str]:
        """Definitions of the symbolic sizes that a body reads."""
        used = set(re.findall(r"\bn\d+\b", body))
        return [f"  const i64 n{i} = dims[{i}];" for i in self.symbols.values() if f"n{i}" in used]

    def entry(self, name: str, lines: Sequence[str]) -> str:
        """A function that runs these lines."""
        body = "\n".join(lines)
        head = self._sizes(body)
        head += ["  int status;"] if "status" in body else []
        inside = "\n".join([*head, body])
        return (
            f"int {name}(void *const *b, const i64 *dims, const Team *team) {{\n"
            f"  (void)b, (void)dims, (void)team;\n{inside}\n  return 0;\n}}\n"
        )

    def copy(self, source: int, to: int, buffer: Buffer) -> str:
        """The line that copies a buffer from one slot to another."""
        bytes_ = Sizes(self.symbols)(buffer.size * buffer.dtype.itemsize)
        return f"  memcpy(b[{to}], b[{source}], (size_t)({bytes_}));"

    def add_packing(
        self, name: str, packed: Mapping[Buffer, Pack], number: dict[Buffer, int]
    ) -> None:
        """Add the function that packs constants."""
        calls = [
            f"  {p.function}(b[{number[p.source]}], b[{number[b]}]);" for b, p in packed.items()
        ]
        self.add(f"void {name}(void *const *b) {{\n" + "\n".join(calls) + "\n}\n")
