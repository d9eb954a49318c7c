"""Helper functions of a program's text, emitted as they are asked for, each once.

A helper is named ``<what>_<type>x<lanes>``; one lane means a plain scalar. Bool values are masks:
in vectors an integer of all ones or zeros per lane, as wide as the widest number beside it; alone
an int, 0 or 1.
"""

from __future__ import annotations

from collections.abc import Callable

from ..math import FUNCTIONS
from ..plan import FIRST_INDEX_ERROR
from .types import TYPEDEFS

HEADER = """\
#include <math.h>
#include <stdint.h>
#include <string.h>
"""

_BYTES = {"f32": 4, "f64": 8, **{f"{s}{b}": b // 8 for s in "iu" for b in (8, 16, 32, 64)}}

# Functions of the C library: float64 and those that have no vector form of their own.
_LIBM = {"rint", "floor", "ceil", "trunc", "sqrt", "exp", "exp2", "expm1", "log", "log2", "log10"}
_LIBM |= {"log1p", "erf", "sin", "cos", "tan", "asin", "acos", "atan", "sinh", "cosh", "tanh"}
_LIBM |= {"asinh", "acosh", "atanh", "atan2", "pow", "fmod"}
_BINARY = {"atan2", "pow", "fmod", "floor_div", "remainder"}


class Prelude:
    """Collects types and helpers."""

    def __init__(self, vector_bytes: int) -> None:
        self.vector_bytes = vector_bytes
        self._types: dict[str, str] = {}
        self._functions: dict[str, str] = {}
        self.errors: dict[str, int] = {}  # what a program's text says of indices: its status

    def index_error(self, message: str) -> int:
        """The status of a program that ends with `message`, in which ``{}`` is an index."""
        text = """
static i64 refused_index;
// The status of a program that an index ends, which the error's message names.
static int refuse_index(int status, i64 index) {
  __atomic_store_n(&refused_index, index, __ATOMIC_RELAXED);
  return status;
}
i64 last_refused_index(void) { return __atomic_load_n(&refused_index, __ATOMIC_RELAXED); }"""
        self.once("refuse_index", text)
        return self.errors.setdefault(message, FIRST_INDEX_ERROR + len(self.errors))

    def text(self) -> str:
        """Everything asked for so far."""
        parts = [HEADER, TYPEDEFS, *self._types.values(), *self._functions.values()]
        return "\n".join(parts)

    # -- types ------------------------------------------------------------------------------------

    def vector(self, type: str, lanes: int) -> str:
        """A vector type; the scalar itself for one lane."""
        name = f"{type}x{lanes}"
        if name not in self._types:
            size = _BYTES[type] * lanes
            self._types[name] = (
                f"typedef {type} {name};"
                if lanes == 1
                else f"typedef {type} {name} __attribute__((vector_size({size})));"
            )
        return name

    # -- functions --------------------------------------------------------------------------------

    def _add(self, name: str, text: str) -> str:
        self._functions.setdefault(name, text.strip() + "\n")
        return name

    def splat(self, type: str, lanes: int) -> str:
        """One number in all lanes."""
        v = self.vector(type, lanes)
        if lanes == 1:
            return self._add(f"splat_{v}", f"static inline {v} splat_{v}({type} s) {{ return s; }}")
        row = ", ".join(["s"] * lanes)
        text = f"static inline {v} splat_{v}({type} s) {{ return ({v}){{{row}}}; }}"
        return self._add(f"splat_{v}", text)

    def load(self, type: str, lanes: int) -> str:
        """Adjacent elements from memory of any alignment."""
        v = self.vector(type, lanes)
        text = f"""
static inline {v} load_{v}(const {type} *p) {{
  {v} x;
  memcpy(&x, p, sizeof x);
  return x;
}}"""
        return self._add(f"load_{v}", text)

    def load_some(self, type: str, lanes: int) -> str:
        """The first `n` lanes from memory, zeros in the rest."""
        v = self.vector(type, lanes)
        plain = f"""
  {type} x[{lanes}] = {{0}};
  for (i64 l = 0; l < n; l++) x[l] = p[l];
  {v} y;
  memcpy(&y, x, sizeof y);
  return y;
"""
        masked = self._masked_move("load", type, lanes)
        body = _either(masked, plain)
        return self._add(
            f"load_some_{v}", f"static inline {v} load_some_{v}(const {type} *p, i64 n) {{{body}}}"
        )

    def store(self, type: str, lanes: int) -> str:
        """All lanes to memory."""
        v = self.vector(type, lanes)
        text = f"static inline void store_{v}({type} *p, {v} x) {{ memcpy(p, &x, sizeof x); }}"
        return self._add(f"store_{v}", text)

    def stream(self, type: str, lanes: int) -> str:
        """All lanes to memory past the caches, where the machine can and `p` is aligned."""
        v = self.vector(type, lanes)
        size = _BYTES[type] * lanes
        feature, name = {
            16: ("__SSE2__", "movntdq"),
            32: ("__AVX__", "movntdq256"),
            64: ("__AVX512F__", "movntdq512"),
        }[size]
        text = f"""
static inline void stream_{v}({type} *p, {v} x) {{
  typedef long long whole __attribute__((vector_size({size})));
  if (((uintptr_t)p & {size - 1}) == 0) {{
#if defined(__clang__)
    __builtin_nontemporal_store((whole)x, (whole *)p);
    return;
#elif defined({feature})
    __builtin_ia32_{name}((whole *)p, (whole)x);
    return;
#endif
  }}
  memcpy(p, &x, sizeof x);
}}"""
        return self._add(f"stream_{v}", text)

    def streamed(self) -> str:
        """Waits until what was streamed can be seen by other threads."""
        text = """
static inline void streamed(void) {
#if defined(__SSE2__)
  __builtin_ia32_sfence();
#elif defined(__aarch64__)
  __sync_synchronize();
#endif
}"""
        return self._add("streamed", text)

    def store_some(self, type: str, lanes: int) -> str:
        """The first `n` lanes to memory."""
        v = self.vector(type, lanes)
        plain = f"""
  {type} y[{lanes}];
  memcpy(y, &x, sizeof x);
  for (i64 l = 0; l < n; l++) p[l] = y[l];
"""
        body = _either(self._masked_move("store", type, lanes), plain)
        return self._add(
            f"store_some_{v}",
            f"static inline void store_some_{v}({type} *p, {v} x, i64 n) {{{body}}}",
        )

    def _masked_move(self, way: str, type: str, lanes: int) -> tuple[str, str] | None:
        """The instruction that moves the first `n` lanes, where there is one."""
        size = _BYTES[type]
        if type not in ("f32", "f64", "i32") or size * lanes not in (16, 32):
            return None
        kind = {"f32": "ps", "f64": "pd", "i32": "d"}[type]
        bits = f"i{size * 8}"
        wide = "256" if size * lanes == 32 else ""
        place = f"({self.vector(type, lanes)} *)p"
        fn = f"__builtin_ia32_mask{way}{kind}{wide}"
        mask = f"{self.first(bits, lanes)}(n)"
        if bits == "i64":  # whose type is long int, of another name
            mask = f"(long long __attribute__((vector_size({lanes * 8})))){mask}"
        feature = "__AVX2__" if type[0] == "i" else "__AVX__"
        if way == "load":
            return feature, f"return {fn}((const {place[1:]}, {mask});"
        return feature, f"{fn}({place}, {mask}, x);"

    def first(self, type: str, lanes: int) -> str:
        """A mask of the first `n` lanes."""
        v = self.vector(type, lanes)
        row = ", ".join(str(i) for i in range(lanes))
        text = f"""
static inline {v} first_{v}(i64 n) {{
  const {v} at = {{{row}}};
  return at < {self.splat(type, lanes)}(({type})n);
}}"""
        return self._add(f"first_{v}", text)

    def sel(self, type: str, lanes: int) -> str:
        """`a` where the mask (of lanes as wide as the numbers) holds, else `b`."""
        v = self.vector(type, lanes)
        name = f"sel_{v}"
        if lanes == 1:
            return self._add(
                name, f"static inline {v} {name}(int m, {v} a, {v} b) {{ return m ? a : b; }}"
            )
        i = self.vector(f"i{_BYTES[type] * 8}", lanes)
        plain = f"return ({v})((m & ({i})a) | (~m & ({i})b));"
        blend = {
            ("f32", 8): ("__AVX__", "return __builtin_ia32_blendvps256(b, a, (f32x8)m);"),
            ("f64", 4): ("__AVX__", "return __builtin_ia32_blendvpd256(b, a, (f64x4)m);"),
            ("f32", 4): ("__SSE4_1__", "return __builtin_ia32_blendvps(b, a, (f32x4)m);"),
        }.get((type, lanes))
        return self._add(
            name, f"static inline {v} {name}({i} m, {v} a, {v} b) {{{_either(blend, plain)}}}"
        )

    def extremum(self, which: str, type: str, lanes: int) -> str:
        """The larger ("max") or smaller ("min") of two; NaN where either is."""
        v = self.vector(type, lanes)
        name = f"{which}_{v}"
        sign = ">" if which == "max" else "<"
        sel = self.sel(type, lanes)
        if type[0] != "f":
            text = f"return {sel}(a {sign} b, a, b);"
            return self._add(name, f"static inline {v} {name}({v} a, {v} b) {{ {text} }}")
        plain = f"return {sel}((a {sign} b) | (a != a), a, b);"
        # The instruction gives its second operand where either is NaN.
        builtin = {
            ("f32", 8): ("__AVX__", f"__builtin_ia32_{which}ps256"),
            ("f64", 4): ("__AVX__", f"__builtin_ia32_{which}pd256"),
        }.get((type, lanes))
        fast = (builtin[0], f"return {sel}(a != a, a, {builtin[1]}(a, b));") if builtin else None
        return self._add(name, f"static inline {v} {name}({v} a, {v} b) {{{_either(fast, plain)}}}")

    def bound(self, which: str, type: str, lanes: int) -> str:
        """`extremum` of `a` and a `b` that is not NaN."""
        v = self.vector(type, lanes)
        name = f"{which}_number_{v}"
        sign = ">" if which == "max" else "<"
        plain = f"return {self.sel(type, lanes)}(b {sign} a, b, a);"
        builtin = {
            ("f32", 4): ("__SSE__", f"return __builtin_ia32_{which}ps(b, a);"),
            ("f32", 8): ("__AVX__", f"return __builtin_ia32_{which}ps256(b, a);"),
            ("f64", 4): ("__AVX__", f"return __builtin_ia32_{which}pd256(b, a);"),
        }.get((type, lanes))
        return self._add(
            name, f"static inline {v} {name}({v} a, {v} b) {{{_either(builtin, plain)}}}"
        )

    def any(self, lanes: int) -> str:
        """Whether a mask of lanes of float32 holds in one of them."""
        v, i = self.vector("f32", lanes), self.vector("i32", lanes)
        plain = f"i32 all = 0; for (int l = 0; l < {lanes}; l++) all |= m[l]; return all != 0;"
        sign_bits = {
            1: ("__STDC__", "return m;"),
            4: ("__SSE__", "return __builtin_ia32_movmskps((f32x4)m) != 0;"),
            8: ("__AVX__", "return __builtin_ia32_movmskps256((f32x8)m) != 0;"),
        }.get(lanes)
        text = f"static inline int any_{v}({i} m) {{{_either(sign_bits, plain)}}}"
        return self._add(f"any_{v}", text)

    def abs(self, type: str, lanes: int) -> str:
        """The magnitude."""
        v = self.vector(type, lanes)
        name = f"abs_{v}"
        if type[0] == "f" and lanes == 1:
            body = f"return __builtin_fabs{'f' if type == 'f32' else ''}(x);"
        elif type[0] == "f":
            bits = _BYTES[type] * 8
            i = self.vector(f"i{bits}", lanes)
            body = f"return ({v})(({i})x & {self.splat(f'i{bits}', lanes)}(INT{bits}_MAX));"
        else:
            body = f"return {self.sel(type, lanes)}(x < 0, ({v})-x, x);"
        return self._add(name, f"static inline {v} {name}({v} x) {{ {body} }}")

    def fold_lanes(self, fold: str, type: str, lanes: int) -> str:
        """All lanes of an accumulator folded into one number."""
        v = self.vector(type, lanes)
        name = f"{fold}_lanes_{v}"
        lines = []
        half = lanes // 2
        while half:
            order = ", ".join(str((i + half) % lanes if i < half else i) for i in range(lanes))
            i = self.vector(f"i{_BYTES[type] * 8}", lanes)
            lines.append(f"  y = SHUFFLE({i}, x, {order});")
            lines.append(f"  x = {self.folded(fold, type, lanes, 'x', 'y')};")
            half //= 2
        self._functions.setdefault("SHUFFLE", _SHUFFLE)
        body = "\n".join(lines)
        text = f"static inline {type} {name}({v} x) {{\n  {v} y;\n{body}\n  return x[0];\n}}"
        return self._add(name, text)

    def transpose(self, type: str, lanes: int) -> str:
        """A square of as many vectors as lanes, turned round in place."""
        v = self.vector(type, lanes)
        i = self.vector(f"i{_BYTES[type] * 8}", lanes)
        self._functions.setdefault("SHUFFLE", _SHUFFLE)
        lines: list[str] = []

        def exchange(a: int, b: int, low: list[int], high: list[int]) -> None:
            picks = [", ".join(map(str, x)) for x in (low, high)]
            lines.append(f"  y = SHUFFLE2({i}, x[{a}], x[{b}], {picks[0]});")
            lines.append(f"  x[{b}] = SHUFFLE2({i}, x[{a}], x[{b}], {picks[1]});")
            lines.append(f"  x[{a}] = y;")

        half = 1
        while half < lanes:  # squares of `half` trade places with those beside them
            low = [at if not at & half else lanes + at - half for at in range(lanes)]
            high = [at + half if not at & half else lanes + at for at in range(lanes)]
            for a in range(lanes):
                if not a & half:
                    exchange(a, a + half, low, high)
            half *= 2
        body = "\n".join(lines)
        text = f"static inline void transpose_{v}({v} *x) {{\n  {v} y;\n{body}\n}}"
        return self._add(f"transpose_{v}", text)

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
        special = _ROUNDING.get((fn, type, lanes))
        if type == "f32" and fn in FUNCTIONS:
            needs, text = FUNCTIONS[fn]
            for other in needs:
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
            return self._add(name, text)
        scalar = self._scalar_function(fn, type)
        operands = ("a", "b") if fn in _BINARY else ("a",)
        parameters = ", ".join(f"{v} {x}" for x in operands)
        if lanes == 1:
            body = f"return {scalar}({', '.join(operands)});"
            return self._add(name, f"static inline {v} {name}({parameters}) {{ {body} }}")
        lanewise = ", ".join(f"{x}[l]" for x in operands)
        body = f"{v} y; for (int l = 0; l < {lanes}; l++) y[l] = {scalar}({lanewise}); return y;"
        return self._add(
            name, f"static inline {v} {name}({parameters}) {{{_either(special, body)}}}"
        )

    def _scalar_function(self, fn: str, type: str) -> str:
        suffix = "f" if type == "f32" else ""
        if fn in _LIBM:
            return fn + suffix
        text = _SCALAR_FUNCTIONS[fn].replace("FLOAT", type).replace("_F(", f"{suffix}(")
        return self._add(f"{fn}_{type}", text.replace("NAME", f"{fn}_{type}"))

    def _math_helpers(self, lanes: int) -> None:
        v, i = self.vector("f32", lanes), self.vector("i32", lanes)
        self.splat("f32", lanes)
        self.sel("f32", lanes)
        self.fused_multiply_add(lanes)
        self._reinterpretations(v, i, lanes)

    def fused_multiply_add(self, lanes: int) -> str:
        """a*b + c on float32, rounded once where the machine can."""
        v = self.vector("f32", lanes)
        plain = "return a * b + c;"
        fused = {
            8: ("__FMA__", "return __builtin_ia32_vfmaddps256(a, b, c);"),
            4: ("__FMA__", "return __builtin_ia32_vfmaddps(a, b, c);"),
            1: ("__FMA__", "return __builtin_fmaf(a, b, c);"),
            16: (
                "__AVX512F__",
                "return __builtin_ia32_vfmaddps512_mask(a, b, c, (short)-1, 4);",
            ),
        }.get(lanes)
        return self._add(
            f"fma_{v}",
            f"static inline {v} fma_{v}({v} a, {v} b, {v} c) {{{_either(fused, plain)}}}",
        )

    def multiply_add(self, type: str, lanes: int) -> str:
        """a*b + c on float32, or on words: the products of their two int16 each, added to int32."""
        if type == "f32":
            return self.fused_multiply_add(lanes)
        v = self.vector("i32", lanes)
        plain = "return c + (a << 16 >> 16) * (b << 16 >> 16) + (a >> 16) * (b >> 16);"
        if lanes == 1:
            plain = "return c + (i16)a * (i16)b + (a >> 16) * (b >> 16);"
            return self._add(
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
        lines = []
        for i, (machine, call) in enumerate(sums):
            call = call.replace("A", f"({pairs})a").replace("B", f"({pairs})b")
            total = f"({v}){call}" if "(c, a, b)" in call else f"c + ({v}){call}"
            lines += [f"#{'elif' if i else 'if'} {machine}", f"  c = {total};"]
            lines += [f"  {self.hold()}(c);", "  return c;"]
        lines += ["#else", f"  {plain}", "#endif"] if lines else [f"  {plain}"]
        body = "\n".join(lines)
        text = f"static inline {v} dot_{v}({v} a, {v} b, {v} c) {{\n{body}\n}}"
        return self._add(f"dot_{v}", text)

    def _reinterpretations(self, v: str, i: str, lanes: int) -> None:
        if lanes == 1:
            bits = "union { f32 f; i32 i; } u; "
            self._add(
                "bits_f32x1",
                f"static inline i32 bits_f32x1(f32 x) {{ {bits}u.f = x; return u.i; }}",
            )
            self._add(
                "from_bits_f32x1",
                f"static inline f32 from_bits_f32x1(i32 x) {{ {bits}u.i = x; return u.f; }}",
            )
            self._add("to_int_f32x1", "static inline i32 to_int_f32x1(f32 x) { return (i32)x; }")
            self._add(
                "to_float_f32x1", "static inline f32 to_float_f32x1(i32 x) { return (f32)x; }"
            )
            return
        self._add(f"bits_{v}", f"static inline {i} bits_{v}({v} x) {{ return ({i})x; }}")
        self._add(f"from_bits_{v}", f"static inline {v} from_bits_{v}({i} x) {{ return ({v})x; }}")
        convert = "__builtin_convertvector"
        self._add(
            f"to_int_{v}", f"static inline {i} to_int_{v}({v} x) {{ return {convert}(x, {i}); }}"
        )
        self._add(
            f"to_float_{v}",
            f"static inline {v} to_float_{v}({i} x) {{ return {convert}(x, {v}); }}",
        )

    def hold(self) -> str:
        """A macro that makes a vector variable live in a register."""
        self._functions.setdefault("HOLD", _HOLD)
        return "HOLD"

    def once(self, name: str, text: str) -> str:
        """A function with a text of its own."""
        return self._add(name, text)

    def shuffling(self, name: str, text: str) -> str:
        """The same for one that calls SHUFFLE."""
        self._functions.setdefault("SHUFFLE", _SHUFFLE)
        return self._add(name, text)

    def permuted(self, lanes: int) -> str:
        """The lanes of a float32 vector that an int32 one states, all within range."""
        v, i = self.vector("f32", lanes), self.vector("i32", lanes)
        text = f"""
static inline {v} permuted_{v}({v} x, {i} at) {{
#ifdef __clang__
  {v} y;
  for (int l = 0; l < {lanes}; l++) y[l] = x[at[l]];
  return y;
#else
  return __builtin_shuffle(x, at);
#endif
}}"""
        return self._add(f"permuted_{v}", text)

    def lanewise(self, name: str, scalar: str, result: str, operand: str, lanes: int) -> str:
        """`scalar` applied lane by lane."""
        v, x = self.vector(result, lanes), self.vector(operand, lanes)
        text = f"""
static inline {v} {name}({x} a) {{
  {v} y;
  for (int l = 0; l < {lanes}; l++) y[l] = {scalar}(a[l]);
  return y;
}}"""
        return self._add(name, text)


def _either(fast: tuple[str, str] | None, plain: str) -> str:
    """A body with another one for machines that have a feature."""
    if fast is None:
        return f" {plain} "
    return f"\n#ifdef {fast[0]}\n  {fast[1]}\n#else\n  {plain}\n#endif\n"


_SHUFFLE = """\
#if defined(__clang__) || __GNUC__ >= 12
#define SHUFFLE(I, x, ...) __builtin_shufflevector(x, x, __VA_ARGS__)
#define SHUFFLE2(I, x, y, ...) __builtin_shufflevector(x, y, __VA_ARGS__)
#else
#define SHUFFLE(I, x, ...) __builtin_shuffle(x, (I){__VA_ARGS__})
#define SHUFFLE2(I, x, y, ...) __builtin_shuffle(x, y, (I){__VA_ARGS__})
#endif"""

_HOLD = """\
#ifdef __x86_64__
#define HOLD(x) __asm__("" : "+v"(x))
#else
#define HOLD(x)
#endif"""

_ROUNDING: dict[tuple[str, str, int], tuple[str, str]] = {
    **{
        (fn, "f32", 8): ("__AVX__", f"return __builtin_ia32_roundps256(a, {mode});")
        for fn, mode in (("rint", 8), ("floor", 9), ("ceil", 10), ("trunc", 11))
    },
    **{
        (fn, "f64", 4): ("__AVX__", f"return __builtin_ia32_roundpd256(a, {mode});")
        for fn, mode in (("rint", 8), ("floor", 9), ("ceil", 10), ("trunc", 11))
    },
    ("sqrt", "f32", 8): ("__AVX__", "return __builtin_ia32_sqrtps256(a);"),
    ("sqrt", "f64", 4): ("__AVX__", "return __builtin_ia32_sqrtpd256(a);"),
}

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
