"""The inner kernel of matrix products and convolutions: a tile of sums in registers."""

from __future__ import annotations

from ...dims import DimLike
from .prelude import Prelude


def tile_shape(vector_bytes: int) -> tuple[int, int]:
    """Rows and vectors of a tile: what fits the registers, 32 with AVX-512 and 16 else."""
    return (12, 2) if vector_bytes == 64 else (6, 2)


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
