"""How a kernel is shared among threads, and what it costs.

A kernel becomes *phases*, one after the other. The last statement of a phase may be `Tasks`: the
outermost loops, as many of them as it takes to have a good number of tasks, the last one taken in
blocks if it is the loop whose steps are vectors. Single numbers that are stored behind all loops
are a phase of their own. How tasks are given to threads is the runtime's
affair; since no task reads what another writes, results do not depend on it. See `chunks` for
kernels that have little but a long fold.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import takewhile

from ..dims import DimLike, bounds
from .chunks import Chunks
from .loops import (
    Assign,
    Buffer,
    Call,
    Const,
    Declare,
    Expr,
    Kernel,
    Let,
    Load,
    Loop,
    Stmt,
    Store,
    Tasks,
    Update,
    When,
    Words,
)
from .lower.pointwise import is_costly

WORTH = 5_000_000  # picoseconds: work that costs less is never shared
_ENOUGH = 64  # tasks: with so many no thread waits long for another
_FEW = 8  # tasks of a kernel whose folds are better taken in chunks
_WORK = 4_000_000  # picoseconds that a task should take where it is part of a loop of vectors
_SHORTEST, _LONGEST = 64, 4096  # steps of such a part; multiples of all numbers of lanes


@dataclass(frozen=True, slots=True)
class Phases:
    """The statements of each phase, and memory: `shared` by all threads, and of each its `own`."""

    bodies: tuple[tuple[Stmt, ...], ...]
    shared: tuple[Buffer, ...]
    own: tuple[Buffer, ...]


def split(kernel: Kernel, lanes: int) -> Phases:
    """The kernel in phases that can be shared; as it is, where that cannot or need not be."""
    total = cost(kernel.body, lanes)
    whole = Phases((kernel.body,), (), kernel.scratch)
    if isinstance(total, int) and total < WORTH:
        return whole
    lets = tuple(takewhile(lambda s: isinstance(s, Let), kernel.body))
    rest = kernel.body[len(lets) :]
    parts = [_tasks(s, lanes) for s in rest if isinstance(s, Loop)]
    if len(parts) < len(rest) or all(_is_few(p.number) for p in parts):
        found = _in_chunks(kernel, rest, total)
        if found is not None:
            return found
    ends = rest[len(parts) :]
    if ends and not (parts and all(isinstance(s, Store) for s in ends)):
        return whole
    bodies = [(*lets, p) for p in parts]
    bodies += [(*lets, *ends)] if ends else []  # as an optimizer's count, which its update reads
    return Phases(tuple(bodies), (), kernel.scratch)


def _is_few(tasks: DimLike) -> bool:
    return isinstance(tasks, int) and tasks < _FEW


def _in_chunks(kernel: Kernel, body: tuple[Stmt, ...], total: DimLike) -> Phases | None:
    """Phases over chunks of what is folded; None where there is little to fold."""
    lets = kernel.body[: len(kernel.body) - len(body)]
    outer: list[Loop] = []
    while len(body) == 1 and isinstance(body[0], Loop) and not body[0].block:
        outer.append(body[0])
        body = body[0].body
    if not any(isinstance(s, Declare) for s in body) or not _is_plain(body):
        return None
    passes = sum(isinstance(s, Loop) for s in body)
    if isinstance(total, int) and total < 2 * WORTH * passes:
        return None
    if outer and kernel.scratch:  # rows that each step of the outer loops fills anew
        return None
    found = Chunks(lets, outer, body)
    return Phases(tuple(found.phases), (*kernel.scratch, *found.partials), ())


def _is_plain(body: tuple[Stmt, ...]) -> bool:
    """Whether steps may be taken in any order, and accumulators do nothing but fold."""
    return all(
        not isinstance(s, Assign | When)
        and (not isinstance(s, Loop) or (not s.serial and _is_plain(s.body)))
        for s in body
    )


def _tasks(loop: Loop, lanes: int) -> Tasks:
    if loop.serial or (loop.lanes and _steps(loop, lanes) >= _most(loop.axis.extent)):
        return Tasks((), (loop,))
    axes, number = [loop.axis], _least(loop.axis.extent)
    while not loop.lanes and not loop.block and number < _ENOUGH:
        inner = loop.body[0]
        if len(loop.body) != 1 or not isinstance(inner, Loop) or inner.within or inner.serial:
            break
        if inner.lanes and _steps(inner, lanes) >= _most(inner.axis.extent):
            break
        loop = inner
        axes.append(loop.axis)
        number *= _least(loop.axis.extent)
    if loop.lanes:
        steps = _steps(loop, lanes)
        return Tasks(tuple(axes), (replace(loop, within=True),), steps)
    return Tasks(tuple(axes), loop.body, loop.block)


def _steps(loop: Loop, lanes: int) -> int:
    """How many steps of a loop of vectors make a task."""
    one = cost(loop.body, lanes)
    steps = _WORK // max(1, one) if isinstance(one, int) else _SHORTEST
    return min(max(_SHORTEST, steps // _SHORTEST * _SHORTEST), _LONGEST)


def _least(n: DimLike) -> float:
    return max(1, bounds(n)[0])


def _most(n: DimLike) -> float:
    high = bounds(n)[1]
    return float("inf") if high is None else high


# -- costs ----------------------------------------------------------------------------------------

# Picoseconds, for one vector that is in cache.
_MEMORY, _SIMPLE, _COSTLY = 400, 200, 2000
_BLOCK_OF_WORDS = 30_000


def cost(body: tuple[Stmt, ...], lanes: int) -> DimLike:
    """How long statements take one core, in picoseconds, very roughly."""
    total: DimLike = 0
    for s in body:
        if isinstance(s, Tasks):
            inside = cost(s.body, lanes)
            last = s.axes[-1] if s.block else None
            for axis in s.axes:
                inside = inside * (1 if axis is last else axis.extent)
            total = total + inside
        elif isinstance(s, Loop):
            steps = 1 if s.block else s.axis.extent
            total = total + cost(s.body, lanes) * steps
        elif isinstance(s, Words):
            total = total + _BLOCK_OF_WORDS // lanes
        elif isinstance(s, When):
            total = total + _expression(s.cond) + cost(s.body, lanes)
        elif isinstance(s, Let | Store | Update | Assign):
            stored = _MEMORY if isinstance(s, Store) else 0
            total = total + (_expression(s.expr) + stored) // lanes
    return total


def _expression(e: Expr) -> int:
    if isinstance(e, Load):
        return _MEMORY
    if not isinstance(e, Call):
        return 0 if isinstance(e, Const) else _SIMPLE
    own = _COSTLY if is_costly(replace(e, args=())) else _SIMPLE
    return own + sum(_expression(a) for a in e.args)
