"""What follows a blocked convolution, computed on a tile's sums while they are in registers.

Its function is that of a tile with the statements of the epilogue behind it. All it reads and
writes it gets as pointers to the first place, so that it knows no sizes, and layers that end alike
share it. Where sums are made of few products, as a 1x1 convolution of few channels makes them,
storing and reading them again would be a good part of all work.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

from ...dtypes import float32
from ..index import Axis, Index
from ..loops import Buffer, Call, Const, Expr, Kernel, Let, Load, Loop, Ref, Stmt, Store, moved
from ..lower.pointwise import is_costly
from ..schedule import Epilogue
from .kernel import KernelText
from .places import sums_text
from .prelude import Prelude
from .types import memory


@dataclass(frozen=True, slots=True)
class Access:
    """Memory that an epilogue reads or writes: its first place, and how far a place moves."""

    buffer: Buffer
    base: Index
    step: int
    written: bool


class _Unfit(Exception):
    """An epilogue that needs to know more of a place than where its elements are."""


class Ending:
    """An epilogue of tiles whose sums are in `sums`, place by place.

    `accesses` say which pointers a tile takes for each of its blocks. Use `ending_of`.
    """

    def __init__(self, epilogue: Epilogue, sums: Buffer, block: Axis, prelude: Prelude) -> None:
        self.accesses: list[Access] = []
        self._stand_ins: list[Buffer] = []
        self._sums, self._prelude, self._block = sums, prelude, block
        self._rows, self._lanes = epilogue.inside
        body = epilogue.kernel.body
        if len(body) != 1 or not isinstance(body[0], Loop) or body[0].axis != self._rows:
            raise _Unfit
        self._body = self._statements(body[0].body)
        pairs = list(zip(self.accesses, self._stand_ins, strict=True))
        reads = (sums, *(b for a, b in pairs if not a.written))
        writes = tuple(b for a, b in pairs if a.written)
        first = moved(self._body, {self._rows: Index()})
        self._text = KernelText(Kernel(first, reads, writes), prelude, {})
        names = {id(b): f"p{k}" for k, b in enumerate(self._stand_ins)}
        self._text.scope.buffers = names | {id(sums): "tile"}

    def bases(self, block: int) -> list[tuple[Buffer, Index]]:
        """For each access where its first place is, in a tile's block of a number."""
        new = {self._block: Index(((self._block, 1),), block)}
        return [(a.buffer, a.base.substitute(new)) for a in self.accesses]

    def tiles_function(self, places: int, blocks: int, unroll: int) -> str:
        """The function for tiles of `places` by `blocks`; `run` must be a multiple of `unroll`.

        It takes the tables and weights of `places_function`, the places at which its first tile
        begins and its last one ends, and the pointers, those of a block after each other.
        """
        prelude, t = self._prelude, memory(self._sums.dtype)
        lanes = prelude.vector_bytes // 4
        store = prelude.store(t, lanes)
        sums, loop = sums_text(prelude, places, blocks, unroll, t)
        parameters = [
            f"{'' if a.written else 'const '}{memory(a.buffer.dtype)} *restrict p{k}_{j}"
            for j in range(blocks)
            for k, a in enumerate(self.accesses)
        ]
        lines = [
            f"    const {t} *restrict x, const i64 *restrict at, const i64 *restrict taps,",
            f"    i64 count, i64 run, const {t} *restrict weights, i64 from, i64 to,",
            f"    {', '.join(parameters)}) {{",
            f"  for (i64 q = from; q < to; q += {places}) {{",
            f"    const {t} *restrict w = weights;",
            *(f"    const {t} *x{i} = x + at[q + {i}];" for i in range(places)),
            *("  " + line for line in (*sums, *loop)),
        ]
        for j in range(blocks):
            lines += [f"    {{  // block {j}", f"      {t} tile[{places * lanes}];"]
            lines += [f"      {store}(tile + {i * lanes}, c{i}_{j});" for i in range(places)]
            for k, a in enumerate(self.accesses):
                kind = f"{'' if a.written else 'const '}{memory(a.buffer.dtype)}"
                lines.append(f"      {kind} *const p{k} = p{k}_{j} + q * {a.step};")
            for i in range(places):
                body = moved(self._body, {self._rows: Index((), i)})
                lines += ["      {", *self._text.inline(body, 4), "      }"]
            lines.append("    }")
        text = "\n".join([*lines, "  }", "}"])
        digest = hashlib.sha256(text.encode()).hexdigest()[:8]
        name = f"tiles{places}x{blocks}_{unroll}_{digest}"
        return prelude.once(name, f"static __attribute__((noinline)) void {name}(\n{text}")

    # -- statements -------------------------------------------------------------------------------

    def _statements(self, body: Sequence[Stmt]) -> tuple[Stmt, ...]:
        """The statements with a stand-in for each access, which moves with places and lanes."""
        found: list[Stmt] = []
        for s in body:
            if isinstance(s, Loop) and s.axis == self._lanes:
                found.append(replace(s, body=self._statements(s.body)))
            elif isinstance(s, Let) and _is_short(s.expr):
                found.append(replace(s, expr=self._expression(s.expr), note=""))
            elif isinstance(s, Store) and _is_short(s.expr):
                into, at = self._moved(s.buffer, s.at, written=True)
                found.append(Store(into, at, self._expression(s.expr)))
            else:
                raise _Unfit
        return tuple(found)

    def _expression(self, e: Expr) -> Expr:
        if isinstance(e, Call):
            return replace(e, args=tuple(map(self._expression, e.args)))
        if isinstance(e, Load) and not e.guards:
            if e.buffer is self._sums:
                return e
            source, at = self._moved(e.buffer, e.at, written=False)
            return replace(e, buffer=source, at=at)
        if isinstance(e, Const | Ref):
            return e
        raise _Unfit

    def _moved(self, buffer: Buffer, at: Index, *, written: bool) -> tuple[Buffer, Index]:
        step, lane = at.stride(self._rows), at.stride(self._lanes)
        if not isinstance(step, int) or not isinstance(lane, int) or at.taken():
            raise _Unfit
        base = at.substitute({self._rows: Index(), self._lanes: Index()})
        access = Access(buffer, base, step, written)
        if access not in self.accesses:
            self.accesses.append(access)
            self._stand_ins.append(Buffer(buffer.dtype, buffer.size, ""))
        terms = [(a, c) for a, c in ((self._rows, step), (self._lanes, lane)) if c != 0]
        return self._stand_ins[self.accesses.index(access)], Index(tuple(terms))


def _is_short(e: Expr) -> bool:
    """Whether an expression is a few instructions, as what quantises is."""
    if not isinstance(e, Call):
        return not is_costly(e)
    single = e.fn in ("rint", "div") and e.dtype is float32
    return (single or not is_costly(replace(e, args=()))) and all(map(_is_short, e.args))


def ending_of(epilogue: Epilogue, sums: Buffer, block: Axis, prelude: Prelude) -> Ending | None:
    """The ending that does what an epilogue does, where that is cheap and regular; else None."""
    try:
        return Ending(epilogue, sums, block, prelude)
    except _Unfit:
        return None
