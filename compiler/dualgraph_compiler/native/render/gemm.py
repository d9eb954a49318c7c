"""Matrix products: C = A B on float32, with what follows computed block by block.

A block of C is a task of its own. Its sums are made tile by tile, a tile's in registers over a
stretch of k that fits the first-level cache beside it (Goto and van de Geijn, Anatomy of High-
Performance Matrix Multiplication, 2008). B is read in panels of a few vectors' width,
``[panel][k][column]``: packed once, when the program is loaded, where it is constant, else at each
call; with few rows, where packing would not pay, it is read as it lies. A is read as it lies where
its rows are contiguous, else packed tile by tile. Large products pack before they begin, in a
phase of its own; small ones, and those of a batch, as they go from block to block. What is fused
behind the product, the epilogue, goes over the block once its sums are whole; where nothing is,
tiles are stored in place.

Where B is contiguous along k and larger than A, as the weight of a linear layer that learns is,
the product is computed as C' = B' A': the tiles read B as it lies, the smaller A is packed, and a
block of sums is turned round before the epilogue sees it.
"""

from __future__ import annotations

from collections.abc import Mapping

from ...dims import product
from ..fuse import Step
from ..index import Axis, Index, flatten, of_axis, unflatten
from ..loops import Buffer, Load, expressions
from ..lower.library import Pack, Phase
from ..schedule import Context, Epilogue
from .addend import Addend, addend
from .gemm_packing import GemmPacking
from .kernel import KernelText
from .packing import turner
from .prelude import Prelude
from .signature import parameters, sizes_used
from .tile import dots_function, heights, product_tile, row_of_panels, row_streams
from .types import index_text

_FETCHES = range(32, 385)  # steps of k: time to fetch what the epilogue reads, and few to hide it


class Gemm(GemmPacking):
    """The routine of a matrix product and its epilogue. See `lower.library.Routine`."""

    checked = False

    def __init__(
        self, step: Step, context: Context, prelude: Prelude, symbols: Mapping[str, int]
    ) -> None:
        super().__init__(step, context, prelude, symbols)
        node = step.nodes[0]
        dtype = self.packed.dtype
        self.sums = Buffer(dtype, self.block_rows * self.block_columns, "a block of sums")
        self.whole = self.sums  # what the epilogue reads
        if self.turned:
            self.whole = Buffer(dtype, self.sums.size, "a block of sums, turned round")
        at = [*map(of_axis, self.batch), *unflatten(of_axis(self.row), self.lead)]
        self.out = context.buffer(node.output)
        self.out_at = flatten([*at, Index()], node.output.shape)
        self._make_epilogue(step, context, symbols)
        self.packs: tuple[Pack, ...] = (self._pack_once(),) if self.fixed else ()
        self._body = self._driver()
        self._packing_body = self._packing_ahead() if self.ahead else ""
        self.phases: tuple[Phase, ...] = self._phases()

    def _make_epilogue(self, step: Step, context: Context, symbols: Mapping[str, int]) -> None:
        self.epilogue = _Block(step, context, self)
        self.inner = KernelText(self.epilogue.kernel, self.prelude, symbols)
        others = [x for x in self.epilogue.kernel.reads if x is not self.whole]
        self.addend = self._addend()
        b = self.packed if self.fixed else self.b.buffer
        count = () if self.step is None else (self.step,)
        self.reads = tuple(dict.fromkeys((self.a.buffer, b, *others, *count)))
        self.writes = self.epilogue.kernel.writes
        packed = self._packed_at_calls()
        self.scratch: tuple[Buffer, ...] = tuple(packed) if self.ahead else ()
        own = [] if self.ahead else packed
        in_place = self.direct or self.addend is not None
        own += [self.sums] if not in_place or self._has_edge() else []
        own += [self.whole] if self.turned else []
        self.own: tuple[Buffer, ...] = tuple(own)
        self.notes = self.epilogue.kernel.notes

    def _addend(self) -> Addend | None:
        """What tiles begin from, if that and the sums are all there is to the result."""
        special = self.words or self.turned or self.dots is not None or self._is_row()
        if special or self._has_edge():
            return None
        return addend(self.epilogue.kernel, self.whole, self.epilogue.inside, self.row)

    @property
    def arguments(self) -> tuple[str, ...]:
        return sizes_used(self.sizes, self.inner.sizes)

    def _phases(self) -> tuple[Phase, ...]:
        batch = product(tuple(a.extent for a in self.batch))
        blocks = Phase("", batch * self.across * self.down, self.cost)
        return (self._packing_phase(), blocks) if self.ahead else (blocks,)

    # -- text -------------------------------------------------------------------------------------

    def text(self, name: str) -> str:
        """The epilogue, and the functions that pack and that go over the blocks."""
        head = f"({parameters(self, self._names())}) {{\n"
        plain = self.direct or self.addend is not None
        epilogue = "" if plain else f"{self._epilogue_text(name)}\n"
        pack = f"static void {name}_pack{head}{self._packing_body}\n}}\n" if self.ahead else ""
        return (
            f"{epilogue}{pack}static void {name}{head}"
            f"{self._body.replace('EPILOGUE', f'{name}_epilogue')}\n}}"
        )

    def _names(self) -> dict[Buffer, str]:
        buffers = (*self.reads, *self.writes, *self.scratch, *self.own)
        return {x: f"b{i}" for i, x in enumerate(buffers)}

    def _epilogue_text(self, name: str) -> str:
        extra = [*map(str, self.epilogue.counters), "rows", "columns"]
        return self.inner.text(f"{name}_epilogue", extra)

    def _epilogue_call(self) -> str:
        names = self._names()
        kernel = self.epilogue.kernel
        args = [names[x] for x in (*kernel.reads, *kernel.writes)]
        sizes = [n for n in self.inner.sizes.used if n not in ("rows", "columns")]
        place = ["top", "left", "bottom - top", "right - left"]
        if self.turned:
            place = ["left", "top", "right - left", "bottom - top"]
        counters = [*map(str, self.batch), *place]
        return f"EPILOGUE({', '.join([*args, *sizes, *counters])});"

    def _driver(self) -> str:
        """Blocks of C one after the other; each is a task that shares nothing with the others."""
        s = self.sizes
        m, n = s(self.m), s(self.n)
        columns = self.block_columns
        across, down = s(self.across), s(self.down)
        lines = [
            self._height_text(),
            "  i64 packed = -1;  // the columns in panels at present",
            "  for (i64 task = first; task < last; task++) {",
        ]
        if self.step is not None:
            lines[-1:] = [
                f"  const int back = *{self._names()[self.step]} % 2;",
                "  for (i64 at = first; at < last; at++) {",
                "    const i64 task = back ? first + last - 1 - at : at;",
            ]
        if not self._packs_block() or self.ahead:
            lines.remove("  i64 packed = -1;  // the columns in panels at present")
        inside = [
            f"i64 rest = task / {down};",
            f"const i64 top = task % {down} * height, left = rest % {across} * {columns};",
            f"const i64 bottom = top + height < {m} ? top + height : {m};",
            f"const i64 right = left + {columns} < {n} ? left + {columns} : {n};",
        ]
        if self.batch:
            inside.append(f"rest /= {across};")
        for axis in reversed(self.batch):
            inside.append(f"const i64 {axis} = rest % {s(axis.extent)};")
            inside.append(f"rest /= {s(axis.extent)};")
        if self.batch:
            inside.pop()
        if not self.ahead:
            inside += self._operands()
            inside += self._packing()
        elif not self.packs_rows:
            inside += self._operands()[:1]
        inside += self._stretches(self._panels())
        inside += self._finish()
        lines += ["    " + x for x in inside]
        lines.append("  }")
        return "\n".join(lines)

    def _panels(self) -> list[str]:
        """The tiles of a block over a stretch of k."""
        s, names, w, tall = self.sizes, self._names(), self.shape.width, self.shape.rows
        ars, brs, k = s(self.a_steps[0]), s(self.b_steps[0]), s(self.k)
        lines: list[str] = []
        if self.dots is not None:
            return self._dot_products(self.dots)
        a = f"a + m * {ars} + k0, {ars}, 1"
        if self.packs_rows:
            lines += [] if self.ahead else self._side_by_side()
            a = f"{self._rows_at()}, 1, rows"
        begin = "left"
        if self._is_row():
            lines += self._row()
            begin = f"left + {row_streams(self.shape)} * part"
        lines.append(f"for (i64 p = {begin}; p < right; p += {w}) {{")
        if self.fixed or self.ahead:
            panel, bs = f"{names[self.packed]} + p * {k} + k0 * {w}", str(w)
        elif not self.in_place:
            panel, bs = f"{names[self.packed]} + (p - left) * {k} + k0 * {w}", str(w)
        elif self._has_edge():
            bs = "bs"
            lines.append(f"  const int whole = right - p >= {w};")
            lines.append(f"  const i64 bs = whole ? {brs} : {w};")
            panel = f"whole ? b + p + k0 * {brs} : {names[self.packed]} + k0 * {w}"
        else:
            panel, bs = f"b + p + k0 * {brs}", brs
        lines.append(f"  const {self.type} *panel = {panel};")
        ld = self._target(lines)
        lines.append("  for (i64 m = top, rows; m < bottom; m += rows) {")
        lines += ["    " + x for x in self._cuts()]
        lines += ["    " + x for x in self._fetching()]
        lines.append("    switch (rows) {")
        begin = self._begin()
        for h in heights(self.m, self._height(), tall):
            begins = self.addend is not None
            function = product_tile(self.prelude, h, self.shape, not self.packs_rows, begins)
            call = f"{a}, panel, {bs}, k1 - k0, c + (m - top) * {ld}, {ld}, k0 > 0{begin}"
            lines.append(f"      case {h}: {function}({call}); break;")
        lines += ["    }", "  }", "}"]
        return lines

    def _row(self) -> list[str]:
        """The whole panels of a block with one row, some at a time: all but what is left over."""
        w, k, names = self.shape.width, self.sizes(self.k), self._names()
        target: list[str] = []
        self._target(target)
        streams = row_streams(self.shape)
        function = row_of_panels(self.prelude, self.shape)
        panel = f"{names[self.packed]} + p * {k} + k0 * {w}"
        row = names[self.rows] if self.packs_rows else "a + k0"
        return [
            f"const i64 part = (right - left) / {streams * w} * {w};",
            f"for (i64 p = left; p < left + part; p += {w}) {{",
            *target,
            f"  {function}({row}, {panel}, part * {k}, k1 - k0, c, part, k0 > 0);",
            "}",
        ]

    def _fetching(self) -> list[str]:
        """Prefetch what the epilogue reads at a tile's places, while its sums are made."""
        if self.direct or self.turned or not isinstance(self.k, int) or self.k not in _FETCHES:
            return []
        loads = (e for e in expressions(self.epilogue.kernel.body) if isinstance(e, Load))
        rows, columns = self.epilogue.inside
        names = {self.row: "i", rows: "0", self.column: "p", columns: "0"}
        places = [
            f"{self._names()[e.buffer]} + {index_text(e.at, self.sizes, names)}"
            for e in loads
            if e.buffer is not self.whole and not e.guards and not e.at.taken()
            if e.at.stride(columns) == 1 and e.at.stride(rows) not in (None, 0)
        ]
        if not places:
            return []
        lines = [f"__builtin_prefetch({place});" for place in dict.fromkeys(places)]
        return ["for (i64 i = m; i < m + rows; i++) {", *(f"  {x}" for x in lines), "}"]

    def _dot_products(self, tile: tuple[int, int]) -> list[str]:
        """The dot products of a block over a stretch of k: whole tiles, and single ones."""
        rows, columns = tile
        ars, bcs = self.sizes(self.a_steps[0]), self.sizes(self.b_steps[1])
        lines: list[str] = []
        ld = self._target(lines)

        def call(m: str, p: str, rows: int, columns: int) -> str:
            function = dots_function(self.prelude, rows, columns, self.type)
            a, b = f"a + {m} * {ars} + k0, {ars}", f"b + {p} * {bcs} + k0, {bcs}"
            return (
                f"{function}({a}, {b}, k1 - k0, c + ({m} - top) * {ld} + {p} - left, {ld}, more);"
            )

        return [
            "const i64 p = left;",
            *(x.strip() for x in lines),
            "const int more = k0 > 0;",
            f"for (i64 m = top; m < bottom; m += {rows})",
            f"  for (i64 p = left; p < right; p += {columns}) {{",
            f"    if (bottom - m >= {rows} && right - p >= {columns}) {{",
            f"      {call('m', 'p', rows, columns)}",
            "      continue;",
            "    }",
            f"    for (i64 i = m; i < m + {rows} && i < bottom; i++)",
            f"      for (i64 j = p; j < p + {columns} && j < right; j++)",
            f"        {call('i', 'j', 1, 1)}",
            "  }",
        ]

    def _begin(self) -> str:
        """The arguments that say what a tile begins from."""
        if self.addend is None:
            return ""
        rows, columns = self.epilogue.inside
        at = {self.row: "m", rows: "0", self.column: "p", columns: "0"}
        place = index_text(self.addend.at, self.sizes, at)
        return f", {self._names()[self.addend.buffer]} + {place}, {self.sizes(self.addend.step)}"

    def _target(self, lines: list[str]) -> str:
        """Where a panel's tiles go: to the block of sums, or in place; gives a row's size."""
        names, w = self._names(), self.shape.width
        if self.addend is not None:
            rows, columns = self.epilogue.inside
            at = {self.row: "top", rows: "0", self.column: "p", columns: "0"}
            place = index_text(self.addend.out_at, self.sizes, at)
            lines.append(f"  {self.type} *const c = {names[self.addend.out]} + {place};")
            return self.sizes(self.addend.out_step)
        if not self.direct:
            lines.append(f"  {self.type} *const c = {names[self.sums]} + (p - left);")
            return str(self.block_columns)
        row = index_text(self.out_at, self.sizes, {self.row: "top"})
        place = f"{names[self.out]} + {row} + p"
        n = self.sizes(self.n)
        if not self._has_edge():
            lines.append(f"  {self.type} *const c = {place};")
            return n
        lines.append(f"  const i64 ld = right - p < {w} ? {w} : {n};")
        lines.append(f"  {self.type} *const c = right - p < {w} ? {names[self.sums]} : {place};")
        return "ld"

    def _finish(self) -> list[str]:
        """What is done with a block whose sums are whole."""
        if self.addend is not None:
            return []
        if self.turned:
            names, turn = self._names(), turner(self.prelude, self.prelude.vector_bytes // 4)
            size = f"bottom - top, right - left, {names[self.whole]}, {self.block_rows}"
            return [
                f"{turn}({names[self.sums]}, {self.block_columns}, {size});",
                self._epilogue_call(),
            ]
        if not self.direct:
            return [self._epilogue_call()]
        if not self._has_edge():
            return []
        names, w = self._names(), self.shape.width
        place = index_text(self.out_at, self.sizes, {self.row: "m"})
        edge = [] if self.in_place else [f"const i64 edge = right / {w} * {w};"]
        return [
            *edge,
            "if (edge < right)",
            "  for (i64 m = top; m < bottom; m++)",
            f"    memcpy({names[self.out]} + {place} + edge, "
            f"{names[self.sums]} + (m - top) * {w}, (right - edge) * sizeof(f32));",
        ]


class _Block(Epilogue):
    """What is done with a block of sums; its rows may count several axes of the result."""

    def __init__(self, step: Step, context: Context, gemm: Gemm) -> None:
        self._gemm = gemm
        width = gemm.block_rows if gemm.turned else gemm.block_columns
        super().__init__(step, context, gemm.whole, width, gemm.batch)

    def _first_axes(self, step: Step, lead: int) -> tuple[Axis, ...]:
        return self._gemm.row, self._gemm.column

    def _coordinates(self, row: Index, column: Index) -> list[Index]:
        gemm = self._gemm
        return [*map(of_axis, gemm.batch), *unflatten(row, gemm.lead), column]
