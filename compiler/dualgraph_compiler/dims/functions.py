"""Functions of sizes that may leave an atom: quotients, remainders, the larger and the smaller.

What is whole is taken out, and the rest brought to one of its forms, so that equal results are
equal expressions; what does not reduce to a polynomial becomes an atom (`expressions.Apply`).
"""

from __future__ import annotations

import math

from .expressions import Apply, Atom, Dim, DimLike, Monomial, Shape, terms_of


def _apply(function: str, left: DimLike, right: DimLike) -> DimLike:
    return Dim._of((((Apply(function, left, right),), 1),))


def floordiv(a: DimLike, b: DimLike) -> DimLike:
    """`a // b`; exact division is carried out, anything else stays an atom."""
    if isinstance(a, int) and isinstance(b, int):
        return a // b
    if a == b:
        return 1
    exact = divide_exactly(a, b)
    if exact is not None:
        return exact
    if isinstance(b, int) and isinstance(a, Dim):
        return _floordiv_int(a, b) if b > 0 else floordiv(-a, -b) if b else _apply("floordiv", a, b)
    return _apply("floordiv", a, b)


def _floordiv_int(a: Dim, b: int) -> DimLike:
    """`a // b` for `b` > 1: what is whole taken out, the rest brought to one of its forms."""
    split = _at_maximum(a, b)
    if split is not None:
        return split
    # (q*b*n + r) // b == q*n + r // b, with what stays of each coefficient within (-b/2, b/2]
    whole: dict[Monomial, int] = {}
    rest: dict[Monomial, int] = {}
    for m, c in a.terms:
        whole[m] = (c + (b - 1) // 2) // b if m else c // b
        rest[m] = c - b * whole[m]
    remainder = Dim._make(rest)
    if isinstance(remainder, int):
        return Dim._make(whole)
    if remainder.terms[0][1] < 0:
        # x // b == -((b - 1 - x) // b)
        return Dim._make(whole) - floordiv(b - 1 - remainder, b)
    return Dim._make(whole) + _reduced(remainder, b)


def _at_maximum(a: Dim, b: int) -> DimLike | None:
    """`a // b` where `a` holds one ``max(0, x)``: division keeps order, so it goes inside."""
    found = [(m, c) for m, c in a.terms if any(_is_max(atom) for atom in m)]
    if len(found) != 1 or len(found[0][0]) != 1 or found[0][1] % b == 0:
        return None
    (((atom,), c),) = found
    rest = a - c * Dim._of((((atom,), 1),))
    pick = maximum if c > 0 else minimum
    return pick(floordiv(rest, b), floordiv(rest + c * atom.right, b))  # type: ignore[union-attr]


def _is_max(atom: Atom) -> bool:
    return isinstance(atom, Apply) and atom.function == "max"


def _reduced(a: Dim, b: int) -> DimLike:
    from .decide import lower

    common = math.gcd(b, *(c for m, c in a.terms if m))
    if common > 1:  # (g*x + k) // (g*b) == (x + k // g) // b
        parts = {m: c // common for m, c in a.terms}
        return floordiv(Dim._make(parts), b // common)
    inner = [(m[0], c) for m, c in a.terms if len(m) == 1 and isinstance(m[0], Apply)]
    if len(a.terms) == len(inner) + (a.constant != 0) == 1 + (a.constant != 0):
        atom, c = inner[0]
        if c == 1 and isinstance(atom.right, int) and atom.right > 0:
            # (x // p + k) // b == (x + k*p) // (p*b)
            return floordiv(atom.left + a.constant * atom.right, atom.right * b)
    if lower(a) >= 0 and lower(b - 1 - a) >= 0:
        return 0
    return _apply("floordiv", a, b)


def divide_exactly(a: DimLike, b: DimLike) -> DimLike | None:
    """`a / b` where `b` divides the polynomial `a`, by long division; None where it does not."""
    (lead, coefficient), *_ = terms_of(b)
    quotient: DimLike = 0
    for _ in range(32):
        if isinstance(a, int) and a == 0:
            return quotient
        m, c = terms_of(a)[0]
        rest = list(m)
        for atom in lead:
            if atom not in rest:
                return None
            rest.remove(atom)
        if not coefficient or c % coefficient:
            return None
        part = Dim._make({tuple(rest): c // coefficient})
        quotient = part + quotient
        a = a - part * b
    return None


def mod(a: DimLike, b: DimLike) -> DimLike:
    """`a % b`."""
    if isinstance(a, int) and isinstance(b, int):
        return a % b
    rest: DimLike = a - b * floordiv(a, b)
    return rest


def maximum(a: DimLike, b: DimLike) -> DimLike:
    """The larger of two sizes."""
    if isinstance(a, int) and isinstance(b, int):
        return max(a, b)
    return b + _positive_part(a - b)


def minimum(a: DimLike, b: DimLike) -> DimLike:
    """The smaller of two sizes."""
    if isinstance(a, int) and isinstance(b, int):
        return min(a, b)
    return a - _positive_part(a - b)


def _positive_part(x: DimLike) -> DimLike:
    """``max(0, x)``: one of the two where the sign is known, else an atom times what divides x."""
    from .decide import lower

    if isinstance(x, int):
        return max(x, 0)
    if lower(x) >= 0:
        return x
    if lower(-x) >= 0:
        return 0
    for m, c in x.terms:
        if len(m) == 1 and _is_max(m[0]) and c > 0:
            # max(0, r + max(0, y)) is the largest of 0, r and r + y: without one that is never it
            rest = x - c * Dim._of(((m, 1),))
            moved = rest + c * m[0].right  # type: ignore[union-attr]
            if lower(-rest) >= 0:
                return _positive_part(moved)
            if lower(-moved) >= 0:
                return _positive_part(rest)
    if x.terms[0][1] < 0:
        turned: DimLike = _positive_part(-x) + x
        return turned
    common = math.gcd(*(c for _, c in x.terms))
    primitive = Dim._of(tuple((m, c // common) for m, c in x.terms))
    atom = Apply("max", 0, primitive)
    return Dim._of((((atom,), common),))


def product(shape: Shape) -> DimLike:
    """The number of elements of a shape."""
    known = 1
    total: DimLike = 1
    for d in shape:
        if type(d) is int:
            known *= d
        else:
            total = total * d
    total = total * known
    return total
