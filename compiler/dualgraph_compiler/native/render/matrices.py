"""Factorizations and triangular systems of matrices that lie row by row.

Right-looking and blocked: a panel of columns is finished, then taken off what is right of it by a
product with a tile in registers. Rows are what vectors go along. Source: Golub & Van Loan, Matrix
Computations, chapters 3 and 4; pivots and `info` are LAPACK's.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...dims import product
from ...dtypes import float32
from ...graph import Node, Value
from ..index import row_major
from ..loops import Buffer
from ..schedule import Context
from .plain import PlainRoutine
from .prelude import Prelude
from .types import Sizes, register

_PANEL = 16  # columns, or rows, of a block
_TILE = 4  # rows of a tile of the product


def less_product(prelude: Prelude, x: Value) -> str:
    """The function that takes a product off a matrix: c[m, n] -= a[m, k] b[k, n]."""
    t, lanes = register(x.dtype), prelude.vector_bytes // x.dtype.itemsize
    v, load, store = prelude.vector(t, lanes), prelude.load(t, lanes), prelude.store(t, lanes)
    some, put_some = prelude.load_some(t, lanes), prelude.store_some(t, lanes)
    splat = prelude.splat(t, lanes)
    fma = prelude.fused_multiply_add(lanes) if x.dtype is float32 else ""

    def add(a: str, b: str, c: str) -> str:
        return f"{fma}({a}, {b}, {c})" if fma else f"{c} + {a} * {b}"

    def tile(rows: int, columns: int, partial: bool) -> str:
        rest = ", n - j" if partial else ""
        read, write = (some, put_some) if partial else (load, store)
        cells = [(r, u) for r in range(rows) for u in range(columns)]
        lines = [f"{v} s{r}{u} = {read}(c + (i + {r}) * ldc + j + {u * lanes}{rest});"
                 for r, u in cells]  # fmt: skip
        lines.append("for (i64 p = 0; p < k; p++) {")
        lines += [f"  const {v} b{u} = {read}(b + p * ldb + j + {u * lanes}{rest});"
                  for u in range(columns)]  # fmt: skip
        for r in range(rows):
            lines.append(f"  const {v} a{r} = {splat}(-a[(i + {r}) * lda + p]);")
            lines += [f"  s{r}{u} = {add(f'a{r}', f'b{u}', f's{r}{u}')};" for u in range(columns)]
        lines.append("}")
        lines += [f"{write}(c + (i + {r}) * ldc + j + {u * lanes}, s{r}{u}{rest});"
                  for r, u in cells]  # fmt: skip
        return "\n".join(f"      {line}" for line in lines)

    def columns(count: int, partial: bool) -> str:
        return f"""\
    i64 i = 0;
    for (; i + {_TILE} <= m; i += {_TILE}) {{
{tile(_TILE, count, partial)}
    }}
    for (; i < m; i++) {{
{tile(1, count, partial)}
    }}"""

    name = f"less_product_{t}"
    text = f"""
static void {name}(const {t} *a, i64 lda, const {t} *b, i64 ldb, {t} *c, i64 ldc,
                   i64 m, i64 n, i64 k) {{
  i64 j = 0;
  for (; j + {2 * lanes} <= n; j += {2 * lanes}) {{
{columns(2, False)}
  }}
  for (; j + {lanes} <= n; j += {lanes}) {{
{columns(1, False)}
  }}
  if (j < n) {{
{columns(1, True)}
  }}
}}"""
    return prelude.once(name, text)


def _named(text: str, node: Node, prelude: Prelude) -> str:
    x = node.inputs[0]
    t = register(x.dtype)
    magnitude = f"__builtin_fabs{'f' if t == 'f32' else ''}"
    root = f"__builtin_sqrt{'f' if t == 'f32' else ''}"
    for name, value in (
        ("TYPE", t), ("PRODUCT", less_product(prelude, x)), ("PANEL", str(_PANEL)),
        ("SIZE", magnitude), ("ROOT", root),
    ):  # fmt: skip
        text = text.replace(name, value)
    return text


def lu_factor(
    node: Node, context: Context, prelude: Prelude, symbols: Mapping[str, int]
) -> PlainRoutine:
    """The routine of the factorization with partial pivoting."""
    routine = PlainRoutine(node, context, symbols)
    s = routine.sizes
    *batch, m, n = node.inputs[0].shape
    function = prelude.once(f"lu_{register(node.inputs[0].dtype)}", _named(_LU, node, prelude))
    body = f"""\
    const i64 m = {s(m)}, n = {s(n)}, least = m < n ? m : n;
    memcpy(y0 + task * m * n, a0 + task * m * n, (size_t)(m * n) * sizeof *y0);
    y2[task] = {function}(y0 + task * m * n, m, n, y1 + task * least);"""
    count = product(tuple(batch))
    return routine.does(body, count, count * (m * n * m * 30 + 20_000))


_LU = """
// P L U of a matrix in its place; gives the place of the first zero pivot, counted from 1, or 0.
static i32 lu_TYPE(TYPE *x, i64 m, i64 n, i32 *pivots) {
  const i64 least = m < n ? m : n;
  i32 info = 0;
  for (i64 start = 0; start < least; start += PANEL) {
    const i64 stop = start + PANEL < least ? start + PANEL : least;
    for (i64 j = start; j < stop; j++) {
      i64 best = j;
      TYPE most = SIZE(x[j * n + j]);
      for (i64 i = j + 1; i < m; i++) {
        const TYPE size = SIZE(x[i * n + j]);
        if (most == most && !(size <= most)) best = i, most = size;
      }
      pivots[j] = (i32)best + 1;
      if (best != j)
        for (i64 c = 0; c < n; c++) {
          const TYPE held = x[j * n + c];
          x[j * n + c] = x[best * n + c], x[best * n + c] = held;
        }
      const TYPE pivot = x[j * n + j];
      if (pivot == 0) {
        if (info == 0) info = (i32)j + 1;
        continue;
      }
      for (i64 i = j + 1; i < m; i++) x[i * n + j] /= pivot;
      PRODUCT(x + (j + 1) * n + j, n, x + j * n + j + 1, n, x + (j + 1) * n + j + 1, n,
              m - j - 1, stop - j - 1, 1);
    }
    if (stop == n) break;
    for (i64 i = start + 1; i < stop; i++)
      PRODUCT(x + i * n + start, n, x + start * n + stop, n, x + i * n + stop, n, 1, n - stop,
              i - start);
    PRODUCT(x + stop * n + start, n, x + start * n + stop, n, x + stop * n + stop, n, m - stop,
            n - stop, stop - start);
  }
  return info;
}"""


def cholesky(
    node: Node, context: Context, prelude: Prelude, symbols: Mapping[str, int]
) -> PlainRoutine:
    """The routine of the lower or upper factor."""
    op: Any = node.op
    routine = PlainRoutine(node, context, symbols)
    s = routine.sizes
    *batch, n, _ = node.inputs[0].shape
    dtype = node.inputs[0].dtype
    function = prelude.once(f"cholesky_{register(dtype)}", _named(_CHOLESKY, node, prelude))
    down = "j * n + i" if op.upper else "i * n + j"
    body = f"""\
    const i64 n = {s(n)};
    const {register(dtype)} *const a = a0 + task * n * n;
    {register(dtype)} *const y = y0 + task * n * n;
    for (i64 i = 0; i < n; i++)
      for (i64 j = 0; j < n; j++) m0[i * n + j] = j <= i ? a[{down}] : 0;
    const i64 bad = {function}(m0, n, m1);
    y1[task] = (i32)bad;
    for (i64 i = 0; i < n; i++)
      for (i64 j = 0; j < n; j++)
        y[{down}] = j > i ? 0 : bad && j >= bad - 1 ? a[{down}] : m0[i * n + j];"""
    own = (Buffer(dtype, n * n, "the factor"), Buffer(dtype, n * _PANEL, "a panel turned round"))
    count = product(tuple(batch))
    return routine.does(body, count, count * (n * n * n * 15 + 20_000), own)


_CHOLESKY = """
// The lower factor in the place of a matrix, whose upper triangle is spoilt; gives the order of the
// first leading minor that is not positive, or 0.
static i64 cholesky_TYPE(TYPE *x, i64 n, TYPE *turned) {
  for (i64 start = 0; start < n; start += PANEL) {
    const i64 stop = start + PANEL < n ? start + PANEL : n;
    for (i64 j = start; j < stop; j++) {
      if (!(x[j * n + j] > 0)) return j + 1;
      const TYPE root = ROOT(x[j * n + j]);
      x[j * n + j] = root;
      for (i64 i = j + 1; i < n; i++) x[i * n + j] /= root;
      for (i64 c = j + 1; c < stop; c++) turned[c - j - 1] = x[c * n + j];
      PRODUCT(x + (j + 1) * n + j, n, turned, PANEL, x + (j + 1) * n + j + 1, n, n - j - 1,
              stop - j - 1, 1);
    }
    const i64 rest = n - stop;
    for (i64 c = 0; c < rest; c++)
      for (i64 j = start; j < stop; j++) turned[(j - start) * rest + c] = x[(stop + c) * n + j];
    for (i64 i = 0; i < rest; i += PANEL) {  // as far as the diagonal
      const i64 rows = i + PANEL < rest ? PANEL : rest - i;
      PRODUCT(x + (stop + i) * n + start, n, turned, rest, x + (stop + i) * n + stop, n, rows,
              i + rows, stop - start);
    }
  }
  return 0;
}"""


def solve_triangular(
    node: Node, context: Context, prelude: Prelude, symbols: Mapping[str, int]
) -> PlainRoutine:
    """The routine of a triangular system with any number of right sides."""
    op: Any = node.op
    a, b = node.inputs
    routine = PlainRoutine(node, context, symbols)
    s, t = routine.sizes, register(a.dtype)
    *batch, n, k = node.output.shape
    text = _named(_SUBSTITUTE, node, prelude).replace("UPPER", str(int(op.upper)))
    text = text.replace("UNIT", str(int(op.unit)))
    name = f"substitute_{t}_{int(op.upper)}_{int(op.unit)}"
    function = prelude.once(name, text.replace("NAME", name))
    body = f"""\
    const i64 n = {s(n)}, k = {s(k)};
    {t} *const x = y0 + task * n * k;
    memcpy(x, a1 + ({_matrix(b, batch, s)}) * n * k, (size_t)(n * k) * sizeof *x);
    {function}(a0 + ({_matrix(a, batch, s)}) * n * n, n, x, k);"""
    count = product(tuple(batch))
    return routine.does(body, count, count * (n * n * k * 30 + 20_000))


def _matrix(x: Value, batch: Any, s: Sizes) -> str:
    """Which matrix of an operand is broadcast to that of ``task`` in a batch."""
    own = x.shape[:-2]
    dims = batch[len(batch) - len(own) :]
    parts = [
        f"task / {s(out)} % {s(d)} * {s(step)}"
        for d, out, step in zip(own, row_major(tuple(dims)), row_major(own), strict=True)
        if d != 1
    ]
    return " + ".join(parts) or "0"


_SUBSTITUTE = """
// The solution of a x = b in the place of b [n, k].
static void NAME(const TYPE *a, i64 n, TYPE *x, i64 k) {
  for (i64 done = 0; done < n; done += PANEL) {
    const i64 rows = done + PANEL < n ? PANEL : n - done;
    const i64 top = UPPER ? n - done - rows : done, known = UPPER ? top + rows : 0;
    PRODUCT(a + top * n + known, n, x + known * k, k, x + top * k, k, rows, k, done);
    for (i64 step = 0; step < rows; step++) {
      const i64 i = UPPER ? top + rows - 1 - step : top + step, from = UPPER ? i + 1 : top;
      PRODUCT(a + i * n + from, n, x + from * k, k, x + i * k, k, 1, k, step);
      if (!UNIT)
        for (i64 c = 0; c < k; c++) x[i * k + c] /= a[i * n + i];
    }
  }
}"""


def permutation(
    node: Node, context: Context, prelude: Prelude, symbols: Mapping[str, int]
) -> PlainRoutine:
    """The routine of the order that pivots bring rows into."""
    op: Any = node.op
    routine = PlainRoutine(node, context, symbols)
    s = routine.sizes
    *batch, k = node.inputs[0].shape
    status = prelude.index_error("pivots_to_permutation: index {} is out of range")
    at = f"{s(k)} - 1 - step" if op.inverse else "step"
    body = f"""\
    i64 *const order = y0 + task * {s(op.n)};
    for (i64 i = 0; i < {s(op.n)}; i++) order[i] = i;
    for (i64 step = 0; step < {s(k)}; step++) {{
      const i64 i = {at}, there = (i64)a0[task * {s(k)} + i] - 1;
      if (there < 0 || there >= {s(op.n)} || i >= {s(op.n)})
        return refuse_index({status}, there);
      const i64 held = order[i];
      order[i] = order[there], order[there] = held;
    }}"""
    count = product(tuple(batch))
    return routine.does(body, count, count * (op.n + k) * 2000)
