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


def philox(prelude: Prelude, lanes: int) -> str:
    """The name of a function that makes blocks of four words: one for each lane.

    Words are kept in 64-bit lanes, where one product gives both the high and the low half.
    """
    v = prelude.vector("u64", lanes)
    i = prelude.vector("i64", lanes)
    product = _product(prelude, lanes)
    splat = prelude.splat("u64", lanes)
    # A comparison is 1 for a number and -1 for a lane.
    carry = "(at < offset)" if lanes == 1 else f"-({v})(at < {splat}(offset))"
    rounds = f"""
    const {v} a = {product}(c0, m0), b = {product}(c2, m1);
    c0 = (b >> 32) ^ c1 ^ {splat}(k0), c1 = b & low;
    c2 = (a >> 32) ^ c3 ^ {splat}(k1), c3 = a & low;
    k0 = (k0 + 0x9E3779B9) & 0xFFFFFFFF, k1 = (k1 + 0xBB67AE85) & 0xFFFFFFFF;"""
    text = f"""
// Words of the blocks `offset` + `block` of a random stream: Philox4x32-10 (Salmon et al. 2011).
static inline void philox_{v}(u64 seed, u64 offset, {i} block, {v} *words) {{
  const {v} low = {splat}(0xFFFFFFFF), m0 = {splat}(0xD2511F53), m1 = {splat}(0xCD9E8D57);
  const {v} at = ({v})block + {splat}(offset);
  {v} c0 = at & low, c1 = at >> 32, c2 = {carry}, c3 = {splat}(0);
  u64 k0 = seed & 0xFFFFFFFF, k1 = seed >> 32;
  for (int round = 0; round < 10; round++) {{{rounds}
  }}
  words[0] = c0, words[1] = c1, words[2] = c2, words[3] = c3;
}}"""
    return prelude.once(f"philox_{v}", text)


def _product(prelude: Prelude, lanes: int) -> str:
    v = prelude.vector("u64", lanes)
    plain = "return a * b;"
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
