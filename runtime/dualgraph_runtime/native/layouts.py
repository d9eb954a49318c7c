"""The memory of a program for known sizes: shapes of its slots, and their places in the arena."""

from __future__ import annotations

import math
from collections.abc import Collection, Container, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dualgraph_compiler.arena import Lifetime, place
from dualgraph_compiler.dims import Shape, evaluate, symbols
from dualgraph_compiler.errors import OutOfMemory
from dualgraph_compiler.native import Home, Interpreted, Program, Segment, Slot

from ..memory import usable_memory

if TYPE_CHECKING:
    from .laid import LaidSteps


@dataclass(slots=True)
class Layout:
    """A program for known sizes: shapes of slots, places in the arena, values of the symbols.

    What has sizes that only a run tells is left open: its shapes are ().
    """

    shapes: list[tuple[int, ...]]
    offsets: dict[int, int]
    arena_bytes: int
    dims: tuple[int, ...]
    outputs: list[tuple[int, ...]]
    ops: list[Any]  # of interpreted nodes: the op and its operands' shapes
    env: dict[str, int]
    room: dict[int, int]  # bytes of the arena's slots
    frame: Any = None
    steps: LaidSteps | None = None  # of a program that is exact


def layout_of(
    program: Program,
    env: dict[str, int],
    threads: int,
    placed: Collection[int],
    least: Mapping[int, int] | None = None,
) -> Layout:
    """The layout for these sizes; `least` is room that slots are to have at least.

    The slots `placed` are in the arena.

    Raises:
        OutOfMemory: values and results need more memory than there is.
    """
    shapes = [_shape(s.shape, env) for s in program.slots]
    needed = arena_sizes(program, env, threads, placed)
    room = {i: max(n, (least or {}).get(i, 0)) for i, n in needed.items()}
    slots = [program.slots[i] for i in room]
    lives = [Lifetime(n, s.first, s.last) for n, s in zip(room.values(), slots, strict=True)]
    offsets, total = place(lives)
    if not least:  # sizes met, not sizes that there is to be room for
        results = [bytes_of(program.slots[i], shapes[i]) for i, _, _ in program.outputs]
        require_fits(total, results)
    return Layout(
        shapes=shapes,
        offsets=dict(zip(room, offsets, strict=True)),
        arena_bytes=total,
        dims=tuple(env.get(name, 0) for name in program.symbols),
        outputs=[_shape(shape, env) for _, shape, _ in program.outputs],
        ops=[] if program.defines_sizes else [resolved(s, env) for s in program.steps],
        env=env,
        room=room,
    )


def arena_sizes(
    program: Program, env: dict[str, int], threads: int, placed: Collection[int]
) -> dict[int, int]:
    """The bytes of the slots `placed`, of which each of so many threads has its `own`."""
    return {
        i: bytes_of(s, tuple(evaluate(d, env) for d in s.shape)) * (threads if s.own else 1)
        for i, s in enumerate(program.slots)
        if i in placed
    }


def in_arena(program: Program) -> frozenset[int]:
    """The slots whose home is the arena."""
    return frozenset(i for i, s in enumerate(program.slots) if s.home is Home.ARENA)


def _shape(shape: Shape, env: dict[str, int]) -> tuple[int, ...]:
    return tuple(evaluate(d, env) for d in shape) if is_known(shape, env) else ()


def resolved(step: Segment | Interpreted, env: dict[str, int]) -> Any:
    """An interpreted op, and the shapes of its operands, for known sizes."""
    if isinstance(step, Segment):
        return None
    op = step.op.resolve(env) if step.op.symbols() else step.op
    return op, [tuple(evaluate(d, env) for d in shape) for _, shape in step.operands]


def is_known(shape: Shape, names: Container[str]) -> bool:
    """Whether all symbols in the sizes of a shape are among these."""
    return all(s.name in names for d in shape for s in symbols(d))


def bytes_of(slot: Slot, shape: tuple[int, ...]) -> int:
    """The size of a slot; of one that each thread has, with what keeps them apart."""
    size = int(slot.dtype.itemsize * math.prod(shape))
    return -(-size // 64) * 64 if slot.own else size


def require_fits(memory: int, results: Iterable[int]) -> None:
    """Raise OutOfMemory if the memory for intermediate values and results is more than there is."""
    needed = memory + sum(results)
    if needed > usable_memory():
        raise OutOfMemory(
            f"the run needs {needed:,} bytes, more than the {usable_memory():,} that there are"
        )
