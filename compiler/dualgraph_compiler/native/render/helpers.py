"""Collects types and helper functions of a program's text, each once.

A helper is named ``<what>_<type>x<lanes>``; one lane means a plain scalar. Bool values are masks:
in vectors an integer of all ones or zeros per lane, as wide as the widest number beside it; alone
an int, 0 or 1.
"""

from __future__ import annotations

from ..plan import FIRST_INDEX_ERROR
from .types import TYPEDEFS

HEADER = """\
#include <math.h>
#include <stdint.h>
#include <string.h>
"""

BYTES = {"f32": 4, "f64": 8, **{f"{s}{b}": b // 8 for s in "iu" for b in (8, 16, 32, 64)}}


class Helpers:
    """What a program's text asked for so far, in that order."""

    def __init__(self, vector_bytes: int) -> None:
        self.vector_bytes = vector_bytes
        self.is_exact = False  # whether results are NumPy's to the last bit
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

    def vector(self, type: str, lanes: int) -> str:
        """A vector type; the scalar itself for one lane."""
        name = f"{type}x{lanes}"
        if name not in self._types:
            size = BYTES[type] * lanes
            self._types[name] = (
                f"typedef {type} {name};"
                if lanes == 1
                else f"typedef {type} {name} __attribute__((vector_size({size})));"
            )
        return name

    def once(self, name: str, text: str) -> str:
        """A function."""
        self._functions.setdefault(name, text.strip() + "\n")
        return name

    def shuffling(self, name: str, text: str) -> str:
        """A function that calls SHUFFLE."""
        self._functions.setdefault("SHUFFLE", _SHUFFLE)
        return self.once(name, text)

    def hold(self) -> str:
        """A macro that makes a vector variable live in a register."""
        self._functions.setdefault("HOLD", _HOLD.replace("BYTES", str(self.vector_bytes)))
        return "HOLD"

    def lanewise(self, name: str, scalar: str, result: str, operand: str, lanes: int) -> str:
        """`scalar` applied lane by lane."""
        v, x = self.vector(result, lanes), self.vector(operand, lanes)
        text = f"""
static inline {v} {name}({x} a) {{
  {v} y;
  for (int l = 0; l < {lanes}; l++) y[l] = {scalar}(a[l]);
  return y;
}}"""
        return self.once(name, text)


def either(fast: tuple[str, str] | None, plain: str) -> str:
    """A body with another one for machines that have a feature."""
    if fast is None:
        return f" {plain} "
    return f"\n#ifdef {fast[0]}\n  {fast[1]}\n#else\n  {plain}\n#endif\n"


def first_of(ways: list[tuple[str, str]], plain: str) -> str:
    """The body of the first condition of the preprocessor that holds."""
    if not ways:
        return f"  {plain}"
    lines = [f"#{'elif' if i else 'if'} {when}\n  {body}" for i, (when, body) in enumerate(ways)]
    return "\n".join([*lines, f"#else\n  {plain}\n#endif"])


_SHUFFLE = """\
#if defined(__clang__) || __GNUC__ >= 12
#define SHUFFLE(I, x, ...) __builtin_shufflevector(x, x, __VA_ARGS__)
#define SHUFFLE2(I, x, y, ...) __builtin_shufflevector(x, y, __VA_ARGS__)
#else
#define SHUFFLE(I, x, ...) __builtin_shuffle(x, (I){__VA_ARGS__})
#define SHUFFLE2(I, x, y, ...) __builtin_shuffle(x, y, (I){__VA_ARGS__})
#endif"""

# Compilers refuse vectors that take several registers.
_HOLD = """\
#if defined(__AVX512F__) || (BYTES <= 32 && defined(__AVX__)) || (BYTES == 16 && defined(__SSE__))
#define HOLD(x) __asm__("" : "+v"(x))
#elif defined(__aarch64__) && BYTES == 16
#define HOLD(x) __asm__("" : "+w"(x))
#else
#define HOLD(x)
#endif"""
