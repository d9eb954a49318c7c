"""Helper functions of a program's text: arithmetic, on top of what collects and moves."""

from __future__ import annotations

import re
from collections.abc import Callable

from ..math import FUNCTIONS, FUSES
from ..special import SPECIAL
from .helpers import BYTES, either, first_of
from .moves import Moves
from .remainders import FMOD, REMAINDER

# Functions of the C library: float64 and those that have no vector form of their own.
_LIBM = {"rint", "floor", "ceil", "trunc", "sqrt", "exp", "exp2", "expm1", "log", "log2", "log10"}
_LIBM |= {"log1p", "erf", "sin", "cos", "tan", "asin", "acos", "atan", "sinh", "cosh", "tanh"}
_LIBM |= {"asinh", "acosh", "atanh", "atan2", "pow", "fmod"}
_BINARY = {"atan2", "pow", "fmod", "floor_div", "remainder"}


class Prelude(Moves):
    """All helpers."""

    def extremum(self, which: str, type: str, lanes: int) -> str:
        """The larger ("max") or smaller ("min") of two; NaN where either is."""
        v = self.vector(type, lanes)
        name = f"{which}_{v}"
        sign = ">" if which == "max" else "<"
        sel = self.sel(type, lanes)
        if type[0] != "f":
            text = f"return {sel}(a {sign} b, a, b);"
            return self.once(name, f"static inline {v} {name}({v} a, {v} b) {{ {text} }}")
        plain = f"return {sel}((a {sign} b) | (a != a), a, b);"
        # The instruction gives its second operand where either is NaN.
        ways = _instruction(which, type, lanes, "a, b")
        fast = [(when, f"return {sel}(a != a, a, {call});") for when, call in ways]
        body = first_of(fast, plain)
        return self.once(name, f"static inline {v} {name}({v} a, {v} b) {{\n{body}\n}}")

    def bound(self, which: str, type: str, lanes: int) -> str:
        """`extremum` of `a` and a `b` that is not NaN."""
        v = self.vector(type, lanes)
        name = f"{which}_number_{v}"
        sign = ">" if which == "max" else "<"
        plain = f"return {self.sel(type, lanes)}(b {sign} a, b, a);"
        fast = [(m, f"return {call};") for m, call in _instruction(which, type, lanes, "b, a")]
        body = first_of(fast, plain)
        return self.once(name, f"static inline {v} {name}({v} a, {v} b) {{\n{body}\n}}")

    def any(self, lanes: int) -> str:
        """Whether a mask of lanes of float32 holds in one of them."""
        v, i = self.vector("f32", lanes), self.vector("i32", lanes)
        plain = f"i32 all = 0; for (int l = 0; l < {lanes}; l++) all |= m[l]; return all != 0;"
        sign_bits = {
            1: ("__STDC__", "return m;"),
            4: ("__SSE__", "return __builtin_ia32_movmskps((f32x4)m) != 0;"),
            8: ("__AVX__", "return __builtin_ia32_movmskps256((f32x8)m) != 0;"),
        }.get(lanes)
        text = f"static inline int any_{v}({i} m) {{{either(sign_bits, plain)}}}"
        return self.once(f"any_{v}", text)

    def abs(self, type: str, lanes: int) -> str:
        """The magnitude."""
        v = self.vector(type, lanes)
        name = f"abs_{v}"
        if type[0] == "f" and lanes == 1:
            body = f"return __builtin_fabs{'f' if type == 'f32' else ''}(x);"
        elif type[0] == "f":
            bits = BYTES[type] * 8
            i = self.vector(f"i{bits}", lanes)
            body = f"return ({v})(({i})x & {self.splat(f'i{bits}', lanes)}(INT{bits}_MAX));"
        else:
            body = f"return {self.sel(type, lanes)}(x < 0, ({v})-x, x);"
        return self.once(name, f"static inline {v} {name}({v} x) {{ {body} }}")

    def fold_lanes(self, fold: str, type: str, lanes: int) -> str:
        """All lanes of an accumulator folded into one number."""
        v = self.vector(type, lanes)
        name = f"{fold}_lanes_{v}"
        lines = []
        half = lanes // 2
        while half:
            order = ", ".join(str((i + half) % lanes if i < half else i) for i in range(lanes))
            i = self.vector(f"i{BYTES[type] * 8}", lanes)
            lines.append(f"  y = SHUFFLE({i}, x, {order});")
            lines.append(f"  x = {self.folded(fold, type, lanes, 'x', 'y')};")
            half //= 2
        body = "\n".join(lines)
        text = f"static inline {type} {name}({v} x) {{\n  {v} y;\n{body}\n  return x[0];\n}}"
        return self.shuffling(name, text)

    def folded(self, fold: str, type: str, lanes: int, a: str, b: str) -> str:
        """One step of a fold."""
        if fold in ("max", "min"):
            return f"{self.extremum(fold, type, lanes)}({a}, {b})"
        sign = {"sum": "+", "prod": "*", "any": "|", "all": "&"}[fold]
        text = f"{a} {sign} {b}"
        return f"({type})({text})" if lanes == 1 and type[0] != "f" else text

    def math(self, fn: str, type: str, lanes: int) -> str:
        """A function of floats: our own vector code, or the C library's lane by lane."""
        v = self.vector(type, lanes)
        name = f"{fn}_{v}"
        if name in self._functions:
            return name
        if type == "f32" and fn in FUNCTIONS:
            needs, text = FUNCTIONS[fn]
            for other in needs:
                if other.endswith("_f64"):
                    self._special(other.removesuffix("_f64"), "f64")
                else:
                    self.math(other, type, lanes)
            self._math_helpers(lanes)
            if "abs_S" in text:
                self.abs(type, lanes)
            for which in ("max", "min"):
                if f"{which}_number_S" in text:
                    self.bound(which, type, lanes)
            if "any_S" in text:
                self.any(lanes)
            for old, new in (("_S", f"_{v}"), ("V ", f"{v} "), ("I ", f"i32x{lanes} ")):
                text = text.replace(old, new)
            return self.once(name, text)
        if fn in ("fmod", "remainder") and type == "f32" and lanes > 1:
            return self._remainder(fn, lanes)
        scalar = self._scalar_function(fn, type)
        operands = ("a", "b") if fn in _BINARY else ("a",)
        parameters = ", ".join(f"{v} {x}" for x in operands)
        if lanes == 1:
            body = f"return {scalar}({', '.join(operands)});"
            return self.once(name, f"static inline {v} {name}({parameters}) {{ {body} }}")
        lanewise = ", ".join(f"{x}[l]" for x in operands)
        body = f"{v} y; for (int l = 0; l < {lanes}; l++) y[l] = {scalar}({lanewise}); return y;"
        fast = [(m, f"return {call};") for m, call in _instruction(fn, type, lanes, "a")]
        body = first_of(fast, body)
        return self.once(name, f"static inline {v} {name}({parameters}) {{\n{body}\n}}")

    def _remainder(self, fn: str, lanes: int) -> str:
        v, i = self.vector("f32", lanes), self.vector("i32", lanes)
        self.any(lanes)
        self.sel("f32", lanes)
        self.splat("i32", lanes)
        self.sel("f64", lanes)
        if fn == "remainder":
            self._remainder("fmod", lanes)
        text = FMOD if fn == "fmod" else REMAINDER
        names = {"V": v, "I": i, "D": self.vector("f64", lanes), "N": str(lanes)}
        return self.once(f"{fn}_{v}", re.sub(r"(?<![A-Za-z])[VIDN]\b", lambda m: names[m[0]], text))

    def _scalar_function(self, fn: str, type: str) -> str:
        suffix = "f" if type == "f32" else ""
        if fn in _LIBM:
            return fn + suffix
        if fn in SPECIAL:
            return self._special(fn, type)
        text = _SCALAR_FUNCTIONS[fn].replace("FLOAT", type).replace("_F(", f"{suffix}(")
        return self.once(f"{fn}_{type}", text.replace("NAME", f"{fn}_{type}"))

    def _special(self, fn: str, type: str) -> str:
        needs, text = SPECIAL[fn]
        for other in needs:
            self._special(other, "f64")
        wide = self.once(f"{fn}_f64", text)
        if type == "f64":
            return wide
        body = f"return (f32){wide}(x);"
        return self.once(f"{fn}_f32", f"static f32 {fn}_f32(f32 x) {{ {body} }}")

    def _math_helpers(self, lanes: int) -> None:
        v, i = self.vector("f32", lanes), self.vector("i32", lanes)
        self.splat("f32", lanes)
        self.sel("f32", lanes)
        self.fused_multiply_add(lanes)
        self._reinterpretations(v, i, lanes)

    def fused_multiply_add(self, lanes: int) -> str:
        """a*b + c on float32, rounded once where the machine can."""
        v = self.vector("f32", lanes)
        wide = "__builtin_ia32_vfmaddps512_mask(a, b, c, (short)-1, 4)"
        # Compilers that have no function for these vectors are told that they may fuse.
        ways = {
            1: [(FUSES, "return __builtin_fmaf(a, b, c);")],
            4: [
                ("defined(__FMA__)", "return __builtin_ia32_vfmaddps(a, b, c);"),
                (f"{_ARM} && defined(__clang__)", f"{_MAY_FUSE}\n  return a * b + c;"),
                (_ARM, "return __builtin_aarch64_fmav4sf(a, b, c);"),
            ],
            8: [("defined(__FMA__)", "return __builtin_ia32_vfmaddps256(a, b, c);")],
            16: [("defined(__AVX512F__)", f"return {wide};")],
        }.get(lanes, [])
        if lanes > 1:
            lanewise = f"for (int l = 0; l < {lanes}; l++) c[l] = __builtin_fmaf(a[l], b[l], c[l]);"
            ways.append((FUSES, f"{lanewise}\n  return c;"))
        body = first_of(ways, "return a * b + c;")
        text = f"static inline {v} fma_{v}({v} a, {v} b, {v} c) {{\n{body}\n}}"
        return self.once(f"fma_{v}", text)

    def multiply_add(self, type: str, lanes: int) -> str:
        """a*b + c on float32, or on words: the products of their two int16 each, added to int32."""
        if type == "f32":
            return self.fused_multiply_add(lanes)
        v = self.vector("i32", lanes)
        plain = "return c + (a << 16 >> 16) * (b << 16 >> 16) + (a >> 16) * (b >> 16);"
        if lanes == 1:
            plain = "return c + (i16)a * (i16)b + (a >> 16) * (b >> 16);"
            return self.once(
                f"dot_{v}", f"static inline i32 dot_{v}({v} a, {v} b, {v} c) {{ {plain} }}"
            )
        pairs = self.vector("i16", 2 * lanes)
        vnni = "defined(__AVX512VNNI__) && !defined(__clang__)"
        short = "(defined(__AVXVNNI__) || (defined(__AVX512VNNI__) && defined(__AVX512VL__)))"
        masked = f"__builtin_ia32_pmaddwd512_mask(A, B, ({v}){{0}}, (short)-1)"
        # The machine, and the sum there; a compiler that knows the addition puts it off, and runs
        # out of registers.
        sums = {
            4: [("defined(__SSE2__)", "__builtin_ia32_pmaddwd128(A, B)")],
            8: [
                (f"{short} && !defined(__clang__)", "__builtin_ia32_vpdpwssd_v8si(c, a, b)"),
                ("defined(__AVX2__)", "__builtin_ia32_pmaddwd256(A, B)"),
            ],
            16: [
                (vnni, "__builtin_ia32_vpdpwssd_v16si(c, a, b)"),
                ("defined(__AVX512BW__) && !defined(__clang__)", masked),
                ("defined(__AVX512BW__)", "__builtin_ia32_pmaddwd512(A, B)"),
            ],
        }.get(lanes, [])
        ways = []
        for machine, call in sums:
            call = call.replace("A", f"({pairs})a").replace("B", f"({pairs})b")
            total = f"({v}){call}" if "(c, a, b)" in call else f"c + ({v}){call}"
            ways.append((machine, f"c = {total};\n  {self.hold()}(c);\n  return c;"))
        body = first_of(ways, plain)
        text = f"static inline {v} dot_{v}({v} a, {v} b, {v} c) {{\n{body}\n}}"
        return self.once(f"dot_{v}", text)

    def _reinterpretations(self, v: str, i: str, lanes: int) -> None:
        if lanes == 1:
            bits = "union { f32 f; i32 i; } u; "
            self.once(
                "bits_f32x1",
                f"static inline i32 bits_f32x1(f32 x) {{ {bits}u.f = x; return u.i; }}",
            )
            self.once(
                "from_bits_f32x1",
                f"static inline f32 from_bits_f32x1(i32 x) {{ {bits}u.i = x; return u.f; }}",
            )
            self.once("to_int_f32x1", "static inline i32 to_int_f32x1(f32 x) { return (i32)x; }")
            self.once(
                "to_float_f32x1", "static inline f32 to_float_f32x1(i32 x) { return (f32)x; }"
            )
            return
        self.once(f"bits_{v}", f"static inline {i} bits_{v}({v} x) {{ return ({i})x; }}")
        self.once(f"from_bits_{v}", f"static inline {v} from_bits_{v}({i} x) {{ return ({v})x; }}")
        convert = "__builtin_convertvector"
        self.once(
            f"to_int_{v}", f"static inline {i} to_int_{v}({v} x) {{ return {convert}(x, {i}); }}"
        )
        self.once(
            f"to_float_{v}",
            f"static inline {v} to_float_{v}({i} x) {{ return {convert}(x, {v}); }}",
        )


_ARM = "defined(__aarch64__)"
_MAY_FUSE = '_Pragma("clang fp contract(fast)")'

# How processors' instructions round.
_ROUNDING = {"rint": 8, "floor": 9, "ceil": 10, "trunc": 11}


def _instruction(fn: str, type: str, lanes: int, operands: str) -> list[tuple[str, str]]:
    """The preprocessor's conditions of an instruction for whole vectors, and its calls."""
    if fn not in (*_ROUNDING, "sqrt", "max", "min") or type[0] != "f" or lanes == 1:
        return []
    kind, size = "ps" if type == "f32" else "pd", BYTES[type] * lanes
    if size == 64:
        first = operands.partition(",")[0]
        if fn in _ROUNDING:
            call = f"rndscale{kind}_mask({operands}, {_ROUNDING[fn]}, {first}, -1, 4)"
            return [("defined(__AVX512F__)", f"__builtin_ia32_{call}")]
        masked, plain = f"512_mask({operands}, {first}, -1, 4)", f"512({operands}, 4)"
        return [
            ("defined(__AVX512F__) && defined(__clang__)", f"__builtin_ia32_{fn}{kind}{plain}"),
            ("defined(__AVX512F__)", f"__builtin_ia32_{fn}{kind}{masked}"),
        ]
    feature = {16: "__SSE4_1__" if fn in _ROUNDING else "__SSE2__", 32: "__AVX__"}.get(size)
    if feature is None:
        return []
    wide = "256" if size == 32 else ""
    name, mode = (f"round{kind}", f", {_ROUNDING[fn]}") if fn in _ROUNDING else (f"{fn}{kind}", "")
    return [(f"defined({feature})", f"__builtin_ia32_{name}{wide}({operands}{mode})")]


# NumPy's definitions: the remainder has the sign of the divisor, and the quotient goes with it.
_SCALAR_FUNCTIONS: dict[str, str] = {
    "sigmoid": "static FLOAT NAME(FLOAT a) { return 1 / (1 + exp_F(-a)); }",
    "remainder": """
static FLOAT NAME(FLOAT a, FLOAT b) {
  FLOAT r = fmod_F(a, b);
  if (b == 0) return r;
  if (r != 0) return (b < 0) != (r < 0) ? r + b : r;
  return copysign_F(0, b);
}""",
    "floor_div": """
static FLOAT NAME(FLOAT a, FLOAT b) {
  if (b == 0) return a / b;
  const FLOAT r = fmod_F(a, b);
  FLOAT q = (a - r) / b;
  if (r != 0 && (b < 0) != (r < 0)) q -= 1;
  if (q == 0) return copysign_F(0, a / b);
  const FLOAT whole = floor_F(q);
  return q - whole > (FLOAT)0.5 ? whole + 1 : whole;
}""",
}

Function = Callable[[str, int], str]
