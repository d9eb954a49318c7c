"""Long folds in chunks: a kernel that has few independent results, but folds much into each.

Every pass over the folded axes becomes a phase whose tasks are chunks of one of them. A task leaves
what it has folded in a row of *partial* results; the phases behind it begin by folding those,
in order. Chunks depend on sizes alone, so the result is the same for any number of threads.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from ..dims import bounds, product
from .index import Axis, Index, flatten, of_axis
from .loops import (
    Buffer,
    Declare,
    Finish,
    Load,
    Loop,
    Ref,
    Stmt,
    Store,
    Tasks,
    Update,
)

_MANY = 64  # chunks at most: later phases fold so many partial results for themselves
_SHORTEST = 64  # steps of a loop of vectors in a chunk; a multiple of all numbers of lanes
_PARTIALS = 2000  # the number of the first counter of partial results


@dataclass(frozen=True, slots=True)
class _Row:
    """The partial results of an accumulator, one for each step of `counter`."""

    buffer: Buffer
    counter: Axis


class Chunks:
    """Splits the statements inside `outer` loops and behind `lets` into `phases`.

    `partials` is memory that a phase fills for the next ones.
    """

    def __init__(self, lets: Sequence[Stmt], outer: Sequence[Loop], body: Sequence[Stmt]) -> None:
        self.phases: list[tuple[Stmt, ...]] = []
        self.partials: list[Buffer] = []
        self._lets, self._outer = lets, outer
        self._rows: dict[str, _Row] = {}
        # What the current phase computes first, with what earlier ones have left.
        before: list[Stmt] = []
        declared: list[Declare] = []
        stores: list[Store] = []
        for s in body:
            if isinstance(s, Declare):
                declared.append(s)
            elif isinstance(s, Loop):
                self._pass(before, declared, s)
                declared = []
            elif isinstance(s, Finish):
                before += self._combined(s)
            elif isinstance(s, Store):
                stores.append(s)
            else:
                before.append(s)
        if stores:
            self.phases.append((*lets, *self._nest([*before, *stores])))

    def _nest(self, body: Sequence[Stmt]) -> tuple[Stmt, ...]:
        for loop in reversed(self._outer):
            body = [replace(loop, body=tuple(body))]
        return tuple(body)

    def _pass(self, before: list[Stmt], declared: list[Declare], loop: Loop) -> None:
        """A phase that runs over the folded axes in chunks."""
        chunked = _longest(loop)
        axis = chunked.axis
        shortest = _SHORTEST if chunked.lanes else 1
        block = axis.extent // (_MANY * shortest) * shortest + shortest
        tasks = Tasks((axis,), (), block)
        body: list[Stmt] = [*before, *declared, _within(loop, chunked)]
        for d in declared:
            sizes = (tasks.counter.extent, *(o.axis.extent for o in self._outer))
            row = Buffer(d.dtype, product(sizes), "partial results")
            self.partials.append(row)
            self._rows[d.name] = _Row(row, tasks.counter)
            total = f"p{d.name}"
            body.append(Finish(total, d.name, d.fold, d.dtype))
            body.append(Store(row, self._at(tasks.counter), Ref(total, d.dtype)))
        self.phases.append((*self._lets, replace(tasks, body=self._nest(body))))

    def _combined(self, finish: Finish) -> list[Stmt]:
        """The value of an accumulator from its partial results."""
        row = self._rows[finish.accumulator]
        name = f"c{finish.accumulator}"
        counter = Axis(_PARTIALS + len(self._rows), row.counter.extent)
        value = Load(row.buffer, self._at(counter), (), finish.dtype)
        return [
            Declare(name, finish.fold, finish.dtype),
            Loop(counter, (Update(name, finish.fold, value),)),
            replace(finish, accumulator=name),
        ]

    def _at(self, counter: Axis) -> Index:
        axes = [counter, *(o.axis for o in self._outer)]
        return flatten([of_axis(a) for a in axes], tuple(a.extent for a in axes))


def _longest(loop: Loop) -> Loop:
    """The loop of a nest to take in chunks: the outermost unless it is known to be short."""
    found = loop
    while len(loop.body) == 1 and isinstance(loop.body[0], Loop):
        loop = loop.body[0]
        most, other = bounds(found.axis.extent)[1], bounds(loop.axis.extent)[1]
        if most is not None and most < _MANY and (other is None or other > most):
            found = loop
    return found


def _within(loop: Loop, chunked: Loop) -> Loop:
    """The nest with one of its loops running over a chunk."""
    if loop is chunked:
        return replace(loop, within=True)
    (inner,) = loop.body
    assert isinstance(inner, Loop)
    return replace(loop, body=(_within(inner, chunked),))
