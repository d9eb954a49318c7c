"""Circular and hyperbolic functions and their inverses, in the manner of `math`.

Sources: argument reductions after Cody and Waite, Software Manual for the Elementary Functions
(1980); coefficients from S. Moshier's Cephes library.
"""

from __future__ import annotations

TRIGONOMETRY: dict[str, tuple[tuple[str, ...], str]] = {}


def _define(name: str, text: str, *needs: str) -> None:
    TRIGONOMETRY[name] = (needs, text)


# -- circular -------------------------------------------------------------------------------------

# pi/2 in pieces of 11 bits, whose products with up to 2**13 are exact, and a rest. Beyond that the
# C library is asked, lane by lane, which a whole vector of ordinary numbers never waits for.
_define(
    "reduced",
    """
// x - n * pi/2, for |x| <= 12800 and the nearest whole n.
static inline V reduced_S(V x, V n) {
  V r = fma_S(n, splat_S(-1.5703125f), x);
  r = fma_S(n, splat_S(-0.0004837512969970703f), r);
  r = fma_S(n, splat_S(-7.549533620476723e-08f), r);
  return fma_S(n, splat_S(-2.5633440682570896e-12f), r);
}""",
)
_define(
    "quarter",
    """
// sin(r + k * pi/2) for |r| <= pi/4.
static inline V quarter_S(V r, I k) {
  const V z = r * r;
  V s = splat_S(-1.9515295891e-4f);
  s = fma_S(s, z, splat_S(8.3321608736e-3f));
  s = fma_S(s, z, splat_S(-1.6666654611e-1f));
  s = fma_S(s * z, r, r);
  V c = splat_S(2.443315711809948e-5f);
  c = fma_S(c, z, splat_S(-1.388731625493765e-3f));
  c = fma_S(c, z, splat_S(4.166664568298827e-2f));
  c = fma_S(c * z, z, fma_S(z, splat_S(-0.5f), splat_S(1.0f)));
  return from_bits_S(bits_S(sel_S((k & 1) != 0, c, s)) ^ ((k & 2) << 30));
}""",
)
for _name in ("sin", "cos", "tan"):
    _define(
        f"{_name}_far",
        f"""
static __attribute__((noinline)) V {_name}_far_S(V x, V y) {{
  const f32 *from = (const f32 *)&x;
  for (unsigned l = 0; l < sizeof x / 4; l++)
    if (!(__builtin_fabsf(from[l]) <= 12800.0f)) ((f32 *)&y)[l] = {_name}f(from[l]);
  return y;
}}""",
    )
for _name, _value in (
    ("sin", "sel_S(x == splat_S(0.0f), x, quarter_S(reduced_S(x, n), to_int_S(n)))"),
    ("cos", "quarter_S(reduced_S(x, n), to_int_S(n) + 1)"),
):
    _define(
        _name,
        f"""
// Within 2.5 ulp.
static inline V {_name}_S(V x) {{
  const V n = nearest_S(x * splat_S(0.636619772f));
  const V y = {_value};
  if (__builtin_expect(any_S(abs_S(x) > splat_S(12800.0f)), 0)) return {_name}_far_S(x, y);
  return y;
}}""",
        "nearest",
        "reduced",
        "quarter",
        f"{_name}_far",
    )
_define(
    "tan",
    """
// Within 4 ulp.
static inline V tan_S(V x) {
  const V n = nearest_S(x * splat_S(0.636619772f));
  const V r = reduced_S(x, n), z = r * r;
  V p = splat_S(9.38540185543e-3f);
  p = fma_S(p, z, splat_S(3.11992232697e-3f));
  p = fma_S(p, z, splat_S(2.44301354525e-2f));
  p = fma_S(p, z, splat_S(5.34112807005e-2f));
  p = fma_S(p, z, splat_S(1.33387994085e-1f));
  p = fma_S(p, z, splat_S(3.33331568548e-1f));
  p = fma_S(p * z, r, r);
  const V turned = sel_S((to_int_S(n) & 1) != 0, splat_S(-1.0f) / p, p);
  const V y = sel_S(x == splat_S(0.0f), x, turned);
  if (__builtin_expect(any_S(abs_S(x) > splat_S(12800.0f)), 0)) return tan_far_S(x, y);
  return y;
}""",
    "nearest",
    "reduced",
    "tan_far",
)

# -- their inverses -------------------------------------------------------------------------------

_define(
    "asin_core",
    """
// The arc sine of s with s*s = z, for |s| <= 0.5.
static inline V asin_core_S(V s, V z) {
  V p = splat_S(4.2163199048e-2f);
  p = fma_S(p, z, splat_S(2.4181311049e-2f));
  p = fma_S(p, z, splat_S(4.5470025998e-2f));
  p = fma_S(p, z, splat_S(7.4953002686e-2f));
  p = fma_S(p, z, splat_S(1.6666752422e-1f));
  return fma_S(p * z, s, s);
}""",
)
_define(
    "asin",
    """
// Within 3 ulp; NaN beyond 1.
static inline V asin_S(V x) {
  const V a = abs_S(x), half = fma_S(a, splat_S(-0.5f), splat_S(0.5f));
  const I outer = a > splat_S(0.5f);
  const V p = asin_core_S(sel_S(outer, sqrt_S(half), a), sel_S(outer, half, a * a));
  const V y = sel_S(outer, fma_S(p, splat_S(-2.0f), splat_S(1.57079633f)), p);
  return from_bits_S(bits_S(y) | (bits_S(x) & bits_S(splat_S(-0.0f))));
}""",
    "sqrt",
    "asin_core",
)
_define(
    "acos",
    """
// Within 2.5 ulp; NaN beyond 1.
static inline V acos_S(V x) {
  const V a = abs_S(x), half = fma_S(a, splat_S(-0.5f), splat_S(0.5f));
  const I outer = a > splat_S(0.5f);
  const V p = asin_core_S(sel_S(outer, sqrt_S(half), x), sel_S(outer, half, x * x));
  const V far = sel_S(x < splat_S(0.0f), fma_S(p, splat_S(-2.0f), splat_S(3.14159265f)), p + p);
  return sel_S(outer, far, splat_S(1.57079637f) - (p + splat_S(4.37113883e-8f)));
}""",
    "sqrt",
    "asin_core",
)
_define(
    "atan_core",
    """
// The arc tangent for |x| <= tan(pi/8).
static inline V atan_core_S(V x) {
  const V z = x * x;
  V p = splat_S(8.05374449538e-2f);
  p = fma_S(p, z, splat_S(-1.38776856032e-1f));
  p = fma_S(p, z, splat_S(1.99777106478e-1f));
  p = fma_S(p, z, splat_S(-3.33329491539e-1f));
  return fma_S(p * z, x, x);
}""",
)
_define(
    "atan",
    """
// Within 3.5 ulp.
static inline V atan_S(V x) {
  const V a = abs_S(x), one = splat_S(1.0f);
  const I far = a > splat_S(2.41421356f), middle = a > splat_S(0.414213562f);
  const V above = sel_S(far, -one, sel_S(middle, a - one, a));
  const V below = sel_S(far, a, sel_S(middle, a + one, one));
  const V start = sel_S(far, splat_S(1.57079633f), splat_S(0.785398163f));
  const V y = atan_core_S(above / below) + sel_S(middle, start, splat_S(0.0f));
  return from_bits_S(bits_S(y) | (bits_S(x) & bits_S(splat_S(-0.0f))));
}""",
    "atan_core",
)

# -- hyperbolic, by the exponential that `math` has -----------------------------------------------

_define(
    "sinh",
    """
// Within 3 ulp.
static inline V sinh_S(V x) {
  const V a = abs_S(x), h = half_exp_S(a), z = x * x;
  V p = splat_S(2.03721912945e-4f);
  p = fma_S(p, z, splat_S(8.33028376239e-3f));
  p = fma_S(p, z, splat_S(1.66667160211e-1f));
  p = fma_S(p * z, a, a);
  const V y = sel_S(a <= splat_S(1.0f), p, h - splat_S(0.25f) / h);
  return from_bits_S(bits_S(y) | (bits_S(x) & bits_S(splat_S(-0.0f))));
}""",
    "half_exp",
)
_define(
    "cosh",
    """
// Within 3 ulp.
static inline V cosh_S(V x) {
  const V h = half_exp_S(abs_S(x));
  return h + splat_S(0.25f) / h;
}""",
    "half_exp",
)
_define(
    "asinh",
    """
// Within 4 ulp.
static inline V asinh_S(V x) {
  const V a = abs_S(x), z = x * x;
  const I large = a > splat_S(10000.0f);
  V p = splat_S(2.0122003309e-2f);
  p = fma_S(p, z, splat_S(-4.2699340972e-2f));
  p = fma_S(p, z, splat_S(7.4847586088e-2f));
  p = fma_S(p, z, splat_S(-1.6666288134e-1f));
  p = fma_S(p * z, a, a);
  const V root = sel_S(large, splat_S(0.0f), sqrt_S(z + splat_S(1.0f)));
  const V far = log_S(a + root) + sel_S(large, splat_S(0.693147181f), splat_S(0.0f));
  const V y = sel_S(a < splat_S(0.5f), p, far);
  return from_bits_S(bits_S(y) | (bits_S(x) & bits_S(splat_S(-0.0f))));
}""",
    "sqrt",
    "log",
)
_define(
    "acosh",
    """
// Within 3 ulp; NaN below 1.
static inline V acosh_S(V x) {
  const V z = x - splat_S(1.0f);
  const I large = x > splat_S(10000.0f);
  V p = splat_S(1.7596881071e-3f);
  p = fma_S(p, z, splat_S(-7.5272886713e-3f));
  p = fma_S(p, z, splat_S(2.6454905019e-2f));
  p = fma_S(p, z, splat_S(-1.1784741703e-1f));
  p = fma_S(p, z, splat_S(1.4142135263f));
  const V root = sel_S(large, splat_S(0.0f), sqrt_S(z * (x + splat_S(1.0f))));
  const V far = log_S(x + root) + sel_S(large, splat_S(0.693147181f), splat_S(0.0f));
  return sel_S(z < splat_S(0.5f), p * sqrt_S(z), far);
}""",
    "sqrt",
    "log",
)
_define(
    "atanh",
    """
// Within 3 ulp; NaN beyond 1.
static inline V atanh_S(V x) {
  const V a = abs_S(x), z = x * x, one = splat_S(1.0f);
  V p = splat_S(1.81740078349e-1f);
  p = fma_S(p, z, splat_S(8.24370301058e-2f));
  p = fma_S(p, z, splat_S(1.46691431730e-1f));
  p = fma_S(p, z, splat_S(1.99782164500e-1f));
  p = fma_S(p, z, splat_S(3.33337300303e-1f));
  p = fma_S(p * z, a, a);
  const V y = sel_S(a < splat_S(0.5f), p, splat_S(0.5f) * log_S((one + a) / (one - a)));
  return from_bits_S(bits_S(y) | (bits_S(x) & bits_S(splat_S(-0.0f))));
}""",
    "log",
)
