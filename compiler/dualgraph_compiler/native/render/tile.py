"""The inner kernels of matrix products and convolutions: tiles of sums in registers."""

from __future__ import annotations

from dataclasses import dataclass

from ...dims import DimLike
from .prelude import Prelude


def tile_shape(vector_bytes: int) -> tuple[int, int]:
    """Rows and vectors of a tile: what fits the registers, 32 with AVX-512 and 16 else."""
    return (12, 2) if vector_bytes == 64 else (6, 2)


# Rows of a tile, by its width in vectors: sums, a row of B and one number of A fit the registers.
_TALLEST = {16: {1: 12, 2: 6}, 32: {1: 24, 2: 12, 3: 9, 4: 6}}


@dataclass(frozen=True, slots=True)
class Shape:
    """A tile of a matrix product: at most so many rows, by so many vectors of so many lanes.

    `type` is that of an element, "f32", or "i32" for words of two int16.
    """

    rows: int
    vectors: int
    lanes: int
    type: str = "f32"

    @property
    def width(self) -> int:
        """Columns of a tile."""
        return self.vectors * self.lanes


def product_shape(columns: DimLike, vector_bytes: int, type: str = "f32") -> Shape:
    """The tile for products of so many columns: the widest of those that waste the fewest."""
    tallest = _TALLEST[32 if vector_bytes == 64 else 16]
    lanes = vector_bytes // 4
    widths = sorted(tallest, reverse=True)
    if isinstance(columns, int):
        n = max(1, columns)
        best = min(widths, key=lambda v: -(-n // (v * lanes)) * (v + 0.1))
    else:
        best = widths[0]
    return Shape(tallest[best], best, lanes, type)


def heights(rows: DimLike, block: int, tallest: int) -> list[int]:
    """The heights of tiles where blocks of rows are cut into tiles of about one height."""
    if not isinstance(rows, int):
        return list(range(1, tallest + 1))
    found: set[int] = set()
    for left in {min(block, rows), rows % block}:
        while left:
            tiles = -(-left // tallest)
            found.add(-(-left // tiles))
            left -= -(-left // tiles)
    return sorted(found)


def product_tile(
    prelude: Prelude, rows: int, shape: Shape, unit: bool, begins: bool = False
) -> str:
    """The function of a tile of `rows` rows: its sums over k are stored in C, or added to it.

    Element (i, s) of A is at ``i * rs + s * cs``, where `unit` says that cs is 1; row s of B begins
    at ``s * bs``; row i of C at ``i * ld``, and `more` says that C holds sums already. Where
    `begins`, sums that C does not hold begin from rows at ``from + i * fs``.
    """
    w, vectors, t = shape.lanes, shape.vectors, shape.type
    v = prelude.vector(t, w)
    load, store = prelude.load(t, w), prelude.store(t, w)
    splat, fma = prelude.splat(t, w), prelude.multiply_add(t, w)
    hold = prelude.hold()
    # Few rows are few sums: steps of k keep sums of their own, so that none waits.
    steps = max(1, 8 // (rows * vectors))
    name = f"product{rows}_{vectors}{v}" + "_unit" * unit + "_from" * begins
    lines = [f"static __attribute__((noinline)) void {name}("]
    lines.append(
        f"    const {t} *restrict a, i64 rs, i64 cs, const {t} *restrict b, i64 bs, i64 k,"
    )
    begin = f", const {t} *restrict from, i64 fs" if begins else ""
    lines.append(f"    {t} *restrict c, i64 ld, int more{begin}) {{")
    for u in range(steps):
        for i in range(rows):
            row = ", ".join(f"c{u}_{i}_{j} = {{0}}" for j in range(vectors))
            lines.append(f"  {v} {row};")
    lines += [f"  const {t} *a{i} = a + {i} * rs;" for i in range(rows)]
    lines.append("  i64 s = 0;")

    def step(u: int) -> list[str]:
        row = "b" if u == 0 else f"b + {u} * bs"
        out = [f"    {v} x{u}_{j} = {load}({row} + {j * w});" for j in range(vectors)]
        # Compilers would load a number anew for each row that it serves.
        out += [f"    {hold}(x{u}_{j});" for j in range(vectors if rows > 1 else 0)]
        for i in range(rows):
            place = f"a{i}[s + {u}]" if unit else f"a{i}[(s + {u}) * cs]"
            out.append(f"    const {v} y{u}_{i} = {splat}({place});")
            sums = [f"c{u % steps}_{i}_{j}" for j in range(vectors)]
            out += [f"    {c} = {fma}(x{u}_{j}, y{u}_{i}, {c});" for j, c in enumerate(sums)]
        return out

    # Words take two instructions for a float's one, so that those of the loop itself count.
    turn = max(steps, 8) if t == "i32" else steps
    lines.append(f"  for (; s + {turn} <= k; s += {turn}, b += {turn} * bs) {{")
    for u in range(turn):  # which few rows do not leave the time for
        places = [f"b + {16 + u} * bs + {j}" for j in range(0, shape.width, 16)]
        lines += [f"    __builtin_prefetch({x});" for x in places]
    for u in range(turn):
        lines += step(u)
    lines.append("  }")
    if turn > 1:
        lines.append("  for (; s < k; s++, b += bs) {")
        lines += step(0)
        lines.append("  }")
    for i in range(rows):
        for j in range(vectors):
            total = " + ".join(f"c{u}_{i}_{j}" for u in range(steps))
            place = f"c + {i} * ld + {j * w}"
            zero = f"{load}(from + {i} * fs + {j * w})" if begins else f"({v}){{0}}"
            before = f"(more ? {load}({place}) : {zero})"
            lines.append(f"  {store}({place}, {before} + {total});")
    lines.append("}")
    return prelude.once(name, "\n".join(lines))


def row_streams(shape: Shape) -> int:
    """How many panels a row is multiplied by at a time: as many as give sums that none waits for.

    Each is a stream of its own, and one alone does not keep as many lines on their way from a far
    cache; from more than four, hardware does not fetch ahead.
    """
    return max(2, min(4, 8 // shape.vectors))


def row_of_panels(prelude: Prelude, shape: Shape) -> str:
    """The function that multiplies one row of A by `row_streams` panels of B, `apart` elements
    apart.

    Sums of the panels go to places of `c` that are `part` elements apart; `more` as for a tile.
    """
    w, vectors, t = shape.lanes, shape.vectors, shape.type
    v = prelude.vector(t, w)
    load, store = prelude.load(t, w), prelude.store(t, w)
    splat, fma = prelude.splat(t, w), prelude.multiply_add(t, w)
    streams = row_streams(shape)
    name = f"row{streams}_{vectors}{v}"
    steps = max(1, 8 // (streams * vectors))
    cells = [(i, j) for i in range(streams) for j in range(vectors)]
    lines = [f"static __attribute__((noinline)) void {name}("]
    lines.append(f"    const {t} *restrict a, const {t} *restrict b, i64 apart, i64 k,")
    lines.append(f"    {t} *restrict c, i64 part, int more) {{")
    lines += [f"  {v} c{u}_{i}_{j} = {{0}};" for u in range(steps) for i, j in cells]
    lines.append("  i64 s = 0;")

    def step(u: int) -> list[str]:
        out = [f"    const {v} y{u} = {splat}(a[s + {u}]);"]
        for i, j in cells:
            place = f"b + {i} * apart + {u * shape.width + j * w}"
            out.append(f"    c{u}_{i}_{j} = {fma}({load}({place}), y{u}, c{u}_{i}_{j});")
        return out

    for count in dict.fromkeys((steps, 1)):
        lines.append(f"  for (; s + {count} <= k; s += {count}, b += {count * shape.width}) {{")
        for u in range(count):
            lines += step(u)
        lines.append("  }")
    for i, j in cells:
        total = " + ".join(f"c{u}_{i}_{j}" for u in range(steps))
        place = f"c + {i} * part + {j * w}"
        lines.append(f"  {store}({place}, (more ? {load}({place}) : ({v}){{0}}) + {total});")
    lines.append("}")
    return prelude.once(name, "\n".join(lines))


def dots_function(prelude: Prelude, rows: int, columns: int, t: str = "f32") -> str:
    """The function of a tile of dot products, for operands that are contiguous along k.

    Row i of A begins at ``i * rs``, column j of B at ``j * cs``; C and `more` as for a product's
    tile.
    """
    w = prelude.vector_bytes // 4
    v = prelude.vector(t, w)
    load, some = prelude.load(t, w), prelude.load_some(t, w)
    fma, total = prelude.multiply_add(t, w), prelude.fold_lanes("sum", t, w)
    name = f"dots{rows}x{columns}_{v}"
    cells = [(i, j) for i in range(rows) for j in range(columns)]
    steps = max(1, 8 // len(cells))
    lines = [f"static __attribute__((noinline)) void {name}("]
    lines.append(f"    const {t} *restrict a, i64 rs, const {t} *restrict b, i64 cs, i64 k,")
    lines.append(f"    {t} *restrict c, i64 ld, int more) {{")
    lines += [f"  {v} c{u}_{i}_{j} = {{0}};" for u in range(steps) for i, j in cells]
    lines.append("  i64 s = 0;")

    def step(u: int, read: str, more: str) -> list[str]:
        at = f"s + {u * w}" if u else "s"
        out = [f"    const {v} x{u}_{i} = {read}(a + {i} * rs + {at}{more});" for i in range(rows)]
        out += [
            f"    const {v} y{u}_{j} = {read}(b + {j} * cs + {at}{more});" for j in range(columns)
        ]
        return out + [
            f"    c{u}_{i}_{j} = {fma}(x{u}_{i}, y{u}_{j}, c{u}_{i}_{j});" for i, j in cells
        ]

    for count in dict.fromkeys((steps, 1)):
        lines.append(f"  for (; s + {count * w} <= k; s += {count * w}) {{")
        for u in range(count):
            lines += step(u, load, "")
        lines.append("  }")
    lines += ["  if (s < k) {", *step(0, some, ", k - s"), "  }"]
    for i, j in cells:
        sums = " + ".join(f"c{u}_{i}_{j}" for u in range(steps))
        place = f"c[{i} * ld + {j}]"
        lines.append(f"  {place} = (more ? {place} : 0) + {total}({sums});")
    lines.append("}")
    return prelude.once(name, "\n".join(lines))


def tile_function(prelude: Prelude, rows: int, unit: bool) -> str:
    """The function that multiplies `rows` rows of A by one panel; `unit`: A's rows are adjacent."""
    w, vectors = prelude.vector_bytes // 4, tile_shape(prelude.vector_bytes)[1]
    v = prelude.vector("f32", w)
    load, store = prelude.load("f32", w), prelude.store("f32", w)
    splat = prelude.splat("f32", w)
    fma = prelude.fused_multiply_add(w)
    # Few rows are few sums: steps of k keep sums of their own, so that none waits.
    steps = max(1, 8 // (rows * vectors))
    name = f"tile{rows}_{v}" + ("_unit" if unit else "")
    lines = [f"static void {name}("]
    lines.append("    const f32 *restrict a, i64 rs, i64 cs, const f32 *restrict b, i64 k,")
    lines.append("    f32 *restrict tile) {")
    sums = [(u, i, j) for u in range(steps) for i in range(rows) for j in range(vectors)]
    lines += [f"  {v} c{u}_{i}_{j} = {{0}};" for u, i, j in sums]
    lines += [f"  const f32 *a{i} = a + {i} * rs;" for i in range(rows)]
    lines.append("  i64 s = 0;")

    def step(u: int) -> list[str]:
        out = [
            f"    const {v} x{u}_{j} = {load}(b + {(u * vectors + j) * w});" for j in range(vectors)
        ]
        for i in range(rows):
            place = f"a{i}[s + {u}]" if unit else f"a{i}[(s + {u}) * cs]"
            out.append(f"    const {v} y{u}_{i} = {splat}({place});")
            out += [
                f"    c{u}_{i}_{j} = {fma}(x{u}_{j}, y{u}_{i}, c{u}_{i}_{j});"
                for j in range(vectors)
            ]
        return out

    lines.append(f"  for (; s + {steps} <= k; s += {steps}, b += {steps * vectors * w}) {{")
    for u in range(steps):
        lines += step(u)
    lines.append("  }")
    if steps > 1:
        lines.append(f"  for (; s < k; s++, b += {vectors * w}) {{")
        lines += step(0)
        lines.append("  }")
    for i in range(rows):
        for j in range(vectors):
            total = " + ".join(f"c{u}_{i}_{j}" for u in range(steps))
            lines.append(f"  {store}(tile + {i * vectors * w + j * w}, {total});")
    lines.append("}")
    return prelude.once(name, "\n".join(lines))
