"""What the bounds of symbols say of an expression: its bounds, its sign, whether two may be equal.

A lower bound is sought in three ways, and the best is taken: interval arithmetic, term by term;
symbols counted from their bounds, where no coefficient is then negative (``n*m - m`` is
``(n - 1)*m``); and opaque atoms taken apart, ``max(0, a)`` into its two cases and
``floordiv(a, b)`` between ``(a - b + 1) / b`` and ``a / b``.
"""

from __future__ import annotations

import math
from typing import TypeGuard

from .expressions import Apply, Atom, Dim, DimLike, Monomial, Symbol, terms_of

_DEEPEST = 6  # atoms taken apart one after the other; each case split doubles the work


def bounds(x: DimLike) -> tuple[float, float | None]:
    """Inclusive lower and upper bounds of an expression; None means unbounded above."""
    if isinstance(x, int):
        return x, x
    high = -lower(-x)
    return lower(x), None if high == math.inf else high


def differ(a: DimLike, b: DimLike) -> bool:
    """Whether two sizes are provably different."""
    d: DimLike = a - b
    if isinstance(d, int):
        return d != 0
    if lower(d) > 0 or lower(-d) > 0:
        return True
    common = math.gcd(*(c for m, c in d.terms if m))
    return bool(d.constant % common)  # as 2*n and 2*m + 1


def is_multiple(a: DimLike, b: int) -> bool | None:
    """Whether `b` divides `a`; None where that is not known."""
    rest = a % b
    if isinstance(rest, int):
        return rest == 0
    return False if differ(rest, 0) else None


def lower(x: DimLike) -> float:
    """A lower bound, the best that is found; -inf where there is none."""
    if isinstance(x, int):
        return x
    if x._low is None:
        x._low = _lower(x, _DEEPEST)
    return x._low


def _lower(x: DimLike, depth: int) -> float:
    if isinstance(x, int):
        return x
    best = max(_interval(x)[0], _from_corner(x))
    atom = next((a for m, _ in x.terms for a in m if _opens(a)), None)
    if atom is None or depth == 0 or best == _interval(x)[1]:
        return best
    return max(best, _open_max(x, atom, depth) if atom.function == "max" else _open(x, atom, depth))


def _opens(atom: Atom) -> TypeGuard[Apply]:
    """Whether more is known of an atom than its bounds."""
    if not isinstance(atom, Apply):
        return False
    return atom.function == "max" or (isinstance(atom.right, int) and atom.right > 0)


def _open_max(x: Dim, atom: Apply, depth: int) -> float:
    """`atom` is ``max(0, a)``: x is one of two expressions, and the larger if it grows with it."""
    cases = [_lower(_replace(x, atom, v), depth - 1) for v in (0, atom.right)]
    return max(cases) if _direction(x, atom) == 1 else min(cases)


def _open(x: Dim, atom: Apply, depth: int) -> float:
    """`atom` is ``a // b``, b a positive int: between (a - b + 1) / b and a / b."""
    direction = _direction(x, atom)
    if direction is None or any(m.count(atom) > 1 for m, _ in x.terms):
        return -math.inf
    b = int(atom.right)
    reached = atom.left - (b - 1) if direction == 1 else atom.left
    # b times x, in which b times the atom is replaced
    total: DimLike = 0
    for m, c in x.terms:
        if atom in m:
            rest = list(m)
            rest.remove(atom)
            total = total + Dim._make({tuple(rest): c}) * reached
        else:
            total = total + Dim._make({m: c * b})
    low = _lower(total, depth - 1)
    return math.ceil(low / b) if math.isfinite(low) else low


def _direction(x: Dim, atom: Apply) -> int | None:
    """1 if x never falls as `atom` grows, -1 if it never rises, None if neither is known."""
    signs = set()
    for m, c in x.terms:
        if atom in m:
            rest = list(m)
            rest.remove(atom)
            if _monomial_interval(tuple(rest))[0] < 0:
                return None
            signs.add(1 if c > 0 else -1)
    return signs.pop() if len(signs) == 1 else None


def _replace(x: Dim, atom: Apply, value: DimLike) -> DimLike:
    total: DimLike = 0
    for m, c in x.terms:
        rest = Dim._make({tuple(a for a in m if a != atom): c})
        total = total + rest * value ** m.count(atom) if atom in m else total + rest
    return total


def _from_corner(x: Dim) -> float:
    """Every atom counted from the bound where x is least, if that leaves nothing negative."""
    moved: DimLike = x
    for atom in {a for m, _ in x.terms for a in m}:
        low, high = _atom_interval(atom)
        falls = all(c < 0 for m, c in x.terms if atom in m)
        end = high if falls else low
        if not math.isfinite(end):
            return -math.inf
        if isinstance(moved, Dim) and (falls or end):
            part = Dim._of((((atom,), 1),))
            away = (-part if falls else part) + int(end)
            total: DimLike = 0
            for m, c in moved.terms:
                rest = Dim._make({tuple(a for a in m if a != atom): c})
                total = total + rest * away ** m.count(atom)
            moved = total
    least = 0
    for m, c in terms_of(moved):
        if m and c < 0:
            return -math.inf
        least += 0 if m else c
    return least


# -- intervals ------------------------------------------------------------------------------------


def _interval(x: DimLike) -> tuple[float, float]:
    low, high = 0.0, 0.0
    for monomial, c in terms_of(x):
        ends = [c * end for end in _monomial_interval(monomial)]
        low, high = low + min(ends), high + max(ends)
    return low, high


def _monomial_interval(monomial: Monomial) -> tuple[float, float]:
    low, high = 1.0, 1.0
    for atom in monomial:
        a_low, a_high = _atom_interval(atom)
        corners = [p * q for p in (low, high) for q in (a_low, a_high) if p and q]
        corners += [0.0] if 0 in (low, high, a_low, a_high) else []
        low, high = min(corners), max(corners)
    return low, high


def _atom_interval(atom: Atom) -> tuple[float, float]:
    if isinstance(atom, Symbol):
        return atom.min, math.inf if atom.max is None else atom.max
    if atom.function == "max":
        return 0.0, max(0.0, -lower(-atom.right))
    (low, high), (r_low, r_high) = (
        (lower(side), -lower(-side)) for side in (atom.left, atom.right)
    )
    if r_low <= 0:
        return -math.inf, math.inf
    least = low // (r_high if low >= 0 else r_low) if low > -math.inf else -math.inf
    most = high // (r_low if high >= 0 else r_high) if high < math.inf else math.inf
    return (0.0 if math.isnan(least) else least), (0.0 if math.isnan(most) else most)
