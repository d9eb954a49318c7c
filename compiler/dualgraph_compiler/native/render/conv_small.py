"""Convolution of small blocked images, of several samples at once.

Where images are small much of a padded one is border, whose zeros are not worth a product. So each
element of the window (a tap) is taken by itself, and only at those places at which it lies in the
image: there it is a product of samples by channels, whose rows are the samples, done by the tiles
of `places`, for which images are copied with their channels last. Sums lie as
[block][place][sample][lane]. Weights are packed as [panel][tap][lane in][lane out].
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping

from ...dtypes import float32
from ...types import is_static
from ..blocked import BlockedConv, blocks
from ..fuse import Step
from ..index import row_major
from ..loops import Buffer
from ..lower.library import Phase
from ..schedule import Context
from .conv_blocked import TASKS, BlockedRoutine
from .places import BLOCKS
from .prelude import Prelude

_FEWEST = 4  # samples that fill a tile
_IMAGES = 256 * 1024  # bytes of images that stay in L2
_WORTH = 0.8  # of all products, that fewer than these are of elements in the image
_PLACES = 64  # whose sums are kept
_WEIGHTS = 16 * 1024  # bytes of weights that should stay in L1

Pairs = dict[int, list[tuple[int, int]]]  # for each tap: places, and the pixels that they read


def pays(step: Step) -> bool:
    """Whether a convolution can be done this way, and is faster so."""
    node = step.nodes[0]
    op = node.op
    assert isinstance(op, BlockedConv)
    x, w = node.inputs
    if op.plain or op.groups > 1 or x.dtype is not float32:
        return False
    if not is_static((*x.shape, *node.output.shape, *w.shape)):
        return False
    places = math.prod(map(int, node.output.shape[2:-1]))
    sample = 4 * math.prod(map(int, x.shape[1:]))
    if int(x.shape[0]) < _FEWEST or _FEWEST * sample > _IMAGES or not 0 < places <= _PLACES:
        return False
    found = sum(map(len, pairs(step).values()))
    return found <= _WORTH * places * math.prod(map(int, w.shape[2:]))


def pairs(step: Step) -> Pairs:
    """The places at which each tap lies in the image, and the pixel that it is there."""
    node = step.nodes[0]
    op = node.op
    assert isinstance(op, BlockedConv)
    x, w = node.inputs
    image, places = (tuple(map(int, v.shape[2:-1])) for v in (x, node.output))
    numbers = list(itertools.product(*map(range, places)))
    found: Pairs = {}
    for number, tap in enumerate(itertools.product(*map(range, map(int, w.shape[2:])))):
        found[number] = []
        for place, at in enumerate(numbers):
            pixel = [
                p * s + k * d - int(low)
                for p, s, k, d, (low, _) in zip(
                    at, op.stride, tap, op.dilation, op.padding, strict=True
                )
            ]
            if all(0 <= i < size for i, size in zip(pixel, image, strict=True)):
                steps = map(int, row_major(image))
                where = sum(i * step for i, step in zip(pixel, steps, strict=True))
                found[number].append((place, where))
    return found


class SmallConv(BlockedRoutine):
    """The routine of such a convolution and its epilogue. See `lower.library.Routine`."""

    def __init__(
        self, step: Step, context: Context, prelude: Prelude, symbols: Mapping[str, int]
    ) -> None:
        node = step.nodes[0]
        op = node.op
        assert isinstance(op, BlockedConv)
        lanes = op.lanes
        x, w = node.inputs
        self.pairs = pairs(step)
        self.samples = int(x.shape[0])
        self.outs, self.ins = int(w.shape[0]), int(w.shape[1])
        self.in_blocks, self.out_blocks = blocks(self.ins, lanes), blocks(self.outs, lanes)
        self.pixels, self.places = (math.prod(map(int, v.shape[2:-1])) for v in (x, node.output))
        self.sample = self.in_blocks * self.pixels * lanes
        most = min(self.samples, _IMAGES // (4 * self.sample))
        self.groups = blocks(self.samples, most)
        self.together = blocks(self.samples, self.groups)
        # One more than channels, or taps of a channel would share a few lines of a cache.
        self.pitch = self.in_blocks * lanes + 1
        self.panel = BLOCKS * len(self.pairs) * self.pitch * lanes
        inside = not w.is_constant and self.groups == 1  # only one task reads a panel
        whole = len(self.pairs) * self.pitch * self.out_blocks * lanes
        plane = self.places * self.together * lanes
        sums = Buffer(x.dtype, BLOCKS * plane, "sums")
        weights = self.panel if inside else whole
        # A line more than a sample has, or samples would share a few lines of a cache.
        self.apart = self.sample + 16
        self.turned = Buffer(x.dtype, self.together * self.apart, "samples, channels last")
        self._set_up(step, context, prelude, symbols, weights, sums, [self.turned], inside)
        products = self.samples * sum(map(len, self.pairs.values())) * self.in_blocks * lanes
        tasks = self.groups * self.parts
        self.phases = self._with_packing(Phase("", tasks, products * self.out_blocks * 200))

    @property
    def parts(self) -> int:
        """Tasks of a group of samples."""
        panels = self._panels()
        return blocks(panels, blocks(panels, min(panels, blocks(TASKS, self.groups))))

    def _panels(self) -> int:
        return blocks(self.out_blocks, BLOCKS)

    def _driver(self) -> str:
        names, lanes = self._names(), self.lanes
        panels, plane = self._panels(), self.places * self.together * lanes
        per_part = blocks(panels, self.parts)
        found = [pair for pairs in self.pairs.values() for pair in pairs]
        begins = [0, *itertools.accumulate(map(len, self.pairs.values()))]
        text = f"const f32 *const panels = {names[self.packed]} + panel * {self.panel};"
        if self.inside:
            pack = self._pack_call(names[self.w], "panel", "panel + 1", names[self.packed])
            text = f"{pack}\n      const f32 *const panels = {names[self.packed]};"
        return f"""\
  static const i64 begins[] = {{{", ".join(map(str, begins))}}};
  static const i64 places[] = {{{", ".join(str(place) for place, _ in found) or "0"}}};
  static const i64 pixels[] = {{{", ".join(str(pixel) for _, pixel in found) or "0"}}};
  f32 *const sums = {names[self.sums]};
  f32 *const turned = {names[self.turned]};
  i64 at[{self.together}], tap = 0, held = -1;
  for (i64 n = 0; n < {self.together}; n++) at[n] = n * {self.apart};
  for (i64 task = first; task < last; task++) {{
    const i64 i0_0 = task / {self.parts} * {self.together}, part = task % {self.parts};
    const i64 left = {self.samples} - i0_0, some = left < {self.together} ? left : {self.together};
    if (i0_0 != held) {{
      held = i0_0;
      for (i64 n = 0; n < some; n++)
        for (i64 c = 0; c < {self.in_blocks}; c++)
          for (i64 i = 0; i < {self.pixels}; i++)
            memcpy(turned + at[n] + (i * {self.in_blocks} + c) * {lanes}, {names[self.x]} +
              (i0_0 + n) * {self.sample} + (c * {self.pixels} + i) * {lanes}, {4 * lanes});
    }}
    const i64 end = part * {per_part} + {per_part};
    for (i64 panel = part * {per_part}; panel < end && panel < {panels}; panel++) {{
      const i64 o = panel * {BLOCKS}, wide = {self.out_blocks} - o < {BLOCKS} ? 1 : {BLOCKS};
      {text}
      memset(sums, 0, {BLOCKS * plane} * sizeof(f32));
      for (i64 k = 0; k < {len(self.pairs)}; k++) {{
{self._tap_text(plane)}
      }}
      for (i64 j = 0; j < wide; j++)
        for (i64 n = 0; n < some; n++)
          for (i64 i2 = 0; i2 < {self.places}; i2++) {{
            const i64 i0 = i0_0 + n, i1 = o + j, rows = 1;
            {self._epilogue_call(f"sums + j * {plane} + (i2 * {self.together} + n) * {lanes}")}
          }}
    }}
  }}"""

    def _tap_text(self, plane: int) -> str:
        """The products of a tap, over chunks of the channels whose weights stay in L1."""
        lanes, lines = self.lanes, []
        known = sorted({self.together, self.samples % self.together} - {0})
        for wide in sorted(
            {min(BLOCKS, b) for b in (self.out_blocks, self.out_blocks % BLOCKS) if b}
        ):
            most = max(1, _WEIGHTS // (4 * lanes * wide * lanes))
            chunk = blocks(self.in_blocks, blocks(self.in_blocks, most))
            run = f"({self.in_blocks} - c < {chunk} ? {self.in_blocks} - c : {chunk}) * {lanes}"
            args = (
                f"turned + (pixels[i] * {self.in_blocks} + c) * {lanes}, at + q, &tap, 1, {run}, "
            )
            args += f"panels + (k * {self.pitch} + c * {lanes}) * wide * {lanes}, 1, "
            args += f"sums + (places[i] * {self.together} + q) * {lanes}, {plane}"
            lines.append(f"if (wide == {wide}) {{")
            lines.append(f"  for (i64 c = 0; c < {self.in_blocks}; c += {chunk})")
            lines.append("    for (i64 i = begins[k]; i < begins[k + 1]; i++)")
            unroll = next(u for u in (8, 4, 2, 1) if lanes % u == 0)
            tiles = self._tiles_text(wide, unroll, "some", known, args)
            lines += ["      " + line for line in tiles]
            lines.append("}")
        return "\n".join(" " * 8 + line for line in lines)

    def _pack_call(self, w: str, first: str, last: str, to: str) -> str:
        name = _pack_function(self.prelude)
        to = to if self.inside else f"{to} + {first} * {self.panel}"
        sizes = f"{self.outs}, {self.ins}, {len(self.pairs)}"
        return f"{name}({self._weight_args(w)}, {first}, {last}, {sizes}, {to});"


def _pack_function(prelude: Prelude) -> str:
    """Weights [out][in][tap] as [panel][tap][lane in][lane out]."""
    lanes = prelude.vector_bytes // 4
    v, store = prelude.vector("f32", lanes), prelude.store("f32", lanes)
    whole = ", ".join(f"x[{j} * out]" for j in range(lanes))
    name = f"pack_taps_{v}"
    text = f"""
static void {name}(const f32 *w, i64 out, i64 in, const i64 *taps, i64 first, i64 last, i64 outs,
                   i64 ins, i64 window, f32 *to) {{
  const i64 blocks = (outs + {lanes - 1}) / {lanes};
  const i64 channels = (ins + {lanes - 1}) / {lanes} * {lanes};
  for (i64 p = first; p < last; p++) {{
    const i64 o = p * {BLOCKS * lanes}, left = blocks * {lanes} - o;
    const i64 wide = left < {BLOCKS * lanes} ? left : {BLOCKS * lanes};
    f32 *at = to + (p - first) * {BLOCKS * lanes} * window * (channels + 1);
    for (i64 c = 0; c < channels; c++)
      for (i64 k = 0; k < window; k++)
        for (i64 j = 0; j < wide; j += {lanes}) {{
          const f32 *const x = w + (o + j) * out + c * in + taps[k];
          f32 *const y = at + (k * (channels + 1) + c) * wide + j;
          if (c < ins && o + j + {lanes} <= outs) {{
            {store}(y, ({v}){{{whole}}});
            continue;
          }}
          for (i64 l = 0; l < {lanes}; l++) y[l] = c < ins && o + j + l < outs ? x[l * out] : 0;
        }}
  }}
}}"""
    return prelude.once(name, text)
