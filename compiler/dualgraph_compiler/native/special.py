"""Special functions: of float64, which those of float32 are rounded from once.

Series and coefficients are those of the eager kernels (`kernels.special`, `kernels.gamma`,
`kernels.bessel`), and so are the errors, below 1 ulp of float32. The inverse error function of
float32, and that of the normal distribution, go by vectors, with errors of their own, as in `math`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from ..kernels import bessel_tables as tables
from ..kernels import gamma, special

# By name: the functions of float64 that the text calls, and the text of ``f64 NAME_f64(f64 x)``.
SPECIAL: dict[str, tuple[tuple[str, ...], str]] = {}


def _number(value: float) -> str:
    return float(value).hex()


def _horner(x: str, coefficients: Sequence[float]) -> str:
    """A polynomial, highest power first."""
    text = _number(coefficients[0])
    for c in coefficients[1:]:
        text = f"({text} * {x} + {_number(c)})"
    return text


def _define(name: str, body: str, *needs: str) -> None:
    SPECIAL[name] = (needs, f"static f64 {name}_f64(f64 x) {{\n{body}\n}}")


_define("erfc", "  return erfc(x);")
_define("lgamma", "  return lgamma(x);")

# -- the error function's relatives ---------------------------------------------------------------

_define(
    "scaled_tail",
    f"""\
  // exp(x^2) erfc(x) for x > 0.46875 (Cody)
  if (x <= 4) return {_horner("x", special._C)} / {_horner("x", special._D)};
  const f64 z = 1 / (x * x);
  const f64 r = z * {_horner("z", special._P)} / {_horner("z", special._Q)};
  return ({_number(1 / math.sqrt(math.pi))} - r) / x;""",
)
_define(
    "erfcx",
    """\
  const f64 y = fabs(x);
  if (y <= 0.46875) return exp(x * x) * erfc(x);
  const f64 tail = scaled_tail_f64(y);
  return x < 0 ? 2 * exp(x * x) - tail : tail;""",
    "scaled_tail",
)
_define(
    "log_ndtr",
    f"""\
  const f64 root = {_number(math.sqrt(0.5))};
  if (x < -1) return log(0.5 * erfcx_f64(-x * root)) - 0.5 * x * x;
  return log1p(-0.5 * erfc(x * root));""",
    "erfcx",
)
SPECIAL["erf_inverse"] = (
    (),
    f"""
// The y >= 0 with erf(y) = a and erfc(y) = q = 1 - a, of which the smaller counts: Giles' fit, then
// Halley's method, which cubes the error.
static f64 erf_inverse_f64(f64 a, f64 q) {{
  if (q == 0) return __builtin_inf();
  if (!(q > 0 && a >= 0)) return __builtin_nan("");
  const f64 w = -log(q * (1 + a)), root = sqrt(w);
  const f64 near = w - 2.5, far = (root < 4.1 ? root : 4.1) - 3;
  f64 y = a * {_horner("far", special._GILES_TAIL)};
  if (w < 5) y = a * {_horner("near", special._GILES_CENTRE)};
  if (w > 16.8) y = sqrt(w - 0.5 * log(w * 3.14));
  for (int step = w > 16.8 ? 3 : 1; step > 0; step--) {{
    const f64 error = a < 0.5 ? erf(y) - a : q - erfc(y);
    const f64 u = error / ({_number(2 / math.sqrt(math.pi))} * exp(-y * y));
    y -= u / (1 + y * u);
  }}
  return y;
}}""",
)
_define("erfinv", "  return copysign(erf_inverse_f64(fabs(x), 1 - fabs(x)), x);", "erf_inverse")
_define(
    "ndtri",
    f"""\
  const f64 q = 2 * (x < 1 - x ? x : 1 - x);
  return copysign(erf_inverse_f64(1 - q, q), x - 0.5) * {_number(math.sqrt(2))};""",
    "erf_inverse",
)

# -- digamma --------------------------------------------------------------------------------------

_define(
    "digamma",
    f"""\
  f64 v = x < 0 ? 1 - x : x, before = 0;
  if (v < 10) {{
    for (int k = 9; k >= 0; k--) before += 1 / (v + k);
    v += 10;
  }}
  const f64 t = 1 / (v * v);
  const f64 y = log(v) - 0.5 / v - t * {_horner("t", gamma._BERNOULLI)} - before;
  if (x == 0) return copysign(__builtin_inf(), -x);
  if (!(x < 0)) return y;
  const f64 fraction = x - rint(x);
  if (fraction == 0) return __builtin_nan("");
  return y - {_number(math.pi)} / tan({_number(math.pi)} * fraction);""",
)

# -- modified Bessel functions of the first kind --------------------------------------------------


def _series(name: str, coefficients: Sequence[float]) -> None:
    """The sum of Chebyshev polynomials, lowest degree first (Clenshaw 1955)."""
    rows = ", ".join(map(_number, coefficients))
    n = len(coefficients)
    _define(
        name,
        f"""\
  static const f64 c[{n}] = {{{rows}}};
  const f64 twice = x + x;
  f64 b = 0, later = 0;
  for (int i = {n - 1}; i > 0; i--) {{
    const f64 next = twice * b + (c[i] - later);  // what is known early comes first
    later = b, b = next;
  }}
  return x * b - later + c[0];""",
    )


for _name in ("I0_NEAR", "I0_FAR", "I1_NEAR", "I1_FAR"):
    _series(_name.lower(), getattr(tables, _name))
for _order, _start in (("0", "y == 0 ? 1 : "), ("1", "y * ")):
    _define(
        f"i{_order}e",
        f"""\
  const f64 y = fabs(x);
  f64 s;
  if (y <= 8)
    s = {_start}i{_order}_near_f64(y / 4 - 1);
  else
    s = i{_order}_far_f64(16 / y - 1) / sqrt(y);
  return {"s" if _order == "0" else "copysign(1, x) * s"};""",
        f"i{_order}_near",
        f"i{_order}_far",
    )
    _define(
        f"i{_order}",
        f"""\
  const f64 half = exp(0.5 * fabs(x));  // twice: the product may be finite where exp(x) is not
  if (fabs(x) == __builtin_inf()) return {"fabs(x)" if _order == "0" else "x"};
  return i{_order}e_f64(x) * half * half;""",
        f"i{_order}e",
    )

# -- of float32, in vectors -----------------------------------------------------------------------


def _steps(name: str, at: str, coefficients: Sequence[float]) -> str:
    first, *rest = (f"splat_S({c!r}f)" for c in coefficients)
    lines = [f"  V {name} = {first};", *(f"  {name} = fma_S({name}, {at}, {c});" for c in rest)]
    return "\n".join(lines)


_GILES = f"""
{_steps("p", "near", special._GILES_CENTRE)}
{_steps("q", "far", special._GILES_TAIL)}
"""
VECTORS = {
    "erfinv": (
        ("log", "sqrt"),
        f"""
// The inverse of erf, within 4 ulp; infinite at -1 and 1, NaN beyond (Giles 2011).
static inline V erfinv_S(V x) {{
  const V one = splat_S(1.0f), w = -log_S((one - x) * (one + x));
  const V near = w - splat_S(2.5f), far = sqrt_S(w) - splat_S(3.0f);{_GILES}
  const V y = sel_S(w < splat_S(5.0f), p, q) * x;
  return sel_S(abs_S(x) == one, x * splat_S(__builtin_inff()), y);
}}""",
    ),
    "ndtri_far": (
        ("ndtri_f64",),
        """
static __attribute__((noinline)) V ndtri_far_S(V x, V y) {
  const f32 *from = (const f32 *)&x;
  for (unsigned l = 0; l < sizeof x / 4; l++)
    if (!(from[l] > 1e-7f && from[l] < 1.0f)) ((f32 *)&y)[l] = (f32)ndtri_f64(from[l]);
  return y;
}""",
    ),
    "ndtri": (
        ("log", "sqrt", "ndtri_far"),
        f"""
// The inverse of the normal distribution function, within 5 ulp, by the fit for `erfinv`.
static inline V ndtri_S(V x) {{
  const V one = splat_S(1.0f), upper = one - x;
  const V c = sel_S(x < upper, x, upper), b = c + c, a = one - b, w = -log_S(b * (one + a));
  const V near = w - splat_S(2.5f), far = sqrt_S(w) - splat_S(3.0f);{_GILES}
  const V size = sel_S(w < splat_S(5.0f), p, q) * a * splat_S({math.sqrt(2)!r}f);
  const V y = sel_S(x < splat_S(0.5f), -size, size);
  if (__builtin_expect(any_S((x <= splat_S(1e-7f)) | (x >= one)), 0)) return ndtri_far_S(x, y);
  return y;
}}""",
    ),
}
