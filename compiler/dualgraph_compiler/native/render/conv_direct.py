"""Direct convolution of blocked images.

The result's first spatial axis is cut into blocks of rows, the output channels into panels of two
blocks of lanes. For each block of rows the part of the image that it reads is copied, with its
border of zeros, to memory that stays in cache, unless there is no border. Of images with few places
several are taken together, so that weights are read less often and tiles are whole. Then each panel
of weights is gone over by tiles of a few places (`places`), whose sums go through a small buffer to
the epilogue. Weights are packed as [group][panel][block][window][lane in][lane out].
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ...dims import DimLike, Shape, product
from ...dtypes import int16, int32, int64
from ...graph import Value
from ..blocked import BlockedConv, blocks
from ..fuse import Step
from ..index import row_major
from ..loops import Buffer
from ..lower.library import Phase
from ..schedule import Context
from .conv_blocked import TASKS, BlockedRoutine, copy_function
from .ending import Ending, ending_of
from .places import BLOCKS, cuts, tallest
from .prelude import Prelude
from .types import index_text, memory

_IMAGE = 128 * 1024  # bytes of the image that should stay in L2
_IMAGES = 256 * 1024  # bytes of a whole image, or of small ones that are taken together
_WEIGHTS = 16 * 1024  # bytes of a panel of weights that should stay in L1
_STRIP = 60  # places whose sums are kept at a time, at most
_PAGE, _WAYS, _LINES = 1024, 8, 32  # of caches, in elements: what aliases in L1, a few lines
_UNKNOWN = 64  # what a symbolic size is taken to be where only speed depends on it


class DirectConv(BlockedRoutine):
    """The routine of a blocked convolution and its epilogue. See `lower.library.Routine`."""

    def __init__(
        self, step: Step, context: Context, prelude: Prelude, symbols: Mapping[str, int]
    ) -> None:
        self.geometry = g = Geometry(step)
        dtype = int32 if g.words else g.x.dtype
        self.type = memory(dtype)
        self.copied = Buffer(dtype, g.together * g.copied, "a part of the image")
        places = product((g.together, g.rows, *g.places[1:]))
        self.at = Buffer(int64, places, "where its places are")
        sums = Buffer(dtype, BLOCKS * g.strip * g.lanes, "sums")
        weights = g.op.groups * g.out_blocks * g.lanes * g.taps * g.run
        own = [self.copied, self.at] if g.copies else [self.at]
        self._set_up(step, context, prelude, symbols, weights, sums, own)
        samples = (g.x.shape[0] + (g.together - 1)) // g.together
        tasks = samples * g.op.groups * g.blocks_of_rows * g.parts
        steps = product(g.places) * g.op.groups * g.out_blocks * g.taps * g.run
        self.phases = self._with_packing(Phase("", tasks, g.x.shape[0] * steps * 200))

    def _driver(self) -> str:
        g, s, names = self.geometry, self.sizes, self._names()
        panels = blocks(g.out_blocks, BLOCKS)
        parts, per_part = g.parts, blocks(panels, g.parts)
        steps = g.taps * g.run  # of a panel
        tiles = self._strips_text() if self.ending is None else self._ended_text(self.ending)
        return f"""\
{self._taps_text()}
  i64 *const at = {names[self.at]};
  i64 held = -1;
  const i64 blocks = {s(g.blocks_of_rows)};
  for (i64 task = first; task < last; task++) {{
    const i64 whole = task / {parts}, part = task % {parts};
    const i64 image = whole / blocks, group = image % {g.op.groups};
    const i64 row = whole % blocks * {g.rows};
    const i64 left = {s(g.places[0])} - row, tall = left < {g.rows} ? left : {g.rows};
    {self._samples_text()}
    {self._image_text()}
    const i64 end = part * {per_part} + {per_part};
    for (i64 panel = part * {per_part}; panel < end && panel < {panels}; panel++) {{
      const i64 o = panel * {BLOCKS};
      const i64 wide = {g.out_blocks} - o < {BLOCKS} ? 1 : {BLOCKS};
      const i64 i1_0 = group * {g.out_blocks} + o;  // the first of its blocks
      const {self.type} *const w = {names[self.packed]} + i1_0 * {steps * g.lanes};
{tiles}
    }}
  }}"""

    def _ending(self) -> Ending | None:
        """What follows, where one tile after the other is done with all that its sums are of."""
        g = self.geometry
        if g.together > 1 or not g.counts() or g.chunk(min(BLOCKS, g.out_blocks)) < g.taps:
            return None
        return ending_of(self.epilogue, self.sums, self.epilogue.counters[1], self.prelude)

    def _ended_text(self, ending: Ending) -> str:
        """Tiles of two heights, those of the larger one first."""
        g, s, names = self.geometry, self.sizes, self._names()
        lines = [
            "const i64 i1 = i1_0, i2 = row * " + s(product(g.places[1:])) + ";",
            "(void)i1, (void)i2;",
        ]
        for wide in g.wides():
            most = tallest(4 * g.lanes, wide, self.type)
            bases = [pair for j in range(wide) for pair in ending.bases(j)]
            pointers = [f"{names[b]} + {index_text(base, s, {})}" for b, base in bases]
            args = f"x, at, taps, {g.taps}, {g.run}, w, from, to, {', '.join(pointers)}"
            lines += [
                f"if (wide == {wide}) {{",
                f"  const i64 tiles = (places + {most - 1}) / {most}, low = places / tiles;",
                "  i64 from = 0, to = (places - low * tiles) * (low + 1);",
                "  for (i64 high = low + 1; high >= low; high--, from = to, to = places)",
                "    switch (high) {",
            ]
            for high in sorted({h for n in g.counts() for h in cuts(n, most)}):
                name = ending.tiles_function(high, wide, g.unroll)
                lines.append(f"      case {high}: {name}({args}); break;")
            lines += ["    }", "}"]
        return "\n".join(" " * 6 + line for line in lines)

    def _strips_text(self) -> str:
        """Strips of places, whose sums are stored and then read by the epilogue."""
        g = self.geometry
        return f"""\
      {self.type} *const sums = {self._names()[self.sums]};
      for (i64 p = 0; p < places; p += {g.strip}) {{
        const i64 rows = places - p < {g.strip} ? places - p : {g.strip};
{self._strip_text()}
        for (i64 j = 0; j < wide; j++) {{
          const i64 i1 = i1_0 + j;
          {self._finish_text()}
        }}
      }}"""

    def _samples_text(self) -> str:
        """Which samples a task computes, and how many places they have."""
        g, s = self.geometry, self.sizes
        each = f"tall * {s(product(g.places[1:]))}"
        if g.together == 1:
            return f"const i64 i0 = image / {g.op.groups}, places = {each};"
        n = s(g.x.shape[0])
        return "\n    ".join(
            [
                f"const i64 i0_0 = image / {g.op.groups} * {g.together};",
                f"const i64 samples = {n} - i0_0 < {g.together} ? {n} - i0_0 : {g.together};",
                f"const i64 each = {each}, places = samples * each;",
            ]
        )

    def _finish_text(self) -> str:
        """What is done with the sums of a strip, of each sample in it."""
        g, s = self.geometry, self.sizes
        if g.together == 1:
            place = f"const i64 i2 = row * {s(product(g.places[1:]))} + p;\n          "
            return place + self._epilogue_call(f"sums + j * {g.strip * g.lanes}")
        call = self._epilogue_call(f"sums + j * {g.strip * g.lanes} + (q - p) * {g.lanes}")
        return f"""\
for (i64 q = p, next, end = p + rows; q < end; q = next) {{
            const i64 i0 = i0_0 + q / each, i2 = q % each;
            next = q - i2 + each < end ? q - i2 + each : end;
            const i64 rows = next - q;
            {call}
          }}"""

    def _taps_text(self) -> str:
        """The table of taps: where each is from the place."""
        g, s = self.geometry, self.sizes
        channel, *steps = g.steps
        loops = [("c", g.in_blocks, channel)]
        loops += [
            (f"k{d}", k, step * g.op.dilation[d])
            for d, (k, step) in enumerate(zip(g.window, steps, strict=True))
        ]
        if g.merged:
            loops.pop()
        lines = [f"  i64 taps[{g.taps}], *tap = taps;"]
        lines += [f"  for (i64 {n} = 0; {n} < {count}; {n}++)" for n, count, _ in loops]
        at = " + ".join(f"{n} * {s(step)}" for n, count, step in loops if count > 1) or "0"
        lines.append(f"    *tap++ = {at};")
        return "\n".join(lines)

    def _image_text(self) -> str:
        """What is done once for a block of rows: the copy, and the table of places."""
        g, s, names = self.geometry, self.sizes, self._names()
        x, steps = names[self.x], g.steps[1:]
        group = f"group * {s(g.in_blocks * g.memory_steps[0])}" if g.op.groups > 1 else "0"
        x = f"(const i32 *){x}" if g.words else x
        size = s(g.sample)
        image = f"{x} + {'i0' if g.together == 1 else 'i0_0'} * {size} + {group}"
        lines = []
        if g.copies:
            lines.append(f"const {self.type} *const x = {names[self.copied]};")
        else:
            origin = f"row * {s(g.op.stride[0] * g.memory_steps[1])}"
            lines.append(f"const {self.type} *const x = {image} + {origin};")
        lines.append("if (whole != held) {")
        lines.append("  held = whole;")
        if g.copies:
            if g.together > 1:
                lines.append("  for (i64 sample = 0; sample < samples; sample++)")
                image += f" + sample * {size}"
            lines += ["  " + line for line in self._copy_text(image)]
        lines.append("  i64 *place = at;")
        if g.together > 1:
            lines.append("  for (i64 sample = 0; sample < samples; sample++)")
        for d in range(len(g.places)):
            n = "tall" if d == 0 else s(g.places[d])
            lines.append(f"  for (i64 p{d} = 0; p{d} < {n}; p{d}++)")
        terms = [f"p{d} * {s(g.op.stride[d] * step)}" for d, step in enumerate(steps)]
        if g.together > 1:
            terms.append(f"sample * {s(g.copied) if g.copies else size}")
        lines.append(f"    *place++ = {' + '.join(terms)};")
        lines.append("}")
        return "\n    ".join(lines)

    def _copy_text(self, image: str) -> list[str]:
        """The call that copies the part of the image, with a border of zeros."""
        g, s, names = self.geometry, self.sizes, self._names()
        rank = len(g.places)
        first = f"row * {g.op.stride[0]} - {s(g.op.padding[0][0])}"
        rows = f"(tall - 1) * {g.op.stride[0]} + {g.reach[0]}"
        sizes = [(s(g.image[0]), first, rows)]
        for d in range(1, rank):
            sizes.append((s(g.image[d]), s(-g.op.padding[d][0]), s(g.copy_sizes[d])))
        sizes = [("1", "0", "1")] * (3 - rank) + sizes
        function = copy_function(self.prelude, g.op.plain, g.in_lanes, self.type)
        args = [image, s(g.memory_steps[0]), str(g.in_blocks)]
        args += [v for size in sizes for v in size]
        to = names[self.copied]
        args += [s(g.steps[0]), to if g.together == 1 else f"{to} + sample * {s(g.copied)}"]
        return [f"{function}({', '.join(args)});"]

    def _strip_text(self) -> str:
        """The tiles of a strip of places, over chunks of the taps whose weights stay in L1."""
        g, lanes = self.geometry, self.geometry.lanes
        lines: list[str] = []
        wides = g.wides()
        for wide in wides:
            chunk = g.chunk(wide)
            chunk = blocks(g.taps, blocks(g.taps, chunk))
            count = f"{g.taps} - t < {chunk} ? {g.taps} - t : {chunk}" if g.taps > chunk else chunk
            args = f"x, at + p + q, taps + t, {count}, {g.run}, w + t * {g.run * wide * lanes}, "
            args += f"t, sums + q * {lanes}, {g.strip * lanes}"
            lines.append(f"if (wide == {wide}) {{" if len(wides) > 1 else "{")
            lines.append(f"  for (i64 t = 0; t < {g.taps}; t += {chunk})")
            tiles = self._tiles_text(wide, g.unroll, "rows", g.strips(), args)
            lines += ["    " + line for line in tiles]
            lines.append("}")
        return "\n".join(" " * 8 + line for line in lines)

    # -- weights ----------------------------------------------------------------------------------

    def _pack_call(self, w: str, first: str, last: str, to: str) -> str:
        g = self.geometry
        name = _pack_function(self.prelude, g.lanes, self.type)
        ins = g.w.shape[1]
        window = g.taps * g.run // (g.in_blocks * g.in_lanes)
        args = f"{g.outs}, {ins}, {g.in_lanes}, {window}"
        return f"{name}({self._weight_args(w)}, {first}, {last}, {args}, {to});"

    def _panels(self) -> int:
        g = self.geometry
        return g.op.groups * blocks(g.out_blocks, BLOCKS)


class Geometry:
    """Sizes of a blocked convolution, and how it is cut up.

    Where a window is a single element that moves over all elements, space is taken as one axis.
    `steps`: of a block of channels and of each spatial axis in the memory that tiles read;
    `memory_steps`: in that of the image. `taps` are offsets at which `run` elements are adjacent.
    """

    def __init__(self, step: Step) -> None:
        node = step.nodes[0]
        op = node.op
        assert isinstance(op, BlockedConv)
        self.x: Value = node.inputs[0]
        self.w: Value = node.inputs[1]
        self.op, self.lanes = op, op.lanes
        self.words = self.x.dtype is int16  # two channels make an element
        *rest, last = self.x.shape[1:]
        self.sample = product((*rest, last // 2 if self.words else last))
        image, places = op.sizes(self.x.shape), node.output.shape[2:-1]
        assert all(isinstance(k, int) for k in self.w.shape)
        window = tuple(map(int, self.w.shape[2:]))
        bordered = op.plain or any(v != 0 for pair in op.padding for v in pair)
        if all(k == 1 for k in window) and all(s == 1 for s in op.stride) and not bordered:
            image, window, places = (product(image),), (1,), (product(places),)
            self.op = op = replace(op, stride=(1,), padding=((0, 0),), dilation=(1,))
        else:
            op, image, window, places = _squeezed(op, image, window, places)
            self.op = op
        self.image, self.window, self.places = image, window, places
        self.outs: int = self.w.shape[0] // op.groups  # type: ignore[assignment]
        self.out_blocks = blocks(self.outs, self.lanes)
        self.in_lanes = op.channels if op.plain else int(self.x.shape[-1]) // (1 + self.words)
        self.in_blocks = 1 if op.plain else blocks(int(self.w.shape[1]), self.in_lanes)
        self.reach = [(k - 1) * d + 1 for k, d in zip(self.window, op.dilation, strict=True)]
        self.copy_sizes: list[DimLike] = [
            (p - 1) * s + r for p, s, r in zip(places, op.stride, self.reach, strict=True)
        ]
        self.rows = self._rows()
        self.copy_sizes[0] = (self.rows - 1) * op.stride[0] + self.reach[0]
        self.memory_steps = row_major((self.in_blocks, *image, self.in_lanes))[:-1]
        if op.plain:
            self.memory_steps = row_major((self.in_lanes, *image))
        self.copies = bordered or self._is_aliased()
        channel = product((*self.copy_sizes, self.in_lanes))
        if isinstance(channel, int) and channel % _PAGE == 0:
            channel += _LINES
        self.copied = self.in_blocks * channel
        self.steps = self.memory_steps
        if self.copies:
            self.steps = (channel, *row_major((*self.copy_sizes, self.in_lanes))[:-1])
        self.merged = op.dilation[-1] == 1 and (
            self.steps[-1] == self.in_lanes or self.window[-1] == 1
        )
        all_taps = self.in_blocks * int(product(self.window))
        last = self.window[-1] if self.merged else 1
        self.taps, self.run = all_taps // last, last * self.in_lanes
        self.blocks_of_rows = (places[0] + (self.rows - 1)) // self.rows
        self.parts = self._parts()
        self.together = self._together()
        self.strip = self._strip()
        self.unroll = next(u for u in (9, 8, 7, 6, 5, 4, 3, 2, 1) if self.run % u == 0)

    def _is_aliased(self) -> bool:
        """Whether blocks of channels are so far apart that they compete for few places in cache."""
        channel = self.memory_steps[0]
        apart = _PAGE if product(self.window) != 1 else 16 * _PAGE
        return isinstance(channel, int) and channel % apart == 0 and self.in_blocks > _WAYS

    def _rows(self) -> int:
        """Rows in a block: all, where the panels alone are tasks enough, so that weights are read
        once, or as many as leave room beside them in a cache."""
        known = [d if isinstance(d, int) else _UNKNOWN for d in self.copy_sizes[1:]]
        row = 4 * self.in_blocks * self.in_lanes * max(1, int(product(tuple(known))))
        stride, reach, n = self.op.stride[0], self.reach[0], self.places[0]
        most = max(1, (_IMAGE // row - reach) // stride + 1)
        if not isinstance(n, int):
            return min(most, _UNKNOWN)
        tasks = self.op.groups * blocks(self.out_blocks, BLOCKS)
        if tasks >= TASKS and row * ((n - 1) * stride + reach) <= _IMAGES:
            return max(1, n)
        return blocks(max(1, n), blocks(max(1, n), most))

    def _parts(self) -> int:
        """Into how many tasks the panels of one block of rows are cut: there should be some."""
        panels = blocks(self.out_blocks, BLOCKS)
        n = self.blocks_of_rows
        tasks = self.op.groups * (n if isinstance(n, int) else 1)
        parts = min(panels, blocks(TASKS, max(1, tasks)))
        return blocks(panels, blocks(panels, parts))

    def _together(self) -> int:
        """How many samples a task takes together: several where they have few places."""
        each = product(self.places)
        size = self.copied if self.copies else self.sample
        if not isinstance(each, int) or not isinstance(size, int) or self.blocks_of_rows != 1:
            return 1
        n = self.x.shape[0]
        most = min(_STRIP // max(1, each), _IMAGES // (4 * max(1, size)))
        return max(1, min(most, n) if isinstance(n, int) else most)

    def _strip(self) -> int:
        """Places in a strip: strips of about the same length, made of whole tiles."""
        n = product((self.together, self.rows, *self.places[1:]))
        if not isinstance(n, int):
            return _STRIP
        most = tallest(4 * self.lanes, min(BLOCKS, self.out_blocks), "i32" if self.words else "f32")
        return blocks(blocks(max(1, n), blocks(max(1, n), _STRIP)), most) * most

    def wides(self) -> list[int]:
        """How many blocks of channels panels have."""
        return sorted({min(BLOCKS, b) for b in (self.out_blocks, self.out_blocks % BLOCKS) if b})

    def chunk(self, wide: int) -> int:
        """Taps whose weights for so many blocks of channels stay in L1."""
        return max(1, _WEIGHTS // (4 * self.run * wide * self.lanes))

    def counts(self) -> set[int]:
        """How many places tasks have; none where that is not known."""
        n = product(self.places)
        if not isinstance(n, int) or not isinstance(self.places[0], int) or n == 0:
            return set()
        rest = n // self.places[0]
        counts = {rest * rows for rows in (self.rows, self.places[0] % self.rows) if rows}
        if self.together > 1:
            samples, some = self.x.shape[0], list(range(1, self.together + 1))
            if isinstance(samples, int):
                some = [k for k in (self.together, samples % self.together) if k]
            counts = {n * k for k in some}
        return counts

    def strips(self) -> list[int]:
        """How many places strips have; none where that is not known."""
        return sorted(
            {
                strip
                for n in self.counts()
                for strip in (min(n, self.strip), n % self.strip)
                if strip
            }
        )


def _squeezed(
    op: BlockedConv, image: Shape, window: tuple[int, ...], places: Shape
) -> tuple[BlockedConv, Shape, tuple[int, ...], Shape]:
    """Without the axes of space along which nothing moves, one of them left at least."""
    moving = [
        d
        for d, pair in enumerate(op.padding)
        if not (image[d] == 1 and window[d] == 1 and pair == (0, 0))
    ] or [0]

    def some(values: tuple[Any, ...]) -> tuple[Any, ...]:
        return tuple(values[d] for d in moving)

    stride, padding, dilation = some(op.stride), some(op.padding), some(op.dilation)
    op = replace(op, stride=stride, padding=padding, dilation=dilation)
    return op, some(image), some(window), some(places)


# -- helpers in C ---------------------------------------------------------------------------------


def _pack_function(prelude: Prelude, lanes: int, t: str) -> str:
    """Weights [group][out][in][window] as [group][panel][block][window][lane in][lane out]."""
    name = f"pack_direct_{lanes}_{t}"
    whole = " ".join(f"at[{j}] = x[{j} * out];" for j in range(BLOCKS * lanes))
    text = f"""
static void {name}(const {t} *w, i64 out, i64 in, const i64 *taps, i64 first, i64 last, i64 outs,
                   i64 ins, i64 lanes, i64 window, {t} *to) {{
  const i64 blocks = (outs + {lanes - 1}) / {lanes}, panels = (blocks + {BLOCKS - 1}) / {BLOCKS};
  const i64 steps = (ins + lanes - 1) / lanes * lanes * window;
  for (i64 p = first; p < last; p++) {{
    const i64 o = p % panels * {BLOCKS * lanes}, left = blocks * {lanes} - o;
    const i64 wide = left < {BLOCKS * lanes} ? left : {BLOCKS * lanes};
    const {t} *from = w + (p / panels * outs + o) * out;
    {t} *at = to + (p / panels * blocks * {lanes} + o) * steps;
    for (i64 c = 0; c < ins; c += lanes)
      for (i64 k = 0; k < window; k++)
        for (i64 i = c; i < c + lanes; i++) {{
          const {t} *const x = from + i * in + taps[k];
          if (i < ins && o + {BLOCKS * lanes} <= outs) {{
            {whole}
            at += {BLOCKS * lanes};
            continue;
          }}
          for (i64 j = 0; j < wide; j++) *at++ = i < ins && o + j < outs ? x[j * out] : 0;
        }}
  }}
}}"""
    return prelude.once(name, text)
