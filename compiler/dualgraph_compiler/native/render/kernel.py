"""Loops as a C function."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from ...dims import DimLike
from ...dtypes import DType, bool_, int64, uint64
from ..index import Index
from ..loops import (
    Assign,
    Buffer,
    Call,
    Checked,
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
    Tasks,
    Update,
    When,
    Words,
    expressions,
)
from ..lower.pointwise import is_costly
from .expressions import LANE_AXIS, Lanes, Scope, Writer
from .integers import CHECKED
from .prelude import Prelude
from .random import philox
from .types import Sizes, literal, memory, register, register_bytes

_LINE = 64  # bytes of a line of the caches
_MAX_GROUP = 64  # lanes taken together at most; rows of scratch memory have as many places


class KernelText:
    """Renders one kernel as a function that runs all of it; see `tasks` for one run in parts."""

    streamed: frozenset[Buffer] = frozenset()  # what is written past the caches
    _ahead: tuple[Loop, Load] | None = None  # a loop, and what it fetches for those after it

    def __init__(self, kernel: Kernel, prelude: Prelude, symbols: Mapping[str, int]) -> None:
        self.kernel = kernel
        self.reads, self.writes = kernel.reads, kernel.writes
        self.notes = kernel.notes
        self.prelude = prelude
        self.sizes = Sizes(symbols)
        self.scope = Scope(prelude, self.sizes)
        self._name_buffers(kernel.scratch)
        divides = any(isinstance(e, Call) and e.fn in CHECKED for e in expressions(kernel.body))
        self.one_by_one = divides
        self.checked = divides or any(isinstance(e, Checked) for e in expressions(kernel.body))
        self.lanes = self._lane_count()
        self.scope.mask_bytes = max(1, self._widest())
        self._vector_sums: dict[str, int] = {}  # accumulators with lanes: how many groups
        self._block_of: dict[int, DimLike] = {}  # of loops within blocks: steps of a block
        self._lines: list[str] = []
        self._render()

    def _name_buffers(self, own: Iterable[Buffer]) -> None:
        """The parameters, in order: what is read, what is written, memory of its own."""
        self._buffers = (*self.reads, *self.writes, *own)
        self.scope.buffers = {id(b): f"b{i}" for i, b in enumerate(self._buffers)}

    def _render(self) -> None:
        self._block(self.kernel.body, [Lanes()], 1)

    def inline(self, body: Sequence[Stmt], depth: int) -> list[str]:
        """Other statements on the kernel's buffers, as lines for a function around them."""
        self._lines = []
        self._block(body, [Lanes()], depth)
        return self._lines

    @property
    def arguments(self) -> tuple[str, ...]:
        """The symbolic sizes that the function takes, behind its buffers."""
        return tuple(self.sizes.used)

    def text(self, name: str, counters: Sequence[str] = ()) -> str:
        """The function under a name; `counters` are parameters that its indices begin from."""
        return self._function(name, self._lines, counters)

    def _function(self, name: str, lines: Iterable[str], counters: Sequence[str]) -> str:
        inside = "\n".join(lines)
        parameters = [
            f"{'const ' if b in self.kernel.reads else ''}{memory(b.dtype)} *restrict "
            f"{self.scope.buffers[id(b)]}"
            for b in self._buffers
        ]
        parameters += [f"i64 {n}" for n in self.sizes.used if n not in counters]
        parameters += [f"i64 {n}" for n in counters]
        result = "int" if self.checked else "void"
        head = f"static {result} {name}({', '.join(parameters) or 'void'})"
        if self.checked:
            inside = f"  int status = 0;\n{inside}\n  return status;"
        return f"{head} {{\n{inside}\n}}"

    # -- lanes ------------------------------------------------------------------------------------

    def _widest(self) -> int:
        """Bytes of the widest number that lanes hold; what is the same in all stays a scalar."""
        return max(
            (register_bytes(d) for d in _in_lanes(self.kernel.body) if d is not bool_), default=1
        )

    def _lane_count(self) -> int:
        """How many elements a vector holds, by the widest number in the kernel."""
        axes = [s.axis for s in _loops(self.kernel.body) if s.lanes]
        names = {e.fn for e in expressions(self.kernel.body) if isinstance(e, Call)}
        if self.one_by_one or "ipow" in names or not axes:
            return 1
        lanes = max(2, self.prelude.vector_bytes // max(1, self._widest()))
        longest = max(a.extent if isinstance(a.extent, int) else lanes for a in axes)
        while lanes > 4 and lanes // 2 >= longest:  # short loops are a vector, not a part of one
            lanes //= 2
        if all(isinstance(a.extent, int) and a.extent < min(4, lanes) for a in axes):
            return 1
        blocks = [s.block for s in _statements(self.kernel.body) if isinstance(s, Loop)]
        return min(lanes, _MAX_GROUP, *(b for b in blocks if b))

    def _groups(self, loop: Loop) -> int:
        """How many vectors the main loop takes at a time: more where sums would wait.

        And where columns are folded: of each row it then reads a good piece.
        """
        updates = [s for s in _statements(loop.body) if isinstance(s, Update)]
        if any(isinstance(s, Words) for s in loop.body):  # whose rounds wait for each other
            return 2
        if not updates:
            return 1
        down = [s for s in _loops(loop.body) if any(isinstance(u, Update) for u in s.body)]
        body = _statements(down[0].body if down else loop.body)
        costly = any(is_costly(s.expr) for s in body if isinstance(s, Let))
        groups = 2 if costly or len(updates) > 2 else 4
        if down and not costly:
            groups = max(groups, 8 // len(updates))
        groups = min(groups, _MAX_GROUP // self.lanes)
        extent = loop.axis.extent
        if isinstance(extent, int) and extent < (1 if down else 2) * groups * self.lanes:
            return 1
        return groups

    # -- statements -------------------------------------------------------------------------------

    def _line(self, depth: int, text: str) -> None:
        self._lines.append("  " * depth + text)

    def _block(self, body: Iterable[Stmt], groups: list[Lanes], depth: int) -> None:
        stmts = list(body)
        beside = self._bools_beside(stmts, groups[0])
        for s in stmts:
            if any(s is x for x in beside):
                if s is beside[-1]:
                    self._store_bools(beside, groups, depth)
            elif isinstance(s, Let):
                self._let(s, groups, depth)
            elif isinstance(s, Store):
                self._store(s, groups, depth)
            elif isinstance(s, Declare):
                self._declare(s, stmts, groups, depth)
            elif isinstance(s, Update):
                self._update(s, groups, depth)
            elif isinstance(s, Assign):
                self._assign(s, groups, depth)
            elif isinstance(s, Finish):
                self._finish(s, groups, depth)
            elif isinstance(s, Words):
                self._words(s, groups, depth)
            elif isinstance(s, When):
                self._when(s, groups, depth)
            elif isinstance(s, Tasks):
                raise AssertionError("tasks are at the top of a phase")
            elif s.block:
                self._blocks(s, groups, depth)
            elif s.lanes and self.lanes > 1:
                self._vector_loop(s, depth)
            else:
                self._loop(s, groups, depth)

    def _let(self, s: Let, groups: list[Lanes], depth: int) -> None:
        first = Writer(self.scope, groups[0])
        varies = first.varies(s.expr)
        self.scope.varying[s.name] = varies
        note = f"  // {comment(s.note)}" if s.note else ""
        for g in groups if varies else groups[:1]:
            w = Writer(self.scope, g)
            type_ = w.type_of(s.expr.dtype, g.count if varies else 1)
            suffix = g.suffix if varies else ""
            self._line(depth, f"const {type_} {s.name}{suffix} = {w.write(s.expr)};{note}")
            note = ""

    def _store(self, s: Store, groups: list[Lanes], depth: int) -> None:
        base = self.scope.buffers[id(s.buffer)]
        moves = Writer(self.scope, groups[0]).moves(s.at)
        for g in groups if moves else groups[:1]:
            streamed = s.buffer in self.streamed
            self._line(depth, Writer(self.scope, g).store(base, s.at, s.expr, streamed=streamed))

    def _bools_beside(self, stmts: list[Stmt], lanes: Lanes) -> list[Store]:
        """All stores of a vector's steps, if they are bools that fill one piece of memory."""
        stores = [s for s in stmts if isinstance(s, Store)]
        count = len(stores)
        if lanes.axis is None or lanes.rest or count not in (2, 4, 8):
            return []
        first = stores[0]
        adjacent = all(
            s.buffer is first.buffer and s.expr.dtype is bool_ and s.at == first.at + i
            for i, s in enumerate(stores)
        )
        fits = count <= self.scope.mask_bytes and Writer(self.scope, lanes).step(first.at) == count
        return stores if adjacent and fits else []

    def _store_bools(self, stores: list[Store], groups: list[Lanes], depth: int) -> None:
        base = self.scope.buffers[id(stores[0].buffer)]
        for g in groups:
            w = Writer(self.scope, g)
            self._line(depth, w.store_bools(base, stores[0].at, [s.expr for s in stores]))

    def _blocks(self, s: Loop, groups: list[Lanes], depth: int) -> None:
        i, n = s.axis.number, self.sizes(s.axis.extent)
        self._block_of[i] = s.block
        self._line(depth, f"for (i64 j{i} = 0; j{i} < {n}; j{i} += {s.block}) {{")
        end = f"j{i} + {s.block} < {n} ? j{i} + {s.block} : {n}"
        self._line(depth + 1, f"const i64 e{i} = {end};")
        self._block(s.body, groups, depth + 1)
        self._line(depth, "}")

    def _range(self, s: Loop) -> tuple[str, str]:
        """Where a loop begins and ends."""
        i = s.axis.number
        return (f"j{i}", f"e{i}") if s.within else ("0", self.sizes(s.axis.extent))

    def _loop(self, s: Loop, groups: list[Lanes], depth: int) -> None:
        i, (begin, n) = str(s.axis), self._range(s)
        self._line(depth, f"for (i64 {i} = {begin}; {i} < {n}; {i}++) {{")
        self._block(s.body, groups, depth + 1)
        self._line(depth, "}")

    def _vector_loop(self, s: Loop, depth: int) -> None:
        """Groups of vectors, then single vectors, then what is left."""
        i, w, (begin, n) = str(s.axis), self.lanes, self._range(s)
        groups = self._groups(s)
        extent = s.axis.extent
        known = extent if isinstance(extent, int) else None
        if known == w and not s.within:  # a loop of one step
            self._line(depth, "{")
            self._line(depth + 1, f"const i64 {i} = 0;")
            self._block(s.body, self._lane_groups(s, 1, groups > 1), depth + 1)
            self._line(depth, "}")
            return
        self._line(depth, "{")
        depth += 1
        self._line(depth, f"i64 {i} = {begin};")
        for count in (groups, 1) if groups > 1 else (1,):
            step = w * count
            left = known % (w * groups) if known is not None and count < groups else known
            if left is not None and left < step:
                continue
            self._line(depth, f"for (; {i} + {step} <= {n}; {i} += {step}) {{")
            if self._ahead is not None and s is self._ahead[0]:
                self._fetch(self._ahead[1], self._lane_groups(s, 1, False)[0], step, depth + 1)
            self._block(s.body, self._lane_groups(s, count, count > 1 or groups > 1), depth + 1)
            self._line(depth, "}")
        if known is None or known % w:
            self._line(depth, f"if ({i} < {n}) {{")
            self._line(depth + 1, f"const i64 rest = {n} - {i};")
            suffix = "_0" if groups > 1 else ""
            tail = Lanes(w, s.axis, 0, "rest", suffix, aligned=self._is_aligned(s))
            self._block(s.body, [tail], depth + 1)
            self._line(depth, "}")
        self._line(depth - 1, "}")

    def _fetch(self, load: Load, lanes: Lanes, step: int, depth: int) -> None:
        """Prefetch the lines of a step of a loop."""
        base = self.scope.buffers[id(load.buffer)]
        at = Writer(self.scope, lanes).index(load.at)
        for offset in range(0, step, max(1, _LINE // load.dtype.itemsize)):
            self._line(depth, f"__builtin_prefetch({base} + {at} + {offset});")

    def _lane_groups(self, s: Loop, count: int, numbered: bool) -> list[Lanes]:
        w, aligned = self.lanes, self._is_aligned(s)
        return [
            Lanes(w, s.axis, u * w, "", f"_{u}" if numbered else "", aligned=aligned)
            for u in range(count)
        ]

    def _is_aligned(self, s: Loop) -> bool:
        """Whether vectors of a loop begin at multiples of their lanes."""
        block = self._block_of.get(s.axis.number) if s.within else 0
        return isinstance(block, int) and block % self.lanes == 0

    # -- folds ------------------------------------------------------------------------------------

    def _declare(self, s: Declare, block: list[Stmt], groups: list[Lanes], depth: int) -> None:
        """Accumulators: one for each group of lanes inside the loop that has lanes."""
        ident = _identity(s.fold, s.dtype)
        inside = [b for b in _loops(block) if b.lanes and _updates(b, s.name)]
        outer = groups[0].axis is not None
        self.scope.varying[s.name] = outer or bool(inside)
        if self.lanes == 1 or not (outer or inside):
            self._line(
                depth, f"{Writer(self.scope, Lanes()).type_of(s.dtype, 1)} {s.name} = {ident};"
            )
            return
        w = Writer(self.scope, Lanes(self.lanes))
        type_, value = w.type_of(s.dtype, self.lanes), w.spread(ident, s.dtype)
        if outer:
            for g in groups:
                self._line(depth, f"{type_} {s.name}{g.suffix} = {value};")
            return
        count = max(self._groups(b) for b in inside)
        self._vector_sums[s.name] = count
        for u in range(count):
            self._line(depth, f"{type_} {s.name}{f'_{u}' if count > 1 else ''} = {value};")

    def _update(self, s: Update, groups: list[Lanes], depth: int) -> None:
        lanes = self.lanes if self.scope.varying[s.name] and self.lanes > 1 else 1
        for g in groups:
            w = Writer(self.scope, g)
            name = s.name + (g.suffix if lanes > 1 else "")
            x = w.vector(s.expr) if lanes > 1 else w.write(s.expr)
            if g.rest and s.name in self._vector_sums:
                x = self._masked(w, s, x)
            self._line(depth, f"{name} = {self._folded(w, s.fold, s.expr.dtype, lanes, name, x)};")

    def _assign(self, s: Assign, groups: list[Lanes], depth: int) -> None:
        varies = self.scope.varying[s.name]
        for g in groups if varies else groups[:1]:
            w = Writer(self.scope, g)
            name, x = (s.name + g.suffix, w.vector(s.expr)) if varies else (s.name, w.write(s.expr))
            self._line(depth, f"{name} = {x};")

    def _words(self, s: Words, groups: list[Lanes], depth: int) -> None:
        varies = self.lanes > 1 and Writer(self.scope, groups[0]).moves(s.block)
        lanes = self.lanes if varies else 1
        type_ = self.prelude.vector("u64", lanes)
        groups = groups if varies else groups[:1]
        blocks = [Writer(self.scope, g).write(Position(s.block, int64)) for g in groups]
        w, words = Writer(self.scope, groups[0]), f"{s.names[0]}_words"
        stream = ", ".join([w.write(s.seed), w.write(s.offset), *blocks])
        self._line(depth, f"{type_} {words}[{4 * len(groups)}];")
        self._line(depth, f"{philox(self.prelude, lanes, len(groups))}({stream}, {words});")
        for i, name in enumerate(s.names):
            self.scope.varying[name] = varies
            for number, g in enumerate(groups):
                suffix = g.suffix if varies else ""
                self._line(depth, f"const {type_} {name}{suffix} = {words}[{4 * number + i}];")

    def _when(self, s: When, groups: list[Lanes], depth: int) -> None:
        assert groups[0].axis is None, "a condition for each lane"
        self._line(depth, f"if ({Writer(self.scope, groups[0]).write(s.cond)}) {{")
        self._block(s.body, groups, depth + 1)
        self._line(depth, "}")

    def _masked(self, w: Writer, s: Update, x: str) -> str:
        """`x` in the lanes that exist, else what changes nothing."""
        dtype = s.expr.dtype
        ident = w.spread(_identity(s.fold, dtype), dtype)
        if dtype is bool_:
            first = f"{self.prelude.first(w.mask_type(), self.lanes)}(rest)"
            return f"(({first} & {x}) | (~{first} & {ident}))"
        bits = f"i{register_bytes(dtype) * 8}"
        first = f"{self.prelude.first(bits, self.lanes)}(rest)"
        return f"{self.prelude.sel(register(dtype), self.lanes)}({first}, {x}, {ident})"

    def _folded(self, w: Writer, fold: str, dtype: DType, lanes: int, a: str, b: str) -> str:
        kind = w.mask_type() if dtype is bool_ and lanes > 1 else register(dtype)
        if dtype is bool_:
            return f"{a} {'|' if fold == 'any' else '&'} {b}"
        return self.prelude.folded(fold, kind, lanes, a, b)

    def _finish(self, s: Finish, groups: list[Lanes], depth: int) -> None:
        vector = self.scope.varying[s.accumulator] and self.lanes > 1
        if groups[0].axis is not None and vector:  # each lane has folded for itself
            self.scope.varying[s.name] = True
            for g in groups:
                type_ = Writer(self.scope, g).type_of(s.dtype, self.lanes)
                self._line(depth, f"const {type_} {s.name}{g.suffix} = {s.accumulator}{g.suffix};")
            return
        self.scope.varying[s.name] = False
        w = Writer(self.scope, Lanes(self.lanes if vector else 1))
        total = s.accumulator
        if vector:
            count = self._vector_sums[s.accumulator]
            names = [f"{s.accumulator}_{u}" for u in range(count)] if count > 1 else [total]
            while len(names) > 1:
                pairs = [
                    f"({self._folded(w, s.fold, s.dtype, self.lanes, a, b)})"
                    for a, b in zip(names[::2], names[1::2], strict=True)
                ]
                names = pairs
            kind = w.mask_type() if s.dtype is bool_ else register(s.dtype)
            total = f"{self.prelude.fold_lanes(s.fold, kind, self.lanes)}({names[0]})"
            total = f"({total} != 0)" if s.dtype is bool_ else total
        self._line(depth, f"const {w.type_of(s.dtype, 1)} {s.name} = {total};")


def comment(text: str) -> str:
    """Text made safe for a comment: names may come from a file."""
    return re.sub(r"[^A-Za-z0-9_ ,.=()\[\]:%*+<>-]", "_", text)[:200]


def _identity(fold: str, dtype: DType) -> str:
    import math

    import numpy as np

    if dtype is bool_:
        return "0" if fold in ("any", "sum") else "1"
    if fold in ("sum", "prod"):
        return literal(0 if fold == "sum" else 1, dtype)
    if dtype.is_floating_point:
        return literal(-math.inf if fold == "max" else math.inf, dtype)
    info = np.iinfo(dtype.np)
    return literal(int(info.min if fold == "max" else info.max), dtype)


def _statements(body: Iterable[Stmt]) -> Iterable[Stmt]:
    for s in body:
        yield s
        if isinstance(s, Loop | When | Tasks):
            yield from _statements(s.body)


def _loops(body: Iterable[Stmt]) -> list[Loop]:
    return [s for s in _statements(body) if isinstance(s, Loop)]


def _in_lanes(body: Iterable[Stmt]) -> list[DType]:
    """The dtypes of what differs from lane to lane, and of the operands beside it."""
    lanes = {s.axis for s in _loops(body) if s.lanes}
    varying: set[str] = set()
    found: list[DType] = []

    def moves(index: Index) -> bool:
        return any(a in lanes or a.number == LANE_AXIS for a in index.axes())

    def varies(e: Expr) -> bool:
        if isinstance(e, Ref):
            answer = e.name in varying
        elif isinstance(e, Call):
            each = [varies(a) for a in e.args]
            answer = any(each)
            found.extend(a.dtype for a in e.args if answer)
        elif isinstance(e, Load | Holds):
            places = [g.index for g in e.guards] + ([e.at] if isinstance(e, Load) else [])
            answer = any(map(moves, places))
        elif isinstance(e, Checked):
            answer = varies(e.index)
        else:
            answer = isinstance(e, Position) and moves(e.at)
        if answer:
            found.append(e.dtype)
        return answer

    def visit(stmts: Iterable[Stmt], inside: bool) -> None:
        for s in stmts:
            if isinstance(s, Loop):
                visit(s.body, inside or s.lanes)
            elif (isinstance(s, Let) and varies(s.expr)) or (isinstance(s, Finish) and inside):
                varying.add(s.name)
            elif isinstance(s, Words) and inside:
                varying.update(s.names)
                found.append(uint64)
            elif isinstance(s, Declare) and inside:
                varying.add(s.name)
                found.append(s.dtype)
            elif isinstance(s, Update | Store | Assign) and (varies(s.expr) or inside):
                found.append(s.expr.dtype)

    visit(body, False)
    return found


def _updates(loop: Loop, name: str) -> bool:
    return any(isinstance(s, Update) and s.name == name for s in _statements(loop.body))
