"""Attention without a matrix of scores: a block of queries goes over the keys in blocks.

Of each block of keys the scores of a block of queries are made tile by tile, in a buffer that stays
in cache; masks, maximum, exponentials and their sum are one pass over each row; and the weights
times the values are added to the block's result. Where a later block of keys raises a row's
maximum, what the row has so far is scaled down (Milakov and Gimelshein, Online normalizer
calculation for softmax, 2018; Dao et al., FlashAttention, 2022).
"""

from __future__ import annotations

from collections.abc import Mapping

from ...dims import product
from ...dtypes import bool_, float32
from ..fuse import Step
from ..index import Axis
from ..loops import Buffer
from ..lower.library import Pack, Phase
from ..schedule import Context, Epilogue, strided
from .kernel import KernelText
from .packing import column_packer
from .prelude import Prelude
from .signature import parameters, sizes_used
from .tile import Shape, dots_function, heights, product_shape, product_tile
from .types import Sizes, index_text, literal, memory

_ROWS = 48  # queries of a block
_KEYS = 128  # keys of a block: the scores take 24 KB
_FEW = 4  # queries that do not pay for turning the keys round


_ANY_SEEN = """
// Whether a block of a mask has a true element.
static int any_seen(const u8 *mask, i64 stride, i64 rows, i64 n) {
  u8 seen = 0;
  for (i64 r = 0; r < rows && !seen; r++)
    for (i64 j = 0; j < n; j++) seen |= mask[r * stride + j];
  return seen;
}"""


class AttentionRoutine:
    """The routine of an attention and its epilogue. See `lower.library.Routine`."""

    checked = False
    packs: tuple[Pack, ...] = ()
    scratch: tuple[Buffer, ...] = ()

    def __init__(
        self, step: Step, context: Context, prelude: Prelude, symbols: Mapping[str, int]
    ) -> None:
        self.prelude = prelude
        self.sizes = Sizes(symbols)
        node = step.nodes[0]
        self.op = node.op
        q, k, v, *masks = node.inputs
        self.length, self.keys, self.depth = q.shape[-2], k.shape[-1], q.shape[-1]
        self.width = v.shape[-1]
        self.batch = [Axis(i, d) for i, d in enumerate(node.output.shape[:-2])]
        (self.q, self.q_steps), (self.k, self.k_steps), (self.v, self.v_steps) = (
            strided(x, self.batch, context) for x in (q, k, v)
        )
        self.masks = [strided(x, self.batch, context) for x in masks]
        self.shape = product_shape(_KEYS, prelude.vector_bytes)
        self.v_shape = product_shape(self.width, prelude.vector_bytes)
        aligned = isinstance(self.width, int) and self.width % self.v_shape.width == 0
        self.packs_values = self.v_steps[1] != 1 or not aligned
        self.few = self.k_steps[0] == 1 and self.q_steps[1] == 1  # how few queries may read keys
        self._make_buffers()
        self.epilogue = Epilogue(step, context, self.sums, self.row, self.batch)
        self.inner = KernelText(self.epilogue.kernel, prelude, symbols)
        others = [x for x in self.epilogue.kernel.reads if x is not self.sums]
        views = [self.q, self.k, self.v, *(m for m, _ in self.masks)]
        self.reads = tuple(dict.fromkeys((*(x.buffer for x in views), *others)))
        self.writes = self.epilogue.kernel.writes
        self.notes = self.epilogue.kernel.notes
        self.down = (self.length + (_ROWS - 1)) // _ROWS
        self._body = self._driver()
        batch = product(tuple(a.extent for a in self.batch))
        work = self.depth + self.width + 4  # of a score, in products of vectors
        cost = batch * self.length * self.keys * work * 200 // self.shape.lanes
        self.phases: tuple[Phase, ...] = (Phase("", batch * self.down, cost),)

    def _make_buffers(self) -> None:
        tile, row = self.shape.width, self.v_shape.width
        panels = (self.keys + (tile - 1)) // tile * tile
        values = (self.width + (row - 1)) // row * row
        assert isinstance(values, int)
        self.row = values  # of sums
        self.panels = Buffer(float32, self.depth * panels, "keys in panels")
        self.values = Buffer(float32, self.keys * values, "values in panels")
        self.scores = Buffer(float32, _ROWS * _KEYS, "scores")
        self.sums = Buffer(float32, _ROWS * values, "weighted sums of values")
        packed = (self.values,) if self.packs_values else ()
        self.own: tuple[Buffer, ...] = (self.panels, *packed, self.scores, self.sums)

    @property
    def arguments(self) -> tuple[str, ...]:
        return sizes_used(self.sizes, self.inner.sizes)

    # -- text -------------------------------------------------------------------------------------

    def text(self, name: str) -> str:
        """The epilogue, and the function that goes over the blocks of queries."""
        names = self._names()
        head = parameters(self, names)
        extra = [*map(str, self.epilogue.counters), "rows", "columns"]
        return (
            f"{self.inner.text(f'{name}_epilogue', extra)}\n"
            f"static void {name}({head}) {{\n"
            f"{self._body.replace('EPILOGUE', f'{name}_epilogue')}\n}}"
        )

    def _names(self) -> dict[Buffer, str]:
        return {x: f"b{i}" for i, x in enumerate((*self.reads, *self.writes, *self.own))}

    def _driver(self) -> str:
        s, names = self.sizes, self._names()
        length, keys, down = s(self.length), s(self.keys), s(self.down)
        views = {"q": self.q, "k": self.k, "v": self.v}
        views |= {f"mask{i}": m for i, (m, _) in enumerate(self.masks)}
        lines = ["i64 packed = -1;  // whose keys are in panels at present"]
        lines.append("for (i64 task = first; task < last; task++) {")
        lines.append(f"  const i64 top = task % {down} * {_ROWS}, head = task / {down};")
        lines.append(f"  const i64 bottom = top + {_ROWS} < {length} ? top + {_ROWS} : {length};")
        rest = "head"
        for axis in reversed(self.batch):
            lines.append(f"  const i64 {axis} = {rest} % {s(axis.extent)};")
            rest = f"{rest} / {s(axis.extent)}"
        for name, view in views.items():
            kind, buffer = memory(view.buffer.dtype), names[view.buffer]
            lines.append(f"  const {kind} *{name} = {buffer} + {index_text(view.at, s, {})};")
        lines += ["  " + x for x in self._packing()]
        lines.append(f"  f32 most[{_ROWS}], total[{_ROWS}];")
        lines.append(f"  for (i64 r = 0; r < {_ROWS}; r++) most[r] = -__builtin_inff();")
        lines.append("  memset(total, 0, sizeof total);")
        lines.append("  int more = 0;  // whether a block of keys came before")
        lines.append(f"  for (i64 k0 = 0, k1; k0 < {keys}; k0 = k1) {{")
        lines.append(f"    k1 = k0 + {_KEYS} < {keys} ? k0 + {_KEYS} : {keys};")
        lines += ["    " + x for x in self._skipped()]
        lines += ["    " + x for x in (*self._products(), *self._weights(), *self._sums())]
        lines.append("    more = 1;")
        lines.append("  }")
        lines += ["  " + x for x in self._quotients()]
        lines.append(f"  {self._epilogue_call()}")
        lines.append("}")
        return "\n".join("  " + x for x in lines)

    def _packing(self) -> list[str]:
        """Keys and values in panels, unless the task before has left them there."""
        s, names = self.sizes, self._names()
        (krs, kcs), (vrs, vcs) = map(s, self.k_steps), map(s, self.v_steps)
        keys, depth = s(self.keys), s(self.depth)
        pack = column_packer(self.prelude, self.shape)
        lines = []
        few = f" && {s(self.length)} > {_FEW}" if self.few else ""
        one = f"{pack}(k, {krs}, {kcs}, {depth}, {keys}, {names[self.panels]});"
        lines.append(f"if (packed != head{few}) {one}")
        if self.packs_values:
            other = column_packer(self.prelude, self.v_shape)
            to = names[self.values]
            call = f"{other}(v, {vrs}, {vcs}, {keys}, {s(self.width)}, {to});"
            lines.append(f"if (packed != head) {call}")
        lines.append("packed = head;")
        return lines

    def _skipped(self) -> list[str]:
        """Passes by a block of keys that no query of the block sees, as in causal attention."""
        s, lines = self.sizes, []
        for i, (kind, (_, (rows, _))) in enumerate(
            zip(self.op.attributes()["masks"], self.masks, strict=True)
        ):
            if kind != "where":
                continue
            function = self.prelude.once("any_seen", _ANY_SEEN)
            count = "1" if rows == 0 else "bottom - top"
            start = f"mask{i} + top * {s(rows)} + k0"
            lines.append(f"if (!{function}({start}, {s(rows)}, {count}, k1 - k0)) continue;")
        return lines

    def _products(self) -> list[str]:
        """The scores of a block of keys, without their factor."""
        s, names, w = self.sizes, self._names(), self.shape.width
        depth, scores = s(self.depth), names[self.scores]
        (qrs, qcs), kcs = map(s, self.q_steps), s(self.k_steps[1])
        lines: list[str] = []
        if self.few:
            many, one = (dots_function(self.prelude, 1, c) for c in (8, 1))
            to = f"{scores} + (m - top) * {_KEYS} + p - k0, {_KEYS}, 0"
            lines.append(f"if ({s(self.length)} <= {_FEW}) {{")
            lines.append("  for (i64 m = top; m < bottom; m++) {")
            lines.append("    i64 p = k0;")
            for function, step in ((many, 8), (one, 1)):
                a, b = f"q + m * {qrs}, {qrs}", f"k + p * {kcs}, {kcs}"
                lines.append(f"    for (; p + {step} <= k1; p += {step})")
                lines.append(f"      {function}({a}, {b}, {depth}, {to});")
            lines += ["  }", "} else"]
        lines.append(f"for (i64 p = k0; p < k1; p += {w}) {{")
        unit = self.q_steps[1] == 1
        a = f"q + m * {qrs}, {qrs}, {qcs}"
        b = f"{names[self.panels]} + p * {depth}, {w}, {depth}"
        to = f"{scores} + (m - top) * {_KEYS} + p - k0, {_KEYS}, 0"
        lines += self._tiles(f"{a}, {b}, {to}", self.shape, unit)
        lines.append("}")
        return lines

    def _tiles(self, arguments: str, shape: Shape, unit: bool) -> list[str]:
        """Tiles down the block of queries."""
        tall = shape.rows
        lines = ["  for (i64 m = top, rows; m < bottom; m += rows) {"]
        lines.append(f"    const i64 tiles = (bottom - m + {tall - 1}) / {tall};")
        lines.append("    rows = (bottom - m + tiles - 1) / tiles;  // tiles of about one height")
        lines.append("    switch (rows) {")
        for h in heights(self.length, _ROWS, tall):
            function = product_tile(self.prelude, h, shape, unit)
            lines.append(f"      case {h}: {function}({arguments}); break;")
        return [*lines, "    }", "  }"]

    def _weights(self) -> list[str]:
        """Scores to weights: factor, masks, exponentials; and what the rows have so far."""
        names, s = self._names(), self.sizes
        function = self._row_function()
        masks = [
            f", mask{i} + (top + r) * {s(rs)} + k0" for i, (_, (rs, _)) in enumerate(self.masks)
        ]
        factors = ", ".join(literal(x, float32) for x in (self._scale(), self._cap()))
        row = f"{names[self.scores]} + r * {_KEYS}, k1 - k0, {factors}"
        sums = f"{names[self.sums]} + r * {self.row}, {self.row}, more"
        return [
            "for (i64 r = 0; r < bottom - top; r++)",
            f"  {function}({row}, most + r, total + r, {sums}{''.join(masks)});",
        ]

    def _scale(self) -> float:
        return float(self.op.attributes()["scale"])

    def _cap(self) -> float:
        return float(self.op.attributes()["cap"])

    def _sums(self) -> list[str]:
        """Weights times values."""
        s, names, w = self.sizes, self._names(), self.v_shape.width
        vrs, width, keys = s(self.v_steps[0]), s(self.width), s(self.keys)
        b = f"v + k0 * {vrs} + p, {vrs}"
        if self.packs_values:
            b = f"{names[self.values]} + p * {keys} + k0 * {w}, {w}"
        a = f"{names[self.scores]} + (m - top) * {_KEYS}, {_KEYS}, 1"
        to = f"{names[self.sums]} + (m - top) * {self.row} + p, {self.row}, more"
        lines = [f"for (i64 p = 0; p < {width}; p += {w}) {{"]
        lines += self._tiles(f"{a}, {b}, k1 - k0, {to}", self.v_shape, True)
        return [*lines, "}"]

    def _quotients(self) -> list[str]:
        names = self._names()
        sums, row, keys = names[self.sums], self.row, self.sizes(self.keys)
        inverse = "1.0f / total[r]"
        if self.op.attributes()["zero_empty"]:
            inverse = f"total[r] == 0 ? 0 : {inverse}"
        return [
            f"if (!more) memset({sums}, 0, {_ROWS * row * 4});",
            f"if ({keys} > 0) for (i64 r = 0; r < bottom - top; r++) {{",
            f"  const f32 inverse = {inverse};",
            f"  for (i64 j = 0; j < {row}; j++) {sums}[r * {row} + j] *= inverse;",
            "}",
        ]

    def _epilogue_call(self) -> str:
        names, kernel = self._names(), self.epilogue.kernel
        args = [names[x] for x in (*kernel.reads, *kernel.writes)]
        args += [n for n in self.inner.sizes.used if n not in ("rows", "columns")]
        counters = [*map(str, self.batch), "top", "0", "bottom - top", self.sizes(self.width)]
        return f"EPILOGUE({', '.join([*args, *counters])});"

    # -- a row ------------------------------------------------------------------------------------

    def _row_function(self) -> str:
        """The function that turns a row of scores into weights."""
        p, w = self.prelude, self.shape.lanes
        v = p.vector("f32", w)
        load, store, splat, sel = (f("f32", w) for f in (p.load, p.store, p.splat, p.sel))
        largest, one = p.extremum("max", "f32", w), p.extremum("max", "f32", 1)
        first, exp = p.first("i32", w), p.math("exp_nonpositive", "f32", w)
        scalar_exp = p.math("exp_nonpositive", "f32", 1)
        kinds = self.op.attributes()["masks"]
        capped = ""
        if self._cap():
            capped = f"y = {p.math('tanh', 'f32', w)}(y) * {splat}(cap);"
        name = "_".join(["weights", *(["capped"] if capped else []), *kinds, v])
        parameters = ""
        whole: list[str] = []
        some: list[str] = []
        for i, (kind, (view, _)) in enumerate(zip(kinds, self.masks, strict=True)):
            type_ = memory(view.buffer.dtype)
            parameters += f", const {type_} *mask{i}"
            for lines, read, count in (
                (whole, p.load(type_, w), ""),
                (some, p.load_some(type_, w), ", n - j"),
            ):
                mask = f"{read}(mask{i} + j{count})"
                if kind == "add":
                    lines.append(f"y = y + {mask};")
                else:
                    assert view.buffer.dtype is bool_
                    chosen = f"__builtin_convertvector({mask}, {p.vector('i32', w)}) != 0"
                    lines.append(f"y = {sel}({chosen}, y, {splat}(-__builtin_inff()));")
        text = f"""
// Scores x to weights e**(y + mask - most), where y is x * scale or cap * tanh(x * scale) and most
// the largest so far, which grows and then scales down the row's total and its sums of values.
static void {name}(f32 *restrict x, i64 n, f32 scale, f32 cap, f32 *restrict most,
                   f32 *restrict total, f32 *restrict sums, i64 width, int more{parameters}) {{
  {v} top = {splat}(-__builtin_inff()), sum = {{0}};
  i64 j = 0;
  for (; j + {w} <= n; j += {w}) {{
    {v} y = {load}(x + j) * {splat}(scale);
    {capped}{" ".join(whole)}
    {store}(x + j, y);
    top = {largest}(top, y);
  }}
  if (j < n) {{
    {v} y = {load}(x + j) * {splat}(scale);
    {capped}{" ".join(some)}
    y = {sel}({first}(n - j), y, {splat}(-__builtin_inff()));
    {store}(x + j, y);
    top = {largest}(top, y);
  }}
  const f32 before = *most, now = {one}(before, {p.fold_lanes("max", "f32", w)}(top));
  const f32 base = now == -__builtin_inff() ? 0 : now;  // a row without a key so far
  for (j = 0; j < n; j += {w}) {{
    const {v} y = {exp}({load}(x + j) - {splat}(base));
    {store}(x + j, y);
    sum = sum + y;
  }}
  const f32 factor = {scalar_exp}(before - base);
  *total = *total * factor + {p.fold_lanes("sum", "f32", w)}(sum);
  *most = now;
  if (more && before != now)
    for (j = 0; j < width; j++) sums[j] *= factor;
}}"""
        return p.once(name, text)
