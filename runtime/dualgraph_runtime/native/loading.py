"""A program's code and its packed constants, brought into memory."""

from __future__ import annotations

import ctypes
import mmap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dualgraph_compiler.dims import evaluate
from dualgraph_compiler.native import Home, Program, Segment

from . import cache
from .cpus import available_cpus
from .toolchain import Compiler

_UNIT = 40_000  # characters of text that are worth a compiler of their own
_LINE = 64  # bytes: what an array is aligned to
_HUGE_PAGE = 1 << 21


def has_code(program: Program) -> bool:
    """Whether anything of a program is compiled."""
    return any(isinstance(s, Segment) for s in program.steps)


def load(program: Program, compiler: Compiler) -> ctypes.CDLL:
    """A program's code, built unless the cache has it."""
    key = cache.key_of(program.text, *compiler.flags, compiler.identity)

    def build(to: Path) -> None:
        from dualgraph_compiler.native.units import split

        count = min(available_cpus(), len(program.text) // _UNIT)
        compiler.build(split(program.text, count), to)

    try:
        return ctypes.CDLL(str(cache.cached(key, build)))
    except OSError:  # removed by another process just now
        return ctypes.CDLL(str(cache.store(key, build)))


def packed_constants(
    function: Any, program: Program, constants: Sequence[np.ndarray[Any, Any] | None]
) -> list[np.ndarray[Any, Any]]:
    """Constants in the order that kernels read them in, as the program's `function` packs them."""
    sizes = {
        i: (evaluate(slot.elements, {}), slot.dtype.np)
        for i, slot in enumerate(program.slots)
        if slot.home is Home.PACKED
    }
    made = _side_by_side(list(sizes.values()))
    table = (ctypes.c_void_p * len(program.slots))()
    for i, array in zip(sizes, made, strict=True):
        table[i] = array.ctypes.data
    for i, slot in enumerate(program.slots):
        source = constants[slot.number] if slot.home in (Home.CONSTANT, Home.SOURCE) else None
        if source is not None:
            table[i] = source.ctypes.data
    function(table)
    return made


def _side_by_side(
    sizes: Sequence[tuple[int, np.dtype[Any]]],
) -> list[np.ndarray[Any, Any]]:
    """Arrays of so many elements each, in huge pages where they fill some.

    What is read from end to end at each call, as weights are, waits for addresses otherwise, and
    pages that lie anywhere in memory fill some sets of a cache and leave others empty.
    """
    begins, end = [], 0
    for count, dtype in sizes:
        begins.append(end)
        end += -(-count * dtype.itemsize // _LINE) * _LINE
    if end < _HUGE_PAGE or not hasattr(mmap, "MADV_HUGEPAGE"):
        return [np.empty(count, dtype) for count, dtype in sizes]
    memory = mmap.mmap(-1, end + _HUGE_PAGE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    first = -np.frombuffer(memory, np.uint8).ctypes.data % _HUGE_PAGE
    memory.madvise(mmap.MADV_HUGEPAGE, first, end // _HUGE_PAGE * _HUGE_PAGE)
    return [
        np.ndarray(count, dtype, memory, first + begin)
        for begin, (count, dtype) in zip(begins, sizes, strict=True)
    ]
