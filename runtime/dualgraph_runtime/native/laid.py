"""Runs of programs that are exact: compiled code and eager kernels in turn.

Eager kernels see arrays as NumPy lays them out, since the layout decides in which order they add.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from typing import Any

import numpy as np

from dualgraph_compiler.native import Home, Interpreted, Program

from .layouts import Layout, bytes_of

_Array = np.ndarray[Any, Any]


class _Room:
    """Memory for one run at a time, with what is there from the start: arrays and addresses."""

    def __init__(self, memory: _Array, values: list[Any], table: Any) -> None:
        self.memory, self.values, self.table = memory, values, table


class LaidSteps:
    """The steps of a program for one set of sizes. Safe to call from several threads.

    Args:
        program, layout: what to run, and for which sizes.
        entries: the functions of its segments.
        constants, packed: its constants, those in C order and those that kernels read packed.
        team: the address of the threads that compiled code shares its work with.
    """

    def __init__(
        self,
        program: Program,
        layout: Layout,
        entries: Mapping[str, Any],
        constants: Sequence[_Array | None],
        packed: Sequence[_Array],
        team: int | None,
    ) -> None:
        assert program.laid is not None
        self._program, self._layout = program, layout
        self._constants, self._packed = constants, packed
        self._team = ctypes.c_void_p(team)
        self._dims = (ctypes.c_int64 * (len(layout.dims) + 1))(*layout.dims)
        self._table_type = ctypes.c_void_p * (len(program.slots) + 1)
        self._given = program.laid.given
        homes = {(s.home, s.number): i for i, s in enumerate(program.slots)}
        n_inputs, n_params = len(program.inputs), len(program.params)
        self._operands = [
            *(homes.get((Home.INPUT, i)) for i in range(n_inputs)),
            *(homes.get((Home.PARAM, i)) for i in range(n_params)),
        ]
        self._outputs = [
            (i, layout.shapes[i], s.dtype.np)
            for i, s in enumerate(program.slots)
            if s.home is Home.OUTPUT
        ]
        self._steps: list[tuple[Any, tuple[Any, ...] | None, tuple[int, ...], tuple[int, ...]]] = []
        for step, op, dead in zip(program.steps, layout.ops, program.laid.dead, strict=True):
            if isinstance(step, Interpreted):
                kernel, shapes = op
                run = getattr(np, kernel.ufunc) if kernel.ufunc else partial(kernel.eager, np)
                operands = tuple(zip((i for i, _ in step.operands), shapes, strict=True))
                self._steps.append((run, operands, step.results, dead))
            else:
                self._steps.append((entries[step.entry], None, (), dead))
        self._rooms: list[_Room] = []

    def run(
        self, arrays: Sequence[_Array], raise_for: Callable[[int], None]
    ) -> list[np.ndarray[Any, Any]]:
        """The outputs for these inputs and params; `raise_for` makes an error of a status."""
        room = self._rooms.pop() if self._rooms else self._make_room()
        values, table = room.values.copy(), self._table_type.from_buffer_copy(room.table)
        for i, a in zip(self._operands, arrays, strict=True):
            if i is not None:
                values[i] = a
                table[i] = a.__array_interface__["data"][0]
        for i, shape, dtype in self._outputs:
            y = values[i] = np.empty(shape, dtype)
            table[i] = y.__array_interface__["data"][0]
        with np.errstate(all="ignore"):
            kept = self._run(values, table, raise_for)
        del kept
        results = self._results(values, arrays, room)
        self._rooms.append(room)
        return results

    def _run(self, values: list[Any], table: Any, raise_for: Callable[[int], None]) -> list[_Array]:
        """Every step; returns what compiled code had addresses of."""
        dims, team, given = self._dims, self._team, self._given
        copies: list[_Array] = []
        for run, operands, results, dead in self._steps:
            if operands is None:
                status = run(table, dims, team)
                if status:
                    raise_for(status)
            else:
                read = [
                    x if x.shape == shape else x.reshape(shape)
                    for x, shape in [(values[i], shape) for i, shape in operands]
                ]
                found = run(*read)
                made = found if isinstance(found, tuple | list) else (found,)
                for i, y in zip(results, made, strict=True):
                    values[i] = y
                    if i in given:
                        copy = np.require(y, requirements=("C", "A"))
                        copies.append(copy)
                        table[i] = copy.__array_interface__["data"][0]
            for i in dead:
                values[i] = None
        return copies

    def _results(
        self, values: list[Any], arrays: Sequence[_Array], room: _Room
    ) -> list[np.ndarray[Any, Any]]:
        donated = self._program.donated
        results: list[np.ndarray[Any, Any]] = []
        for n, (i, _, _) in enumerate(self._program.outputs):
            if n in donated:
                results.append(arrays[donated[n]])
                continue
            y = np.asarray(values[i])
            shape = self._layout.outputs[n]
            y = y if y.shape == shape else y.reshape(shape)
            results.append(_moved(y) if np.may_share_memory(y, room.memory) else y)
        return results

    def _make_room(self) -> _Room:
        """Memory for a run, and what lies in it."""
        program, layout = self._program, self._layout
        memory = np.empty(layout.arena_bytes + 64, np.uint8)
        start = -memory.ctypes.data % 64
        values: list[Any] = [None] * len(program.slots)
        table = self._table_type()
        for i, slot in enumerate(program.slots):
            array = None
            if slot.home is Home.CONSTANT:
                array = self._constants[slot.number]
                values[i] = program.constants[slot.number]
            elif slot.home is Home.PACKED:
                array = self._packed[slot.number]
            elif slot.home is Home.ARENA:
                at = start + layout.offsets[i]
                array = memory[at : at + bytes_of(slot, layout.shapes[i])].view(slot.dtype.np)
                if not slot.own:
                    array = values[i] = array.reshape(layout.shapes[i])
            if array is not None:
                table[i] = array.__array_interface__["data"][0]
        return _Room(memory, values, table)


def _moved(x: _Array) -> np.ndarray[Any, Any]:
    """A copy that lies as `x` does, with its gaps: later sums go by that."""
    low, high = np.lib.array_utils.byte_bounds(x)
    memory = np.empty(high - low, np.uint8)
    start = x.__array_interface__["data"][0] - low
    y: np.ndarray[Any, Any] = np.ndarray(x.shape, x.dtype, memory, start, x.strides)
    y[...] = x
    return y


@cache
def takes_second_zero() -> bool:
    """Whether NumPy's maximum and minimum of two zeros are the second on this machine, as on x86.

    Nothing says so, and its loops are written for each processor: they are asked.
    """
    for dtype in (np.float32, np.float64):
        for n in (1, 2, 3, 5, 17, 64, 67):
            for sign in (0.0, -0.0):
                first, second = np.full(n, -sign, dtype), np.full(n, sign, dtype)
                for function in (np.maximum, np.minimum):
                    for operand in (second, dtype(sign)):
                        y = function(first, operand)
                        if (np.signbit(y) != np.signbit(second)).any():
                            return False
    return True
