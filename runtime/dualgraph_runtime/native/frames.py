"""Frames: what the launcher is told of a program, to carry out calls without Python (frame.c)."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping, Sequence
from typing import Any

from dualgraph_compiler.native import Home, Program, Segment

from .layouts import Layout, bytes_of, in_arena
from .sizes import code_of, room_of, told
from .stages import Function, Instructions, early, is_early

# Programs that touch fewer bytes than this are done before letting go of the GIL pays.
_SHORT = 64 * 1024
_UNTOLD = (-1, 0, 0, 0)  # where a size is found that inputs do not tell


def is_whole(program: Program) -> bool:
    """Whether one call of compiled code is all there is to a run."""
    steps, donated = program.steps, program.donated
    new = [slot for i, (slot, _, _) in enumerate(program.outputs) if i not in donated]
    distinct = len(set(new)) == len(new)
    alone = len(steps) == 1 and isinstance(steps[0], Segment)
    return alone and distinct and all(program.slots[i].home is Home.OUTPUT for i in new)


class Frames:
    """Makes the frames of a program, of the launcher's type `kind`.

    `entries` are its functions by name, `memory` its constants and its packed ones, `team` the
    threads, as a pool and their number. `placed` are the slots that lie in the arena of a frame;
    `told` says where inputs tell sizes, if one frame serves all that they tell, as far as its
    memory goes (None: there is a frame for each).
    """

    def __init__(
        self,
        program: Program,
        kind: Any,
        entries: Mapping[str, Any],
        memory: tuple[Sequence[Any], Sequence[Any]],
        team: tuple[Any, int],
    ) -> None:
        self._program, self._kind = program, kind
        self._addresses = {
            name: ctypes.cast(entry, ctypes.c_void_p).value or 0 for name, entry in entries.items()
        }
        self._constants, self._packed = memory
        self._team, self._threads = team
        self._is_whole = is_whole(program)
        self._types = [*program.inputs, *program.params]
        self._known, self.placed = early(program)
        if self._is_whole:
            self.placed = in_arena(program)
        self.told: Any = None
        if self._known and not program.assumptions:
            self.told = told(self._types, [s for s in program.symbols if s in self._known])

    def make(self, layout: Layout, functions: Mapping[int, Function]) -> Any:
        """The frame of a layout; `functions` compute the nodes, by the number of the step."""
        program = self._program
        operands: dict[tuple[Home, int], tuple[Any, tuple[int, ...], int]] = {}
        fixed: list[int] = []
        total = 0
        for i, slot in enumerate(program.slots):
            operands[slot.home, slot.number] = (slot.dtype.np, layout.shapes[i], i)
            total += bytes_of(slot, layout.shapes[i]) if slot.home is not Home.SOURCE else 0
            constant = self._constants[slot.number] if slot.home is Home.CONSTANT else None
            if constant is not None:
                fixed += [i, constant.ctypes.data]
            if slot.home is Home.PACKED:
                fixed += [i, self._packed[slot.number].ctypes.data]
        inputs = [operands[Home.INPUT, i] for i in range(len(program.inputs))]
        inputs += [operands[Home.PARAM, i] for i in range(len(program.params))]
        outputs = [
            (program.slots[slot].dtype.np, shape, slot)
            if self._is_early(i)
            else (program.slots[slot].dtype.np, (), -1)
            for i, ((slot, _, _), shape) in enumerate(
                zip(program.outputs, layout.outputs, strict=True)
            )
        ]
        return self._kind(
            next(iter(self._addresses.values()), 0),
            tuple(inputs),
            tuple(outputs),
            len(program.slots),
            tuple(n for pair in layout.offsets.items() for n in pair),
            layout.arena_bytes,
            tuple(fixed),
            layout.dims,
            tuple(program.donated.get(i, -1) for i in range(len(outputs))),
            total > _SHORT,
            self._team,
            self._varying(layout),
            None if self._is_whole else self._stages(functions),
        )

    def _is_early(self, output: int) -> bool:
        """Whether an output is made before the first step."""
        return self._is_whole or is_early(self._program, output, self._known)

    def _stages(self, functions: Mapping[int, Function]) -> Any:
        """The steps of a program that has several."""
        instructions = Instructions(self._program, self._known, self.placed, self._threads)
        return instructions.spec(self._addresses, functions, self._constants)

    def _varying(self, layout: Layout) -> Any:
        """How the sizes of a frame vary; None where they do not."""
        program = self._program
        if self.told is None and not program.defines_sizes:
            return None
        numbers = {name: i for i, name in enumerate(program.symbols)}
        outputs = enumerate(program.outputs)
        early_ones = [shape if self._is_early(i) else () for i, (_, shape, _) in outputs]
        dims = [d for shape in (*(t.shape for _, t in self._types), *early_ones) for d in shape]
        varying = [i for i, d in enumerate(dims) if not isinstance(d, int)]
        if self.told is None:
            varying = []  # as the layout says
        code = [n for i in varying for n in code_of(dims[i], numbers)]
        for i in layout.offsets:
            code += code_of(room_of(program.slots[i], self._threads), numbers)
        inputs = iter(self.told or ())
        found = [next(inputs, _UNTOLD) if s in self._known else _UNTOLD for s in program.symbols]
        sizes = tuple(n for where in found for n in where)
        return sizes, tuple(varying), tuple(layout.room.values()), tuple(code)
