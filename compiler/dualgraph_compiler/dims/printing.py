"""Sizes as text: ``2*batch + 1``, with `mod`, `max` and `min` where the normal form stands for one.

:func:`~.values.parse_dim` reads it back.
"""

from __future__ import annotations

from .expressions import Apply, Dim, DimLike, Symbol, terms_of


def to_text(dim: Dim) -> str:
    """The printed form of a size."""
    for monomial, c in dim.terms:
        if len(monomial) == 1 and isinstance(monomial[0], Apply):
            shorter = _as_function(dim, monomial[0], c)
            if shorter is not None:
                return shorter
    return _polynomial(dim)


def _as_function(dim: Dim, atom: Apply, c: int) -> str | None:
    """`dim`, in which `c` times `atom` occurs, with `mod`, `max` or `min` if that is shorter."""
    rest = dim - c * Dim._of((((atom,), 1),))
    if atom.function == "floordiv":
        times, uneven = divmod(-c, atom.right) if isinstance(atom.right, int) else (0, 1)
        other = rest - times * atom.left
        if uneven or not times or _length(other) >= _length(rest):
            return None
        return _sum(times, f"mod({atom.left}, {atom.right})", other)
    moved = rest + c * atom.right
    if c > 0 and _is_simple(rest, atom.right) and rest != 0:
        return _pair("max", rest, moved)
    if c < 0 and _is_simple(moved, atom.right):
        return _pair("min", rest, moved)
    return None


def _sum(times: int, function: str, other: DimLike) -> str:
    text = function if abs(times) == 1 else f"{abs(times)}*{function}"
    if isinstance(other, int) and other == 0:
        return text if times > 0 else f"-{text}"
    return f"{other} {'+' if times > 0 else '-'} {text}"


def _pair(function: str, a: DimLike, b: DimLike) -> str:
    first, second = sorted((a, b), key=lambda d: (isinstance(d, Dim), str(d)))
    return f"{function}({first}, {second})"


def _is_simple(side: DimLike, other: DimLike) -> bool:
    return isinstance(side, int) or _length(side) < _length(other)


def _length(x: DimLike) -> int:
    return sum(len(m) + 1 for m, _ in terms_of(x)) if x != 0 else 0


def _polynomial(dim: Dim) -> str:
    parts = []
    for monomial, c in dim.terms:
        factors = [a.name if isinstance(a, Symbol) else a.key for a in monomial]
        if abs(c) != 1 or not monomial:
            factors.insert(0, str(abs(c)))
        parts.append(f"{'-' if c < 0 else '+'} {'*'.join(factors)}")
    text = " ".join(parts)
    return text[2:] if text.startswith("+ ") else "-" + text[2:]
