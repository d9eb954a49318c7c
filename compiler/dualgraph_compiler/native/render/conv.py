"""Convolutions: matrix products of the weight with windows of the image, never all stored.

For each sample and group, C[o, p] is the sum over channels and window of W[o, k] X[k, p]. The
columns of X, one for each place of the window, are gathered in panels of a tile's width, a block of
panels that stays in cache; the weight is read where it is. See `tile` for the inner kernel. A task
is one such block of one group and sample.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...dims import DimLike, product
from ..fuse import Step
from ..index import Axis, Index, of_axis, row_major, unflatten
from ..loops import Buffer, Load
from ..lower.library import Pack, Phase
from ..schedule import Context, Epilogue
from .kernel import KernelText
from .prelude import Prelude
from .signature import declared, sizes_used
from .tile import heights, tile_function, tile_shape
from .types import Sizes, index_text

_PANELS = 192 * 1024  # bytes of gathered windows that should stay in L2


class Conv:
    """The routine of a convolution and its epilogue. See `lower.library.Routine`."""

    checked = False

    def __init__(
        self, step: Step, context: Context, prelude: Prelude, symbols: Mapping[str, int]
    ) -> None:
        self.prelude = prelude
        self.tallest, vectors = tile_shape(prelude.vector_bytes)
        self.width = vectors * prelude.vector_bytes // 4
        self.sizes = Sizes(symbols)
        node = step.nodes[0]
        op: Any = node.op
        self.op = op
        x, w, out = node.inputs[0], node.inputs[1], node.output
        self.image, self.window, self.places = x.shape[2:], w.shape[2:], out.shape[2:]
        self.channels, self.rows = w.shape[1], out.shape[1] // op.groups
        self.k = product(w.shape[1:])
        self.sample, self.group = Axis(0, out.shape[0]), Axis(1, op.groups)
        self.x, self.strides = self._view(x, context)
        self.w = context.buffer(w)
        panels = self._panels()
        self.gathered = Buffer(x.dtype, self.k * (self.width * panels), "windows in panels")
        self.block = panels * self.width
        self.blocks = (product(self.places) + (self.block - 1)) // self.block
        self.tile = Buffer(out.dtype, self.tallest * self.width, "a tile")
        self.epilogue = ConvEpilogue(step, context, self)
        self.inner = KernelText(self.epilogue.kernel, prelude, symbols)
        others = [b for b in self.epilogue.kernel.reads if b is not self.tile]
        self.reads = tuple(dict.fromkeys((self.x.buffer, self.w, *others)))
        self.writes = self.epilogue.kernel.writes
        self.scratch: tuple[Buffer, ...] = ()
        self.own: tuple[Buffer, ...] = (self.gathered,)
        self.notes = self.epilogue.kernel.notes
        self.packs: tuple[Pack, ...] = ()
        self._gather = self._gather_text()
        self._driver()  # which finds out the sizes that the functions inside must be given
        self._body = self._driver()
        self.phases: tuple[Phase, ...] = (self._phase(),)

    def _phase(self) -> Phase:
        samples, n = self.sample.extent * self.op.groups, product(self.places)
        lanes = self.prelude.vector_bytes // 4
        cost = samples * n * self.k * (self.rows * 200 + 500) // lanes  # products and gathering
        return Phase("", samples * self.blocks, cost)

    def _view(self, x: Any, context: Context) -> tuple[Load, tuple[DimLike, ...]]:
        """The image in memory: where a sample's group begins, and strides of channel and space."""
        axes = [Axis(1000 + i, d) for i, d in enumerate(x.shape)]
        expr = context.reading(x, [of_axis(a) for a in axes])
        assert isinstance(expr, Load), f"{x!r} is not in memory"
        strides = [expr.at.stride(a) for a in axes]
        channel = _or_zero(strides[1])
        begin = Index((), expr.at.offset)
        begin += of_axis(self.sample) * _or_zero(strides[0])
        begin += of_axis(self.group) * (channel * self.channels)
        return Load(expr.buffer, begin, (), x.dtype), tuple(map(_or_zero, strides[1:]))

    def _panels(self) -> int:
        """Panels gathered at a time."""
        k = self.k if isinstance(self.k, int) else 512
        most = max(1, _PANELS // (4 * self.width * max(1, k)))
        n = product(self.places)
        return min(most, max(1, -(-n // self.width))) if isinstance(n, int) else min(most, 16)

    @property
    def arguments(self) -> tuple[str, ...]:
        """The symbolic sizes it takes."""
        return sizes_used(self.sizes, self.inner.sizes)

    # -- text -------------------------------------------------------------------------------------

    def text(self, name: str) -> str:
        """The epilogue, what gathers a panel, and the function that goes over the tiles."""
        names = self._names()
        parameters = declared(self, names)
        sizes = [f"i64 {n}" for n in self.arguments]
        extra = [*map(str, self.epilogue.counters), "rows", "columns"]
        body = self._body.replace("EPILOGUE", f"{name}_epilogue").replace(
            "GATHER", f"{name}_gather"
        )
        gather = ["const f32 *restrict x", "i64 p", "i64 columns", "f32 *restrict to", *sizes]
        return (
            f"{self.inner.text(f'{name}_epilogue', extra)}\n"
            f"static void {name}_gather({', '.join(gather)}) {{\n{self._gather}\n}}\n"
            f"static void {name}({', '.join([*parameters, *sizes, 'i64 first', 'i64 last'])}) {{\n"
            f"{body}\n}}"
        )

    def _names(self) -> dict[Buffer, str]:
        buffers = (*self.reads, *self.writes, *self.own)
        return {b: f"b{i}" for i, b in enumerate(buffers)}

    def _driver(self) -> str:
        s, names = self.sizes, self._names()
        n, k, rows = s(product(self.places)), s(self.k), s(self.rows)
        panels = names[self.gathered]
        weight = Index(((self.group, self.rows * self.k),))
        kernel = self.epilogue.kernel
        inner = {**names, self.tile: "tile"}
        args = [inner[b] for b in (*kernel.reads, *kernel.writes)]
        args += [a for a in self.inner.sizes.used if a not in ("rows", "columns")]
        args += [str(self.sample), str(self.group), "m", "p", "rows", "columns"]
        extra = "".join(f", {a}" for a in self.arguments)
        calls = [
            f"          case {h}: {tile_function(self.prelude, h, True)}"
            f"(w + m * {k}, {k}, 1, panel, {k}, tile); break;"
            for h in heights(self.rows, max(1, self.rows), self.tallest)
        ]
        w, block, blocks = self.width, self.block, s(self.blocks)
        return f"""\
  for (i64 task = first; task < last; task++) {{
    const i64 i0 = task / {blocks} / {s(self.group.extent)};
    const i64 i1 = task / {blocks} % {s(self.group.extent)};
    const f32 *x = {names[self.x.buffer]} + {index_text(self.x.at, s, {})};
    const f32 *w = {names[self.w]} + {index_text(weight, s, {}) if self.group.extent != 1 else "0"};
    const i64 begin = task % {blocks} * {block};
    const i64 end = begin + {block} < {n} ? begin + {block} : {n};
    for (i64 p = begin; p < end; p += {w})
      GATHER(x, p, end - p < {w} ? end - p : {w}, {panels} + (p - begin) * {k}{extra});
    for (i64 m = 0, rows; m < {rows}; m += rows) {{
      const i64 tiles = ({rows} - m + {self.tallest - 1}) / {self.tallest};
      rows = ({rows} - m + tiles - 1) / tiles;  // tiles of about the same height
      for (i64 p = begin; p < end; p += {w}) {{
        const i64 columns = end - p < {w} ? end - p : {w};
        const f32 *panel = {panels} + (p - begin) * {k};
        f32 tile[{self.tallest * w}];
        switch (rows) {{
{chr(10).join(calls)}
        }}
        EPILOGUE({", ".join(args)});
      }}
    }}
  }}"""

    def _gather_text(self) -> str:
        """The windows at places p, p + 1, ...: to[channel][window][place], zeros outside."""
        s, w, op = self.sizes, self.width, self.op
        rank = len(self.image)
        steps = [s(v) for v in self.strides]
        window_steps = row_major(self.window)
        lines = [f"  i64 at[{rank}][{w}];", f"  for (i64 j = 0; j < {w}; j++) {{"]
        lines.append("    i64 place = p + (j < columns ? j : 0);")
        for d in reversed(range(rank)):
            lo = s(-op.padding[d][0])
            lines.append(f"    at[{d}][j] = place % {s(self.places[d])} * {op.stride[d]} + {lo};")
            lines.append(f"    place /= {s(self.places[d])};")
        lines.append("  }")
        for d in range(rank):
            lines.append(f"  for (i64 k{d} = 0; k{d} < {s(self.window[d])}; k{d}++)")
        lines.append("  {")
        lines.append(f"    i64 from[{w}], whole = columns == {w};")
        lines.append(f"    for (i64 j = 0; j < {w}; j++) {{")
        inside, place = ["j < columns"], []
        for d in range(rank):
            lines.append(f"      const i64 c{d} = at[{d}][j] + k{d} * {op.dilation[d]};")
            inside.append(f"c{d} >= 0 && c{d} < {s(self.image[d])}")
            place.append(f"c{d} * {steps[1 + d]}")
        lines.append(f"      from[j] = {' && '.join(inside)} ? {' + '.join(place)} : -1;")
        lines.append("      whole &= from[j] >= 0 && from[j] == from[0] + j;")
        lines.append("    }")
        row = " + ".join(f"k{d} * {s(window_steps[d])}" for d in range(rank)) or "0"
        lines.append(f"    f32 *row = to + ({row}) * {w};")
        window = s(product(self.window))
        loop = f"    for (i64 c = 0; c < {s(self.channels)}; c++, row += {window} * {w})"
        lines.append("    if (whole) {")
        lines.append(f"  {loop} memcpy(row, x + c * {steps[0]} + from[0], {4 * w});")
        lines.append("    } else {")
        lines.append(f"  {loop}")
        lines.append(f"      for (i64 j = 0; j < {w}; j++)")
        lines.append(f"        row[j] = from[j] >= 0 ? x[c * {steps[0]} + from[j]] : 0;")
        lines.append("    }")
        lines.append("  }")
        return "\n".join(lines)


class ConvEpilogue(Epilogue):
    """The epilogue of a convolution: a tile is channels by places, the places in one row."""

    def __init__(self, step: Step, context: Context, conv: Conv) -> None:
        self._conv = conv
        super().__init__(step, context, conv.tile, conv.width, [conv.sample])

    def _first_axes(self, step: Step, lead: int) -> tuple[Axis, ...]:
        """The counters of the group, of the tile's first channel in it and of its first place."""
        conv = self._conv
        return conv.group, Axis(2, conv.rows), Axis(3, product(conv.places))

    def _coordinates(self, row: Index, column: Index) -> list[Index]:
        conv = self._conv
        channel = row + of_axis(conv.group) * conv.rows
        return [of_axis(conv.sample), channel, *unflatten(column, conv.places)]


def _or_zero(stride: DimLike | None) -> DimLike:
    """A stride; 0 where the axis has a single step."""
    return 0 if stride is None else stride
