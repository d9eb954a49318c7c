"""Running a graph by its memory plan: large intermediates in one arena, computed in place.

NumPy's kernels choose the layout of their results by that of their operands, and the layout decides
in which order a later sum adds up. So that planned runs give the same bits as plain ones, layouts
are not assumed but looked at: the second run with the same sizes notes the layout of every value,
and from the third on, kernels that can (``Op.eager_into``) write into arrays of just that layout.
Should an operand ever come in another layout, the rest of that run goes on without the plan.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple, TypeAlias
from weakref import WeakKeyDictionary, ref

import numpy as np

from ..arena import ALIGNMENT
from ..memory.check import check_plan
from ..memory.inplace import InPlacePlan
from ..memory.plan import MemoryPlan, Placement, place_storages, plan_memory
from ..ops.base import Op
from .calls import Pick, Wiring, call, call_into
from .core import Value

# Smaller results are left to NumPy, whose allocator is as fast as a lookup for them.
MIN_BYTES = 1 << 14

_POISON = 0xFF  # makes NaN of every floating-point type

_OUT_OF_PLAN = 4  # times that layouts may change before plans are no longer made


class Layout(NamedTuple):
    """How NumPy laid out a result; `whole`: in an array of its own without gaps."""

    shape: tuple[int, ...]
    strides: tuple[int, ...]
    dtype: Any
    nbytes: int
    whole: bool


def layout_of(x: Any) -> Layout | None:
    """The layout of an array; None for NumPy's numbers."""
    if type(x) is not np.ndarray:
        return None
    whole = x.flags.writeable and _is_dense(x)
    return Layout(x.shape, x.strides, x.dtype, x.nbytes, whole)


def _is_dense(x: Any) -> bool:
    """Whether the elements fill their memory in some order of the axes."""
    step = x.itemsize
    for stride, size in sorted(zip(x.strides, x.shape, strict=True)):
        if size == 1:
            continue
        if stride != step:
            return False
        step *= size
    return True


# A call as in `calls`; then the slot of the array written to, or None, and checks: slots and the
# strides that the arrays there must have for that array to be right.
Step: TypeAlias = tuple[
    Callable[..., Any],
    Pick,
    int,
    int,
    tuple[int, ...],
    int | None,
    tuple[tuple[int, tuple[int, ...]], ...],
]


class Arena:
    """Memory for one run at a time, and the arrays in it for each plan that used it."""

    def __init__(self, size: int) -> None:
        raw = np.empty(size + ALIGNMENT, np.uint8)
        start = -raw.__array_interface__["data"][0] % ALIGNMENT
        self.memory = raw[start : start + size]
        self.views: WeakKeyDictionary[Bound, list[Any]] = WeakKeyDictionary()
        self.me = ref(self, _forget)


# Arenas that no run is using, of all graphs: graphs that take turns share the largest. An arena
# lives as long as a planner that used it last.
_free: list[ref[Arena]] = []


def _forget(dead: ref[Arena], free: list[ref[Arena]] = _free) -> None:  # at exit names are gone
    if dead in free:
        free.remove(dead)


def take_arena(size: int) -> Arena:
    """An arena of at least `size` bytes that nobody else uses until it is given back."""
    alive = [arena for r in list(_free) if (arena := r()) is not None]
    for arena in sorted(alive, key=lambda a: -a.memory.size):
        if arena.memory.size < size:
            break
        try:
            _free.remove(arena.me)
        except ValueError:  # another thread was quicker
            continue
        return arena
    return Arena(size)


class Bound:
    """The plan for one set of sizes: steps to take, and where the results lie in the arena."""

    def __init__(self, plan: MemoryPlan, placement: Placement, steps: list[Step]) -> None:
        self.plan = plan
        self.placement = placement
        self.steps = steps
        self.layouts: list[tuple[Layout, int]] = []  # and offset, of each array in the arena
        self.dying: dict[int, list[slice]] = {}  # parts of the arena, by who reads them last
        for storage, start in placement.offsets.items():
            part = slice(start, start + placement.sizes[storage])
            self.dying.setdefault(storage.last, []).append(part)

    def views(self, arena: Arena) -> list[Any]:
        """The arrays in `arena` that steps write to."""
        found = arena.views.get(self)
        if found is None:
            found = arena.views[self] = [
                np.ndarray(x.shape, x.dtype, arena.memory, offset, x.strides)
                for x, offset in self.layouts
            ]
        return found


def bind(
    in_place: InPlacePlan,
    plan: MemoryPlan,
    ops: Sequence[Op],
    wiring: Sequence[Wiring],
    slots: Mapping[Value, int],
    layouts: Sequence[Layout | None],
    min_bytes: int,
) -> Bound | None:
    """Steps for the nodes before the first that writes to state; None if there is nothing to gain.

    `ops` are the nodes' with sizes put in, `wiring` what they read and write, `layouts` those of
    all slots in a run.
    """
    graph = in_place.graph
    module = len(layouts) - 1  # the slot of `xp`
    fixed = {slots[v] for v in graph.constants}

    def large(v: Value) -> Layout | None:
        x = layouts[slots[v]]
        return x if x is not None and x.nbytes >= min_bytes and x.nbytes > 0 else None

    sizes = {}
    home: dict[Value, Any] = {}
    for storage in plan.storages:
        v = storage.values[0]
        x = large(v)
        node = v.node
        assert node is not None
        placed = x is not None and x.whole and node.op.writes_into and len(node.outputs) == 1
        early = storage.first < in_place.first_write
        if placed and early and not storage.escapes:
            assert x is not None
            sizes[storage] = x.nbytes
            home[v] = storage
    placement = place_storages(sizes)
    bound = Bound(plan, placement, [])
    in_arena: set[int] = set()
    gained = False
    for at, (op, (operands, result, count, dead)) in enumerate(zip(ops, wiring, strict=True)):
        if at == in_place.first_write:
            break
        v = in_place.order[at].outputs[0]
        x = large(v)
        out: int | None = None
        operand = in_place.reused.get(v)
        if v in home:
            assert x is not None
            out = len(layouts) + len(bound.layouts)
            bound.layouts.append((x, placement.offsets[home[v]]))
            in_arena.add(result)
        elif operand is not None and x is not None and count == 1:
            y = layouts[slots[operand]]
            if y is not None and y.whole and y[:3] == x[:3]:
                out = slots[operand]
                if out in in_arena:
                    in_arena.add(result)
        if out is None:
            bound.steps.append((*call(op, wiring[at], np, module), None, ()))
            continue
        gained = True
        checks = []
        for i in dict.fromkeys(operands):
            y = layouts[i]
            if y is not None and i not in fixed and i not in in_arena:
                checks.append((i, y.strides))
        into = call_into(op, operands, out, module)
        bound.steps.append((*into, result, count, dead, out, tuple(checks)))
    return bound if gained else None


def _steps(bound: Bound, slots: list[Any], start: int = 0, stop: int | None = None) -> int:
    """Take these steps; returns how many were taken before operands came in other layouts."""
    done = 0
    for function, arguments, result, count, dead, target, checks in bound.steps[start:stop]:
        for i, strides in checks:
            if slots[i].strides != strides:
                return done
        out = function(*arguments(slots))
        if target is not None:
            slots[result] = slots[target]
        elif count == 1:
            slots[result] = out
        else:
            slots[result : result + count] = out
        for i in dead:
            slots[i] = None
        done += 1
    return done


class Planner:
    """The plans of one graph, by the sizes of its symbolic dims.

    Under ``DUALGRAPH_VERIFY=1`` plans are made for values of any size and checked
    (`memory.check`), and memory is filled with NaN as soon as nobody is to read it.
    """

    def __init__(
        self, in_place: InPlacePlan, slots: Mapping[Value, int], wiring: Sequence[Wiring]
    ) -> None:
        self._in_place = in_place
        self._slots = slots
        self._wiring = wiring
        self._plan: MemoryPlan | None = None
        self._runs: dict[Any, int] = {}
        self._bound: dict[Any, Bound | None] = {}
        self._held: Arena | None = None
        self._misses = 0
        # Checking takes every plan apart, and spoils memory that nobody is to read.
        self.checked = os.environ.get("DUALGRAPH_VERIFY") == "1"
        self.poison = self.checked
        self.min_bytes = 0 if self.checked else MIN_BYTES

    def find(self, key: Any) -> Bound | Literal["plain", "learn"]:
        """The plan for these sizes, or how to run without: "learn" wants to know of layouts."""
        if key in self._bound:
            return self._bound[key] or "plain"
        runs = self._runs[key] = self._runs.get(key, 0) + 1
        if len(self._runs) > 64:  # bounded: sizes come from callers
            self._runs = {key: runs}
        return "learn" if runs > 1 else "plain"

    def learn(self, key: Any, ops: Sequence[Op], layouts: Sequence[Layout | None]) -> None:
        """Make the plan for these sizes, now that layouts are known."""
        if self._plan is None:
            self._plan = plan_memory(self._in_place.graph, self._in_place)
        if len(self._bound) >= 64:
            self._bound.clear()
        bound = bind(
            self._in_place,
            self._plan,
            ops,
            self._wiring,
            self._slots,
            layouts,
            self.min_bytes,
        )
        if bound is not None and self.checked:
            check_plan(self._in_place, bound.placement)
        self._bound[key] = bound

    def missed(self, key: Any) -> None:
        """Operands came in other layouts than when the plan was made: make it anew, or give up."""
        self._misses += 1
        if self._misses >= _OUT_OF_PLAN:
            self._bound[key] = None
        else:
            self._bound.pop(key, None)

    def run(self, bound: Bound, slots: list[Any]) -> tuple[Arena, int]:
        """Take the steps of a plan.

        Returns the arena used, to be given back when nothing of the run is read any longer, and how
        many steps fitted: all, but for unforeseen layouts.
        """
        arena = take_arena(bound.placement.arena_bytes)
        slots += bound.views(arena)
        done = self._poisoned(bound, slots, arena) if self.poison else _steps(bound, slots)
        return arena, done

    def trim(self) -> None:
        """Give the arena that was used last back to the system."""
        self._held = None

    def _poisoned(self, bound: Bound, slots: list[Any], arena: Arena) -> int:
        """`run`, with every byte of the arena spoilt while nobody is to read it."""
        arena.memory[:] = _POISON
        for at in range(len(bound.steps)):
            if not _steps(bound, slots, at, at + 1):
                return at
            for place in bound.dying.get(at, ()):
                arena.memory[place] = _POISON
        return len(bound.steps)

    def give_back(self, arena: Arena) -> None:
        """Let later runs have an arena that a run has used."""
        if self.poison:
            arena.memory[:] = _POISON
        self._held = arena
        _free.append(arena.me)
