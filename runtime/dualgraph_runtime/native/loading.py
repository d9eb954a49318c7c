"""A program's code and its packed constants, brought into memory."""

from __future__ import annotations

import ctypes
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
    packed = []
    table = (ctypes.c_void_p * len(program.slots))()
    for i, slot in enumerate(program.slots):
        source = constants[slot.number] if slot.home in (Home.CONSTANT, Home.SOURCE) else None
        if source is not None:
            table[i] = source.ctypes.data
        elif slot.home is Home.PACKED:
            packed.append(np.empty(evaluate(slot.elements, {}), slot.dtype.np))
            table[i] = packed[-1].ctypes.data
    function(table)
    return packed
