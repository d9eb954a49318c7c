"""Conversions between element types, on registers and between registers and memory."""

from __future__ import annotations

from ...dtypes import DType, bfloat16, float16
from .helpers import BYTES, first_of
from .prelude import Prelude

_HALF = {float16: "f16", bfloat16: "bf16"}


def narrow_name(dtype: DType) -> str | None:
    """ "f16" or "bf16" for the dtypes whose memory and register types differ."""
    return _HALF.get(dtype)


def from_narrow(prelude: Prelude, kind: str, lanes: int) -> str:
    """The function that makes float32 of the bits of narrow floats."""
    name = f"from_{kind}_{lanes}"
    if lanes == 1:
        return prelude.once(name, _FROM[kind])
    narrow, wide = prelude.vector("u16", lanes), prelude.vector("f32", lanes)
    if kind == "bf16":
        u32 = prelude.vector("u32", lanes)
        body = f"return ({wide})(__builtin_convertvector(a, {u32}) << 16);"
    else:
        pairs = prelude.vector("i16", max(lanes, 8))
        whole = f"return {_GROW}ps512_mask(({pairs})a, ({wide}){{0}}, -1, 4);"
        body = first_of(
            {
                4: [
                    ("defined(__F16C__)", f"{pairs} h; memcpy(&h, &a, 8); return {_GROW}ps(h);"),
                    (
                        _ARM,
                        f'{wide} y; __asm__("fcvtl %0.4s, %1.4h" : "=w"(y) : "w"(a)); return y;',
                    ),
                ],
                8: [("defined(__F16C__)", f"return {_GROW}ps256(({pairs})a);")],
                16: [("defined(__AVX512F__)", whole)],
            }.get(lanes, []),
            _lane_by_lane(from_narrow(prelude, kind, 1), wide, lanes),
        )
    return prelude.once(name, f"static inline {wide} {name}({narrow} a) {{\n{body}\n}}")


def to_narrow(prelude: Prelude, kind: str, lanes: int) -> str:
    """The function that rounds float32 to the bits of narrow floats."""
    name = f"to_{kind}_{lanes}"
    if lanes == 1:
        return prelude.once(name, _TO[kind])
    narrow, wide = prelude.vector("u16", lanes), prelude.vector("f32", lanes)
    if kind == "bf16":
        body = _ROUND_TO_BF16.format(u32=prelude.vector("u32", lanes), u16=narrow)
    else:
        pairs = prelude.vector("i16", max(lanes, 8))
        low = f"{pairs} h = {_SHRINK}ph(a, 0); {narrow} y; memcpy(&y, &h, 8); return y;"
        whole = f"return ({narrow}){_SHRINK}ph512_mask(a, 0, ({pairs}){{0}}, -1);"
        body = first_of(
            {
                4: [
                    ("defined(__F16C__)", low),
                    (
                        _ARM,
                        f'{narrow} y; __asm__("fcvtn %0.4h, %1.4s" : "=w"(y) : "w"(a)); return y;',
                    ),
                ],
                8: [("defined(__F16C__)", f"return ({narrow}){_SHRINK}ph256(a, 0);")],
                16: [("defined(__AVX512F__)", whole)],
            }.get(lanes, []),
            _lane_by_lane(to_narrow(prelude, kind, 1), narrow, lanes),
        )
    return prelude.once(name, f"static inline {narrow} {name}({wide} a) {{\n{body}\n}}")


_ARM = "defined(__aarch64__)"
_GROW, _SHRINK = "__builtin_ia32_vcvtph2", "__builtin_ia32_vcvtps2"


def _lane_by_lane(scalar: str, result: str, lanes: int) -> str:
    return f"{result} y; for (int l = 0; l < {lanes}; l++) y[l] = {scalar}(a[l]); return y;"


def rounded(prelude: Prelude, kind: str, lanes: int, x: str) -> str:
    """A float32 rounded to what the narrow type holds."""
    return f"{from_narrow(prelude, kind, lanes)}({to_narrow(prelude, kind, lanes)}({x}))"


def convert(prelude: Prelude, x: str, old: str, new: str, lanes: int) -> str:
    """A register of type `old` as one of type `new`; neither is a mask."""
    if old == new:
        return x
    if lanes == 1:
        if old[0] == "f" and new[0] in "iu" and BYTES[new] < 4:
            return f"({new})(i32)({x})"  # as NumPy: by way of a wider integer
        if old[0] == "f" and new == "u32":
            return f"(u32)(i64)({x})"
        return f"({new})({x})"
    if old[0] == "f" and new[0] in "iu":
        if new == "u64":
            cast = prelude.once(
                f"u64_of_{old}", f"static inline u64 u64_of_{old}({old} x) {{ return (u64)x; }}"
            )
            name = f"to_u64_{old}x{lanes}"
            return f"{prelude.lanewise(name, cast, 'u64', old, lanes)}({x})"
        middle = "i64" if new == "u32" else "i32"
        if BYTES[new] < 4 or new == "u32":
            x, old = f"__builtin_convertvector({x}, {prelude.vector(middle, lanes)})", middle
    if lanes in _PARTS and BYTES[old] == 1 and BYTES[new] >= 4:
        x = f"{_from_bytes(prelude, old, lanes)}({x})"
        if new == "i32":
            return x
    if lanes in _PARTS and BYTES[new] == 1 and BYTES[old] >= 4:
        if old != "i32":
            x = f"__builtin_convertvector({x}, {prelude.vector('i32', lanes)})"
        return f"{_to_bytes(prelude, new, lanes)}({x})"
    return f"__builtin_convertvector({x}, {prelude.vector(new, lanes)})"


# So many bytes are a part of a register only: compilers would convert them one by one.
_PARTS = (4, 8)


def _from_bytes(prelude: Prelude, type: str, lanes: int) -> str:
    """The function that makes i32 of so many u8 or i8."""
    narrow, wide = prelude.vector(type, lanes), prelude.vector("i32", lanes)
    whole, size = prelude.vector("u8", 4 * lanes), 4 * lanes
    part, parts = f"i{8 * lanes}", prelude.vector(f"i{8 * lanes}", 4)
    nothing = lanes  # the place of a byte that is zero
    place = 3 if type == "i8" else 0
    order = [str(i // 4) if i % 4 == place else str(nothing) for i in range(size)]
    down = " >> 24" if type == "i8" else ""
    name = f"words_of_{narrow}"
    first = prelude.vector(part, 16 // lanes)
    feature, bits = ("__AVX2__", 256) if lanes == 8 else ("__SSE4_1__", 128)
    instruction = f"__builtin_ia32_pmov{'s' if type == 'i8' else 'z'}xbd{bits}"
    body = first_of(
        [
            (
                f"defined({feature}) && !defined(__clang__)",
                f"{part} all;\n  memcpy(&all, &x, sizeof all);\n"
                "  typedef char V __attribute__((vector_size(16)));\n"
                f"  return {instruction}((V)({first}){{all}});",
            )
        ],
        f"""\
  {part} all;
  memcpy(&all, &x, sizeof all);
  const {whole} y = ({whole})({parts}){{all}};
  return ({wide})SHUFFLE({whole}, y, {", ".join(order)}){down};""",
    )
    function = f"static inline {wide} {name}({narrow} x) {{\n{body}\n}}"
    return prelude.shuffling(name, function)


def _to_bytes(prelude: Prelude, type: str, lanes: int) -> str:
    """The function that takes the lowest byte of so many i32."""
    narrow, wide = prelude.vector(type, lanes), prelude.vector("i32", lanes)
    whole, size = prelude.vector("u8", 4 * lanes), 4 * lanes
    part, parts = f"i{8 * lanes}", prelude.vector(f"i{8 * lanes}", 4)
    order = [str(4 * i % size) for i in range(size)]
    name = f"bytes_of_{wide}_{narrow}"
    function = f"""
static inline {narrow} {name}({wide} x) {{
  const {part} all = (({parts})SHUFFLE({whole}, ({whole})x, {", ".join(order)}))[0];
  {narrow} y;
  memcpy(&y, &all, sizeof y);
  return y;
}}"""
    return prelude.shuffling(name, function)


_FROM = {
    "bf16": """
static inline f32 from_bf16_1(u16 a) {
  union { u32 i; f32 f; } u = {(u32)a << 16};
  return u.f;
}""",
    "f16": """
static inline f32 from_f16_1(u16 a) {
  union { u32 i; f32 f; } u;
  const u32 sign = (u32)(a & 0x8000) << 16, rest = a & 0x7fff;
  if (rest >= 0x7c00) {
    u.i = sign | 0x7f800000 | (rest & 0x3ff) << 13;
  } else if (rest >= 0x0400) {
    u.i = sign | ((rest << 13) + 0x38000000);
  } else {
    u.f = (f32)rest * 0x1p-24f;
    u.i |= sign;
  }
  return u.f;
}""",
}

# As below, all lanes at once.
_ROUND_TO_BF16 = """
  const {u32} bits = ({u32})a, up = (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
  const {u32} nan = ({u32})(a != a);
  return __builtin_convertvector((nan & (bits >> 16 | 0x40)) | (~nan & up), {u16});
"""

# Rounding to the nearest, halves to the even neighbour.
_TO = {
    "bf16": """
static inline u16 to_bf16_1(f32 a) {
  union { f32 f; u32 i; } u = {a};
  if (a != a) return (u16)(u.i >> 16 | 0x40);
  return (u16)((u.i + 0x7fff + (u.i >> 16 & 1)) >> 16);
}""",
    "f16": """
static inline u16 to_f16_1(f32 a) {
  union { f32 f; u32 i; } u = {a};
  const u32 sign = u.i >> 16 & 0x8000;
  u.i &= 0x7fffffff;
  if (u.i > 0x7f800000) return (u16)(sign | 0x7e00);
  if (u.i >= 0x477ff000) return (u16)(sign | 0x7c00);
  if (u.i < 0x38800000) {  // below the normal range: let a float addition round
    u.f += 0.5f;
    return (u16)(sign | (u.i - 0x3f000000));
  }
  return (u16)(sign | ((u.i - 0x38000000 + 0xfff + (u.i >> 13 & 1)) >> 13));
}""",
}
