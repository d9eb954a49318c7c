"""Gradients of convolutions by the weight.

Element [o, c, k] sums ``g[n, o, p] * x[n, c, p * stride + k * dilation - before]`` over all samples
and places. With channels of x last, in blocks of a tile's width, the columns (k, c) of one row of
the window that lie in one block are adjacent in memory, or at least those of one k, so that a tile
of rows o by such columns stays in registers while all samples and places are gone over, with
nothing gathered. The first phase turns x into that order, with what pads it, and notes where each
row of places begins; a task of the second computes a block of rows.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ...dims import DimLike, product
from ...dtypes import int64
from ...types import is_static
from ..fuse import Step
from ..index import Axis, Index, of_axis, row_major, unflatten
from ..loops import Buffer, Load
from ..lower.library import Pack, Phase
from ..schedule import Context, Epilogue
from .kernel import KernelText
from .prelude import Prelude
from .signature import parameters, sizes_used
from .tile import heights, tile_shape
from .types import Sizes, memory

_ROWS = 256 * 1024  # bytes of a block of the result that should stay in L2
_WORTH = 0.9  # of all places, that fewer taps than these lie in the image at

Region = tuple[tuple[DimLike, DimLike], ...]


class ConvWeightGradient:
    """The routine of a weight's gradient and its epilogue. See `lower.library.Routine`."""

    checked = False

    def __init__(
        self, step: Step, context: Context, prelude: Prelude, symbols: Mapping[str, int]
    ) -> None:
        self.prelude = prelude
        self.tallest, self.vectors = tile_shape(prelude.vector_bytes)
        self.sizes = Sizes(symbols)
        node = step.nodes[0]
        op: Any = node.op
        self.op = op
        g, x, out = node.inputs[0], node.inputs[1], node.output
        self.type = memory(out.dtype)
        self.lanes = prelude.vector_bytes // out.dtype.itemsize
        self.samples = g.shape[0]
        self.places, self.image = g.shape[2:], x.shape[2:]
        self.rows: int = _known(out.shape[0]) // op.groups
        self.channels = _known(out.shape[1])
        self.columns: int = self.channels * math.prod(op.kernel)
        self.g, self.g_strides = _strides(g, context)
        self.x, self.x_strides = _strides(x, context)
        self.reach = tuple(
            (p - 1) * s + d * (k - 1) + 1
            for p, s, d, k in zip(self.places, op.stride, op.dilation, op.kernel, strict=True)
        )
        width = self.vectors * self.lanes
        self.together: int = min(self.channels, width)  # channels of a block
        self.parts: int = -(-self.channels // max(1, self.together))  # blocks
        self.image_size = product(self.reach) * (self.parts * self.together)
        whole = self.samples * op.groups * self.image_size
        # A tile may read past the last pixel's channels.
        self.turned = Buffer(x.dtype, whole + width, "channels last")
        self.lines = self.samples * product(self.places[:-1])
        self.regions = self._regions()
        rows = self.lines * len(self.regions)
        self.starts = Buffer(int64, rows * 2, "where rows of places begin")
        self.block: int = self._block_rows()
        self.sums = Buffer(out.dtype, self.block * self.columns, "a block of rows")
        self.group = Axis(0, op.groups)
        self.epilogue = _Epilogue(step, context, self)
        self.inner = KernelText(self.epilogue.kernel, prelude, symbols)
        others = [b for b in self.epilogue.kernel.reads if b is not self.sums]
        self.reads = tuple(dict.fromkeys((self.g.buffer, self.x.buffer, *others)))
        self.writes = self.epilogue.kernel.writes
        self.scratch: tuple[Buffer, ...] = (self.turned, self.starts)
        self.own: tuple[Buffer, ...] = (self.sums,)
        self.notes = self.epilogue.kernel.notes
        self.packs: tuple[Pack, ...] = ()
        self._turn_body, self._body = self._turn(), self._driver()
        self.phases: tuple[Phase, ...] = self._phases()

    @property
    def adjacent(self) -> bool:
        """Whether the taps of a row of the window are next to each other."""
        return self.parts == 1 and self.op.dilation[-1] == 1

    def _regions(self) -> list[Region]:
        """The places at which taps lie in the image, all of them where that is not worth knowing:
        one list of rows for each."""
        whole = tuple((0, p) for p in self.places)
        if self.adjacent or not is_static((*self.places, *self.image)):
            return [whole]
        taps = itertools.product(*map(range, self.op.kernel))
        found = {tap: self._region(tap) for tap in taps}
        inside = sum(math.prod(hi - lo for lo, hi in region) for region in found.values())
        if inside > _WORTH * len(found) * math.prod(map(_known, self.places)):
            return [whole]
        return list(dict.fromkeys(found.values()))

    def _region(self, tap: Sequence[int]) -> Region:
        """The places at which a tap lies in the image: from, to along each axis."""
        found = []
        for k, stride, dilation, (low, _), size, n in zip(
            tap,
            self.op.stride,
            self.op.dilation,
            self.op.padding,
            map(_known, self.image),
            map(_known, self.places),
            strict=True,
        ):
            at = k * dilation - _known(low)  # of the first place
            begin = min(n, max(0, -(at // stride)))
            found.append((begin, max(begin, min(n, -(-(size - at) // stride)))))
        return tuple(found)

    def _block_rows(self) -> int:
        """Rows of a task: tiles whose results stay in cache, and two tasks at least."""
        most = max(1, _ROWS // max(1, self.columns * 4) // self.tallest) * self.tallest
        half = -(-self.rows // 2 // self.tallest) * self.tallest
        return max(1, min(self.rows, most, max(self.tallest, half)))

    def _phases(self) -> tuple[Phase, ...]:
        op, blocks = self.op, -(-self.rows // self.block)
        pixels = self.samples * op.groups * product(self.reach)
        products = self.samples * product(self.places) * (self.columns * self.rows * op.groups)
        return (
            Phase("", self.samples * op.groups, pixels * (self.channels * 500)),
            Phase("_1", op.groups * blocks, products * 200 // self.lanes),
        )

    @property
    def arguments(self) -> tuple[str, ...]:
        """The symbolic sizes it takes."""
        return sizes_used(self.sizes, self.inner.sizes)

    # -- text -------------------------------------------------------------------------------------

    def text(self, name: str) -> str:
        """The epilogue and the two phases."""
        head = parameters(self, self._names())
        extra = [*map(str, self.epilogue.counters), "rows", "columns"]
        body = self._body.replace("EPILOGUE", f"{name}_epilogue")
        return (
            f"{self.inner.text(f'{name}_epilogue', extra)}\n"
            f"static void {name}({head}) {{\n{self._turn_body}\n}}\n"
            f"static void {name}_1({head}) {{\n{body}\n}}"
        )

    def _names(self) -> dict[Buffer, str]:
        buffers = (*self.reads, *self.writes, *self.scratch, *self.own)
        return {b: f"b{i}" for i, b in enumerate(buffers)}

    def _turn(self) -> str:
        """For each sample and group: its image with channels last; the sample's rows of places."""
        s, names, op = self.sizes, self._names(), self.op
        rank, t = len(self.image), self.type
        groups, channels, w = op.groups, self.channels, self.together
        lines: list[str] = []
        depth = 1

        def line(text: str) -> None:
            lines.append("  " * depth + text)

        steps = row_major(self.reach)
        for name, sign in (("larger", ">"), ("smaller", "<")):
            text = f"static inline i64 {name}(i64 a, i64 b) {{ return a {sign} b ? a : b; }}"
            self.prelude.once(name, text)
        line("for (i64 task = first; task < last; task++) {")
        depth += 1
        line(f"const i64 n = task / {groups};")
        at = f"n * {s(self.x_strides[0])} + task % {groups} * {s(self.x_strides[1] * channels)}"
        line(f"const {t} *x = {names[self.x.buffer]} + {s(self.x.at.offset)} + {at};")
        line(f"{t} *image = {names[self.turned]} + task * {s(self.image_size)};")
        inside, place = ["1"], ""
        for d in range(rank - 1):
            line(f"for (i64 j{d} = 0; j{d} < {s(self.reach[d])}; j{d}++) {{")
            depth += 1
            line(f"const i64 c{d} = j{d} - {s(op.padding[d][0])};")
            inside.append(f"c{d} >= 0 && c{d} < {s(self.image[d])}")
            place += f" + j{d} * {s(steps[d] * w)}"
        width, size, lo = s(self.reach[-1]), s(self.image[-1]), s(op.padding[-1][0])
        line(f"const i64 before = smaller(larger({lo}, 0), {width});")
        line(f"const i64 end = smaller({size} + {lo}, {width});")
        line(f"const i64 after = {' && '.join(inside)} ? larger(end, before) : before;")
        line(f"for (i64 c = 0; c < {channels}; c += {w}) {{")
        line(f"  const i64 count = smaller({channels} - c, {w});")
        line(f"  {t} *to = image + c * {s(product(self.reach))}{place};")
        line(f"  memset(to, 0, (size_t)before * {w} * sizeof({t}));")
        line(f"  memset(to + after * {w}, 0, (size_t)({width} - after) * {w} * sizeof({t}));")
        offset = "".join(f" + c{d} * {s(self.x_strides[2 + d])}" for d in range(rank - 1))
        last = s(self.x_strides[-1])
        line("  for (i64 i = 0; i < count; i++) {")
        line(f"    const {t} *from = x + (c + i) * {s(self.x_strides[1])}{offset};")
        line(
            f"    for (i64 j = before; j < after; j++) to[j * {w} + i] = from[(j - {lo}) * {last}];"
        )
        line("  }")
        line("}")
        for _ in range(rank - 1):
            depth -= 1
            line("}")
        self._note_rows(line)
        lines.append("  }")
        return "\n".join(lines)

    def _note_rows(self, line: Any) -> None:
        """Where each row of a sample's places begins, in g and in the image with channels last."""
        s, names, op = self.sizes, self._names(), self.op
        rank, last = len(self.image), len(self.image) - 1
        steps = row_major(self.reach)
        for number, region in enumerate(self.regions):
            counts = tuple(hi - lo for lo, hi in region)
            if 0 in counts:
                continue
            count = s(product(counts[:-1]))
            table = f"{names[self.starts]} + {s(self.lines * (2 * number))}"
            line(f"for (i64 r = 0; task % {op.groups} == 0 && r < {count}; r++) {{")
            first, step = region[last][0], op.stride[-1] * self.together
            line(f"  i64 at = r, *start = {table} + (n * {count} + r) * 2;")
            line(f"  i64 g = n * {s(self.g_strides[0])} + {s(self.g_strides[-1] * first)};")
            line(f"  i64 x = n * {s(self.image_size * op.groups)} + {s(step * first)};")
            for d in reversed(range(rank - 1)):
                p = f"at % {s(counts[d])}" if d else "at"
                p = f"({p} + {s(region[d][0])})"
                line(f"  g += {p} * {s(self.g_strides[2 + d])};")
                line(f"  x += {p} * {s(steps[d] * (op.stride[d] * self.together))};")
                line(f"  at /= {s(counts[d])};")
            line("  start[0] = g, start[1] = x;")
            line("}")

    def _driver(self) -> str:
        s, names = self.sizes, self._names()
        t, kernel = self.type, self.epilogue.kernel
        inner = {**names, self.sums: names[self.sums]}
        args = [inner[b] for b in (*kernel.reads, *kernel.writes)]
        args += [a for a in self.inner.sizes.used if a not in ("rows", "columns")]
        args += ["i0", "begin", "0", "end - begin", str(self.columns)]
        blocks = -(-self.rows // self.block)
        g = f"{names[self.g.buffer]} + {s(self.g.at.offset)}"
        lines = [
            "  for (i64 task = first; task < last; task++) {",
            f"    const i64 i0 = task / {blocks}, begin = task % {blocks} * {self.block};",
            f"    const i64 end = smaller(begin + {self.block}, {self.rows});",
            f"    const {t} *g = {g} + i0 * {s(self.g_strides[1] * self.rows)};",
            f"    const {t} *x = {names[self.turned]} + i0 * {s(self.image_size)};",
        ]
        lines += [f"    {self._panel(*run)}" for run in self._runs()]
        lines.append(f"    EPILOGUE({', '.join(args)});")
        lines.append("  }")
        return "\n".join(lines)

    def _runs(self) -> list[tuple[DimLike, int, int, int]]:
        """Adjacent columns: where they begin in an image, how many, their channel and their tap."""
        op, steps, w = self.op, row_major(self.reach), self.together
        adjacent = self.adjacent
        taps = [range(k) for k in op.kernel]
        if adjacent:
            taps[-1] = range(1)
        found: list[tuple[DimLike, int, int, int]] = []
        for part in range(self.parts):
            run = w * op.kernel[-1] if adjacent else min(w, self.channels - part * w)
            for tap in itertools.product(*taps):
                offset = product(self.reach) * (part * w)
                number = 0
                for d, k in enumerate(tap):
                    offset = offset + steps[d] * (k * op.dilation[d] * w)
                    number = number * op.kernel[d] + k
                found.append((offset, run, part * w, number))
        return found

    def _panel(self, offset: DimLike, run: int, channel: int, tap: int) -> str:
        """A call that computes a run of columns for the task's rows."""
        names, op, s = self._names(), self.op, self.sizes
        taps = math.prod(op.kernel)
        number = 0
        if len(self.regions) > 1:
            at = tuple(map(int, np.unravel_index(tap, op.kernel)))
            number = self.regions.index(self._region(at))
        counts = tuple(hi - lo for lo, hi in self.regions[number])
        starts = f"{names[self.starts]} + {s(self.lines * (2 * number))}"
        return (
            f"{self._run_function()}(g, {s(self.g_strides[1])}, {s(self.g_strides[-1])}, "
            f"x + {s(offset)}, {op.stride[-1] * self.together}, {starts}, "
            f"{s(self.samples * product(counts[:-1]))}, {s(counts[-1])}, begin, end, {run}, "
            f"{self.together}, {taps}, {channel * taps + tap}, {self.columns}, {names[self.sums]});"
        )

    def _run_function(self) -> str:
        """Tiles over a run of columns and a block of rows, and where their elements belong."""
        width, t = self.vectors * self.lanes, self.type
        tall = heights(self.rows, self.block, self.tallest)
        branches = []
        for vectors in range(self.vectors, 0, -1):
            cases = "".join(
                f"\n          case {h}: {self._tile(h, vectors)}"
                "(g + m * gr, gr, gs, x + j, xs, starts, lines, places, tile); break;"
                for h in tall
            )
            branches.append(
                f"if (columns > {(vectors - 1) * self.lanes}) {{\n"
                f"        wide = {vectors * self.lanes};\n"
                f"        switch (rows) {{{cases}\n        }}\n      }}"
            )
        name = f"weight_gradient_{t}_{'_'.join(map(str, tall))}"
        text = f"""
// Rows `begin` to `end` of a gradient by the weight, for a run of columns (tap, channel).
static void {name}(
    const {t} *g, i64 gr, i64 gs, const {t} *x, i64 xs, const i64 *starts, i64 lines, i64 places,
    i64 begin, i64 end, i64 run, i64 channels, i64 taps, i64 at, i64 size, {t} *sums) {{
  for (i64 j = 0; j < run; j += {width}) {{
    const i64 columns = run - j < {width} ? run - j : {width};
    for (i64 m = begin, rows; m < end; m += rows) {{
      const i64 tiles = (end - m + {self.tallest - 1}) / {self.tallest};
      rows = (end - m + tiles - 1) / tiles;  // tiles of about the same height
      {t} tile[{self.tallest * width}];
      i64 wide = 0;
      {" else ".join(branches)}
      for (i64 r = 0; r < rows; r++) {{
        {t} *to = sums + (m - begin + r) * size + at;
        for (i64 q = 0, c = j % channels, k = j / channels; q < columns; c = 0, k++)
          for (; c < channels && q < columns; c++, q++) to[c * taps + k] = tile[r * wide + q];
      }}
    }}
  }}
}}"""
        return self.prelude.once(name, text)

    def _tile(self, rows: int, vectors: int) -> str:
        """The function that sums a tile over all samples and places."""
        t, w = self.type, self.lanes
        v = self.prelude.vector(t, w)
        load, store = self.prelude.load(t, w), self.prelude.store(t, w)
        splat, fma = self.prelude.splat(t, w), self._multiply_add()
        # Few rows are few sums: neighbouring places keep sums of their own, so that none waits.
        steps = max(1, 8 // (rows * vectors))
        sums = [(u, i, j) for u in range(steps) for i in range(rows) for j in range(vectors)]

        def step(u: int) -> list[str]:
            out = [
                f"      const {v} x{u}_{j} = {load}(b + {u} * xs + {j * w});"
                for j in range(vectors)
            ]
            for i in range(rows):
                out.append(f"      const {v} y{u}_{i} = {splat}(a[{i} * gr + {u} * gs]);")
                out += [
                    f"      c{u}_{i}_{j} = {fma}(x{u}_{j}, y{u}_{i}, c{u}_{i}_{j});"
                    for j in range(vectors)
                ]
            return out

        name = f"weight_tile{rows}x{vectors}_{v}"
        lines = [
            f"static void {name}(",
            f"    const {t} *restrict g, i64 gr, i64 gs, const {t} *restrict x, i64 xs,",
            f"    const i64 *restrict starts, i64 lines, i64 places, {t} *restrict tile) {{",
            *(f"  {v} c{u}_{i}_{j} = {{0}};" for u, i, j in sums),
            "  for (i64 r = 0; r < lines; r++) {",
            f"    const {t} *a = g + starts[2 * r], *b = x + starts[2 * r + 1];",
            "    i64 p = 0;",
            f"    for (; p + {steps} <= places; p += {steps}) {{",
            *(text for u in range(steps) for text in step(u)),
            f"      a += {steps} * gs, b += {steps} * xs;",
            "    }",
        ]
        if steps > 1:
            lines.append("    for (; p < places; p++, a += gs, b += xs) {")
            lines += [*step(0), "    }"]
        lines.append("  }")
        for i, j in itertools.product(range(rows), range(vectors)):
            total = " + ".join(f"c{u}_{i}_{j}" for u in range(steps))
            lines.append(f"  {store}(tile + {(i * vectors + j) * w}, {total});")
        lines.append("}")
        return self.prelude.once(name, "\n".join(lines))

    def _multiply_add(self) -> str:
        if self.type == "f32":
            return self.prelude.fused_multiply_add(self.lanes)
        v = self.prelude.vector(self.type, self.lanes)
        text = f"static inline {v} muladd_{v}({v} a, {v} b, {v} c) {{ return a * b + c; }}"
        return self.prelude.once(f"muladd_{v}", text)


class _Epilogue(Epilogue):
    """The epilogue of a weight's gradient: rows are output channels, columns (channel, tap)."""

    def __init__(self, step: Step, context: Context, routine: ConvWeightGradient) -> None:
        self._routine = routine
        super().__init__(step, context, routine.sums, routine.columns, [])

    def _first_axes(self, step: Step, lead: int) -> tuple[Axis, ...]:
        """The counters of the group, of the block's first row in it and of its first column."""
        routine = self._routine
        return routine.group, Axis(1, routine.rows), Axis(2, routine.columns)

    def _coordinates(self, row: Index, column: Index) -> list[Index]:
        routine = self._routine
        channel = row + of_axis(routine.group) * routine.rows
        shape = (routine.channels, *routine.op.kernel)
        return [channel, *unflatten(column, shape)]


def _strides(v: Any, context: Context) -> tuple[Load, tuple[DimLike, ...]]:
    """An operand in memory, and the strides of its axes; 0 where one has a single step."""
    axes = [Axis(1000 + i, d) for i, d in enumerate(v.shape)]
    expr = context.reading(v, [of_axis(a) for a in axes])
    assert isinstance(expr, Load), f"{v!r} is not in memory"
    strides = [expr.at.stride(a) for a in axes]
    begin = Load(expr.buffer, Index((), expr.at.offset), (), v.dtype)
    return begin, tuple(0 if s is None else s for s in strides)


def _known(d: DimLike) -> int:
    assert isinstance(d, int)
    return d
