"""Convolution with a window of 3x3 by Winograd's algorithm F(4x4, 3x3).

A. Lavin, S. Gray, "Fast algorithms for convolutional neural networks" (2016), sections 3 and 4. A
tile of 4x4 places is A' ((G g G') * (B' d B)) A for a window g and the 6x6 elements d that it
reads: 36 products for each pair of channels instead of 144. The 36 positions are 36 matrix products
of tiles by channels, done by the tiles of `places`.

A task is a few rows of tiles of a sample, or several samples with few tiles. For each block of
channels the part of the image is copied with its border, and spread to V[position][tile][channel];
then for each panel of output channels the products are M[block][position][tile][lane], gathered to
rows of the result.
"""

from __future__ import annotations

from collections.abc import Mapping

from ...dims import product
from ...dtypes import int16
from ..blocked import BlockedConv, blocks
from ..fuse import Step
from ..loops import Buffer
from ..lower.library import Phase
from ..schedule import Context
from .conv_blocked import TASKS, BlockedRoutine, copy_function
from .places import BLOCKS
from .prelude import Prelude
from .types import memory

_SPREAD = 256 * 1024
_FEWEST = 16
_LEAST_CHANNELS, _LEAST_SIZE = 16, 4  # below them the direct way is as fast
_FEW = 9  # tiles; with fewer, weights are read for too little
_SMALL = 64 * 64  # pairs of channels whose weights stay in cache
_SHARED = 16  # tiles that pay for weights that are spread at each call


def pays(step: Step) -> bool:
    """Whether a convolution can be done this way, and is faster so."""
    node = step.nodes[0]
    op = node.op
    assert isinstance(op, BlockedConv)
    x, w = node.inputs
    if op.plain or op.groups > 1 or w.shape[2:] != (3, 3):
        return False
    if op.stride != (1, 1) or op.dilation != (1, 1):
        return False
    sizes = (*x.shape[2:-1], *node.output.shape[2:-1])
    if not all(isinstance(d, int) and d >= _LEAST_SIZE for d in sizes):
        return False
    outs, ins = map(int, w.shape[:2])
    tiles = product(tuple(blocks(int(p), 4) for p in node.output.shape[2:-1]))
    if not isinstance(tiles, int) or min(outs, ins) < _LEAST_CHANNELS:
        return False
    samples = x.shape[0] if isinstance(x.shape[0], int) else 1
    if not w.is_constant and samples * tiles < _SHARED:
        return False
    return samples * tiles >= _FEW or outs * ins <= _SMALL


class WinogradConv(BlockedRoutine):
    """The routine of such a convolution and its epilogue.

    Tiles have `size` by `size` places and as many products as elements that they read.
    """

    size = 4

    def __init__(
        self, step: Step, context: Context, prelude: Prelude, symbols: Mapping[str, int]
    ) -> None:
        node = step.nodes[0]
        op = node.op
        assert isinstance(op, BlockedConv)
        lanes = op.lanes
        x, w = node.inputs
        self.reach = self.size + 2
        self.positions = self.reach**2
        self.type = memory(w.dtype)
        self.in_lanes = lanes // (2 if x.dtype is int16 else 1)  # elements, which words are, too
        self.samples = x.shape[0]
        self.image = tuple(map(int, x.shape[2:-1]))
        self.places = tuple(map(int, node.output.shape[2:-1]))
        self.before = tuple(int(lo) for lo, _ in op.padding)
        self.outs, self.ins = int(w.shape[0]), int(w.shape[1])
        self.in_blocks = blocks(self.ins, self.in_lanes)
        self.out_blocks = blocks(self.outs, lanes)
        self.channels = self.in_blocks * self.in_lanes
        self.down, self.across = (blocks(p, self.size) for p in self.places)  # tiles
        self.rows = self._rows()
        self.together = self._together()
        self.tiles = self.together * self.rows * self.across
        self.width = self.size * self.across + 2
        # A line more than tiles have, or positions of a tile would share a few lines of a cache.
        self.plane = self.tiles * self.channels + 16
        dtype, count = w.dtype, self.positions
        part = (self.size * self.rows + 2) * self.width * self.in_lanes
        self.copied = Buffer(dtype, part, "a part of the image")
        self.spread = Buffer(dtype, count * self.plane, "the image, spread")
        self.products = Buffer(dtype, BLOCKS * count * self.tiles * lanes, "products")
        # A row's last tile may go over its end, into the next row or behind the last.
        some = self.size * (self.places[1] + 1) * lanes
        sums = Buffer(dtype, some, "rows of the result")
        # One more than channels, or positions of a channel would share a few lines of a cache.
        self.pitch = self.channels + 1
        self.panel = BLOCKS * count * self.pitch * lanes
        groups = (self.samples + (self.together - 1)) // self.together
        # Weights that change are packed where they are read, if only one task reads them.
        inside = not w.is_constant and groups == 1 and self.blocks_of_rows == 1
        weights = self.panel if inside else count * self.pitch * self.out_blocks * lanes
        own = [self.copied, self.spread, self.products]
        self._set_up(step, context, prelude, symbols, weights, sums, own, inside)
        each = count * self.down * self.across * self.channels * self.out_blocks * 250
        tasks = groups * self.blocks_of_rows * self.parts
        self.phases = self._with_packing(Phase("", tasks, self.samples * each))

    def _rows(self) -> int:
        """Rows of tiles in a task."""
        row = self.positions * self.across * self.channels * 4
        most = max(_SPREAD // row, blocks(_FEWEST, self.across))
        return blocks(self.down, blocks(self.down, most))

    def _together(self) -> int:
        """How many samples a task takes together, so that weights are read for enough tiles."""
        if self.rows < self.down:
            return 1
        most = blocks(_FEWEST, self.down * self.across)
        return min(most, max(1, self.samples)) if isinstance(self.samples, int) else most

    @property
    def blocks_of_rows(self) -> int:
        return blocks(self.down, self.rows)

    @property
    def parts(self) -> int:
        """Where there are few tasks the panels are shared out, though threads then spread again."""
        panels = self._panels()
        parts = min(panels, blocks(TASKS, self.blocks_of_rows))
        return blocks(panels, blocks(panels, parts))

    def _panels(self) -> int:
        return blocks(self.out_blocks, BLOCKS)

    def _driver(self) -> str:
        names, lanes, t, size = self._names(), self.lanes, self.type, self.size
        per_part = blocks(self._panels(), self.parts)
        height, width = self.image
        block = height * width * self.in_lanes
        image = self.in_blocks * block
        plane = self.tiles * lanes  # of the products of a position
        copy = copy_function(self.prelude, False, self.in_lanes, t)
        spread, gather = self._transforms()
        samples = self.sizes(self.samples)
        panel_text = f"const {t} *const panels = {names[self.packed]} + panel * {self.panel};"
        if self.inside:
            pack = self._pack_call(names[self.w], "panel", "panel + 1", names[self.packed])
            panel_text = f"{pack}\n      const {t} *const panels = {names[self.packed]};"
        return f"""\
  {t} *const copied = {names[self.copied]}, *const v = {names[self.spread]};
  {t} *const products = {names[self.products]}, *const sums = {names[self.sums]};
  i64 at[{self.tiles}], tap = 0, held = -1;
  for (i64 t = 0; t < {self.tiles}; t++) at[t] = t * {self.channels};
  for (i64 task = first; task < last; task++) {{
    const i64 whole = task / {self.parts}, part = task % {self.parts};
    const i64 i0_0 = whole / {self.blocks_of_rows} * {self.together};
    const i64 row = whole % {self.blocks_of_rows} * {self.rows};
    const i64 high_rows = {self.down} - row < {self.rows} ? {self.down} - row : {self.rows};
    const i64 left = {samples} - i0_0, some = left < {self.together} ? left : {self.together};
    const i64 each = high_rows * {self.across}, total = some * each;
    if (whole != held) {{
      held = whole;
      for (i64 n = 0; n < some; n++)
        for (i64 c = 0; c < {self.in_blocks}; c++) {{
          {copy}((const {t} *){names[self.x]} + (i0_0 + n) * {image} + c * {block},
            0, 1, 1, 0, 1, {height}, row * {size} - {self.before[0]}, high_rows * {size} + 2,
            {width}, {-self.before[1]}, {self.width}, 0, copied);
          for (i64 t = 0; t < each; t++) {{
            const i64 down = t / {self.across}, across = t % {self.across};
            {spread}(copied + (down * {self.width} + across) * {size * self.in_lanes},
              {self.width * self.in_lanes},
              v + (n * each + t) * {self.channels} + c * {self.in_lanes}, {self.plane});
          }}
        }}
    }}
    const i64 end = part * {per_part} + {per_part};
    for (i64 panel = part * {per_part}; panel < end && panel < {self._panels()}; panel++) {{
      const i64 o = panel * {BLOCKS}, wide = {self.out_blocks} - o < {BLOCKS} ? 1 : {BLOCKS};
      {panel_text}
      for (i64 p = 0; p < {self.positions}; p++) {{
        const {t} *const w = panels + p * wide * {self.pitch * lanes};
        const {t} *const x = v + p * {self.plane};
{self._products_text(plane)}
      }}
      for (i64 j = 0; j < wide; j++)
        for (i64 r = 0; r < some * high_rows; r++) {{
          for (i64 t = {self.across - 1}; t >= 0; t--)  // what is over an end is written over
            {gather}(products + j * {self.positions * plane} + (r * {self.across} + t) * {lanes},
              {plane}, sums + t * {size * lanes}, {self.places[1] * lanes});
          const i64 i0 = i0_0 + r / high_rows, i1 = o + j;
          const i64 i2 = (row + r % high_rows) * {size * self.places[1]};
          const i64 left = {self.places[0] * self.places[1]} - i2;
          const i64 rows = left < {size * self.places[1]} ? left : {size * self.places[1]};
          {self._epilogue_call("sums")}
        }}
    }}
  }}"""

    def _products_text(self, plane: int) -> str:
        lanes, lines = self.lanes, []
        some = list(range(1, self.together + 1))
        if isinstance(self.samples, int):
            some = [self.together, self.samples % self.together]
        known = {
            n * rows * self.across for rows in (self.rows, self.down % self.rows) for n in some
        } - {0}
        for wide in sorted(
            {min(BLOCKS, b) for b in (self.out_blocks, self.out_blocks % BLOCKS) if b}
        ):
            to = f"products + p * {plane} + q * {lanes}"
            args = f"x, at + q, &tap, 1, {self.channels}, w, 0, {to}, {self.positions * plane}"
            lines.append(f"if (wide == {wide}) {{")
            unroll = 4 if self.channels % 4 == 0 else 2
            tiles = self._tiles_text(wide, unroll, "total", sorted(known), args)
            lines += ["  " + line for line in tiles]
            lines.append("}")
        return "\n".join(" " * 8 + line for line in lines)

    def _transforms(self) -> tuple[str, str]:
        """The functions that spread the elements of a tile and gather its places."""
        return _spread_function(self.prelude), _gather_function(self.prelude)

    def _packer(self) -> str:
        """The function that spreads weights and packs them in panels."""
        return _pack_function(self.prelude)

    def _pack_call(self, w: str, first: str, last: str, to: str) -> str:
        name = self._packer()
        weights = self._weight_args(w)
        to = to if self.inside else f"{to} + {first} * {self.panel}"
        return f"{name}({weights}, {first}, {last}, {self.outs}, {self.ins}, {to});"


# -- helpers in C ---------------------------------------------------------------------------------

# B', A' and G of the paper for the points 0, 1, -1, 2, -2 and infinity; B' and A' with what their
# rows have in common computed once.
_SPREAD_LINES = """\
    const V a = FMA(d2, SPLAT(-4.0f), d4), b = FMA(d1, SPLAT(-4.0f), d3);
    const V c = d4 - d2, e = (d3 - d1) * SPLAT(2.0f);
    const V y0 = FMA(d0, SPLAT(4.0f), FMA(d2, SPLAT(-5.0f), d4));
    const V y1 = a + b, y2 = a - b, y3 = c + e, y4 = c - e;
    const V y5 = FMA(d1, SPLAT(4.0f), FMA(d3, SPLAT(-5.0f), d5));"""
_GATHER_LINES = """\
    const V a = d1 + d2, b = d1 - d2, c = d3 + d4, e = d3 - d4;
    const V y0 = d0 + a + c, y1 = FMA(e, SPLAT(2.0f), b), y2 = FMA(c, SPLAT(4.0f), a);
    const V y3 = FMA(e, SPLAT(8.0f), b) + d5;"""


def _transform(prelude: Prelude, name: str, text: str) -> str:
    lanes = prelude.vector_bytes // 4
    v = prelude.vector("f32", lanes)
    for old, new in (
        ("FMA", prelude.fused_multiply_add(lanes)),
        ("SPLAT", prelude.splat("f32", lanes)),
        ("LOAD", prelude.load("f32", lanes)),
        ("STORE", prelude.store("f32", lanes)),
        ("(V)", f"({v})"),
        ("V ", f"{v} "),
        ("LANES", str(lanes)),
    ):
        text = text.replace(old, new)
    return prelude.once(f"{name}_{v}", text.replace("NAME", f"{name}_{v}"))


def _lines(count: int, line: str) -> str:
    return "\n".join(line.replace("#", str(i)) for i in range(count))


def _spread_function(prelude: Prelude) -> str:
    """B' d B of 6x6 vectors, `step` from row to row; position p goes to p * plane."""
    text = f"""
static void NAME(const f32 *d, i64 step, f32 *to, i64 plane) {{
  V m[6][6];
  for (int i = 0; i < 6; i++) {{
{_lines(6, "    const V d# = LOAD(d + # * step + i * LANES);")}
{_SPREAD_LINES}
{_lines(6, "    m[#][i] = y#;")}
  }}
  for (int i = 0; i < 6; i++) {{
{_lines(6, "    const V d# = m[i][#];")}
{_SPREAD_LINES}
{_lines(6, "    STORE(to + (i * 6 + #) * plane, y#);")}
  }}
}}"""
    return _transform(prelude, "winograd_spread", text)


def _gather_function(prelude: Prelude) -> str:
    """A' m A of the 36 products of a tile, `plane` apart: 4 rows of 4 places, `step` apart."""
    text = f"""
static void NAME(const f32 *m, i64 plane, f32 *to, i64 step) {{
  V n[4][6];
  for (int i = 0; i < 6; i++) {{
{_lines(6, "    const V d# = LOAD(m + (# * 6 + i) * plane);")}
{_GATHER_LINES}
{_lines(4, "    n[#][i] = y#;")}
  }}
  for (int i = 0; i < 4; i++) {{
{_lines(6, "    const V d# = n[i][#];")}
{_GATHER_LINES}
{_lines(4, "    STORE(to + i * step + # * LANES, y#);")}
  }}
}}"""
    return _transform(prelude, "winograd_gather", text)


_PACK_LINES = """\
    const V a = (d0 + d2) * SPLAT(-1.0f / 6), b = d1 * SPLAT(1.0f / 6);
    const V c = FMA(d0, SPLAT(1.0f / 24), d2 * SPLAT(1.0f / 6)), e = d1 * SPLAT(1.0f / 12);
    const V y0 = d0 * SPLAT(0.25f), y1 = a - b, y2 = a + b, y3 = c + e, y4 = c - e, y5 = d2;"""


def _pack_function(prelude: Prelude) -> str:
    """Weights [out][in][3][3] as G g G': [panel][position][in][lane out]."""
    lanes = prelude.vector_bytes // 4
    whole = ", ".join(f"x[{j} * out]" for j in range(lanes))
    text = f"""
static void NAME(const f32 *w, i64 out, i64 in, const i64 *taps, i64 first, i64 last, i64 outs,
                 i64 ins, f32 *to) {{
  const i64 blocks = (outs + LANES - 1) / LANES, channels = (ins + LANES - 1) / LANES * LANES;
  for (i64 p = first; p < last; p++) {{
    const i64 o = p * {BLOCKS} * LANES, left = blocks * LANES - o;
    const i64 wide = left < {BLOCKS} * LANES ? left : {BLOCKS} * LANES;
    f32 *at = to + (p - first) * ({BLOCKS * 36} * LANES) * (channels + 1);
    for (i64 s = 0; s < channels; s++)
      for (i64 j = 0; j < wide; j += LANES) {{
        const i64 some = s >= ins ? 0 : outs - o - j < LANES ? outs - o - j : LANES;
        V k[9], m[6][3];
        for (int n = 0; n < 9; n++) {{
          const f32 *x = w + (o + j) * out + s * in + taps[n];
          if (some == LANES) {{
            k[n] = (V){{{whole}}};
            continue;
          }}
          f32 part[LANES] = {{0}};
          for (i64 l = 0; l < some; l++) part[l] = x[l * out];
          k[n] = LOAD(part);
        }}
        for (int i = 0; i < 3; i++) {{
{_lines(3, "    const V d# = k[# * 3 + i];")}
{_PACK_LINES}
{_lines(6, "    m[#][i] = y#;")}
        }}
        for (int i = 0; i < 6; i++) {{
{_lines(3, "    const V d# = m[i][#];")}
{_PACK_LINES}
{_lines(6, "    STORE(at + ((i * 6 + #) * (channels + 1) + s) * wide + j, y#);")}
        }}
      }}
  }}
}}"""
    return _transform(prelude, "pack_winograd", text)
