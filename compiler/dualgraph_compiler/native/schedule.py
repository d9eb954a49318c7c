"""From a fused step to its loops.

The axes of a step become loops: those kept outside, those folded inside. What depends on folded
axes lives in *stages*: a reduction reads what its stage has computed, and what reads its total
belongs to the next stage, which runs over the folded axes again. A value of an earlier stage that
is needed again is computed again where that is cheap and read back from a row of scratch memory
where it is not.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ..dims import DimLike, product
from ..graph import Node, Value
from ..graph.text import Namer, node_text
from .concat import concat_kernel
from .index import TILE_COLUMNS, TILE_ROWS, Axis, Index, flatten, of_axis, unflatten
from .loops import (
    Buffer,
    Declare,
    Expr,
    Finish,
    Holds,
    Kernel,
    Let,
    Load,
    Loop,
    Position,
    Ref,
    Stmt,
    Store,
    Update,
    expressions,
    walk,
)
from .lower import nests, pointwise, reduction
from .reading import BufferOf, Reading
from .steps import Place, Step, StepKind, renamed
from .views import Context, View, strided

__all__ = ["Context", "Epilogue", "View", "kernel_of", "strided"]


@dataclass
class _Nest:
    """The loops of a step: coordinates of its axes, and the counters outside and inside."""

    coords: list[Index]
    outer: list[Axis]
    inner: list[Axis]
    lanes: Axis | None


def kernel_of(step: Step, reading: Reading, buffer: BufferOf, names: Namer) -> Kernel:
    """The kernel of a step of loops."""
    if step.kind is StepKind.CONCAT:
        return concat_kernel(step.nodes[0], reading, buffer, names)
    if step.kind is StepKind.NEST:
        return nests.kernel(step.nodes[0], reading, buffer, names)
    return _Scheduler(step, reading, buffer, names).made()


class _Scheduler:
    def __init__(self, step: Step, reading: Reading, buffer: BufferOf, names: Namer) -> None:
        self.step = step
        self.reading = reading
        self.buffer = buffer
        self.names = names
        self.members = {v for n in step.nodes for v in n.outputs}
        self.number = {n: i for i, n in enumerate(step.nodes)}
        self.folds = [n for n in step.nodes if self._is_fold(n)]
        self.loop_of: dict[int, Axis] = {}
        self.nest = self._plain_nest()
        self.nest = self._collapsed(self._all_indices())
        inner = set(self.nest.inner)
        self.full = {v for v in self.members if self._axes(v) & inner}
        self.stage = self._stages()
        self.scratch: dict[Value, Buffer] = {}

    def _is_fold(self, node: Node) -> bool:
        """Whether a reduction has anything to fold."""
        if node.op.name not in reduction._FOLDS:
            return False
        return bool(set(self._place(node.inputs[0])) - {-1, *self._place(node.output)})

    # -- places -----------------------------------------------------------------------------------

    def _place(self, value: Value) -> Place:
        """Axes of a value; of one from outside, as the node reads it."""
        step = self.step
        v, chain = value, []
        while v not in step.place:
            assert v.node is not None
            chain.append(v.node)
            v = v.node.inputs[0]
        place = step.place[v]
        for node in reversed(chain):
            found = renamed(node, place)
            assert found is not None
            place = found
        return place

    def _at(self, place: Sequence[int]) -> list[Index]:
        return [self.nest.coords[p] if p >= 0 else Index() for p in place]

    def _axes(self, value: Value) -> set[Axis]:
        """The counters that a value of the step depends on."""
        return {self.loop_of[p] for p in self.step.place[value] if p in self.loop_of}

    def _base(self, value: Value) -> Value | None:
        """The value of this step that `value` renames, if it is one."""
        v = value
        while v not in self.members:
            node = v.node
            if node is None or node not in self.reading.virtual or node in self.reading.in_memory:
                return None
            if not node.inputs:
                return None
            v = node.inputs[0]
        return v

    # -- scalars ----------------------------------------------------------------------------------

    def _operand(self, node: Node, value: Value, get: Callable[[Value], Expr]) -> Expr:
        base = self._base(value)
        if base is not None:
            return get(base)
        if node.op.name in reduction._FOLDS:
            return self.reading(value, self._at(self._place(value)))
        out = self.step.place[node.output]
        lead = len(out) - value.ndim
        place = [out[lead + i] if d != 1 else -1 for i, d in enumerate(value.shape)]
        return self.reading(value, self._at(place))

    def _scalar(self, node: Node, get: Callable[[Value], Expr]) -> Expr:
        """What a node computes, for one element; of a fold, what is folded."""
        if node in self.reading.virtual:
            base = self._base(node.inputs[0]) if node.inputs else None
            if base is not None:
                return get(base)
            return self.reading.through(node, self._at(self.step.place[node.output]))
        args = [self._operand(node, v, get) for v in node.inputs]
        if node.op.name in reduction._FOLDS:
            x = reduction.before(node, args[0])
            return x if node in self.folds else reduction.after(node, x)
        return pointwise.lower_pointwise(node.op, args, node.output.dtype)

    # -- loops ------------------------------------------------------------------------------------

    def _plain_nest(self) -> _Nest:
        """A loop for each axis."""
        axes = [Axis(i, d) for i, d in enumerate(self.step.axes)]
        real = [a for a in axes if a.extent != 1]
        self.loop_of = {a.number: a for a in real}
        folded = self.step.reduced or frozenset()
        return self._arranged([of_axis(a) for a in axes], real, folded)

    def _arranged(self, coords: list[Index], real: list[Axis], folded: frozenset[int]) -> _Nest:
        outer = [a for a in real if a.number not in folded]
        inner = [a for a in real if a.number in folded]
        if not inner:  # no fold: the last loop is the inner one
            outer, inner = outer[:-1], outer[-1:]
            return _Nest(coords, outer, inner, inner[-1] if inner else None)
        return _Nest(coords, outer, inner, _lanes(outer, inner, real[-1]))

    def _all_indices(self) -> list[Index]:
        """Every index that the loops would use, with a counter for each axis."""
        found: list[Index] = []
        for node in self.step.nodes:
            expr = self._scalar(node, lambda v: Ref("", v.dtype))
            for e in walk(expr):
                if isinstance(e, Load | Position):
                    found.append(e.at)
                if isinstance(e, Load | Holds):
                    found += [g.index for g in e.guards]
        for v in self.step.stores:
            found.append(flatten(self._at(self.step.place[v]), v.shape))
        return found

    def _collapsed(self, indices: list[Index]) -> _Nest:
        """Neighbouring loops as one where every index walks on from one to the next."""
        nest = self.nest
        folded = self.step.reduced or frozenset()
        real = [Axis(i, d) for i, d in enumerate(self.step.axes) if d != 1]
        groups: list[list[Axis]] = []
        for axis in real:
            if groups and self._walks_on(groups[-1][-1], axis, indices, folded):
                groups[-1].append(axis)
            else:
                groups.append([axis])
        coords = list(nest.coords)
        axes: list[Axis] = []
        for group in groups:
            joined = Axis(group[0].number, product(tuple(a.extent for a in group)))
            axes.append(joined)
            self.loop_of.update({a.number: joined for a in group})
            if len(group) == 1:
                continue
            extents = tuple(a.extent for a in group)
            for axis, at in zip(group, unflatten(of_axis(joined), extents), strict=True):
                coords[axis.number] = at
        return self._arranged(coords, axes, folded)

    def _walks_on(self, a: Axis, b: Axis, indices: list[Index], folded: frozenset[int]) -> bool:
        if (a.number in folded) != (b.number in folded):
            return False
        for index in indices:
            first, second = index.stride(a), index.stride(b)
            if first is None or second is None or first != second * b.extent:
                return False
        return True

    # -- stages -----------------------------------------------------------------------------------

    def _stages(self) -> dict[Value, int]:
        """For values that depend on inner counters, the stage they can be computed in."""
        stage: dict[Value, int] = {}
        for node in self.step.nodes:
            bases = [b for v in node.inputs if (b := self._base(v)) is not None]
            at = max((stage[b] for b in bases), default=0)
            stage[node.output] = at + 1 if node in self.folds else at
        return stage

    def made(self) -> Kernel:
        """The loops, put together."""
        if any(a.extent == 0 for a in self.nest.outer):
            return self._finished(())
        rows = [n for n in self.step.nodes if n.output not in self.full and n not in self.folds]
        once = [n for n in rows if not self.stage[n.output] and not self._axes(n.output)]
        rows = [n for n in rows if n not in once]
        last = max(self.stage.values(), default=0)
        body: list[Stmt] = []
        for stage in range(last + 1):
            body += [self._let(n) for n in rows if self.stage[n.output] == stage]
            body += self._pass(stage)
        body += [self._store(v) for v in self.step.stores if v not in self.full]
        outer = list(self.nest.outer)
        across = self._across()
        if across is not None:  # the axis goes inside the blocks, next to the lanes
            assert self.nest.lanes is not None
            outer.remove(across)
            body = [Loop(self.nest.lanes, (Loop(across, tuple(body)),), block=_BLOCK)]
        for axis in reversed(outer):
            body = [Loop(axis, tuple(body), axis == self.nest.lanes)]
        return self._finished((*map(self._let, once), *body))

    def _across(self) -> Axis | None:
        """In a copy that turns axes round, the one whose steps are adjacent where it reads.

        Going over the lanes in blocks, it finds in cache what the step before has brought in.
        """
        lanes = self.nest.lanes
        if self.folds or lanes is None or self.nest.inner != [lanes]:
            return None
        for index in self._all_indices():
            step = index.stride(lanes)
            if step is None or step in (0, 1):
                continue
            for axis in self.nest.outer:
                if index.stride(axis) == 1:
                    return axis
        return None

    def _name(self, value: Value) -> str:
        assert value.node is not None
        return f"v{self.number[value.node]}"

    def _get(self, value: Value) -> Expr:
        return Ref(self._name(value), value.dtype)

    def _let(self, node: Node) -> Stmt:
        return Let(self._name(node.output), self._scalar(node, self._get), self._note(node))

    def _note(self, node: Node) -> str:
        return str(node.op)  # without names, so that equal kernels have equal texts

    def _store(self, value: Value) -> Stmt:
        at = flatten(self._at(self.step.place[value]), value.shape)
        return Store(self.buffer(value), at, self._get(value))

    def _pass(self, stage: int) -> list[Stmt]:
        """One run over the inner loops: what is stored and what is folded in a stage."""
        folds = [n for n in self.folds if self.stage[n.output] == stage + 1]
        empty = any(a.extent == 0 for a in self.nest.inner)
        stores = [v for v in self.step.stores if v in self.full and self.stage[v] == stage]
        stores = [] if empty else stores
        if not folds and not stores:
            return []
        wanted: list[Node] = [v.node for v in stores if v.node is not None] + folds
        body: list[Stmt] = []
        for node in [] if empty else self._needed(wanted, stage):
            if node in self.folds:
                update = self._scalar(node, self._get)
                body.append(Update(self._accumulator(node), reduction.fold_of(node).fold, update))
                continue
            v = node.output
            if self.stage[v] < stage and v in self.scratch:
                body.append(Let(self._name(v), self._reload(v), self._note(node)))
                continue
            body.append(self._let(node))
            if v in stores:
                body.append(self._store(v))
            elif self.stage[v] == stage and self._is_kept(v):
                body.append(Store(self.scratch[v], self._row_index(), self._get(v)))
        stmts: list[Stmt] = []
        for n in folds:
            fold = reduction.fold_of(n)
            stmts.append(Declare(self._accumulator(n), fold.fold, fold.dtype))
        within = self._across() is not None
        for axis in reversed(self.nest.inner):
            body = [Loop(axis, tuple(body), axis == self.nest.lanes, within=within)]
        stmts += body
        for n in folds:
            fold = reduction.fold_of(n)
            total = f"t{self._name(n.output)}"
            stmts.append(Finish(total, self._accumulator(n), fold.fold, fold.dtype))
            y = reduction.after(n, Ref(total, fold.dtype))
            stmts.append(Let(self._name(n.output), y, self._note(n)))
        return stmts

    def _accumulator(self, node: Node) -> str:
        return f"a{self._name(node.output)}"

    def _needed(self, wanted: list[Node], stage: int) -> list[Node]:
        """The nodes that a pass must compute or read back, in order."""
        found: set[Node] = set()
        pending = list(wanted)
        while pending:
            node = pending.pop()
            if node in found:
                continue
            found.add(node)
            v = node.output
            if node not in self.folds and self.stage[v] < stage and v in self.scratch:
                continue
            for operand in node.inputs:
                base = self._base(operand)
                if base is not None and base in self.full:
                    assert base.node is not None
                    pending.append(base.node)
        return [n for n in self.step.nodes if n in found]

    # -- rows kept between stages -----------------------------------------------------------------

    def _is_kept(self, value: Value) -> bool:
        """Whether a value is needed in a later stage and dear to compute; then it has a row."""
        if value in self.scratch:
            return True
        node = value.node
        assert node is not None
        if not any(self._serves_later(value, u) for u in self._users(value)):
            return False
        if not pointwise.is_costly(self._scalar(node, self._get)):
            return False
        size = product(tuple(a.extent for a in self.nest.inner))
        if self.nest.lanes in self.nest.outer:
            size = size * LANES_OF_A_ROW
        self.scratch[value] = Buffer(value.dtype, size, f"a row of {self.names[value]}")
        return True

    def _users(self, value: Value) -> list[Node]:
        return [n for n in self.step.nodes if any(self._base(v) is value for v in n.inputs)]

    def _serves_later(self, value: Value, user: Node) -> bool:
        """Whether `user`, or what it leads to within its stage, runs in a later pass."""
        seen: set[Node] = set()
        pending = [user]
        while pending:
            n = pending.pop()
            if n in seen:
                continue
            seen.add(n)
            own = self.stage[n.output] - (1 if n in self.folds else 0)
            if own > self.stage[value]:
                return True
            if n not in self.folds:
                pending += self._users(n.output)
        return False

    def _row_index(self) -> Index:
        sizes: list[DimLike] = [a.extent for a in self.nest.inner]
        at = flatten([of_axis(a) for a in self.nest.inner], tuple(sizes))
        if self.nest.lanes in self.nest.outer:
            lane = Index(((LANE, 1),))
            return at * LANES_OF_A_ROW + lane
        return at

    def _reload(self, value: Value) -> Expr:
        return Load(self.scratch[value], self._row_index(), (), value.dtype)

    # -- the whole --------------------------------------------------------------------------------

    def _finished(self, body: tuple[Stmt, ...]) -> Kernel:
        own = set(self.scratch.values())
        writes = tuple(dict.fromkeys(self.buffer(v) for v in self.step.stores))
        reads = dict.fromkeys(
            e.buffer
            for e in expressions(body)
            if isinstance(e, Load) and e.buffer not in own and e.buffer not in writes
        )
        notes = tuple(node_text(n, self.names) for n in self.step.nodes)
        return Kernel(body, tuple(reads), writes, tuple(self.scratch.values()), notes)


def _lanes(outer: Sequence[Axis], inner: Sequence[Axis], last: Axis) -> Axis:
    """The loop whose steps are taken together: the last axis, or the last kept one where little is
    folded, as over a window."""
    folded = product(tuple(a.extent for a in inner))
    if outer and isinstance(folded, int) and folded <= _LITTLE:
        wide = outer[-1].extent
        if not isinstance(wide, int) or wide >= _LITTLE // 2:
            return outer[-1]
    return last


_LITTLE = 16  # steps
# Steps of the lanes' loop that are gone over together. More rows, a power of two apart, would not
# fit into the few places of a cache that they may lie in.
_BLOCK = 16


class Epilogue(_Scheduler):
    """What a library step does with a tile of its result: the nodes fused behind it, and stores.

    `kernel` has loops over the rows and columns of a tile, whose numbers are `TILE_ROWS` and
    `TILE_COLUMNS`. `counters` are the counters it reads: of the leading axes, of the tile's first
    row and of its first column.
    """

    def __init__(
        self, step: Step, context: Context, tile: Buffer, width: DimLike, batch: Sequence[Axis]
    ) -> None:
        self._rows, self._columns = Axis(100, TILE_ROWS), Axis(101, TILE_COLUMNS)
        self._first = self._first_axes(step, len(batch))
        self.counters = (*batch, *self._first)
        self._tile, self._width = tile, width
        super().__init__(step, context.reading, context.buffer, context.names)
        self.full = set(self.members)
        self.kernel = self.made()

    @property
    def inside(self) -> tuple[Axis, Axis]:
        """The counters of rows and columns within a tile."""
        return self._rows, self._columns

    def _first_axes(self, step: Step, lead: int) -> tuple[Axis, ...]:
        """The counters that say where a tile begins; the last two are its row and its column."""
        return Axis(lead, step.axes[lead]), Axis(lead + 1, step.axes[lead + 1])

    def _coordinates(self, row: Index, column: Index) -> list[Index]:
        """The coordinates of the step's axes at a row and a column of the product."""
        return [*(of_axis(a) for a in self.counters[:-2]), row, column]

    def _plain_nest(self) -> _Nest:
        first, second = self._first[-2:]
        row = Index(((first, 1), (self._rows, 1)))
        column = Index(((second, 1), (self._columns, 1)))
        lanes = None if second.extent == 1 else self._columns
        coords = self._coordinates(row, column)
        return _Nest(coords, [self._rows], [self._columns], lanes)

    def _collapsed(self, indices: list[Index]) -> _Nest:
        return self.nest

    def _scalar(self, node: Node, get: Callable[[Value], Expr]) -> Expr:
        if node is not self.step.nodes[0]:
            return super()._scalar(node, get)
        at = Index(((self._rows, self._width), (self._columns, 1)))
        return Load(self._tile, at, (), node.output.dtype)


# The counter of steps taken together, in rows of a kernel whose lanes run over a kept axis.
LANE = Axis(-1, 64)
LANES_OF_A_ROW = 64
