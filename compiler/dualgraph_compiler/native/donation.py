"""State written in place: outputs computed in the memory of the input or param they replace.

A step may write a new value over the old one where it reads the old one only at the very place it
writes next, and where every other step that reads the old value comes before. Whatever may fail
comes before the first such write, so that a run that fails leaves state as it was. Where that
cannot be, the new value has memory of its own, and the caller copies it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from ..dims import DimLike, product
from ..graph import Value
from .fuse import Step, StepKind
from .index import Axis, Index
from .loops import Buffer, Kernel, Load, Loop, Stmt, Store, expressions
from .lower.library import Routine
from .render.kernel import KernelText
from .schedule import Epilogue

# The steps that read what a step computes, or that must not run before it.
Readers: TypeAlias = dict[Step, dict[Step, None]]


@dataclass(frozen=True, slots=True)
class Donation:
    """`value` is computed by `step` in the memory of `target`, an input or param."""

    value: Value
    target: Value
    step: Step


class Donations:
    """Chooses which donations are safe, and orders steps so that they are.

    `uses` are the buffers that a step reads, `operands` those that a library step reads in an order
    of its own. `readers` gains an edge for each step that has to come before one that writes over
    state.
    """

    def __init__(
        self,
        steps: Sequence[Step],
        routines: Mapping[Step, Routine | None],
        uses: Mapping[Step, set[Buffer]],
        operands: Callable[[Step], set[Buffer]],
        readers: Readers,
        buffer: Callable[[Value], Buffer],
    ) -> None:
        self._steps = steps
        self._routines = routines
        self._uses = uses
        self._operands = operands
        self._readers = readers
        self._buffer = buffer
        self._failing = [s for s in steps if may_fail(routines[s])]

    def choose(self, wanted: Sequence[tuple[Value, Value]]) -> list[Donation]:
        """Those of the pairs of a new value and its target that are safe, one after another."""
        writer = {v: s for s in self._steps for v in s.stores}
        chosen: list[Donation] = []
        for value, target in wanted:
            step = writer.get(value)
            taken = any(d.target is target for d in chosen)
            if step is not None and not taken and self._is_safe(value, target, step):
                chosen.append(Donation(value, target, step))
        return chosen

    def _is_safe(self, value: Value, target: Value, step: Step) -> bool:
        old, new = self._buffer(target), self._buffer(value)
        routine = self._routines[step]
        if routine is None or step in self._failing:
            return False
        if old in self._uses[step] and not self._overwrites(step, routine, old, new):
            return False
        others = [s for s in self._steps if s is not step and old in self._uses[s]]
        before = dict.fromkeys([*self._failing, *others])
        after = self._behind(step)
        if not after.isdisjoint(before):
            return False
        for s in before:
            self._readers[s][step] = None
        return True

    def _overwrites(self, step: Step, routine: Routine, old: Buffer, new: Buffer) -> bool:
        """Whether every element of `old` is read where `new` is stored next, and never again."""
        if isinstance(routine, KernelText):
            return step.kind is StepKind.FUSED and _in_place(routine.kernel, old, new, whole=True)
        epilogue = getattr(routine, "epilogue", None)
        if not isinstance(epilogue, Epilogue) or old in self._operands(step):
            return False
        # A tile after another: rows and columns that are stored once.
        return _in_place(epilogue.kernel, old, new, whole=False)

    def _behind(self, step: Step) -> set[Step]:
        """The steps that come after one."""
        found: set[Step] = set()
        pending = [step]
        while pending:
            for s in self._readers[pending.pop()]:
                if s not in found:
                    found.add(s)
                    pending.append(s)
        return found


def may_fail(routine: Routine | None) -> bool:
    """Whether a step may refuse the numbers it gets."""
    return routine is None or routine.checked


def _in_place(kernel: Kernel, old: Buffer, new: Buffer, *, whole: bool) -> bool:
    """Whether `old` is read at the index that `new` is stored at, and no more after that.

    With `whole` the loops around the store must count every element once.
    """
    stored: Index | None = None
    around: tuple[Axis, ...] = ()
    loads: list[Index] = []
    for stmt, axes in _flat(kernel.body, ()):
        for e in expressions((stmt,)):
            if isinstance(e, Load) and e.buffer is old:
                if stored is not None:
                    return False
                loads.append(e.at)
        if isinstance(stmt, Store) and stmt.buffer is new:
            if stored is not None:
                return False
            stored, around = stmt.at, axes
    if stored is None or any(not _equal(at, stored) for at in loads):
        return False
    return not whole or _counts_once(stored, around, new.size)


def _equal(a: Index, b: Index) -> bool:
    return dict(a.terms) == dict(b.terms) and bool(a.offset == b.offset)


def _flat(body: Sequence[Stmt], axes: tuple[Axis, ...]) -> Iterator[tuple[Stmt, tuple[Axis, ...]]]:
    """The statements that are no loops, in order, each with the counters of the loops around it."""
    for s in body:
        if isinstance(s, Loop):
            yield from _flat(s.body, (*axes, s.axis))
        else:
            yield s, axes


def _counts_once(at: Index, axes: Sequence[Axis], size: DimLike) -> bool:
    """Whether loops over `axes` come by every element of a buffer once."""
    counted = dict.fromkeys(axes)
    if product(tuple(a.extent for a in counted)) != size:
        return False
    return all(at.stride(a) not in (None, 0) for a in counted)
