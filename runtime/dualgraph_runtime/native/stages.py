"""Programs of several steps, as the launcher carries them out: instructions for stages.c.

Between compiled segments stand nodes that Python computes, and sizes that only a run tells. What
is to be done is written down once: which memory to ask for when, whom to call with what.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from dualgraph_compiler.dims import Shape, product
from dualgraph_compiler.native import Home, Interpreted, Program, Segment, Slot

from .layouts import is_known, require_fits
from .sizes import code_of, depth_of, room_of

_RUN, _NODE, _DEFINE, _MEMORY, _ARRAY, _RESULT = range(6)  # as in stages.c
_MOST_OPERANDS, _DEEPEST = 64, 32

Function = Callable[..., Sequence[Any]]
Runs = Callable[[Any], Any]


def evaluated(op: Any, runs: Runs | None, *arrays: Any) -> Sequence[Any]:
    """The results of a node through its op's eager kernel; `runs` gives what runs its bodies."""
    try:
        with np.errstate(all="ignore"):
            found = op.eager(np, *arrays) if runs is None else op.evaluate(np, runs, arrays)
    except Exception as error:
        error.add_note(f"in a node {op.name}")
        raise
    return found if isinstance(found, tuple | list) else (found,)


def function_of(step: Interpreted, names: Sequence[str], runs: Runs | None) -> Function:
    """A node as a function of its operands; of all sizes, too, where its op depends on some."""
    if not step.op.symbols():
        return partial(evaluated, step.op, runs)

    def evaluate(sizes: Sequence[int], *arrays: Any) -> Sequence[Any]:
        return evaluated(step.op.resolve(dict(zip(names, sizes, strict=True))), runs, *arrays)

    return evaluate


def are_possible(program: Program) -> bool:
    """Whether the launcher can carry out a program's steps."""
    nodes = [s for s in program.steps if isinstance(s, Interpreted)]
    shapes = [s.shape for s in program.slots] + [shape for s in nodes for _, shape in s.operands]
    numbers = {name: i for i, name in enumerate(program.symbols)}
    return (
        program.laid is None
        and not program.donated
        and all(len(s.operands) < _MOST_OPERANDS for s in nodes)
        and all(depth_of(code_of(product(shape), numbers)) < _DEEPEST for shape in shapes)
    )


def early(program: Program) -> tuple[set[str], frozenset[int]]:
    """The sizes that inputs tell, and the arena's slots that are known with them.

    What a node is given is not in the arena, since Python may hold on to it.
    """
    defined = {
        name for s in program.steps if isinstance(s, Interpreted) for name, _, _ in s.defines
    }
    known = set(program.symbols) - defined
    shown = _shown(program)
    slots = [
        i
        for i, s in enumerate(program.slots)
        if s.home is Home.ARENA and i not in shown and is_known(s.shape, known)
    ]
    return known, frozenset(slots)


def is_early(program: Program, output: int, known: Collection[str]) -> bool:
    """Whether an output is made before the first step: its sizes are known, its memory its own."""
    slot, shape, _ = program.outputs[output]
    first = all(slot != other for other, _, _ in program.outputs[:output])
    own = program.slots[slot].home is Home.OUTPUT
    return first and own and is_known(shape, known)


class Instructions:
    """Writes the instructions for a program. `known` and `placed`: see `early`."""

    def __init__(
        self, program: Program, known: Collection[str], placed: Collection[int], threads: int
    ) -> None:
        self.program, self.threads = program, threads
        self.known, self.placed = set(known), placed
        self.numbers = {name: i for i, name in enumerate(program.symbols)}
        self.code: list[int] = []
        self.functions: list[Function] = []

    def spec(
        self,
        entries: Mapping[str, int],
        functions: Mapping[int, Function],
        constants: Sequence[Any],
    ) -> tuple[Any, ...]:
        """What the launcher is told: see `read_stages` in stages.c.

        `entries` are the addresses of the segments' functions, `functions` those of the nodes by
        the number of the step.
        """
        program = self.program
        early_ones = {i for i in range(len(program.outputs)) if is_early(program, i, self.known)}
        made = {program.outputs[i][0] for i in early_ones} | set(self.placed)
        waiting = [
            i
            for i, s in enumerate(program.slots)
            if s.home in (Home.OUTPUT, Home.ARENA) and i not in made
        ]
        shown = _shown(program)
        for n, step in enumerate(program.steps):
            if isinstance(step, Interpreted):
                self._node(step, functions[n])
                continue
            ready = [i for i in waiting if is_known(program.slots[i].shape, self.known)]
            waiting = [i for i in waiting if i not in ready]
            for i in ready:
                self._room(i, program.slots[i], i in shown)
            assert isinstance(step, Segment)
            self.code += [_RUN, entries[step.entry]]
        for i, (slot, shape, _) in enumerate(program.outputs):
            if i not in early_ones:
                self.code += [_RESULT, i, slot, *self._shape(shape)]
        dtypes = tuple(s.dtype.np for s in program.slots)
        held = tuple(
            constants[s.number] if s.home is Home.CONSTANT else None for s in program.slots
        )
        return tuple(self.code), tuple(self.functions), dtypes, held, _require

    def _node(self, step: Interpreted, function: Function) -> None:
        takes_sizes = bool(step.op.symbols())
        self.code += [_NODE, len(self.functions), int(takes_sizes), len(step.operands)]
        for slot, shape in step.operands:
            self.code += [slot, *self._shape(shape)]
        self.code += [len(step.results), *step.results]
        self.functions.append(function)
        for name, slot, axis in step.defines:
            self.code += [_DEFINE, self.numbers[name], slot, axis]
            self.known.add(name)

    def _room(self, i: int, slot: Slot, is_shown: bool) -> None:
        if slot.home is Home.OUTPUT or is_shown:
            self.code += [_ARRAY, i, *self._shape(slot.shape)]
            return
        self.code += [_MEMORY, i, *code_of(room_of(slot, self.threads), self.numbers)]

    def _shape(self, shape: Shape) -> list[int]:
        return [len(shape), *(n for d in shape for n in code_of(d, self.numbers))]


def _shown(program: Program) -> set[int]:
    """The slots that nodes are given."""
    nodes = [s for s in program.steps if isinstance(s, Interpreted)]
    return {slot for s in nodes for slot, _ in s.operands}


def _require(memory: int) -> None:
    require_fits(memory, ())
