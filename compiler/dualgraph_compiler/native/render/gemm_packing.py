"""How the operands of a matrix product come to lie in the order that tiles read them in."""

from __future__ import annotations

from collections.abc import Mapping

from ...dims import DimLike
from ...dtypes import float32, int32
from ..fuse import Step
from ..index import Index
from ..loops import Buffer
from ..lower.library import Pack, Phase
from ..schedule import Context
from .gemm_plan import GemmPlan
from .packing import column_packer, row_packer
from .prelude import Prelude
from .tile import heights
from .types import Sizes, index_text

_PACKING = 300  # picoseconds that an element takes to be packed
_APART = 512  # elements; lines that are multiples of it apart share few places in the caches


class GemmPacking(GemmPlan):
    """A plan with what packs by it: once at load, in a phase before the blocks, or by blocks.

    `packed` is memory for B in panels, `rows` for rows of A side by side.
    """

    def __init__(
        self, step: Step, context: Context, prelude: Prelude, symbols: Mapping[str, int]
    ) -> None:
        self.prelude = prelude
        self.sizes = Sizes(symbols)
        super().__init__(step, context, prelude.vector_bytes)
        name = context.names[step.nodes[0].inputs[0 if self.turned else 1]]
        dtype = int32 if self.words else float32
        width = self.shape.width
        panels = _round_up(self.n, width)
        own = self.block_columns if not self.in_place else width
        columns = panels if self.fixed or self.ahead else own
        self.packed = Buffer(dtype, self.k * columns, f"{name} in panels")
        rows = self.m * self.k if self.ahead else self.block_rows * self.depth
        self.rows = Buffer(dtype, rows, "rows of A side by side")

    def _names(self) -> dict[Buffer, str]:
        """What buffers are called in the functions."""
        raise NotImplementedError

    def _packed_at_calls(self) -> list[Buffer]:
        """Memory that calls pack into."""
        columns = [] if self.fixed or not self._packs_columns() else [self.packed]
        return [*columns, *([self.rows] if self.packs_rows else [])]

    def _packing_phase(self) -> Phase:
        """What packs before the first block: columns of B, then rows of A, by blocks."""
        tasks, size = self._packs(), self.k * self.n
        if self.packs_rows:
            tasks, size = tasks + self.down, size + self.m * self.k
        return Phase("_pack", tasks, size * _PACKING)

    def _packs(self) -> DimLike:
        """The tasks that pack columns of B before the first block."""
        return (self.n + (self.pack_columns - 1)) // self.pack_columns

    def _height_text(self) -> str:
        """Blocks of about one height, in whole tiles."""
        m, down, tall = self.sizes(self.m), self.sizes(self.down), self.shape.rows
        return f"  const i64 height = (({m} + {down} - 1) / {down} + {tall - 1}) / {tall} * {tall};"

    def _operands(self) -> list[str]:
        """Where A begins, and B if it is read or packed at a call."""
        names = self._names()
        a = f"{names[self.a.buffer]} + {self._at(self.a.at)}"
        a = f"(const i32 *)({a})" if self.words else a
        lines = [f"const {self.type} *a = {a};"]
        if not self.fixed:
            lines.append(f"const {self.type} *b = {names[self.b.buffer]} + {self._at(self.b.at)};")
        return lines

    def _stretches(self, body: list[str]) -> list[str]:
        """A loop over stretches of k."""
        k = self.sizes(self.k)
        return [
            f"for (i64 k0 = 0, k1 = -1; k1 < {k}; k0 = k1) {{",
            f"  k1 = k0 + {self.depth} < {k} ? k0 + {self.depth} : {k};",
            *("  " + x for x in body),
            "}",
        ]

    def _packing_ahead(self) -> str:
        """All of B in panels, and rows of A that are not contiguous, by blocks."""
        s, columns = self.sizes, self.pack_columns
        m, n, k, (rs, cs) = s(self.m), s(self.n), s(self.k), map(s, self.b_steps)
        chunks, to = s(self._packs()), self._names()[self.packed]
        pack = column_packer(self.prelude, self.shape)
        place = f"b + left * {cs}, {rs}, {cs}, {k}"
        inside = [
            f"const i64 left = task * {columns};",
            f"const i64 right = left + {columns} < {n} ? left + {columns} : {n};",
            f"{pack}({place}, right - left, {to} + left * {k});",
        ]
        lines = [*("  " + x for x in self._operands())]
        if self.packs_rows:
            lines.append(self._height_text())
            inside = [
                f"if (task < {chunks}) {{",
                *("  " + x for x in inside),
                "  continue;",
                "}",
                f"const i64 top = (task - {chunks}) * height;",
                f"const i64 bottom = top + height < {m} ? top + height : {m};",
                *self._stretches(self._side_by_side()),
            ]
        else:
            lines = lines[1:]
        lines.append("  for (i64 task = first; task < last; task++) {")
        return "\n".join([*lines, *("    " + x for x in inside), "  }"])

    def _rows_at(self) -> str:
        """Where the rows of a tile are side by side."""
        block = f"top * {self.sizes(self.k)} + (bottom - top) * k0 + " if self.ahead else ""
        return f"{self._names()[self.rows]} + {block}(m - top) * (k1 - k0)"

    def _cuts(self) -> list[str]:
        tall = self.shape.rows
        cut = f"const i64 tiles = (bottom - m + {tall - 1}) / {tall};"
        return [cut, "rows = (bottom - m + tiles - 1) / tiles;  // tiles of about one height"]

    def _side_by_side(self) -> list[str]:
        """The rows of a block over a stretch of k, side by side in tiles.

        Where lines with elements of several rows would not stay in a cache until the next tile
        needs them, a few steps of k are gone over at a time.
        """
        (rs, cs), place, steps = self.a_steps, self._rows_at(), "k1 - k0"
        few = rs == 1 and isinstance(cs, int) and cs % _APART == 0
        if few:
            place, steps = f"{place} + s * rows", "steps"
        ars, acs = self.sizes(rs), self.sizes(cs)
        at = f"a + m * {ars} + {'(k0 + s)' if few else 'k0'} * {acs}, {ars}, {acs}, {steps}"
        lines = ["for (i64 m = top, rows; m < bottom; m += rows) {"]
        lines += ["  " + x for x in self._cuts()]
        lines += ["  switch (rows) {"]
        for h in heights(self.m, self._height(), self.shape.rows):
            call = f"{row_packer(self.prelude, h, self.type)}({at}, {place})"
            lines.append(f"    case {h}: {call}; break;")
        lines += ["  }", "}"]
        if not few:
            return lines
        count = 8 if cs % (2 * _APART) == 0 else 16
        return [
            f"for (i64 s = 0; s < k1 - k0; s += {count}) {{",
            f"  const i64 steps = s + {count} < k1 - k0 ? {count} : k1 - k0 - s;",
            *("  " + x for x in lines),
            "}",
        ]

    def _at(self, index: Index) -> str:
        return index_text(index, self.sizes, {})

    def _packing(self) -> list[str]:
        """B's columns of a block in panels, unless the task before has left them there."""
        if self.fixed or not self._packs_columns():
            return []
        pack = column_packer(self.prelude, self.shape)
        (rs, cs), k = map(self.sizes, self.b_steps), self.sizes(self.k)
        to, down = self._names()[self.packed], self.sizes(self.down)
        if self._packs_block():
            return [
                f"if (packed != task / {down}) {{",
                f"  {pack}(b + left * {cs}, {rs}, {cs}, {k}, right - left, {to});",
                f"  packed = task / {down};",
                "}",
            ]
        w = self.shape.width
        return [
            f"const i64 edge = right / {w} * {w};  // behind the last whole panel",
            f"if (edge < right) {pack}(b + edge, {rs}, 1, {k}, right - edge, {to});",
        ]

    def _pack_once(self) -> Pack:
        brs, bcs = self.b_steps
        s = Sizes({})
        packer = column_packer(self.prelude, self.shape)
        name = f"{packer}_{s(self.k)}x{s(self.n)}_{s(brs)}_{s(bcs)}_{s(self.b.at.offset)}"
        call = f"{packer}(from + {s(self.b.at.offset)}, {s(brs)}, {s(bcs)}, "
        call += f"{s(self.k)}, {s(self.n)}, to)"
        text = f"static void {name}(const {self.type} *from, {self.type} *to) {{ {call}; }}"
        return Pack(self.prelude.once(name, text), self.b.buffer, self.packed)


def _round_up(n: DimLike, to: int) -> DimLike:
    return (n + (to - 1)) // to * to
