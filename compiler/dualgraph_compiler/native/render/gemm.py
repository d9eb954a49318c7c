"""Matrix products: C = A B on float32, with what follows computed tile by tile.

B is packed in panels of a few vectors' width, ``[panel][k][column]``, zeros behind the last column:
once, when the program is loaded, where it is constant, else at each call. A is read where it is,
under any strides. A tile of C, `rows` by one panel, stays in registers for all of k; then it goes
through a small buffer to the epilogue, which stores it.

Tasks are panels: of B, which are packed in a phase of their own unless each matrix of a batch has
its own, and of C, where a task computes one panel's width of a block of rows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from ...dims import DimLike, product
from ..fuse import Step
from ..index import Axis
from ..loops import Buffer
from ..lower.library import Pack, Phase
from ..schedule import Context, Epilogue, strided
from .kernel import KernelText
from .prelude import Prelude
from .tile import heights, tile_function, tile_shape
from .types import Sizes, index_text, memory

_A_BLOCK = 192 * 1024  # bytes of A that are gone over panel by panel: they should stay in L2


class Gemm:
    """The routine of a matrix product and its epilogue. See `lower.library.Routine`."""

    checked = False

    def __init__(
        self, step: Step, context: Context, prelude: Prelude, symbols: Mapping[str, int]
    ) -> None:
        self.prelude = prelude
        self.rows, vectors = tile_shape(prelude.vector_bytes)
        self.lanes = prelude.vector_bytes // 4
        self.width = vectors * self.lanes
        self.sizes = Sizes(symbols)
        node = step.nodes[0]
        a, b, out = node.inputs[0], node.inputs[1], node.output
        self.m, self.n, self.k = out.shape[-2], out.shape[-1], a.shape[-1]
        self.batch = [Axis(i, d) for i, d in enumerate(out.shape[:-2])]
        self.a, a_strides = strided(a, self.batch, context)
        self.b, b_strides = strided(b, self.batch, context)
        self.a_steps, self.b_steps = a_strides, b_strides
        panels = _round_up(self.n, self.width)
        packed = Buffer(b.dtype, self.k * panels, f"{context.names[b]} in panels")
        constant = self.b.buffer_value is not None and self.b.buffer_value.is_constant
        self.fixed = constant and not self.b.at.terms
        tile = Buffer(out.dtype, self.rows * self.width, "a tile")
        self.epilogue = Epilogue(step, context, tile, self.width, self.batch)
        self.inner = KernelText(
            self.epilogue.kernel, prelude, {**symbols, "rows": -1, "columns": -2}
        )
        others = [x for x in self.epilogue.kernel.reads if x is not tile]
        own = (packed,) if self.fixed else (self.b.buffer,)
        self.reads = tuple(dict.fromkeys((self.a.buffer, *own, *others)))
        self.writes = self.epilogue.kernel.writes
        # Where each matrix of the batch has a B of its own, a task packs what it reads.
        self.varies = not self.fixed and bool(self.b.at.axes())
        self.scratch: tuple[Buffer, ...] = () if self.fixed or self.varies else (packed,)
        self.own: tuple[Buffer, ...] = (packed,) if self.varies else ()
        self.packed = packed
        self.tile = tile
        self.notes = self.epilogue.kernel.notes
        self.packs: tuple[Pack, ...] = (self._pack_once(),) if self.fixed else ()
        self.panels = (self.n + (self.width - 1)) // self.width
        self.blocks = (self.m + (self._block_rows() - 1)) // self._block_rows()
        self._pack_body = self._pack_panels() if self.scratch else ""
        self._body = self._driver()
        self.phases = self._phases()

    @property
    def arguments(self) -> tuple[str, ...]:
        own = dict.fromkeys([*self.sizes.used, *self.inner.sizes.used])
        return tuple(n for n in own if n not in ("rows", "columns"))

    def _phases(self) -> tuple[Phase, ...]:
        batch = product(tuple(a.extent for a in self.batch))
        cost = batch * self.m * self.n * self.k * 200 // self.lanes  # a vector's product: 200 ps
        tasks = batch if self.varies else batch * self.blocks * self.panels
        packing = Phase("_pack", self.panels, self.n * self.k * 300)
        return (*((packing,) if self.scratch else ()), Phase("", tasks, cost))

    # -- text -------------------------------------------------------------------------------------

    def text(self, name: str) -> str:
        """The epilogue, and the functions that pack panels and go over the tiles."""
        names = self._names()
        buffers = self._buffers()
        parameters = [
            f"{'const ' if x in self.reads else ''}{memory(x.dtype)} *restrict {names[x]}"
            for x in buffers
        ]
        parameters += [f"i64 {n}" for n in (*self.arguments, "first", "last")]
        head = f"({', '.join(parameters)}) {{\n"
        pack = f"static void {name}_pack{head}{self._pack_body}\n}}\n" if self.scratch else ""
        return (
            f"{self._epilogue_text(name)}\n{pack}"
            f"static void {name}{head}{self._body.replace('EPILOGUE', f'{name}_epilogue')}\n}}"
        )

    def _buffers(self) -> tuple[Buffer, ...]:
        return (*self.reads, *self.writes, *self.scratch, *self.own)

    def _names(self) -> dict[Buffer, str]:
        return {x: f"b{i}" for i, x in enumerate(self._buffers())}

    def _epilogue_text(self, name: str) -> str:
        extra = [*map(str, self.epilogue.counters), "rows", "columns"]
        return self.inner.text(f"{name}_epilogue", extra)

    def _epilogue_call(self) -> str:
        names = {**self._names(), self.tile: "tile"}
        kernel = self.epilogue.kernel
        args = [names[x] for x in (*kernel.reads, *kernel.writes)]
        sizes = [n for n in self.inner.sizes.used if n not in ("rows", "columns")]
        counters = [*map(str, self.batch), "m", "p", "rows", "columns"]
        return f"EPILOGUE({', '.join([*args, *sizes, *counters])});"

    def _pack_panels(self) -> str:
        s, width = self.sizes, self.width
        (brs, bcs), n, k = (s(x) for x in self.b_steps), s(self.n), s(self.k)
        names = self._names()
        b = f"{names[self.b.buffer]} + {index_text(self.b.at, s, {})}"
        return (
            f"  const i64 from = first * {width};\n"
            f"  const i64 to = last * {width} < {n} ? last * {width} : {n};\n"
            f"  {self._packer()}({b} + from * {bcs}, {brs}, {bcs}, {k}, to - from, "
            f"{names[self.packed]} + from * {k});"
        )

    def _driver(self) -> str:
        """Over tasks, and the tiles of each."""
        names, s = self._names(), self.sizes
        lines: list[str] = ["  for (i64 task = first; task < last; task++) {"]

        def line(depth: int, text: str) -> None:
            lines.append("  " * depth + text)

        if self.varies:
            self._counters(line, "task")
            (brs, bcs), n, k = (s(x) for x in self.b_steps), s(self.n), s(self.k)
            b = f"{names[self.b.buffer]} + {index_text(self.b.at, s, {})}"
            pack = f"{self._packer()}({b}, {brs}, {bcs}, {k}, {n}, {names[self.packed]});"
            line(2, pack)
            line(2, f"for (i64 block = 0; block < {s(self.blocks)}; block++)")
            line(2, f"for (i64 p = 0; p < {n}; p += {self.width}) {{")
        else:
            line(2, f"const i64 p = task % {s(self.panels)} * {self.width};")
            line(2, f"const i64 block = task / {s(self.panels)} % {s(self.blocks)};")
            self._counters(line, f"task / ({s(self.panels)} * {s(self.blocks)})")
            line(2, "{")
        self._tiles(line)
        line(2, "}")
        line(1, "}")
        return "\n".join(lines)

    def _counters(self, line: Callable[[int, str], None], at: str) -> None:
        """The counters of the leading axes, from the number of a matrix in the batch."""
        if len(self.batch) == 1:
            line(2, f"const i64 {self.batch[0]} = {at};")
        elif self.batch:
            line(2, f"i64 rest = {at};")
            for axis in reversed(self.batch[1:]):
                extent = self.sizes(axis.extent)
                line(2, f"const i64 {axis} = rest % {extent}; rest /= {extent};")
            line(2, f"const i64 {self.batch[0]} = rest;")

    def _tiles(self, line: Callable[[int, str], None]) -> None:
        """A panel's width of a block of rows."""
        names, s, block = self._names(), self.sizes, self._block_rows()
        m, n, k = s(self.m), s(self.n), s(self.k)
        (ars, acs), unit = (s(x) for x in self.a_steps), self.a_steps[1] == 1
        line(3, f"const f32 *a = {names[self.a.buffer]} + {index_text(self.a.at, s, {})};")
        line(3, f"const f32 *panel = {names[self.packed]} + p * {k};")
        line(3, f"const i64 columns = {n} - p < {self.width} ? {n} - p : {self.width};")
        end = f"block * {block} + {block} < {m} ? block * {block} + {block} : {m}"
        line(3, f"const i64 end = {end};")
        line(3, f"for (i64 m = block * {block}, rows; m < end; m += rows) {{")
        line(3, f"  const i64 tiles = (end - m + {self.rows - 1}) / {self.rows};")
        line(3, "  rows = (end - m + tiles - 1) / tiles;  // tiles of about the same height")
        line(3, f"  f32 tile[{self.rows * self.width}];")
        line(3, "  switch (rows) {")
        for rows in heights(self.m, block, self.rows):
            function = tile_function(self.prelude, rows, unit)
            call = f"{function}(a + m * {ars}, {ars}, {acs}, panel, {k}, tile)"
            line(3, f"    case {rows}: {call}; break;")
        line(3, "  }")
        line(3, f"  {self._epilogue_call()}")
        line(3, "}")

    def _block_rows(self) -> int:
        """Rows of A gone over for each panel: a multiple of a tile's."""
        k = self.k if isinstance(self.k, int) else 512
        tiles = max(1, _A_BLOCK // (4 * max(1, k) * self.rows))
        return tiles * self.rows

    # -- helpers ----------------------------------------------------------------------------------

    def _packer(self) -> str:
        width = self.width
        text = f"""
// Columns in panels of {width}: to[panel][k][column], zeros behind the last.
static void pack_panels_{width}(const f32 *b, i64 rs, i64 cs, i64 k, i64 n, f32 *to) {{
  for (i64 p = 0; p < n && k > 0; p += {width}, to += k * {width}) {{
    const i64 columns = n - p < {width} ? n - p : {width};
    const f32 *from = b + p * cs;
    if (columns == {width} && cs == 1) {{
      for (i64 i = 0; i < k; i++) memcpy(to + i * {width}, from + i * rs, {width * 4});
      continue;
    }}
    if (columns < {width}) memset(to, 0, (size_t)k * {width * 4});
    for (i64 i0 = 0; i0 < k; i0 += 16) {{
      const i64 end = i0 + 16 < k ? i0 + 16 : k;
      for (i64 j = 0; j < columns; j++)
        for (i64 i = i0; i < end; i++) to[i * {width} + j] = from[i * rs + j * cs];
    }}
  }}
}}"""
        return self.prelude.once(f"pack_panels_{width}", text)

    def _pack_once(self) -> Pack:
        brs, bcs = self.b_steps
        s = Sizes({})
        name = f"pack_{s(self.k)}x{s(self.n)}_{s(brs)}_{s(bcs)}_{s(self.b.at.offset)}"
        call = f"{self._packer()}(from + {s(self.b.at.offset)}, {s(brs)}, {s(bcs)}, "
        call += f"{s(self.k)}, {s(self.n)}, to)"
        text = f"static void {name}(const f32 *from, f32 *to) {{ {call}; }}"
        return Pack(self.prelude.once(name, text), self.b.buffer, self.packed)


def _round_up(n: DimLike, to: int) -> DimLike:
    return (n + (to - 1)) // to * to
