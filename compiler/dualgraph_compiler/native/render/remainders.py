"""Remainders of float32 in vectors, by a division in float64.

Where the quotient is below 2^28, the truncated one times the divisor is exact in float64, and so is
the remainder; rounding can only make the quotient an integer that is one too large. Other groups
(and those with a divisor of 0, infinities or NaN) are left to the C library.
"""

from __future__ import annotations

# V, I, D: vectors of as many float32, int32, float64; N: how many.
FMOD = """\
static inline V fmod_V(V a, V b) {
  const V t = a / b;
  if (any_V(~((t < 268435456.0f) & (t > -268435456.0f) & (b - b == 0)))) {
    V y = {0};
    for (int l = 0; l < N; l++) y[l] = fmodf(a[l], b[l]);
    return y;
  }
  const D x = __builtin_convertvector(a, D), y = __builtin_convertvector(b, D);
  D r = x - __builtin_convertvector(__builtin_convertvector(x / y, I), D) * y;
  r = sel_D(r * x < 0, sel_D((x < 0) != (y < 0), r - y, r + y), r);
  const I sign = splat_I((i32)0x80000000u);
  return (V)(((I)__builtin_convertvector(r, V) & ~sign) | ((I)a & sign));
}"""

# NumPy's: of the divisor's sign.
REMAINDER = """\
static inline V remainder_V(V a, V b) {
  const V r = fmod_V(a, b);
  const I sign = splat_I((i32)0x80000000u);
  const V none = (V)((I)b & sign);
  const V y = sel_V((r != 0) & ((b < 0) != (r < 0)), r + b, r);
  return sel_V((r == 0) & (b != 0), none, y);
}"""
