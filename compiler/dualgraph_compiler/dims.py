"""Symbolic sizes.

A dimension is an ``int`` or a :class:`Dim`: an integer polynomial over atoms, kept in a normal form
so that equal expressions are equal objects under ``==`` and ``hash``. An atom is a named symbol
(``batch``, with bounds) or an opaque application (``floordiv``, ``mod``, ``max``, ``min``) of
dimensions. Arithmetic on a Dim yields a Dim, or an int when everything cancels.

Comparison: ``==`` is true when both sides are provably the same expression and false otherwise, so
a declared-dynamic size never silently becomes "equal to 1". ``<`` and its kin are decided from
bounds and raise :class:`~dualgraph_compiler.errors.ShapeError` when the bounds do not decide.
"""

from __future__ import annotations

import ast
import math
from collections.abc import Mapping
from typing import TypeAlias, Union

from .errors import ShapeError

DimLike: TypeAlias = Union[int, "Dim"]
Shape: TypeAlias = tuple[DimLike, ...]

_FUNCTIONS = ("floordiv", "mod", "max", "min")


class Symbol:
    """A named size with inclusive bounds; two symbols of one name are the same size."""

    __slots__ = ("max", "min", "name")

    def __init__(self, name: str, min: int = 0, max: int | None = None) -> None:
        self.name = name
        self.min = min
        self.max = max

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Symbol) and other.name == self.name

    def __hash__(self) -> int:
        return hash(self.name)

    def __str__(self) -> str:
        return self.name


class Apply:
    """`function(left, right)` on dimensions that does not reduce to a polynomial."""

    __slots__ = ("function", "left", "right")

    def __init__(self, function: str, left: DimLike, right: DimLike) -> None:
        self.function = function
        self.left = left
        self.right = right

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Apply)
            and other.function == self.function
            and other.left == self.left
            and other.right == self.right
        )

    def __hash__(self) -> int:
        return hash((self.function, self.left, self.right))

    def __str__(self) -> str:
        return f"{self.function}({self.left}, {self.right})"


Atom: TypeAlias = Symbol | Apply
Monomial: TypeAlias = tuple[Atom, ...]


class Dim:
    """A symbolic size. ``Dim("batch", min=1, max=64)`` names one; arithmetic makes more."""

    __slots__ = ("_hash", "terms")

    terms: tuple[tuple[Monomial, int], ...]

    def __init__(self, name: str, *, min: int = 0, max: int | None = None) -> None:
        if not name.isidentifier():
            raise ShapeError(f"a dimension's name must be an identifier, got {name!r}")
        self._set({(Symbol(name, min, max),): 1})

    def _set(self, terms: Mapping[Monomial, int]) -> None:
        ordered = sorted(terms.items(), key=lambda t: (-len(t[0]), [str(a) for a in t[0]]))
        self.terms = tuple(ordered)
        self._hash = hash(self.terms)

    @staticmethod
    def _make(terms: dict[Monomial, int]) -> DimLike:
        kept = {m: c for m, c in terms.items() if c}
        if not kept:
            return 0
        if len(kept) == 1 and () in kept:
            return kept[()]
        dim = object.__new__(Dim)
        dim._set(kept)
        return dim

    # -- arithmetic -----------------------------------------------------------------------------

    def __add__(self, other: DimLike) -> DimLike:
        if not isinstance(other, int | Dim):
            return NotImplemented
        out = dict(self.terms)
        for m, c in _terms(other):
            out[m] = out.get(m, 0) + c
        return Dim._make(out)

    __radd__ = __add__

    def __neg__(self) -> DimLike:
        return Dim._make({m: -c for m, c in self.terms})

    def __sub__(self, other: DimLike) -> DimLike:
        if not isinstance(other, int | Dim):
            return NotImplemented
        return self + (-other)

    def __rsub__(self, other: int) -> DimLike:
        return (-self) + other

    def __mul__(self, other: DimLike) -> DimLike:
        if not isinstance(other, int | Dim):
            return NotImplemented
        out: dict[Monomial, int] = {}
        for m1, c1 in self.terms:
            for m2, c2 in _terms(other):
                m = tuple(sorted(m1 + m2, key=str))
                out[m] = out.get(m, 0) + c1 * c2
        return Dim._make(out)

    __rmul__ = __mul__

    def __pow__(self, exponent: int) -> DimLike:
        return math.prod([self] * exponent)

    def __floordiv__(self, other: DimLike) -> DimLike:
        if not isinstance(other, int | Dim):
            return NotImplemented
        return floordiv(self, other)

    def __rfloordiv__(self, other: int) -> DimLike:
        return floordiv(other, self)

    def __mod__(self, other: DimLike) -> DimLike:
        if not isinstance(other, int | Dim):
            return NotImplemented
        return mod(self, other)

    def __rmod__(self, other: int) -> DimLike:
        return mod(other, self)

    # -- comparison -----------------------------------------------------------------------------

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Dim) and self.terms == other.terms

    def __hash__(self) -> int:
        return self._hash

    def __lt__(self, other: DimLike) -> bool:
        return _decide(self - other, "<", self, other)

    def __le__(self, other: DimLike) -> bool:
        return _decide(self - other - 1, "<=", self, other)

    def __gt__(self, other: DimLike) -> bool:
        return _decide(other - self, ">", self, other)

    def __ge__(self, other: DimLike) -> bool:
        return _decide(other - self - 1, ">=", self, other)

    def __bool__(self) -> bool:
        low, high = bounds(self)
        if low > 0 or (high is not None and high < 0):
            return True
        raise ShapeError(f"whether the symbolic size {self} is zero is not known; give it bounds")

    def __index__(self) -> int:
        raise ShapeError(
            f"the symbolic size {self} has no value while tracing; keep it in shape arithmetic, or "
            "trace with this dimension static"
        )

    __int__ = __index__

    def __str__(self) -> str:
        parts = []
        for monomial, c in self.terms:
            factors = [str(a) for a in monomial]
            if abs(c) != 1 or not monomial:
                factors.insert(0, str(abs(c)))
            sign = "-" if c < 0 else "+"
            parts.append(f"{sign} {'*'.join(factors)}")
        text = " ".join(parts)
        return text[2:] if text.startswith("+ ") else "-" + text[2:]

    def __repr__(self) -> str:
        return str(self)

    @property
    def name(self) -> str | None:
        """The symbol's name if this Dim is a bare symbol, else None."""
        if len(self.terms) == 1 and self.terms[0][1] == 1 and len(self.terms[0][0]) == 1:
            atom = self.terms[0][0][0]
            return atom.name if isinstance(atom, Symbol) else None
        return None


def _terms(x: DimLike) -> tuple[tuple[Monomial, int], ...]:
    return x.terms if isinstance(x, Dim) else (((), x),)


def _decide(difference: DimLike, sign: str, left: DimLike, right: DimLike) -> bool:
    """Whether `difference` < 0, from bounds."""
    low, high = bounds(difference)
    if high is not None and high < 0:
        return True
    if low >= 0:
        return False
    raise ShapeError(f"whether {left} {sign} {right} is not known; give the dimension bounds")


def _apply(function: str, left: DimLike, right: DimLike) -> DimLike:
    return Dim._make({(Apply(function, left, right),): 1})


def floordiv(a: DimLike, b: DimLike) -> DimLike:
    """`a // b`; exact division is carried out, anything else stays an atom."""
    if isinstance(a, int) and isinstance(b, int):
        return a // b
    if a == b:
        return 1
    exact = _divide_exactly(a, b)
    if exact is not None:
        return exact
    if isinstance(b, int) and b > 0 and isinstance(a, Dim):
        # (k*b*n + r) // b == k*n + r // b
        whole = {m: c // b for m, c in a.terms if c % b == 0}
        rest = {m: c for m, c in a.terms if c % b}
        if any(whole.values()):
            return Dim._make(whole) + floordiv(Dim._make(rest), b)
        constant = rest.pop((), 0)
        if constant >= b or constant < 0:
            return floordiv(Dim._make(rest) + constant % b, b) + constant // b
        low, high = bounds(a)
        if low >= 0 and high is not None and high < b:
            return 0
    return _apply("floordiv", a, b)


def _divide_exactly(a: DimLike, b: DimLike) -> DimLike | None:
    """`a / b` when `b` is one monomial that divides every term of `a`."""
    divisor = _terms(b)
    if len(divisor) != 1:
        return None
    monomial, coefficient = divisor[0]
    out: dict[Monomial, int] = {}
    for m, c in _terms(a):
        rest = list(m)
        for atom in monomial:
            if atom not in rest:
                return None
            rest.remove(atom)
        if c % coefficient:
            return None
        out[tuple(rest)] = c // coefficient
    return Dim._make(out)


def mod(a: DimLike, b: DimLike) -> DimLike:
    """`a % b`."""
    if isinstance(a, int) and isinstance(b, int):
        return a % b
    if a == b or _divide_exactly(a, b) is not None:
        return 0
    return _apply("mod", a, b)


def maximum(a: DimLike, b: DimLike) -> DimLike:
    """The larger of two sizes."""
    return _extremum("max", a, b)


def minimum(a: DimLike, b: DimLike) -> DimLike:
    """The smaller of two sizes."""
    return _extremum("min", a, b)


def _extremum(function: str, a: DimLike, b: DimLike) -> DimLike:
    if isinstance(a, int) and isinstance(b, int):
        return max(a, b) if function == "max" else min(a, b)
    low, high = bounds(a - b)
    if low >= 0:
        return a if function == "max" else b
    if high is not None and high <= 0:
        return b if function == "max" else a
    return _apply(function, *sorted((a, b), key=str))


def bounds(x: DimLike) -> tuple[float, float | None]:
    """Inclusive lower and upper bounds of an expression; None means unbounded above."""
    if isinstance(x, int):
        return x, x
    low, high = 0.0, 0.0
    for monomial, c in x.terms:
        m_low, m_high = 1.0, 1.0
        for atom in monomial:
            a_low, a_high = _atom_bounds(atom)
            corners = [p * q for p in (m_low, m_high) for q in (a_low, a_high) if p and q]
            corners += [0.0] if 0 in (m_low, m_high, a_low, a_high) else []
            m_low, m_high = min(corners), max(corners)
        ends = sorted((c * m_low, c * m_high))
        low, high = low + ends[0], high + ends[1]
    return low, None if high == math.inf else high


def _atom_bounds(atom: Atom) -> tuple[float, float]:
    if isinstance(atom, Symbol):
        return atom.min, math.inf if atom.max is None else atom.max
    (l_low, l_high), (r_low, r_high) = bounds(atom.left), bounds(atom.right)
    top = math.inf if l_high is None else l_high
    r_top = math.inf if r_high is None else r_high
    if atom.function == "max":
        return max(l_low, r_low), max(top, r_top)
    if atom.function == "min":
        return min(l_low, r_low), min(top, r_top)
    if atom.function == "mod" and r_low > 0:
        return 0, r_top - 1
    if atom.function == "floordiv" and r_low > 0:
        low = l_low // (r_top if l_low >= 0 else r_low) if l_low > -math.inf else -math.inf
        high = top // (r_low if top >= 0 else r_top) if top < math.inf else math.inf
        return (0.0 if math.isnan(low) else low), high
    return -math.inf, math.inf


def evaluate(x: DimLike, env: Mapping[str, int]) -> int:
    """The value of an expression given the values of its symbols.

    Raises:
        ShapeError: a symbol has no value in `env`.
    """
    if isinstance(x, int):
        return x
    return sum(c * math.prod(_atom_value(a, env) for a in m) for m, c in x.terms)


def _atom_value(atom: Atom, env: Mapping[str, int]) -> int:
    if isinstance(atom, Symbol):
        try:
            return env[atom.name]
        except KeyError:
            raise ShapeError(f"the dimension {atom.name!r} has no value yet") from None
    left, right = evaluate(atom.left, env), evaluate(atom.right, env)
    if atom.function == "floordiv":
        return left // right
    if atom.function == "mod":
        return left % right
    return max(left, right) if atom.function == "max" else min(left, right)


def substitute(x: DimLike, env: Mapping[str, DimLike]) -> DimLike:
    """`x` with symbols replaced by sizes; symbols that `env` does not name stay."""
    if isinstance(x, int):
        return x
    total: DimLike = 0
    for monomial, c in x.terms:
        product: DimLike = c
        for atom in monomial:
            product = product * _atom_substitute(atom, env)
        total = total + product
    return total


def _atom_substitute(atom: Atom, env: Mapping[str, DimLike]) -> DimLike:
    if isinstance(atom, Symbol):
        return env[atom.name] if atom.name in env else Dim._make({(atom,): 1})
    left, right = substitute(atom.left, env), substitute(atom.right, env)
    table = {"floordiv": floordiv, "mod": mod, "max": maximum, "min": minimum}
    return table[atom.function](left, right)


def symbols(x: DimLike) -> set[Symbol]:
    """Every symbol that occurs in an expression."""
    found: set[Symbol] = set()
    if isinstance(x, Dim):
        for monomial, _ in x.terms:
            for atom in monomial:
                if isinstance(atom, Symbol):
                    found.add(atom)
                else:
                    found |= symbols(atom.left) | symbols(atom.right)
    return found


def product(shape: Shape) -> DimLike:
    """The number of elements of a shape."""
    total: DimLike = 1
    for d in shape:
        total = total * d
    return total


def parse_dim(text: str, named: Mapping[str, Dim] | None = None) -> DimLike:
    """A Dim from its printed form; `named` gives symbols that have bounds.

    Raises:
        ShapeError: the text is not dimension arithmetic.
    """
    try:
        return _from_ast(ast.parse(text.strip(), mode="eval").body, named or {})
    except SyntaxError:
        raise ShapeError(f"expected a size such as 3 or 2*batch + 1, got {text!r}") from None


def _from_ast(node: ast.expr, named: Mapping[str, Dim]) -> DimLike:
    match node:
        case ast.Constant(value=int(v)):
            return v
        case ast.Name(id=name):
            return named[name] if name in named else Dim(name)
        case ast.UnaryOp(op=ast.USub(), operand=x):
            return -_from_ast(x, named)
        case ast.BinOp(left=a, op=ast.Add(), right=b):
            return _from_ast(a, named) + _from_ast(b, named)
        case ast.BinOp(left=a, op=ast.Sub(), right=b):
            return _from_ast(a, named) - _from_ast(b, named)
        case ast.BinOp(left=a, op=ast.Mult(), right=b):
            return _from_ast(a, named) * _from_ast(b, named)
        case ast.Call(func=ast.Name(id=f), args=[a, b]) if f in _FUNCTIONS:
            table = {"floordiv": floordiv, "mod": mod, "max": maximum, "min": minimum}
            return table[f](_from_ast(a, named), _from_ast(b, named))
    raise ShapeError(f"expected a size such as 3 or 2*batch + 1, got {ast.unparse(node)!r}")
