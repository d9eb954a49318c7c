"""Non-maximum suppression: of each image and class the boxes to keep, best first.

A task is a class of an image. Its candidates are in a heap, best on top, so that no more of them
are put in order than it takes to find as many as are wanted. Each that comes is compared with a
vector of kept ones at a time. A second phase moves what the tasks have found together.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...dtypes import float32, int64, uint64
from ...graph import Node
from ...graph.text import node_text
from ..loops import Buffer
from ..lower.library import Pack, Phase
from ..schedule import Context
from .prelude import Prelude
from .types import Sizes, memory

_GROUP = 4  # vectors of kept boxes that are looked at before it is asked whether one is hit
_STEP = 30_000  # picoseconds for a box


class KeptBoxesRoutine:
    """The routine of `native.kept_boxes.KeptBoxes`. See `lower.library.Routine`."""

    checked = False
    packs: tuple[Pack, ...] = ()

    def __init__(
        self, node: Node, context: Context, prelude: Prelude, symbols: Mapping[str, int]
    ) -> None:
        op: Any = node.op
        self.op, self.sizes, self.prelude = op, Sizes(symbols), prelude
        images, classes, boxes = node.inputs[1].shape
        self.classes, self.boxes = classes, boxes
        self.tasks = images * classes
        self.lanes = prelude.vector_bytes // 4
        group = _GROUP * self.lanes
        self.room = (op.limit + (group - 1)) // group * group
        self.inputs = [context.buffer(v) for v in node.inputs]
        self.outputs = [context.buffer(v) for v in node.outputs]
        self.reads: tuple[Buffer, ...] = tuple(dict.fromkeys(self.inputs))
        self.writes: tuple[Buffer, ...] = tuple(self.outputs)
        self.scratch: tuple[Buffer, ...] = (Buffer(int64, self.tasks, "how many each has found"),)
        self.own: tuple[Buffer, ...] = (
            Buffer(uint64, boxes, "candidates in a heap"),
            Buffer(float32, 5 * self.room, "kept boxes: bounds and areas"),
        )
        self.notes: tuple[str, ...] = (node_text(node, context.names),)
        self.phases: tuple[Phase, ...] = (
            Phase("", self.tasks, self.tasks * boxes * _STEP),
            Phase("_joined", 1, 0),
        )
        prelude.once("box_key", _KEY)
        prelude.once("box_down", _DOWN)
        self._lines = {"": self._search(), "_joined": self._joined()}

    @property
    def arguments(self) -> tuple[str, ...]:
        return tuple(self.sizes.used)

    def text(self, name: str) -> str:
        """The functions of both phases."""
        names = {b: f"b{i}" for i, b in enumerate(self.reads)}
        parameters = [f"const {memory(b.dtype)} *restrict {n}" for b, n in names.items()]
        parameters += ["i64 *restrict found", "i64 *restrict total", "i64 *restrict counts"]
        parameters += ["u64 *restrict heap", "f32 *restrict kept"]
        parameters += [f"i64 {n}" for n in (*self.arguments, "first", "last")]
        operands = ("boxes", "scores", "most", "overlap", "least")
        aliases = "\n".join(
            f"  const {memory(b.dtype)} *const {n} = {names[b]};"
            for n, b in zip(operands, self.inputs, strict=True)
        )
        aliases += "\n  (void)" + ", (void)".join(
            (*operands, "found", "total", "counts", "heap", "kept", "first", "last")
        )
        return "\n".join(
            f"static void {name}{suffix}({', '.join(parameters)}) {{\n{aliases};\n{lines}\n}}"
            for suffix, lines in self._lines.items()
        )

    def _search(self) -> str:
        s = self.sizes
        boxes, limit, room = s(self.boxes), s(self.op.limit), s(self.room)
        sides = ("top", "left", "bottom", "right", "area")
        group = _GROUP * self.lanes
        store = "\n".join(f"        kept[{i} * {room} + count] = {x};" for i, x in enumerate(sides))
        return f"""\
  const i64 limit = *most < {limit} ? *most : {limit};
  const int all = !(*least > -__builtin_inff());
  for (i64 task = first; task < last; task++) {{
    const f32 *const score = scores + task * {boxes};
    i64 waiting = 0, count = 0;
    for (i64 i = 0; i < {boxes}; i++)
      if (all || score[i] > *least) heap[waiting++] = box_key(score[i], i);
    for (i64 i = waiting / 2 - 1; i >= 0; i--) box_down(heap, waiting, i);
    while (waiting > 0 && count < limit) {{
      const i64 i = (i64)(0xffffffffu - (heap[0] & 0xffffffffu));
      heap[0] = heap[--waiting];
      box_down(heap, waiting, 0);
      const f32 *const box = boxes + (task / {s(self.classes)} * {boxes} + i) * 4;
      f32 y0 = box[0], x0 = box[1], y1 = box[2], x1 = box[3];
{self._corners()}
      const f32 top = y0 < y1 || y0 != y0 ? y0 : y1, bottom = y0 > y1 || y0 != y0 ? y0 : y1;
      const f32 left = x0 < x1 || x0 != x0 ? x0 : x1, right = x0 > x1 || x0 != x0 ? x0 : x1;
      const f32 area = (bottom - top) * (right - left);
      int hit = 0;
      for (i64 k = 0; k < count && !hit; k += {group}) {{
{self._hits(room)}
      }}
      if (hit) continue;
      if (count % {group} == 0)
        for (i64 k = 0; k < 5; k++) memset(kept + k * {room} + count, 0, {4 * group});
{store}
      i64 *const row = found + (task * {limit} + count++) * 3;
      row[0] = task / {s(self.classes)}, row[1] = task % {s(self.classes)}, row[2] = i;
    }}
    counts[task] = count;
  }}"""

    def _corners(self) -> str:
        if not self.op.centered:
            return ""
        return """\
      const f32 width = y1, height = x1, at_x = y0, at_y = x0;
      y0 = at_x - width / 2, y1 = at_x + width / 2;
      x0 = at_y - height / 2, x1 = at_y + height / 2;"""

    def _hits(self, room: str) -> str:
        """Whether the box overlaps one of a group of kept ones too much.

        Behind the last kept one are boxes without area, which nothing overlaps: those of a group
        say no more than its first, even where they are to overlap by less than nothing.
        """
        p, w = self.prelude, self.lanes
        v, ints = p.vector("f32", w), p.vector("i32", w)
        load, splat, sel = p.load("f32", w), p.splat("f32", w), p.sel("f32", w)
        lines = [f"        {ints} any = {{0}};"]
        for g in range(_GROUP):
            at = [f"kept + {i} * {room} + k + {g * w}" for i in range(5)]
            lines.append(f"""\
        {{
          const {v} zero = {{0}}, a = {load}({at[0]}), b = {load}({at[1]});
          const {v} c = {load}({at[2]}), d = {load}({at[3]});
          const {v} tops = {splat}(top), lefts = {splat}(left);
          const {v} bottoms = {splat}(bottom), rights = {splat}(right);
          {v} tall = {sel}(c < bottoms, c, bottoms) - {sel}(a > tops, a, tops);
          {v} wide = {sel}(d < rights, d, rights) - {sel}(b > lefts, b, lefts);
          const {v} shared = {sel}(tall > zero, tall, zero) * {sel}(wide > zero, wide, zero);
          const {v} both = {load}({at[4]}) + {splat}(area) - shared;
          const {ints} real = (shared > zero) & (both > zero);
          any |= {sel}(real, shared / {sel}(real, both, {splat}(1.0f)), zero) > {splat}(*overlap);
        }}""")
        lines.append(f"        hit = {p.fold_lanes('sum', 'i32', w)}(any) != 0;")
        return "\n".join(lines)

    def _joined(self) -> str:
        s = self.sizes
        limit = s(self.op.limit)
        return f"""\
  i64 at = 0;
  for (i64 task = 0; task < {s(self.tasks)}; task++) {{
    memmove(found + at * 3, found + task * {limit} * 3, (size_t)counts[task] * 24);
    at += counts[task];
  }}
  *total = at;"""


# The greatest key is that of the best: by score, NaN last, then by place.
_KEY = """\
static inline u64 box_key(f32 score, i64 i) {
  const f32 x = score + 0.0f;  // -0.0 is 0.0
  u32 u;
  memcpy(&u, &x, 4);
  u = x != x ? 0 : u ^ (u >> 31 ? 0xffffffffu : 0x80000000u);
  return (u64)u << 32 | (0xffffffffu - (u32)i);
}"""

_DOWN = """\
static inline void box_down(u64 *heap, i64 n, i64 i) {
  const u64 key = heap[i];
  for (i64 k; (k = 2 * i + 1) < n; i = k) {
    if (k + 1 < n && heap[k + 1] > heap[k]) k++;
    if (heap[k] <= key) break;
    heap[i] = heap[k];
  }
  heap[i] = key;
}"""
