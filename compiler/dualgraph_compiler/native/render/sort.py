"""Sorting and top-k: rows of one axis, each put in order by keys.

An element's key is an unsigned number: in the order of the elements, equal ones of equal keys, NaN
behind all others, and turned round where the greatest come first. Keys are sorted by merging,
beside the places they come from, so that equal elements keep their order; elements are then read
from those places.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...dims import DimLike, Shape, product
from ...dtypes import BOOL, FLOAT, DType, bfloat16, float16, float32, uint64
from ...graph import Node
from ...graph.text import node_text
from ..index import row_major
from ..loops import Buffer
from ..lower.library import Pack, Phase
from ..schedule import Context
from .prelude import Prelude
from .types import Sizes, memory

_FEW = 64  # of so many elements or fewer the best are kept in order as they are found
_STEP = 3000  # picoseconds for an element each time all are merged


class Sort:
    """The routine of a sort or top-k. See `lower.library.Routine`."""

    checked = False
    scratch: tuple[Buffer, ...] = ()
    packs: tuple[Pack, ...] = ()

    def __init__(
        self, node: Node, context: Context, prelude: Prelude, symbols: Mapping[str, int]
    ) -> None:
        op: Any = node.op
        self.prelude = prelude
        self.sizes = Sizes(symbols)
        x = node.inputs[0]
        self.dtype = x.dtype
        # A number alone is a row of one element.
        shape: Shape = x.shape or (1,)
        self.axis = op.axis if x.ndim else 0
        self.n: DimLike = shape[self.axis]
        out = node.outputs[0]
        is_sort = op.name == "sort"
        self.k: DimLike = self.n if is_sort else (out.shape[self.axis] if out.ndim else 1)
        self.descending: bool = op.descending if is_sort else op.largest
        self.stride = row_major(shape)[self.axis]
        self.rows = product(tuple(d for i, d in enumerate(shape) if i != self.axis))
        self.reads: tuple[Buffer, ...] = (context.buffer(x),)
        self.writes = tuple(context.buffer(v) for v in node.outputs)
        self.few = isinstance(self.k, int) and 0 < self.k <= _FEW and self._is_fraction(self.k)
        size = 2 * self.k if self.few else 4 * self.n
        self.own: tuple[Buffer, ...] = (Buffer(uint64, size, "keys and places"),)
        self.notes: tuple[str, ...] = (node_text(node, context.names),)
        merges = 2 if self.few else 12
        self.phases: tuple[Phase, ...] = (
            Phase("", self.rows, self.rows * self.n * (_STEP * merges)),
        )
        self._lines = self._body()

    def _is_fraction(self, k: int) -> bool:
        return not isinstance(self.n, int) or 8 * k <= self.n

    @property
    def arguments(self) -> tuple[str, ...]:
        return tuple(self.sizes.used)

    def text(self, name: str) -> str:
        """The function that sorts a range of rows."""
        t = memory(self.dtype)
        sizes = "".join(f"i64 {n}, " for n in self.arguments)
        return (
            f"static void {name}(const {t} *restrict b0, {t} *restrict b1, i64 *restrict b2, "
            f"u64 *restrict own, {sizes}i64 first, i64 last) {{\n{self._lines}\n}}"
        )

    def _body(self) -> str:
        s = self.sizes
        n, k, stride = s(self.n), s(self.k), s(self.stride)
        key = f"{key_function(self.prelude, self.dtype)}(x[i * {stride}])"
        key = f"~{key}" if self.descending else key
        found = "own" if self.few else f"sort_keys(own, {n})"
        if self.few:
            best = _best_function(self.prelude)
            fill = f"held = {best}(own, held, {k}, {key}, i);"
            begin = "    i64 held = 0;\n"
            if self.dtype is float32 and stride == "1":
                return self._body_of(begin, self._vectors(fill), found, places=f"sorted[{k} + i]")
            places = f"sorted[{k} + i]"
        else:
            self.prelude.once("sort_digits", _DIGITS)
            self.prelude.once("sort_keys", _SORT)
            fill = f"own[i] = {key}, own[{n} + i] = (u64)i;"
            begin = ""
            places = f"sorted[{n} + i]"
        return self._body_of(begin, f"    for (i64 i = 0; i < {n}; i++) {fill}", found, places)

    def _vectors(self, enter: str) -> str:
        """Enters a row's elements into the best: of a vector those that beat the worst of these.

        Once there are enough; NaN is compared by its key.
        """
        n, k, lanes = self.sizes(self.n), self.sizes(self.k), self.prelude.vector_bytes // 4
        p = self.prelude
        load, any_ = p.load("f32", lanes), p.any(lanes)
        worse = "<=" if self.descending else ">="
        least = f"x[own[2 * {k} - 1]]"
        return f"""\
    i64 i = 0;
    for (; i < {n} && held < {k}; i++) {enter}
    for (; i + {lanes} <= {n}; ) {{
      if (!{any_}(~({load}(x + i) {worse} {p.splat("f32", lanes)}({least})))) {{
        i += {lanes};
        continue;
      }}
      for (const i64 end = i + {lanes}; i < end; i++)
        if (!(x[i] {worse} {least})) {enter}
    }}
    for (; i < {n}; i++) {enter}"""

    def _body_of(self, begin: str, fill: str, found: str, places: str) -> str:
        """What runs over the rows, `fill` with the keys of one."""
        s = self.sizes
        n, k, stride = s(self.n), s(self.k), s(self.stride)
        return f"""\
  for (i64 row = first; row < last; row++) {{
    const {memory(self.dtype)} *x = b0 + row / {stride} * {n} * {stride} + row % {stride};
    const i64 to = row / {stride} * {k} * {stride} + row % {stride};
{begin}{fill}
    const u64 *sorted = {found};
    for (i64 i = 0; i < {k}; i++) {{
      const i64 at = (i64){places};
      b1[to + i * {stride}] = x[at * {stride}];
      b2[to + i * {stride}] = at;
    }}
  }}"""


def key_function(prelude: Prelude, dtype: DType) -> str:
    """The name of a function from an element, as memory holds it, to its key."""
    name, t = f"key_{dtype.name}", memory(dtype)
    if dtype.category == FLOAT:
        bits = dtype.itemsize * 8
        mantissa = {"float16": 10, "bfloat16": 7, "float32": 23, "float64": 52}[dtype.name]
        least = ((1 << (bits - 1 - mantissa)) - 1) << mantissa  # of infinity
        read = "x" if dtype in (float16, bfloat16) else f"0; memcpy(&u, &x, {dtype.itemsize})"
        body = f"""
  u{bits} u = {read};
  const u{bits} size = u & UINT64_C({(1 << (bits - 1)) - 1});
  if (size > UINT64_C({least})) return ~UINT64_C(0) - 1;  // not a number
  return u == size ? UINT64_C({1 << (bits - 1)}) + size : UINT64_C({1 << (bits - 1)}) - size;"""
    elif dtype.category == BOOL or not dtype.is_signed:
        body = "\n  return x;"
    else:
        body = f"\n  return (u64)(i64)x ^ UINT64_C({1 << 63});"
    return prelude.once(name, f"static inline u64 {name}({t} x) {{{body}\n}}")


_DIGITS = """
// `sort_keys` for many: by one byte after another, the least first; bytes equal in all are skipped.
static u64 *sort_digits(u64 *a, i64 n) {
  i64 counts[8][256];
  memset(counts, 0, sizeof counts);
  for (i64 i = 0; i < n; i++)
    for (int d = 0; d < 8; d++) counts[d][a[i] >> 8 * d & 255]++;
  u64 *keys = a, *to = a + 2 * n;
  for (int d = 0; d < 8; d++) {
    i64 *places = counts[d], next = 0;
    if (places[keys[0] >> 8 * d & 255] == n) continue;
    for (int b = 0; b < 256; b++) {
      const i64 count = places[b];
      places[b] = next, next += count;
    }
    for (i64 i = 0; i < n; i++) {
      const i64 o = places[keys[i] >> 8 * d & 255]++;
      to[o] = keys[i], to[n + o] = keys[n + i];
    }
    u64 *const from = keys;
    keys = to, to = from;
  }
  return keys;
}"""

_SORT = """
// Sorts `n` keys at `a` beside the places that follow them; behind those there is room for as much
// again. Returns where the result is.
static u64 *sort_keys(u64 *a, i64 n) {
  enum { RUN = 8, MANY = 1024 };
  if (n >= MANY) return sort_digits(a, n);
  u64 *keys = a, *places = a + n, *to = a + 2 * n;
  for (i64 start = 0; start < n; start += RUN) {
    const i64 end = start + RUN < n ? start + RUN : n;
    for (i64 i = start + 1; i < end; i++) {
      const u64 key = keys[i], place = places[i];
      i64 j = i;
      for (; j > start && keys[j - 1] > key; j--) keys[j] = keys[j - 1], places[j] = places[j - 1];
      keys[j] = key, places[j] = place;
    }
  }
  for (i64 run = RUN; run < n; run *= 2) {
    u64 *new_keys = to, *new_places = to + n;
    for (i64 start = 0; start < n; start += 2 * run) {
      i64 i = start, j = start + run < n ? start + run : n, o = start;
      const i64 middle = j, end = j + run < n ? j + run : n;
      while (i < middle && j < end) {
        const int right = keys[j] < keys[i];
        const i64 from = right ? j : i;
        new_keys[o] = keys[from], new_places[o++] = places[from];
        j += right, i += !right;
      }
      for (; i < middle; i++) new_keys[o] = keys[i], new_places[o++] = places[i];
      for (; j < end; j++) new_keys[o] = keys[j], new_places[o++] = places[j];
    }
    to = keys, keys = new_keys, places = new_places;
  }
  return keys;
}"""


def _best_function(prelude: Prelude) -> str:
    return prelude.once(
        "keep_best",
        """
// Enters a key into the `held` least of at most `k`, in order, beside their places; an equal one
// that came before stays before. Returns how many are held then.
static inline i64 keep_best(u64 *keys, i64 held, i64 k, u64 key, i64 place) {
  if (held == k && keys[k - 1] <= key) return held;
  i64 j = held < k ? held : k - 1;
  for (; j > 0 && keys[j - 1] > key; j--) keys[j] = keys[j - 1], keys[k + j] = keys[k + j - 1];
  keys[j] = key, keys[k + j] = (u64)place;
  return held < k ? held + 1 : k;
}""",
    )
