"""C types, literals and index arithmetic."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from ...dims import Apply, DimLike
from ...dtypes import BOOL, FLOAT, REAL_OF, DType, bfloat16, bool_, float16
from ..index import TILE_COLUMNS, TILE_ROWS, Atom, Axis, Index, Taken

# Arithmetic on sizes; quotients round towards minus infinity.
SIZES = """\
static inline i64 size_max(i64 a, i64 b) { return a > b ? a : b; }
static inline i64 size_min(i64 a, i64 b) { return a < b ? a : b; }
static inline i64 size_floordiv(i64 a, i64 b) { return a / b - (a % b != 0 && (a < 0) != (b < 0)); }
static inline i64 size_mod(i64 a, i64 b) { return a - size_floordiv(a, b) * b; }
"""

_SCALARS = {
    **{f"{s}int{n}": f"{'u' if s else 'i'}{n}" for s in ("", "u") for n in (8, 16, 32, 64)},
    "float32": "f32",
    "float64": "f64",
    # In registers narrow floats are float32.
    "float16": "f32",
    "bfloat16": "f32",
    "bool": "mask",
}

TYPEDEFS = """\
typedef float f32;
typedef double f64;
typedef int8_t i8;
typedef int16_t i16;
typedef int32_t i32;
typedef int64_t i64;
typedef uint8_t u8;
typedef uint16_t u16;
typedef uint32_t u32;
typedef uint64_t u64;
"""


def register(dtype: DType) -> str:
    """The scalar type that a register holds: "f32", "i64", ..., "mask" for bool."""
    return _SCALARS[dtype.name]


def memory(dtype: DType) -> str:
    """The type of an element in memory; of a part of a complex number."""
    if dtype is bool_:
        return "u8"
    if dtype.is_complex:
        dtype = REAL_OF[dtype]
    return "u16" if dtype in (float16, bfloat16) else _SCALARS[dtype.name]


def register_bytes(dtype: DType) -> int:
    """The size of `register(dtype)`; a mask takes that of what it masks, so 1 here."""
    return 4 if dtype in (float16, bfloat16) else dtype.itemsize


def literal(value: Any, dtype: DType) -> str:
    """A constant as C: a number, never text that came from elsewhere."""
    if dtype.category == BOOL:
        return "1" if value else "0"
    if dtype.category == FLOAT:
        return _float(float(value), "" if register(dtype) == "f64" else "f")
    value = int(value)
    if dtype.name == "int64" and value == -(2**63):
        return "INT64_MIN"
    wide = {"int64": "INT64_C", "uint64": "UINT64_C"}.get(dtype.name)
    return f"{wide}({value})" if wide else f"(({register(dtype)}){value})"


def _float(value: float, suffix: str) -> str:
    if math.isnan(value):
        return f'__builtin_nan{suffix}("")'
    if math.isinf(value):
        sign = "-" if value < 0 else ""
        return f"({sign}__builtin_inf{suffix}())"
    text = repr(value)
    short = value == int(value) and abs(value) < 2**24 if abs(value) < 2**53 else False
    body = text if short else value.hex()
    return f"({body}{suffix})" if math.copysign(1, value) < 0 else f"{body}{suffix}"


class Sizes:
    """Symbolic sizes as C: the program's arguments ``n0``, ``n1``, ..."""

    def __init__(self, symbols: Mapping[str, int]) -> None:
        self._names = {name: f"n{i}" for name, i in symbols.items()}
        # Variables of C where a tile is gone over.
        self._names |= {str(TILE_ROWS): "rows", str(TILE_COLUMNS): "columns"}
        self.used: dict[str, None] = {}

    def __call__(self, d: DimLike) -> str:
        """A size, in parentheses where it needs them."""
        if isinstance(d, int):
            return str(d)
        terms = []
        for monomial, c in d.terms:
            factors = [self._atom(a) for a in monomial]
            if c != 1 or not factors:
                factors.insert(0, str(c) if c >= 0 else f"({c})")
            terms.append(" * ".join(factors))
        return terms[0] if len(terms) == 1 and "*" not in terms[0] else f"({' + '.join(terms)})"

    def _atom(self, atom: Any) -> str:
        if isinstance(atom, Apply):
            return f"size_{atom.function}({self(atom.left)}, {self(atom.right)})"
        name = self._names[atom.name]
        self.used[name] = None
        return name


TakenText: TypeAlias = Callable[[Taken], str]


def index_text(
    index: Index, sizes: Sizes, names: Mapping[Axis, str], taken: TakenText | None = None
) -> str:
    """An index as C.

    `names` gives the counters that are not called ``i<number>``, `taken` writes what is computed
    from data.
    """
    parts = []
    for atom, c in index.terms:
        text = _atom_text(atom, sizes, names, taken)
        parts.append(text if c == 1 else f"{text} * {sizes(c)}")
    if index.offset != 0 or not parts:
        parts.append(sizes(index.offset))
    return " + ".join(parts)


def _atom_text(atom: Atom, sizes: Sizes, names: Mapping[Axis, str], taken: TakenText | None) -> str:
    if isinstance(atom, Axis):
        return names.get(atom, str(atom))
    if isinstance(atom, Taken):
        assert taken is not None, "an index computed from data where none can be"
        return taken(atom)
    sign = "%" if atom.is_rest else "/"
    return f"(({index_text(atom.index, sizes, names, taken)}) {sign} {sizes(atom.size)})"
