"""Windows that slide over a blocked image, channel by channel: depthwise convolution and pooling.

A tile is a few neighbouring places of a row, whose totals stay in registers, one vector of channels
each. The taps along a row are written out, so that what several places read is loaded once; where a
tile reaches over the border, the taps outside are left out. Where several results are made of each
channel, what is loaded is spread over the lanes. What follows is computed on the totals.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...dims import DimLike, product
from ..blocked import BlockedConv, BlockedPool
from ..fuse import Step
from ..index import Axis, Index, of_axis, row_major
from ..loops import Buffer, moved
from ..lower.library import Pack, Phase
from ..schedule import Context, Epilogue, _Nest
from .convert import convert
from .kernel import KernelText
from .places import cuts
from .prelude import Prelude
from .signature import parameters
from .types import Sizes, memory

_COLUMNS = 8  # places of a tile: with the weights of a row they fit 16 registers
WIDEST = 16  # taps along a row that are written out


class Sliding:
    """The routine of a depthwise convolution or a pooling. See `lower.library.Routine`."""

    checked = False

    def __init__(
        self, step: Step, context: Context, prelude: Prelude, symbols: Mapping[str, int]
    ) -> None:
        self.prelude = prelude
        self.sizes = Sizes(symbols)
        node = step.nodes[0]
        op: Any = node.op
        self.op, x, out = op, node.inputs[0], node.output
        self.image, self.places = x.shape[2:-1], out.shape[2:-1]
        self.lanes = prelude.vector_bytes // 4
        self.samples, self.blocks = out.shape[:2]
        self.type = memory(x.dtype)
        self.x, self.x_shape = context.buffer(x), x.shape
        self.packed: Buffer | None = None
        self.packs: tuple[Pack, ...] = ()
        self.fixed = True
        self.each = 1  # results of each channel
        if isinstance(op, BlockedConv):
            w = node.inputs[1]
            self.window = tuple(map(int, w.shape[2:]))
            self.channels = int(w.shape[0])
            self.each = self.channels // op.channels
            self.before: tuple[DimLike, ...] = tuple(lo for lo, _ in op.padding)
            self.w, self.fixed = context.buffer(w), context.is_fixed(w)
            size = self.blocks * self.lanes * product(self.window)
            self.packed = Buffer(w.dtype, size, f"{context.names[w]} packed")
            if self.fixed:
                self.packs = (self._pack_once(),)
        else:
            assert isinstance(op, BlockedPool)
            self.window, self.before = op.kernel, op.before
        self.columns = max(1, min(_COLUMNS, 64 // self.window[-1]))
        self.tile = Buffer(out.dtype, self.columns * self.lanes, "a tile")
        self.epilogue = SlidingEpilogue(step, context, self.tile, self)
        self.inner = KernelText(self.epilogue.kernel, prelude, symbols)
        weights = () if self.packed is None else ((self.packed,) if self.fixed else (self.w,))
        others = [b for b in self.epilogue.kernel.reads if b is not self.tile]
        self.reads = tuple(dict.fromkeys((self.x, *weights, *others)))
        self.writes = self.epilogue.kernel.writes
        self.scratch: tuple[Buffer, ...] = ()
        if self.packed is not None and not self.fixed:
            self.scratch = (self.packed,)
        self.own: tuple[Buffer, ...] = ()
        self.notes = self.epilogue.kernel.notes
        names = {b: f"b{i}" for i, b in enumerate((*self.reads, *self.writes, *self.scratch))}
        self.names = names
        self.inner.scope.buffers = {id(b): n for b, n in names.items()} | {id(self.tile): "tile"}
        self._body = self._driver()
        self.phases = self._phases()

    def _phases(self) -> tuple[Phase, ...]:
        tasks = self.samples * self.blocks * product(self.places[:-1])
        cost = tasks * self.places[-1] * (product(self.window) * 200 + 1000)
        packing = Phase("_pack", 1, 0)
        return (*((packing,) if self.scratch else ()), Phase("", tasks, cost))

    @property
    def arguments(self) -> tuple[str, ...]:
        """The symbolic sizes it takes."""
        return tuple(dict.fromkeys([*self.sizes.used, *self.inner.sizes.used]))

    # -- text -------------------------------------------------------------------------------------

    def text(self, name: str) -> str:
        """The function that goes over the rows, and the one that packs weights at each call."""
        head = f"({parameters(self, self.names)}) {{\n"
        pack = ""
        if self.scratch:
            call = self._pack_call(self.names[self.w], self.names[self.scratch[0]])
            pack = f"static void {name}_pack{head}  {call}\n}}\n"
        return f"{pack}static void {name}{head}{self._body}\n}}"

    def _driver(self) -> str:
        s, rank = self.sizes, len(self.places)
        outer = [f"i{2 + d}" for d in range(rank - 1)]
        lines = []
        counters = ["i0", "i1", *outer]
        extents = [self.samples, self.blocks, *self.places[:-1]]
        lines.append("  for (i64 task = first; task < last; task++) {")
        for counter, step, extent in zip(counters, row_major(tuple(extents)), extents, strict=True):
            at = f"task / {s(step)}" if step != 1 else "task"
            lines.append(f"    const i64 {counter} = {at} % {s(extent)};")
        for d in range(rank - 1):
            lines += self._range(d)
        lines.append(f"    const {self.type} *const x = {self.names[self.x]} + {self._row()};")
        if self.packed is not None:
            taps = product(self.window)
            weights = f"{self.names[self.packed]} + i1 * {s(taps * self.lanes)}"
            lines.append(f"    const f32 *const w = {weights};")
        if self.each > 1:
            lines += self._source_text()
        lines += ["    " + line for line in self._row_text()]
        lines.append("  }")
        return "\n".join(lines)

    def _range(self, d: int) -> list[str]:
        """The taps of an outer axis that lie inside the image: from `low` up to `high`."""
        s, k = self.sizes, self.window[d]
        dilation = self.op.dilation[d]
        at = f"i{2 + d} * {self.op.stride[d]} - {s(self.before[d])}"
        return [
            f"    i64 low{d} = 0, high{d} = {k};",
            f"    const i64 at{d} = {at};",
            f"    while (low{d} < {k} && at{d} + low{d} * {dilation} < 0) low{d}++;",
            f"    while (high{d} > low{d} && at{d} + (high{d} - 1) * {dilation} >= "
            f"{s(self.image[d])}) high{d}--;",
        ]

    def _row(self) -> str:
        """Where the first tap of the row's first place is read."""
        s, rank = self.sizes, len(self.places)
        steps = row_major(self.x_shape)
        block = f"i1 / {self.each}" if self.each > 1 else "i1"
        terms = [f"i0 * {s(steps[0])}", f"{block} * {s(steps[1])}"]
        terms += [f"at{d} * {s(steps[2 + d])}" for d in range(rank - 1)]
        return " + ".join(terms)

    def _source_text(self) -> list[str]:
        """From which lane of the image each lane of the result is made."""
        v, n = self.prelude.vector("i32", self.lanes), self.each * self.lanes
        table = ", ".join(str(i // self.each) for i in range(n))
        load = self.prelude.load("i32", self.lanes)
        return [
            f"    static const i32 sources[{n}] = {{{table}}};",
            f"    const {v} source = {load}(sources + i1 % {self.each} * {self.lanes});",
        ]

    def _read(self, place: str) -> str:
        """A vector of the image, as the result's lanes are made of it."""
        prelude, lanes = self.prelude, self.lanes
        text = f"{prelude.load(self.type, lanes)}({place})"
        if self.type != "f32":
            text = convert(prelude, text, self.type, "f32", lanes)
            if self.op.zero:
                text = f"({text} - {prelude.splat('f32', lanes)}({self.op.zero}))"
        return f"{prelude.permuted(lanes)}({text}, source)" if self.each > 1 else text

    def _row_text(self) -> list[str]:
        """The tiles of a row."""
        n, size, before = self.places[-1], self.image[-1], self.before[-1]
        if isinstance(n, int) and isinstance(size, int) and isinstance(before, int):
            return self._known_row(n, size, before)
        return self._any_row()

    def _known_row(self, n: int, size: int, before: int) -> list[str]:
        """Tiles whose taps outside of the image are known; equal neighbours are one loop."""
        stride, dilation = self.op.stride[-1], self.op.dilation[-1]
        column = f"i{1 + len(self.places)}"
        runs: list[tuple[int, int, int, frozenset[tuple[int, int]]]] = []
        at = 0
        for width in cuts(n, self.columns):
            outside = frozenset(
                (j, k)
                for j in range(width)
                for k in range(self.window[-1])
                if not 0 <= (at + j) * stride - before + k * dilation < size
            )
            if runs and runs[-1][2:] == (width, outside):
                runs[-1] = (runs[-1][0], at + width, width, outside)
            else:
                runs.append((at, at + width, width, outside))
            at += width
        lines: list[str] = []
        for first, end, width, outside in runs:
            if end - first == width:
                lines += ["{", f"  const i64 {column} = {first};"]
            else:
                lines.append(
                    f"for (i64 {column} = {first}; {column} < {end}; {column} += {width}) {{"
                )
            lines += ["  " + line for line in self._tile_text(width, outside)]
            lines.append("}")
        return lines

    def _any_row(self) -> list[str]:
        """A row of unknown length: single places at its ends, tiles between."""
        s, stride, dilation = self.sizes, self.op.stride[-1], self.op.dilation[-1]
        n, size, before = s(self.places[-1]), s(self.image[-1]), s(self.before[-1])
        reach = (self.window[-1] - 1) * dilation
        column = f"i{1 + len(self.places)}"
        width = self.columns
        return [
            f"i64 {column} = 0;",
            f"for (; {column} < {n}; {column}++) {{",
            f"  const i64 at = {column} * {stride} - {before};",
            f"  if (at >= 0 && at + {reach} < {size}) {{  // no tap is outside",
            f"    for (; {column} + {width} <= {n}; {column} += {width}) {{",
            f"      const i64 end = ({column} + {width - 1}) * {stride} - {before};",
            f"      if (end + {reach} >= {size}) break;",
            *["      " + line for line in self._tile_text(width, frozenset())],
            "    }",
            f"    if ({column} >= {n}) break;",
            "  }",
            f"  const i64 next = {column} * {stride} - {before};",
            f"  i64 low = 0, high = {self.window[-1]};",
            f"  while (low < high && next + low * {dilation} < 0) low++;",
            f"  while (high > low && next + (high - 1) * {dilation} >= {size}) high--;",
            *["  " + line for line in self._place_text()],
            "}",
        ]

    # -- tiles ------------------------------------------------------------------------------------

    def _outer_loops(self) -> tuple[list[str], str, str]:
        """Loops over the taps of outer axes; where in x and in the weights such taps are."""
        s, rank = self.sizes, len(self.places)
        steps, taps = row_major(self.x_shape)[2:], row_major((*self.window, self.lanes))
        loops, x, w = [], [], []
        for d in range(rank - 1):
            loops.append(f"for (i64 k{d} = low{d}; k{d} < high{d}; k{d}++)")
            x.append(f"k{d} * {s(steps[d] * self.op.dilation[d])}")
            w.append(f"k{d} * {s(taps[d])}")
        return loops, "".join(f" + {t}" for t in x), "".join(f" + {t}" for t in w)

    def _start(self) -> str:
        column = f"i{1 + len(self.places)}"
        return f"({column} * {self.op.stride[-1]} - {self.sizes(self.before[-1])}) * {self.lanes}"

    def _tile_text(self, width: int, outside: frozenset[tuple[int, int]]) -> list[str]:
        """The totals of `width` places, then what follows; `outside`: (place, tap) to leave out."""
        stride, dilation = self.op.stride[-1], self.op.dilation[-1]
        v = self.prelude.vector("f32", self.lanes)
        load = self.prelude.load("f32", self.lanes)
        loops, x, w = self._outer_loops()
        neutral = self._neutral()
        lines = [f"{v} c{j} = {neutral};" for j in range(width)]
        lines += [*loops, "{", f"  const {self.type} *const p = x{x} + {self._start()};"]
        uses: dict[int, list[tuple[int, int]]] = {}
        for j in range(width):
            for k in range(self.window[-1]):
                if (j, k) not in outside:
                    uses.setdefault(j * stride + k * dilation, []).append((j, k))
        if self.packed is not None:
            for k in sorted({k for pairs in uses.values() for _, k in pairs}):
                place = f"w{w} + {k * self.lanes}"
                lines.append(f"  const {v} w{k} = {load}({place});")
        for e in sorted(uses):
            lines.append(f"  const {v} x{e} = {self._read(f'p + {e * self.lanes}')};")
            lines += [f"  c{j} = {self._folded(f'c{j}', f'x{e}', f'w{k}')};" for j, k in uses[e]]
        lines.append("}")
        return lines + self._after(width)

    def _place_text(self) -> list[str]:
        """One place whose taps inside the image are from `low` up to `high`."""
        v = self.prelude.vector("f32", self.lanes)
        load = self.prelude.load("f32", self.lanes)
        loops, x, w = self._outer_loops()
        at = f"k * {self.op.dilation[-1] * self.lanes}"
        weight = f"{load}(w{w} + k * {self.lanes})"
        return [
            f"{v} c0 = {self._neutral()};",
            *loops,
            "for (i64 k = low; k < high; k++) {",
            f"  const {v} x0 = {self._read(f'x{x} + {self._start()} + {at}')};",
            f"  c0 = {self._folded('c0', 'x0', weight)};",
            "}",
            *self._after(1),
        ]

    def _neutral(self) -> str:
        if isinstance(self.op, BlockedPool) and self.op.fold == "max":
            return f"{self.prelude.splat('f32', self.lanes)}(-__builtin_inff())"
        return "{0}"

    def _folded(self, total: str, x: str, w: str) -> str:
        if self.packed is not None:
            return f"{self.prelude.fused_multiply_add(self.lanes)}({x}, {w}, {total})"
        return self.prelude.folded(self.op.fold, "f32", self.lanes, total, x)

    def _after(self, width: int) -> list[str]:
        """What is fused behind, on the totals; the tile is no more than a name for them."""
        store = self.prelude.store("f32", self.lanes)
        lines = [f"f32 tile[{width * self.lanes}];"]
        lines += [f"{store}(tile + {j * self.lanes}, c{j});" for j in range(width)]
        column = self.epilogue.column
        for j in range(width):
            new = {self.epilogue.row: Index((), j), column: Index(((column, 1),), j)}
            lines += self.inner.inline(moved(self.epilogue.kernel.body, new), 0)
        return lines

    # -- weights ----------------------------------------------------------------------------------

    def _pack_call(self, w: str, to: str) -> str:
        lanes, taps = self.lanes, product(self.window)
        name = f"pack_sliding_{lanes}"
        text = f"""
// Weights [channel][tap] as [block][tap][lane].
static void {name}(const f32 *w, i64 channels, i64 taps, f32 *to) {{
  for (i64 c = 0; c < channels; c += {lanes})
    for (i64 k = 0; k < taps; k++)
      for (i64 i = c; i < c + {lanes}; i++) *to++ = i < channels ? w[i * taps + k] : 0;
}}"""
        return f"{self.prelude.once(name, text)}({w}, {self.channels}, {taps}, {to});"

    def _pack_once(self) -> Pack:
        assert self.packed is not None
        name = f"pack_sliding_{self.channels}_{product(self.window)}_{self.lanes}"
        text = f"static void {name}(const f32 *from, f32 *to) {{ {self._pack_call('from', 'to')} }}"
        return Pack(self.prelude.once(name, text), self.w, self.packed)


class SlidingEpilogue(Epilogue):
    """What follows on a tile of places: `row` is the place within it, `column` where it begins."""

    def __init__(self, step: Step, context: Context, tile: Buffer, sliding: Sliding) -> None:
        self._sliding = sliding
        self._lanes = Axis(101, sliding.lanes)
        super().__init__(step, context, tile, sliding.lanes, [])

    def _first_axes(self, step: Step, lead: int) -> tuple[Axis, ...]:
        return tuple(Axis(i, d) for i, d in enumerate(step.axes[:-1]))

    def _plain_nest(self) -> _Nest:
        self._columns = self._lanes
        self.row, self.column = Axis(100, self._sliding.columns), self._first[-1]
        self._rows = self.row
        coords = [of_axis(a) for a in self._first[:-1]]
        coords.append(Index(((self.column, 1),)))
        coords.append(of_axis(self._lanes))
        return _Nest(coords, [], [self._lanes], self._lanes)
