"""Helpers that move: to and from memory, into all lanes, from lane to lane."""

from __future__ import annotations

from .helpers import BYTES, Helpers, either


class Moves(Helpers):
    """Loads and stores, masks of the first lanes, and choice by mask."""

    def splat(self, type: str, lanes: int) -> str:
        """One number in all lanes."""
        v = self.vector(type, lanes)
        if lanes == 1:
            return self.once(f"splat_{v}", f"static inline {v} splat_{v}({type} s) {{ return s; }}")
        row = ", ".join(["s"] * lanes)
        text = f"static inline {v} splat_{v}({type} s) {{ return ({v}){{{row}}}; }}"
        return self.once(f"splat_{v}", text)

    def load(self, type: str, lanes: int) -> str:
        """Adjacent elements from memory of any alignment."""
        v = self.vector(type, lanes)
        text = f"""
static inline {v} load_{v}(const {type} *p) {{
  {v} x;
  memcpy(&x, p, sizeof x);
  return x;
}}"""
        return self.once(f"load_{v}", text)

    def load_some(self, type: str, lanes: int) -> str:
        """The first `n` lanes from memory, zeros in the rest."""
        v = self.vector(type, lanes)
        if lanes <= 4:  # compilers would call memcpy
            row = ", ".join(f"n > {lane} ? p[{lane}] : 0" for lane in range(lanes))
            plain = f"return ({v}){{{row}}};"
        else:
            plain = f"""
  {type} x[{lanes}] = {{0}};
  for (i64 l = 0; l < n; l++) x[l] = p[l];
  {v} y;
  memcpy(&y, x, sizeof y);
  return y;
"""
        masked = self._masked_move("load", type, lanes)
        body = either(masked, plain)
        return self.once(
            f"load_some_{v}", f"static inline {v} load_some_{v}(const {type} *p, i64 n) {{{body}}}"
        )

    def store(self, type: str, lanes: int) -> str:
        """All lanes to memory."""
        v = self.vector(type, lanes)
        text = f"static inline void store_{v}({type} *p, {v} x) {{ memcpy(p, &x, sizeof x); }}"
        return self.once(f"store_{v}", text)

    def store_some(self, type: str, lanes: int) -> str:
        """The first `n` lanes to memory."""
        v = self.vector(type, lanes)
        if 1 < lanes <= 4:
            lines = (f"if (n > {lane}) p[{lane}] = x[{lane}];" for lane in range(lanes))
            plain = "\n  ".join(lines)
        else:
            plain = f"""
  {type} y[{lanes}];
  memcpy(y, &x, sizeof x);
  for (i64 l = 0; l < n; l++) p[l] = y[l];
"""
        body = either(self._masked_move("store", type, lanes), plain)
        return self.once(
            f"store_some_{v}",
            f"static inline void store_some_{v}({type} *p, {v} x, i64 n) {{{body}}}",
        )

    def _masked_move(self, way: str, type: str, lanes: int) -> tuple[str, str] | None:
        """The instruction that moves the first `n` lanes, where there is one."""
        size, v = BYTES[type], self.vector(type, lanes)
        if type not in ("f32", "f64", "i32") or size * lanes not in (16, 32, 64):
            return None
        if size * lanes == 64:
            kind = {"f32": "ups", "f64": "upd", "i32": "dqusi"}[type]
            first = f"(u{lanes})((1u << n) - 1)"
            if way == "load":
                call = f"__builtin_ia32_load{kind}512_mask((const void *)p, ({v}){{0}}, {first})"
                return "__AVX512F__", f"return {call};"
            return "__AVX512F__", f"__builtin_ia32_store{kind}512_mask((void *)p, x, {first});"
        kind = {"f32": "ps", "f64": "pd", "i32": "d"}[type]
        bits = f"i{size * 8}"
        wide = "256" if size * lanes == 32 else ""
        place = f"({v} *)p"
        fn = f"__builtin_ia32_mask{way}{kind}{wide}"
        mask = f"{self.first(bits, lanes)}(n)"
        if bits == "i64":  # whose type is long int, of another name
            mask = f"(long long __attribute__((vector_size({lanes * 8})))){mask}"
        feature = "__AVX2__" if type[0] == "i" else "__AVX__"
        if way == "load":
            return feature, f"return {fn}((const {place[1:]}, {mask});"
        return feature, f"{fn}({place}, {mask}, x);"

    def stream(self, type: str, lanes: int) -> str:
        """All lanes to memory past the caches, where the machine can and `p` is aligned."""
        v = self.vector(type, lanes)
        size = BYTES[type] * lanes
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
        return self.once(f"stream_{v}", text)

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
        return self.once("streamed", text)

    def first(self, type: str, lanes: int) -> str:
        """A mask of the first `n` lanes."""
        v = self.vector(type, lanes)
        row = ", ".join(str(i) for i in range(lanes))
        text = f"""
static inline {v} first_{v}(i64 n) {{
  const {v} at = {{{row}}};
  return at < {self.splat(type, lanes)}(({type})n);
}}"""
        return self.once(f"first_{v}", text)

    def sel(self, type: str, lanes: int) -> str:
        """`a` where the mask (of lanes as wide as the numbers) holds, else `b`."""
        v = self.vector(type, lanes)
        name = f"sel_{v}"
        if lanes == 1:
            return self.once(
                name, f"static inline {v} {name}(int m, {v} a, {v} b) {{ return m ? a : b; }}"
            )
        i = self.vector(f"i{BYTES[type] * 8}", lanes)
        plain = f"return ({v})((m & ({i})a) | (~m & ({i})b));"
        blend = {
            ("f32", 8): ("__AVX__", "return __builtin_ia32_blendvps256(b, a, (f32x8)m);"),
            ("f64", 4): ("__AVX__", "return __builtin_ia32_blendvpd256(b, a, (f64x4)m);"),
            ("f32", 4): ("__SSE4_1__", "return __builtin_ia32_blendvps(b, a, (f32x4)m);"),
        }.get((type, lanes))
        return self.once(
            name, f"static inline {v} {name}({i} m, {v} a, {v} b) {{{either(blend, plain)}}}"
        )

    def transpose(self, type: str, lanes: int) -> str:
        """A square of as many vectors as lanes, turned round in place."""
        v = self.vector(type, lanes)
        i = self.vector(f"i{BYTES[type] * 8}", lanes)
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
        return self.shuffling(f"transpose_{v}", text)

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
        return self.once(f"permuted_{v}", text)
