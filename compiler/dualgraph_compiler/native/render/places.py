"""The inner kernel of convolutions in blocked layout: sums of a few places in registers.

A place is one position of the result; x is read at the place's offset plus that of a tap. So one
function serves every geometry: windows, strides, dilation and borders are in the two tables.
"""

from __future__ import annotations

from .prelude import Prelude

BLOCKS = 2  # blocks of channels that are computed together, where there are as many


def tallest(vector_bytes: int, blocks: int, t: str = "f32") -> int:
    """Places that fit the registers beside the weights and a broadcast: 16 registers, 32 from
    AVX-512 on. Words need one more, for products that are not added yet."""
    if t == "i32" and vector_bytes != 64:
        return 5 if blocks == 2 else 9
    if vector_bytes == 64:
        return 12 if blocks == 2 else 14
    return 6 if blocks == 2 else 10


def cuts(places: int, most: int) -> list[int]:
    """The heights of tiles when so many places are cut into tiles of about one height."""
    found: list[int] = []
    while places > 0:
        tiles = -(-places // most)
        found.append(-(-places // tiles))
        places -= found[-1]
    return found


def places_function(prelude: Prelude, places: int, blocks: int, unroll: int, t: str = "f32") -> str:
    """The function for a tile of `places` by `blocks`; `run` must be a multiple of `unroll`.

    ``sums[block][place][lane] += x[at[place] + taps[t] + s] * w[t][s][block][lane]`` over the
    taps t and s in [0, run); where `more` is 0 sums begin from zero. `step` is that of a block.
    """
    lanes = prelude.vector_bytes // 4
    v = prelude.vector(t, lanes)
    load, store = prelude.load(t, lanes), prelude.store(t, lanes)
    name = f"places{places}x{blocks}_{unroll}_{v}"
    cells = [(i, j) for i in range(places) for j in range(blocks)]
    sums, loop = sums_text(prelude, places, blocks, unroll, t)
    lines = [f"static __attribute__((noinline)) void {name}("]
    lines.append(f"    const {t} *restrict x, const i64 *restrict at, const i64 *restrict taps,")
    lines.append(f"    i64 count, i64 run, const {t} *restrict w, i64 more, {t} *restrict sums,")
    lines.append("    i64 step) {")
    lines += [f"  const {t} *x{i} = x + at[{i}];" for i in range(places)]
    lines += [*sums, "  if (more) {"]
    for i, j in cells:
        lines.append(f"    c{i}_{j} = {load}(sums + {_at(i, j, lanes)});")
    lines += ["  }", *loop]
    lines += [f"  {store}(sums + {_at(i, j, lanes)}, c{i}_{j});" for i, j in cells]
    lines.append("}")
    return prelude.once(name, "\n".join(lines))


def sums_text(
    prelude: Prelude, places: int, blocks: int, unroll: int, t: str
) -> tuple[list[str], list[str]]:
    """The definitions of a tile's sums ``c<place>_<block>``, and the loops over taps and runs."""
    lanes = prelude.vector_bytes // 4
    v = prelude.vector(t, lanes)
    load, splat, fma = (
        prelude.load(t, lanes),
        prelude.splat(t, lanes),
        prelude.multiply_add(t, lanes),
    )
    sums = [f"  {v} c{i}_{j} = {{0}};" for i in range(places) for j in range(blocks)]
    lines = ["  for (i64 t = 0; t < count; t++)"]
    lines.append(f"    for (i64 s = taps[t], end = s + run; s < end; s += {unroll}) {{")
    for u in range(unroll):
        for j in range(blocks):
            lines.append(f"      {v} w{u}_{j} = {load}(w + {(u * blocks + j) * lanes});")
            if (
                t == "i32" and prelude.vector_bytes != 64
            ):  # a compiler would read it anew for each place
                lines.append(f"      {prelude.hold()}(w{u}_{j});")
        for i in range(places):
            lines.append(f"      const {v} y{u}_{i} = {splat}(x{i}[s + {u}]);")
            for j in range(blocks):
                lines.append(f"      c{i}_{j} = {fma}(w{u}_{j}, y{u}_{i}, c{i}_{j});")
    lines.append(f"      w += {unroll * blocks * lanes};")
    return sums, [*lines, "    }"]


def _at(place: int, block: int, lanes: int) -> str:
    return f"{place * lanes}" + (" + step" if block else "")
