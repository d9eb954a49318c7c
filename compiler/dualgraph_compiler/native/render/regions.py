"""Pooling over regions of images.

What elements of an axis count how much for a bin is told once for a region, as a band of each axis
(`kernels.roi` says the same with whole matrices). Then, channel by channel, the rows of a bin
become one row, all columns side by side, and the columns of that are folded.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ...dtypes import int64
from ...graph import Node, Value
from ..loops import Buffer
from ..schedule import Context
from .plain import PlainRoutine
from .prelude import Prelude
from .types import Sizes, literal, register

_MOST = 1 << 20  # samples of a bin along an axis: a region so large counts for nothing


def roi_align(
    node: Node, context: Context, prelude: Prelude, symbols: Mapping[str, int]
) -> PlainRoutine:
    """The routine of a mean or maximum of samples."""
    op: Any = node.op
    x, rois, _ = node.inputs
    routine = PlainRoutine(node, context, symbols)
    s, t, dtype = routine.sizes, register(x.dtype), x.dtype
    n, c, h, w = x.shape
    largest = op.name == "roi_align_max"
    kinds = 2 if largest else 1  # the largest and the least weight; or all weights' sum
    axis = _axis(prelude, t, op, largest)
    status = prelude.index_error(
        f"{op.name}: index {{}} is out of bounds: expected 0 <= index < {n}"
    )
    half = literal(0.5 if op.aligned else 0.0, dtype)
    place = f"a1[task * 4 + %d] * {literal(op.scale, dtype)} - {half}"
    edges = ", ".join(place % i for i in range(4))
    body = f"""\
    const i64 image = a2[task];
    if (image < 0 || image >= {s(n)}) return refuse_index({status}, image);
    const TYPE at[4] = {{{edges}}};
    {axis}(at[1], at[3], BINS_Y, HEIGHT, m0, m3);
    {axis}(at[0], at[2], BINS_X, WIDTH, m1, m3 + 2 * BINS_Y);
    const i64 *const across = m3 + 2 * BINS_Y;
    i64 left = WIDTH, right = 0;
    for (i64 q = 0; q < BINS_X; q++) {{
      left = across[2 * q] < left ? across[2 * q] : left;
      right = across[2 * q + 1] > right ? across[2 * q + 1] : right;
    }}
    for (i64 channel = 0; channel < CHANNELS; channel++) {{
      const TYPE *const x = a0 + (image * CHANNELS + channel) * HEIGHT * WIDTH;
      TYPE *y = y0 + (task * CHANNELS + channel) * (BINS_Y * BINS_X);
{_MAXIMUM if largest else _MEAN}
    }}"""
    own = (
        Buffer(dtype, h * (kinds * op.height), "weights of rows"),
        Buffer(dtype, w * (kinds * op.width), "weights of columns"),
        Buffer(dtype, w, "a row"),
        Buffer(int64, 2 * (op.height + op.width), "bands"),
    )
    tasks = rois.shape[0]
    body = _filled(body, prelude, op, s, x)
    return routine.does(body, tasks, tasks * c * (h * w * 100 + 50_000), own)


def _axis(prelude: Prelude, t: str, op: Any, largest: bool) -> str:
    """The function that tells the weights of an axis [bins, size] and the band of each bin."""
    least = "" if op.aligned else f"  extent = extent > 1 || extent != extent ? extent : ({t})1;\n"
    count = (
        str(op.samples) if op.samples > 0 else f"step > 0 && step < {_MOST} ? (i64)ceil(step) : 0"
    )
    add = _TOUCH if largest else _ADD
    clear = "-1" if largest else "0"
    name = f"bins_{t}_{op.samples}_{int(op.aligned)}_{int(largest)}"
    text = f"""
static void {name}({t} start, {t} end, i64 bins, i64 size, {t} *w, i64 *band) {{
  {t} extent = end - start;
{least}  const {t} step = extent / ({t})bins;
  const i64 count = {count};
  for (i64 i = 0; i < bins * size * {2 if largest else 1}; i++) w[i] = {clear};
  for (i64 p = 0; p < bins; p++, w += size * {2 if largest else 1}) {{
    i64 low = size, high = 0;  // the band
    for (i64 i = 0; i < count; i++) {{
      f64 at = (f64)start + (f64)p * (f64)step;
      at += ((f64)i + 0.5) * ((f64)step / (f64)count);
      const int inside = at >= -1 && at <= (f64)size;
{"" if largest else "      if (!inside) continue;"}
      at = inside && at > 0 ? at : 0;
      const i64 a = (i64)at < size - 1 ? (i64)at : size - 1, b = a + 1 < size ? a + 1 : size - 1;
      const f64 t = a >= size - 1 ? 0 : at - (f64)a;
{add}
      low = a < low ? a : low, high = b >= high ? b + 1 : high;
    }}
    band[2 * p] = low, band[2 * p + 1] = high;
  }}
}}""".replace("TYPE", t)
    return prelude.once(name, text)


_ADD = """\
      w[a] += (TYPE)((1 - t) / (f64)count);
      w[b] += (TYPE)(t / (f64)count);"""

# The largest weights, and behind them the least; -1 where there is none.
_TOUCH = """\
      const TYPE u = inside ? (TYPE)(1 - t) : 0, v = inside ? (TYPE)t : 0;
      if (w[a] < u) w[a] = u;
      if (w[size + a] < 0 || u < w[size + a]) w[size + a] = u;
      if (w[b] < v) w[b] = v;
      if (w[size + b] < 0 || v < w[size + b]) w[size + b] = v;"""

# A row of the sums of a bin's rows, and its folds.
_MEAN = """\
      for (i64 p = 0; p < BINS_Y; p++) {
        for (i64 j = left; j < right; j++) m2[j] = 0;
        for (i64 i = m3[2 * p]; i < m3[2 * p + 1]; i++) {
          const TYPE weight = m0[p * HEIGHT + i];
          if (weight == 0) continue;
          const TYPE *const row = x + i * WIDTH;
          const VECTOR by = SPLAT(weight);
          i64 j = left;
          for (; j + LANES <= right; j += LANES)
            STORE(m2 + j, LOAD(m2 + j) + by * LOAD(row + j));
          for (; j < right; j++) m2[j] += weight * row[j];
        }
        for (i64 q = 0; q < BINS_X; q++) {
          const TYPE *const weights = m1 + q * WIDTH;
          TYPE sum = 0;
          for (i64 j = across[2 * q]; j < across[2 * q + 1]; j++) sum += weights[j] * m2[j];
          *y++ = sum;
        }
      }"""

# Weights are not negative: of a positive element the largest counts, of a negative one the least.
_MAXIMUM = """\
      for (i64 p = 0; p < BINS_Y; p++) {
        const TYPE *const most = m0 + 2 * p * HEIGHT, *const least = most + HEIGHT;
        for (i64 j = left; j < right; j++) m2[j] = -__builtin_inf();
        for (i64 i = m3[2 * p]; i < m3[2 * p + 1]; i++) {
          if (most[i] < 0) continue;
          const TYPE *const row = x + i * WIDTH;
          const VECTOR u = SPLAT(most[i]), l = SPLAT(least[i]);
          i64 j = left;
          for (; j + LANES <= right; j += LANES) {
            const VECTOR v = LOAD(row + j);
            STORE(m2 + j, MAX(LOAD(m2 + j), MAX(v * u, v * l)));
          }
          for (; j < right; j++) m2[j] = ONE(m2[j], ONE(row[j] * most[i], row[j] * least[i]));
        }
        for (i64 q = 0; q < BINS_X; q++) {
          const TYPE *const high = m1 + 2 * q * WIDTH, *const low = high + WIDTH;
          TYPE best = -__builtin_inf();
          if (m3[2 * p] < m3[2 * p + 1])
            for (i64 j = across[2 * q]; j < across[2 * q + 1]; j++)
              if (high[j] >= 0) best = ONE(best, ONE(m2[j] * high[j], m2[j] * low[j]));
          *y++ = best == -__builtin_inf() ? 0 : best;
        }
      }"""

# Of whole elements.
_WHOLE_MAXIMUM = """\
      for (i64 p = 0; p < BINS_Y; p++) {
        for (i64 j = left; j < right; j++) m0[j] = -__builtin_inf();
        for (i64 i = m1[2 * p]; i < m1[2 * p + 1]; i++) {
          const TYPE *const row = x + i * WIDTH;
          i64 j = left;
          for (; j + LANES <= right; j += LANES) STORE(m0 + j, MAX(LOAD(m0 + j), LOAD(row + j)));
          for (; j < right; j++) m0[j] = ONE(m0[j], row[j]);
        }
        for (i64 q = 0; q < BINS_X; q++) {
          TYPE best = -__builtin_inf();
          const i64 from = across[2 * q], to = across[2 * q + 1];
          for (i64 j = from; j < to; j++) best = ONE(best, m0[j]);
          *y++ = from < to && m1[2 * p] < m1[2 * p + 1] ? best : 0;
        }
      }"""


def _filled(text: str, prelude: Prelude, op: Any, sizes: Sizes, x: Value) -> str:
    """`text` with names for sizes and the functions on vectors of x's type."""
    t, lanes = register(x.dtype), prelude.vector_bytes // x.dtype.itemsize
    names = {
        "TYPE": t,
        "VECTOR": prelude.vector(t, lanes),
        "LANES": str(lanes),
        "SPLAT": prelude.splat(t, lanes),
        "LOAD": prelude.load(t, lanes),
        "STORE": prelude.store(t, lanes),
        "MAX": prelude.extremum("max", t, lanes),
        "ONE": prelude.extremum("max", t, 1),
        "BINS_Y": str(op.height),
        "BINS_X": str(op.width),
        "CHANNELS": sizes(x.shape[1]),
        "HEIGHT": sizes(x.shape[2]),
        "WIDTH": sizes(x.shape[3]),
    }
    return re.sub(r"\b[A-Z][A-Z_]+\b", lambda m: names[m[0]], text)


def max_roi_pool(
    node: Node, context: Context, prelude: Prelude, symbols: Mapping[str, int]
) -> PlainRoutine:
    """The routine of the maximum of bins of whole elements."""
    op: Any = node.op
    x, rois = node.inputs
    routine = PlainRoutine(node, context, symbols)
    s, t, dtype = routine.sizes, register(x.dtype), x.dtype
    n, c, h, w = x.shape
    status = prelude.index_error(
        f"{op.name}: index {{}} is out of bounds: expected 0 <= index < {n}"
    )
    scale, half = literal(op.scale, dtype), literal(0.5, dtype)
    band = prelude.once(f"whole_bins_{t}", _WHOLE.replace("TYPE", t))
    body = f"""\
    const TYPE *const region = a1 + task * 5;
    const i64 image = region[0] > -1e9 && region[0] < 1e9 ? (i64)region[0] : -1;
    if (image < 0 || image >= {s(n)}) return refuse_index({status}, image);
    i64 *const across = m1 + 2 * BINS_Y;
    {band}(region[2] * {scale} + {half}, region[4] * {scale} + {half}, BINS_Y, HEIGHT, m1);
    {band}(region[1] * {scale} + {half}, region[3] * {scale} + {half}, BINS_X, WIDTH, across);
    const i64 left = across[0], right = across[2 * BINS_X - 1];
    for (i64 channel = 0; channel < CHANNELS; channel++) {{
      const TYPE *const x = a0 + (image * CHANNELS + channel) * HEIGHT * WIDTH;
      TYPE *y = y0 + (task * CHANNELS + channel) * (BINS_Y * BINS_X);
{_WHOLE_MAXIMUM}
    }}"""
    own = (Buffer(dtype, w, "a row"), Buffer(int64, 2 * (op.height + op.width), "bands"))
    tasks = rois.shape[0]
    body = _filled(body, prelude, op, s, x)
    return routine.does(body, tasks, tasks * c * (h * w * 100 + 50_000), own)


# Edges of bins, from the places of the first and the last element, which count as whole numbers.
_WHOLE = """
static void whole_bins_TYPE(TYPE start, TYPE end, i64 bins, i64 size, i64 *band) {
  const TYPE most = 1e9;
  const i64 low = (i64)floor(start > -most ? start < most ? start : most : -most);
  const i64 high = (i64)floor(end > -most ? end < most ? end : most : -most);
  const i64 extent = high - low + 1 > 1 ? high - low + 1 : 1;
  for (i64 p = 0; p < bins; p++) {
    const i64 from = low + p * extent / bins, to = low + ((p + 1) * extent + bins - 1) / bins;
    band[2 * p] = from < 0 ? 0 : from > size ? size : from;
    band[2 * p + 1] = to < 0 ? 0 : to > size ? size : to;
  }
}"""
