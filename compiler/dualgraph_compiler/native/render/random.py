"""The random stream: Philox4x32-10.

J. K. Salmon, M. A. Moraes, R. O. Dror, D. E. Shaw, "Parallel random numbers: as easy as 1, 2, 3"
(SC 2011).
"""

from __future__ import annotations

from .prelude import Prelude

# The product of the low halves of 64-bit lanes, which the processor has an instruction for.
_PRODUCT = {
    4: ("__AVX2__", "(u64x4)__builtin_ia32_pmuludq256((i32x8)a, (i32x8)b)"),
    2: ("__SSE2__", "(u64x2)__builtin_ia32_pmuludq128((i32x4)a, (i32x4)b)"),
}
_ROUNDS = 10


def philox(prelude: Prelude, lanes: int, groups: int) -> str:
    """The name of a function that makes blocks of four words: one for each lane of each group.

    It takes the blocks' numbers, and gives the words of one group behind those of another. Words
    are kept in 64-bit lanes, where one product gives both the high and the low half; what the upper
    halves hold between two rounds does not matter. A round waits for the one before, so groups go
    side by side.
    """
    v = prelude.vector("u64", lanes)
    i = prelude.vector("i64", lanes)
    product, splat = _product(prelude, lanes), prelude.splat("u64", lanes)
    # A comparison is 1 for a number and -1 for a lane.
    carry = "(at{0} < offset)" if lanes == 1 else f"-({v})(at{{0}} < {splat}(offset))"
    lines = []
    for g in range(groups):
        lines += [
            f"const {v} at{g} = ({v})block{g} + {splat}(offset);",
            f"{v} a{g} = at{g}, b{g} = at{g} >> 32, c{g} = {carry.format(g)}, d{g} = {splat}(0);",
        ]
    for number in range(_ROUNDS):
        keys = (f"k0 + {number} * 0x9E3779B9u", f"k1 + {number} * 0xBB67AE85u")
        lines += [f"const {v} x{number} = {splat}({keys[0]}), y{number} = {splat}({keys[1]});"]
        for g in range(groups):
            name = f"{g}_{number}"
            lines += [
                f"const {v} m{name} = {product}(a{g}, first), n{name} = {product}(c{g}, second);",
                f"a{g} = (n{name} >> 32) ^ b{g} ^ x{number}, b{g} = n{name};",
                f"c{g} = (m{name} >> 32) ^ d{g} ^ y{number}, d{g} = m{name};",
            ]
    for g in range(groups):
        words = (f"words[{4 * g + j}] = {x}{g} & low" for j, x in enumerate("abcd"))
        lines.append(f"{', '.join(words)};")
    body = "\n  ".join(lines)
    blocks = ", ".join(f"{i} block{g}" for g in range(groups))
    name = f"philox{groups}_{v}"
    text = f"""
// Words of the blocks `offset` + `block` of a random stream: Philox4x32-10 (Salmon et al. 2011).
static inline __attribute__((always_inline)) void {name}(
    u64 seed, u64 offset, {blocks}, {v} *words) {{
  const {v} low = {splat}(0xFFFFFFFF), first = {splat}(0xD2511F53), second = {splat}(0xCD9E8D57);
  const u32 k0 = (u32)seed, k1 = (u32)(seed >> 32);
  {body}
}}"""
    return prelude.once(name, text)


def _product(prelude: Prelude, lanes: int) -> str:
    v = prelude.vector("u64", lanes)
    plain = "return (a & 0xFFFFFFFF) * (b & 0xFFFFFFFF);"
    body = plain
    if lanes in _PRODUCT:
        prelude.vector("i32", 2 * lanes)
        feature, fast = _PRODUCT[lanes]
        body = f"""
#if defined({feature}) && !defined(__clang__)
  return {fast};
#else
  {plain}
#endif
"""
    text = f"static inline {v} product32_{v}({v} a, {v} b) {{{body}}}"
    return prelude.once(f"product32_{v}", text)
