"""Which loops of a kernel are shared among threads, and what a kernel costs.

The outermost loops become a range of *tasks*: as many of them as it takes to have a good number of
tasks, the last one taken in blocks if it is the loop whose steps are vectors. How tasks are given
to threads is the runtime's affair; since no task reads what another writes, results do not depend
on it.
"""

from __future__ import annotations

from dataclasses import replace

from ..dims import DimLike, bounds
from .loops import (
    Assign,
    Call,
    Const,
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
)
from .lower.pointwise import is_costly

WORTH = 5_000_000  # picoseconds: work that costs less is never shared
_ENOUGH = 64  # tasks: with so many no thread waits long for another
_WORK = 4_000_000  # picoseconds that a task should take where it is part of a loop of vectors
_SHORTEST, _LONGEST = 64, 4096  # steps of such a part; multiples of all numbers of lanes


def split(kernel: Kernel, lanes: int) -> Kernel:
    """The kernel with its outermost loops as tasks; as it is, where that cannot or need not be."""
    total = cost(kernel.body, lanes)
    if isinstance(total, int) and total < WORTH:
        return kernel
    if not all(isinstance(s, Loop) for s in kernel.body):
        return kernel
    body = [_tasks(s, lanes) for s in kernel.body if isinstance(s, Loop)]
    return replace(kernel, body=tuple(body))


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
