"""Operands of matrix products in the order that tiles read them in."""

from __future__ import annotations

from .prelude import Prelude
from .tile import Shape


def column_packer(prelude: Prelude, shape: Shape) -> str:
    """The function that puts B in panels: to[panel][k][column], zeros behind the last column."""
    width, lanes, t = shape.width, shape.lanes, shape.type
    v = prelude.vector(t, lanes)
    load, store = prelude.load(t, lanes), prelude.store(t, lanes)
    turned = "\n".join(f"      x[{u}] = {load}(b + (j + {u}) * cs + i);" for u in range(lanes))
    put = "\n".join(f"      {store}(panel + (i + {u}) * {width}, x[{u}]);" for u in range(lanes))
    name = f"pack_columns_{shape.vectors}{v}"
    text = f"""
// Element (i, j) of B is at i * rs + j * cs.
static void {name}(const {t} *b, i64 rs, i64 cs, i64 k, i64 n, {t} *to) {{
  const i64 whole = n / {width} * {width};
  if (whole < n) memset(to + whole * k, 0, (size_t)k * {width * 4});
  if (cs == 1) {{
    for (i64 i = 0; i < k; i++) {{
      for (i64 p = 0; p < whole; p += {width}) {{
        __builtin_prefetch(b + (i + 8) * rs + p);
        memcpy(to + p * k + i * {width}, b + i * rs + p, {width * 4});
      }}
      for (i64 j = whole; j < n; j++) to[whole * k + i * {width} + j - whole] = b[i * rs + j];
    }}
    return;
  }}
  const i64 square = rs == 1 ? k / {lanes} * {lanes} : 0;  // rows that are turned round in squares
  for (i64 j = 0; j < n; j += {lanes}) {{
    {t} *const panel = to + j / {width} * {width} * k + j % {width};
    const i64 columns = n - j < {lanes} ? n - j : {lanes};
    i64 i = 0;
    for (; i < square && columns == {lanes}; i += {lanes}) {{
      {v} x[{lanes}];
{turned}
      {prelude.transpose(t, lanes)}(x);
{put}
    }}
    for (; i < k; i++)
      for (i64 l = 0; l < columns; l++) panel[i * {width} + l] = b[i * rs + (j + l) * cs];
  }}
}}"""
    return prelude.once(name, text)


def row_packer(prelude: Prelude, rows: int, t: str = "f32") -> str:
    """The function that puts `rows` rows of A side by side: to[k][row]."""
    name = f"pack_rows_{rows}_{t}"
    text = f"""
// Element (i, s) of A is at i * rs + s * cs.
static void {name}(const {t} *a, i64 rs, i64 cs, i64 k, {t} *to) {{
  if (rs == 1) {{
    for (i64 s = 0; s < k; s++) memcpy(to + s * {rows}, a + s * cs, {rows * 4});
    return;
  }}
  for (i64 s = 0; s < k; s++)
    for (i64 i = 0; i < {rows}; i++) to[s * {rows} + i] = a[i * rs + s * cs];
}}"""
    return prelude.once(name, text)


def turner(prelude: Prelude, lanes: int) -> str:
    """The function that turns a block round: to[j][i] = from[i][j]."""
    v = prelude.vector("f32", lanes)
    load, store = prelude.load("f32", lanes), prelude.store("f32", lanes)
    read = "\n".join(f"      x[{u}] = {load}(from + (i + {u}) * width + j);" for u in range(lanes))
    put = "\n".join(f"      {store}(to + (j + {u}) * ld + i, x[{u}]);" for u in range(lanes))
    name = f"turn_{v}"
    text = f"""
// Rows of `from` are `width` apart, those of `to` `ld`.
static void {name}(const f32 *from, i64 width, i64 rows, i64 columns, f32 *to, i64 ld) {{
  for (i64 i = 0; i < rows; i += {lanes})
    for (i64 j = 0; j < columns; j += {lanes}) {{
      if (rows - i < {lanes} || columns - j < {lanes}) {{
        for (i64 r = i; r < rows && r < i + {lanes}; r++)
          for (i64 c = j; c < columns && c < j + {lanes}; c++) to[c * ld + r] = from[r * width + c];
        continue;
      }}
      {v} x[{lanes}];
{read}
      {prelude.transpose("f32", lanes)}(x);
{put}
    }}
}}"""
    return prelude.once(name, text)
