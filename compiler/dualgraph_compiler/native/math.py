"""Functions on vectors of float32: polynomials that the compiler turns into straight-line code.

Each entry is C for any number of lanes: `V` is the float vector type, `I` the integer vector of the
same lanes, `_S` the suffix that both have in names of helpers, so one text serves every width, and
scalars too: an element's result does not depend on where in an array it stands. Stated errors are
the largest found over the float32 range (tests/native/test_math.py), in units in the last place.

Helpers used: `splat` (one number in all lanes), `sel` (choice by mask), `max_number` and
`min_number` (NaN in the first operand stays), `bits` and `from_bits` (reinterpretation), `fma`
(a*b + c, rounded once where the machine can).

Sources: argument reductions after Cody and Waite, Software Manual for the Elementary Functions
(1980); coefficients for exp, log and tanh from S. Moshier's Cephes library, erf's our own fit.
"""

from __future__ import annotations

from .special import VECTORS
from .trigonometry import TRIGONOMETRY

# The preprocessor's condition that the machine rounds a*b + c once.
FUSES = "defined(__FMA__) || defined(__aarch64__)"

# Each: the functions it needs, and its text.
FUNCTIONS: dict[str, tuple[tuple[str, ...], str]] = {**TRIGONOMETRY, **VECTORS}


def _define(name: str, text: str, *needs: str) -> None:
    FUNCTIONS[name] = (needs, text)


# 2**n for whole n within [-126, 127].
_define(
    "pow2",
    """
static inline V pow2_S(V n) {
  return from_bits_S((to_int_S(n) + 127) << 23);
}""",
)

# 2**n * p, in two steps, so that results below the normal range and 2**128 * 0.5 come out right.
_define(
    "scale",
    """
static inline V scale_S(V p, V n) {
  const I k = to_int_S(n), half = k >> 1;
  return p * from_bits_S((half + 127) << 23) * from_bits_S((k - half + 127) << 23);
}""",
)

# The nearest whole number of |x| < 2**22.
_define(
    "nearest",
    """
static inline V nearest_S(V x) {
  const V magic = splat_S(12582912.0f);
  return (x + magic) - magic;
}""",
)

# exp(r) - 1 for |r| <= ln(2)/2.
_define(
    "expm1_core",
    """
static inline V expm1_core_S(V r) {
  V p = splat_S(1.9875691500e-4f);
  p = fma_S(p, r, splat_S(1.3981999507e-3f));
  p = fma_S(p, r, splat_S(8.3334519073e-3f));
  p = fma_S(p, r, splat_S(4.1665795894e-2f));
  p = fma_S(p, r, splat_S(1.6666665459e-1f));
  p = fma_S(p, r, splat_S(5.0000001201e-1f));
  return fma_S(p, r * r, r);
}""",
)


def _parts_of_exp(x: str) -> str:
    """Lines that give e**x as 2**n * p, and `t`, whose last bits are n."""
    return f"""\
  const V magic = splat_S(12582912.0f);
  const V t = fma_S({x}, splat_S(1.44269504f), magic);  // whose last bits are the nearest number
  const V n = t - magic;
  V r = fma_S(n, splat_S(-0.693359375f), {x});
  r = fma_S(n, splat_S(2.12194440e-4f), r);
  const V p = expm1_core_S(r) + splat_S(1.0f);
"""


_define(
    "exp",
    """
// e**x, within 1.1 ulp; 0 and inf beyond the range.
static inline V exp_S(V x) {
  x = max_number_S(min_number_S(x, splat_S(89.0f)), splat_S(-104.0f));
"""
    + _parts_of_exp("x")
    + """\
  const I k = bits_S(t) - 0x4b400000, half = k >> 1;  // 2**k in two steps, for the smallest results
  return p * from_bits_S((half + 127) << 23) * from_bits_S((k - half + 127) << 23);
}""",
    "expm1_core",
)

_define(
    "half_exp",
    """
// e**x / 2 for 0 <= x, inf where that overflows.
static inline V half_exp_S(V x) {
  x = min_number_S(x, splat_S(90.0f));
"""
    + _parts_of_exp("x")
    + """\
  const I k = bits_S(t) - 0x4b400001, half = k >> 1;
  return p * from_bits_S((half + 127) << 23) * from_bits_S((k - half + 127) << 23);
}""",
    "expm1_core",
)

# What softmax needs of exp. The polynomial is our own fit.
_define(
    "exp_nonpositive",
    """
// e**x of x <= 0, within 5 ulp; 0 where the result would be below the normal range.
static inline V exp_nonpositive_S(V x) {
  const V magic = splat_S(12582912.0f);
  const V t = fma_S(x, splat_S(1.44269504f), magic);  // whose last bits are the nearest number
#if """
    + FUSES
    + """
  const V r = fma_S(t - magic, splat_S(-0.693147181f), x);
#else  // ln(2) in two parts: the product by the first is exact
  const V r = fma_S(t - magic, splat_S(2.12194440e-4f),
                    fma_S(t - magic, splat_S(-0.693359375f), x));
#endif
  V p = splat_S(0.008312515f);
  p = fma_S(p, r, splat_S(0.04189021f));
  p = fma_S(p, r, splat_S(0.16667114f));
  p = fma_S(p, r, splat_S(0.49999231f));
  p = fma_S(p, r, splat_S(1.0f));
  p = fma_S(p, r, splat_S(1.0f));
  const V y = p * from_bits_S((bits_S(t) << 23) + 0x3f800000);
  return sel_S(x < splat_S(-87.3f), splat_S(0.0f), y);
}""",
)

_define(
    "exp2",
    """
// 2**x, within 1.5 ulp.
static inline V exp2_S(V x) {
  x = max_number_S(min_number_S(x, splat_S(129.0f)), splat_S(-151.0f));
  const V n = nearest_S(x);
  const V r = (x - n) * splat_S(0.693147181f);
  return scale_S(expm1_core_S(r) + splat_S(1.0f), n);
}""",
    "nearest",
    "expm1_core",
    "scale",
)

_define(
    "expm1",
    """
// e**x - 1, within 2 ulp.
static inline V expm1_S(V x) {
  const V y = max_number_S(min_number_S(x, splat_S(89.0f)), splat_S(-20.0f));
  const V n = nearest_S(y * splat_S(1.44269504f));
  V r = fma_S(n, splat_S(-0.693359375f), y);
  r = fma_S(n, splat_S(2.12194440e-4f), r);
  const V p = expm1_core_S(r);
  const V s = pow2_S(n - splat_S(1.0f));
  const V z = fma_S(s, p, s - splat_S(0.5f));
  return sel_S(x == splat_S(0.0f), x, z + z);
}""",
    "nearest",
    "expm1_core",
    "pow2",
)

_define(
    "log",
    """
// The natural logarithm, within 1 ulp; -inf at 0, NaN below.
static inline V log_S(V x) {
  const V tiny = sel_S(x < splat_S(1.17549435e-38f), splat_S(8388608.0f), splat_S(1.0f));
  const V shift = sel_S(x < splat_S(1.17549435e-38f), splat_S(-23.0f), splat_S(0.0f));
  const I bits = bits_S(x * tiny);
  V e = to_float_S(((bits >> 23) & 0xff) - 126) + shift;
  V m = from_bits_S((bits & 0x007fffff) | 0x3f000000);
  const V low = sel_S(m < splat_S(0.707106781f), splat_S(1.0f), splat_S(0.0f));
  e = e - low;
  m = fma_S(low, m, m) - splat_S(1.0f);
  const V z = m * m;
  V p = splat_S(7.0376836292e-2f);
  p = fma_S(p, m, splat_S(-1.1514610310e-1f));
  p = fma_S(p, m, splat_S(1.1676998740e-1f));
  p = fma_S(p, m, splat_S(-1.2420140846e-1f));
  p = fma_S(p, m, splat_S(1.4249322787e-1f));
  p = fma_S(p, m, splat_S(-1.6668057665e-1f));
  p = fma_S(p, m, splat_S(2.0000714765e-1f));
  p = fma_S(p, m, splat_S(-2.4999993993e-1f));
  p = fma_S(p, m, splat_S(3.3333331174e-1f));
  V y = p * m * z;
  y = fma_S(e, splat_S(-2.12194440e-4f), y);
  y = fma_S(z, splat_S(-0.5f), y);
  y = fma_S(e, splat_S(0.693359375f), m + y);
  y = sel_S(x == splat_S(__builtin_inff()), x, y);
  y = sel_S(x == splat_S(0.0f), splat_S(-__builtin_inff()), y);
  return sel_S(x >= splat_S(0.0f), y, splat_S(__builtin_nanf("")));
}""",
)

_define(
    "log2",
    """
// The logarithm to base 2, within 2 ulp.
static inline V log2_S(V x) { return log_S(x) * splat_S(1.44269504f); }""",
    "log",
)

_define(
    "log10",
    """
// The logarithm to base 10, within 2 ulp.
static inline V log10_S(V x) { return log_S(x) * splat_S(0.434294482f); }""",
    "log",
)

# With u = fl(1 + x), log1p(x) = log(u) + (x - (u - 1)) / u to second order in the rounding of u.
_define(
    "log1p",
    """
// log(1 + x), within 2 ulp.
static inline V log1p_S(V x) {
  const V u = x + splat_S(1.0f);
  const V y = log_S(u) + (x - (u - splat_S(1.0f))) / u;
  const V ends = sel_S(u == splat_S(__builtin_inff()), u, y);
  const V edge = sel_S(u == splat_S(0.0f), splat_S(-__builtin_inff()), ends);
  return sel_S(u == splat_S(1.0f), x, edge);
}""",
    "log",
)

# tanh(x)/x = P(x^2)/Q(x^2) on |x| <= 9.02, beyond which tanh rounds to 1: our own fit. At 9.2 the
# quotient is above 1 by so much that rounding of its parts cannot bring it below.
_define(
    "tanh",
    """
// The hyperbolic tangent, within 6 ulp.
static inline V tanh_S(V x) {
  const V v = max_number_S(min_number_S(x, splat_S(9.2f)), splat_S(-9.2f));
  const V t = v * v;
  V p = splat_S(1.3318901353298566e-08f);
  p = fma_S(p, t, splat_S(2.0583355365122246e-05f));
  p = fma_S(p, t, splat_S(0.0034940269007788694f));
  p = fma_S(p, t, splat_S(0.1337971152856453f));
  p = fma_S(p, t, splat_S(1.0f));
  V q = splat_S(7.761948628175577e-07f);
  q = fma_S(q, t, splat_S(0.00032830802948200226f));
  q = fma_S(q, t, splat_S(0.025871044155488163f));
  q = fma_S(q, t, splat_S(0.46713026773666283f));
  q = fma_S(q, t, splat_S(1.0f));
  const V y = v * p / q;
  return max_number_S(min_number_S(y, splat_S(1.0f)), splat_S(-1.0f));
}""",
)

_define(
    "sigmoid",
    """
// 1 / (1 + e**-x), within 3 ulp; 0 below -88.376, where 2**128 stands for inf.
static inline V sigmoid_S(V x) {
  const V a = max_number_S(min_number_S(-x, splat_S(89.0f)), splat_S(-40.0f));
"""
    + _parts_of_exp("a")
    + """\
  const V power = from_bits_S((bits_S(t) << 23) + 0x3f800000);
  return splat_S(1.0f) / fma_S(p, power, splat_S(1.0f));
}""",
    "expm1_core",
)

# erf(x)/x = P(x^2)/Q(x^2) on |x| <= 3.92, beyond which erf rounds to 1: kernels/special.py's fit.
# At 4 the quotient is above 1, however its parts are rounded.
_define(
    "erf",
    """
// The error function, within 5.1 ulp.
static inline V erf_S(V x) {
  const V v = max_number_S(min_number_S(x, splat_S(4.0f)), splat_S(-4.0f));
  const V t = v * v;
  V p = splat_S(2.050083680135396e-06f);
  p = fma_S(p, t, splat_S(0.00028488058765979555f));
  p = fma_S(p, t, splat_S(0.003765562957839928f));
  p = fma_S(p, t, splat_S(0.05274855160192593f));
  p = fma_S(p, t, splat_S(0.1904053427606773f));
  p = fma_S(p, t, splat_S(1.128379146167463f));
  V q = splat_S(3.8091566130772915e-05f);
  q = fma_S(q, t, splat_S(0.0011625207271543751f));
  q = fma_S(q, t, splat_S(0.01496910848577679f));
  q = fma_S(q, t, splat_S(0.11410862667602155f));
  q = fma_S(q, t, splat_S(0.5020750827261657f));
  q = fma_S(q, t, splat_S(1.0f));
  const V y = v * p / q;
  return max_number_S(min_number_S(y, splat_S(1.0f)), splat_S(-1.0f));
}""",
)
