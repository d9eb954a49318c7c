"""Convolution of bytes with a window of 3x3 by Winograd's algorithm F(2x2, 3x3), exactly.

As `conv_winograd`, with tiles of 2x2 places: 16 products for each pair of channels instead of 36.
For the points 0, 1, -1 and infinity the elements that are spread are sums of four of the image,
and, with G doubled, the weights whole numbers. Both fit int16, two of which make a word; products
are summed in int32, and four times the result is gathered from them. Nothing is rounded, and sums
that went beyond int32 on the way would come back.
"""

from __future__ import annotations

from typing import Any

from ...dims import product
from ...dtypes import int16
from ..blocked import BlockedConv, blocks
from ..fuse import Step
from .conv_winograd import WinogradConv
from .places import BLOCKS
from .prelude import Prelude

_FEWEST_CHANNELS = 16  # of image and result: below them spreading and gathering take too long
_SMALLEST = 4
_FEW = 9  # tiles; with fewer, weights, which are 16/9 of those of the direct way, are read for less
_MOST = 2**31 // (4 * 9 * 255 * 255)  # channels of which int32 holds four times any sum


def pays(step: Step) -> bool:
    """Whether a convolution can be done this way, and is faster so."""
    node = step.nodes[0]
    op = node.op
    assert isinstance(op, BlockedConv)
    x, w = node.inputs
    if x.dtype is not int16 or not w.is_constant or op.groups > 1 or w.shape[2:] != (3, 3):
        return False
    if op.stride != (1, 1) or op.dilation != (1, 1) or x.shape[-1] != op.lanes:
        return False
    sizes = (*x.shape[2:-1], *node.output.shape[2:-1])
    if not all(isinstance(d, int) and d >= _SMALLEST for d in sizes):
        return False
    tiles: Any = product(tuple(blocks(int(p), 2) for p in node.output.shape[2:-1]))
    outs = int(w.shape[0])
    return tiles >= _FEW and min(outs, op.channels) >= _FEWEST_CHANNELS and op.channels <= _MOST


class WordWinogradConv(WinogradConv):
    """The routine of such a convolution and its epilogue."""

    size = 2

    def _transforms(self) -> tuple[str, str]:
        return _spread_function(self.prelude), _gather_function(self.prelude)

    def _packer(self) -> str:
        return _pack_function(self.prelude)


# -- helpers in C ---------------------------------------------------------------------------------


def _spread_function(prelude: Prelude) -> str:
    """B' d B of 4x4 vectors of int16, `step` from row to row; position p goes to p * plane."""
    lanes = prelude.vector_bytes // 4  # int16, and twice the words
    v, load = prelude.vector("i16", lanes), prelude.load("i16", lanes)
    store = prelude.store("i16", lanes)
    name = f"winograd_spread_{v}"
    lines = [f"static void {name}(const i32 *d, i64 step, i32 *to, i64 plane) {{"]
    for i in range(4):
        for r in range(4):
            place = f"(const i16 *)(d + {r} * step + {i * lanes // 2})"
            lines.append(f"  const {v} d{r}_{i} = {load}({place});")
    for i in range(4):
        lines += _spread([f"d{r}_{i}" for r in range(4)], [f"m{r}_{i}" for r in range(4)], v)
    for r in range(4):
        lines += _spread([f"m{r}_{i}" for i in range(4)], [f"y{r}_{i}" for i in range(4)], v)
        lines += [f"  {store}((i16 *)(to + {4 * r + i} * plane), y{r}_{i});" for i in range(4)]
    return prelude.once(name, "\n".join([*lines, "}"]))


def _spread(d: list[str], y: list[str], v: str) -> list[str]:
    sums = (f"{d[0]} - {d[2]}", f"{d[1]} + {d[2]}", f"{d[2]} - {d[1]}", f"{d[1]} - {d[3]}")
    return [f"  const {v} {name} = {text};" for name, text in zip(y, sums, strict=True)]


def _gather_function(prelude: Prelude) -> str:
    """A' m A / 4 of the 16 products of a tile, `plane` apart: 2 rows of 2 places, `step` apart."""
    lanes = prelude.vector_bytes // 4
    v, load, store = (
        prelude.vector("i32", lanes),
        prelude.load("i32", lanes),
        prelude.store("i32", lanes),
    )
    name = f"winograd_gather_{v}"
    lines = [f"static void {name}(const i32 *m, i64 plane, i32 *to, i64 step) {{"]
    for i in range(4):
        for r in range(4):
            lines.append(f"  const {v} d{r}_{i} = {load}(m + {4 * r + i} * plane);")
        lines.append(f"  const {v} n0_{i} = d0_{i} + d1_{i} + d2_{i};")
        lines.append(f"  const {v} n1_{i} = d1_{i} - d2_{i} - d3_{i};")
    for r in range(2):
        lines.append(f"  {store}(to + {r} * step, (n{r}_0 + n{r}_1 + n{r}_2) >> 2);")
        lines.append(f"  {store}(to + {r} * step + {lanes}, (n{r}_1 - n{r}_2 - n{r}_3) >> 2);")
    return prelude.once(name, "\n".join([*lines, "}"]))


def _pack_function(prelude: Prelude) -> str:
    """Words [out][in][3][3] as 4 G g G', word by word: [panel][position][in][lane out]."""
    lanes = prelude.vector_bytes // 4
    name = f"pack_winograd_words_{lanes}"
    text = f"""
static void {name}(const i32 *w, i64 out, i64 in, const i64 *taps, i64 first, i64 last, i64 outs,
                   i64 ins, i32 *to) {{
  const i64 blocks = (outs + {lanes - 1}) / {lanes};
  const i64 channels = (ins + {lanes // 2 - 1}) / {lanes // 2} * {lanes // 2};
  for (i64 p = first; p < last; p++) {{
    const i64 o = p * {BLOCKS * lanes}, left = blocks * {lanes} - o;
    const i64 wide = left < {BLOCKS * lanes} ? left : {BLOCKS * lanes};
    i32 *at = to + (p - first) * {BLOCKS * 16 * lanes} * (channels + 1);
    for (i64 s = 0; s < channels; s++)
      for (i64 j = 0; j < wide; j++) {{
        i32 y[2][16] = {{{{0}}}};
        for (int half = 0; half < 2 && s < ins && o + j < outs; half++) {{
          i32 m[4][3];
          for (int i = 0; i < 3; i++) {{
            i32 g[3];
            for (int r = 0; r < 3; r++) {{
              const i32 word = w[(o + j) * out + s * in + taps[3 * r + i]];
              g[r] = half ? word >> 16 : (i16)word;
            }}
            m[0][i] = 2 * g[0], m[3][i] = 2 * g[2];
            m[1][i] = g[0] + g[1] + g[2], m[2][i] = g[0] - g[1] + g[2];
          }}
          for (int r = 0; r < 4; r++) {{
            i32 *const q = y[half] + 4 * r;
            q[0] = 2 * m[r][0], q[3] = 2 * m[r][2];
            q[1] = m[r][0] + m[r][1] + m[r][2], q[2] = m[r][0] - m[r][1] + m[r][2];
          }}
        }}
        for (int i = 0; i < 16; i++)
          at[(i * (channels + 1) + s) * wide + j] = (i32)((u32)y[1][i] << 16 | (u16)y[0][i]);
      }}
  }}
}}"""
    return prelude.once(name, text)
