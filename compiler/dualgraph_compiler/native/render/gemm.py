"""Matrix products: C = A B on float32, with what follows computed tile by tile.

B is packed in panels of a few vectors' width, ``[panel][k][column]``, zeros behind the last column:
once, when the program is loaded, where it is constant, else at each call. A is read where it is,
under any strides. A tile of C, `rows` by one panel, stays in registers for all of k; then it goes
through a small buffer to the epilogue, which stores it.
"""

from __future__ import annotations

from collections.abc import Mapping

from ...dims import DimLike
from ..fuse import Step
from ..index import Axis
from ..loops import Buffer
from ..lower.library import Pack
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
        self.scratch: tuple[Buffer, ...] = () if self.fixed else (packed,)
        self.packed = packed
        self.tile = tile
        self.notes = self.epilogue.kernel.notes
        self.packs: tuple[Pack, ...] = (self._pack_once(),) if self.fixed else ()
        self._body = self._driver()

    @property
    def arguments(self) -> tuple[str, ...]:
        own = dict.fromkeys([*self.sizes.used, *self.inner.sizes.used])
        return tuple(n for n in own if n not in ("rows", "columns"))

    # -- text -------------------------------------------------------------------------------------

    def text(self, name: str) -> str:
        """The epilogue, and the function that goes over the tiles."""
        names = self._names()
        buffers = (*self.reads, *self.writes, *self.scratch)
        parameters = [
            f"{'const ' if x in self.reads else ''}{memory(x.dtype)} *restrict {names[x]}"
            for x in buffers
        ]
        parameters += [f"i64 {n}" for n in self.arguments]
        return (
            f"{self._epilogue_text(name)}\n"
            f"static void {name}({', '.join(parameters)}) {{\n"
            f"{self._body.replace('EPILOGUE', f'{name}_epilogue')}\n}}"
        )

    def _names(self) -> dict[Buffer, str]:
        buffers = (*self.reads, *self.writes, *self.scratch)
        return {x: f"b{i}" for i, x in enumerate(buffers)}

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

    def _driver(self) -> str:
        """Loops over batch, blocks of rows, panels and tiles."""
        names, s = self._names(), self.sizes
        m, n, k = s(self.m), s(self.n), s(self.k)
        block = self._block_rows()
        a = f"{names[self.a.buffer]} + {index_text(self.a.at, s, {})}"
        (ars, acs), (brs, bcs) = (map(s, x) for x in (self.a_steps, self.b_steps))
        unit = self.a_steps[1] == 1
        packed = names[self.packed]
        lines: list[str] = []
        depth = 1

        def line(text: str) -> None:
            lines.append("  " * depth + text)

        pack = ""
        if not self.fixed:
            b = f"{names[self.b.buffer]} + {index_text(self.b.at, s, {})}"
            pack = f"{self._packer()}({b}, {brs}, {bcs}, {k}, {n}, {packed});"
        if pack and not self.b.at.axes():
            line(pack)
        for axis in self.batch:
            line(f"for (i64 {axis} = 0; {axis} < {s(axis.extent)}; {axis}++) {{")
            depth += 1
        if pack and self.b.at.axes():
            line(pack)
        line(f"const f32 *a = {a};")
        line(f"for (i64 first = 0; first < {m}; first += {block}) {{")
        line(f"  const i64 last = first + {block} < {m} ? first + {block} : {m};")
        line(f"  for (i64 p = 0; p < {n}; p += {self.width}) {{")
        line(f"    const f32 *panel = {packed} + p * {k};")
        line(f"    const i64 columns = {n} - p < {self.width} ? {n} - p : {self.width};")
        line("    for (i64 m = first, rows; m < last; m += rows) {")
        line(f"      const i64 tiles = (last - m + {self.rows - 1}) / {self.rows};")
        line("      rows = (last - m + tiles - 1) / tiles;  // tiles of about the same height")
        line(f"      f32 tile[{self.rows * self.width}];")
        line("      switch (rows) {")
        for rows in heights(self.m, self._block_rows(), self.rows):
            function = tile_function(self.prelude, rows, unit)
            call = f"{function}(a + m * {ars}, {ars}, {acs}, panel, {k}, tile)"
            line(f"        case {rows}: {call}; break;")
        line("      }")
        line(f"      {self._epilogue_call()}")
        line("    }")
        line("  }")
        line("}")
        for _ in self.batch:
            depth -= 1
            line("}")
        return "\n".join(lines)

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
