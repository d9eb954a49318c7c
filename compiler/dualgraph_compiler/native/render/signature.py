"""The parameters of the functions of a routine, see `lower.library.Routine`."""

from __future__ import annotations

from collections.abc import Mapping

from ..loops import Buffer
from ..lower.library import Routine
from .types import Sizes, memory


def declared(routine: Routine, names: Mapping[Buffer, str]) -> list[str]:
    """Declarations of these buffers."""
    return [
        f"{'const ' if b in routine.reads else ''}{memory(b.dtype)} *restrict {n}"
        for b, n in names.items()
    ]


def parameters(routine: Routine, names: Mapping[Buffer, str]) -> str:
    """Declarations of these buffers, of the sizes and of the range of tasks."""
    sizes = [f"i64 {n}" for n in (*routine.arguments, "first", "last")]
    return ", ".join([*declared(routine, names), *sizes])


def sizes_used(own: Sizes, epilogue: Sizes) -> tuple[str, ...]:
    """The sizes that a routine and its epilogue read, but the block's, which the routine gives."""
    used = dict.fromkeys([*own.used, *epilogue.used])
    return tuple(n for n in used if n not in ("rows", "columns"))
