"""The normal form of sizes, and their arithmetic.

A dimension is an ``int`` or a :class:`Dim`: an integer polynomial over atoms, kept in a normal form
so that equal expressions are equal objects under ``==`` and ``hash``. An atom is a named symbol
(``batch``, with bounds) or an opaque application: ``floordiv(a, b)``, or ``max(0, a)``. Everything
else is written with these two: ``mod(a, b)`` is ``a - b*floordiv(a, b)``, ``max(a, b)`` is
``b + max(0, a - b)``, ``min(a, b)`` is ``a - max(0, a - b)``; so ``n - min(1, n)`` and
``max(0, n - 1)`` are one. Printing brings `mod`, `max` and `min` back.

Comparison: ``==`` is true when both sides are provably the same expression and false otherwise, so
a declared-dynamic size never silently becomes "equal to 1" (see `Dim.doubt` for user code). ``<``
and its kin are decided from bounds and raise :class:`~dualgraph_compiler.errors.UndecidedSize`
where the bounds do not decide.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias, Union

from ..errors import ShapeError, UndecidedSize

if TYPE_CHECKING:
    from .numbers import SizeNumber

DimLike: TypeAlias = Union[int, "Dim"]
Shape: TypeAlias = tuple[DimLike, ...]


class Symbol:
    """A named size with inclusive bounds; two symbols of one name are the same size."""

    __slots__ = ("key", "max", "min", "name")

    def __init__(self, name: str, min: int = 0, max: int | None = None) -> None:
        self.name = self.key = name
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

    __slots__ = ("_hash", "function", "key", "left", "right")

    def __init__(self, function: str, left: DimLike, right: DimLike) -> None:
        self.function = function  # floordiv, or max with 0 on the left
        self.left = left
        self.right = right
        self.key = f"{function}({left}, {right})"
        self._hash = hash((function, left, right))

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Apply)
            and other.function == self.function
            and other.left == self.left
            and other.right == self.right
        )

    def __hash__(self) -> int:
        return self._hash

    def __str__(self) -> str:
        return self.key


Atom: TypeAlias = Symbol | Apply
Monomial: TypeAlias = tuple[Atom, ...]


def _key(atom: Atom) -> str:
    return atom.key


def _place(term: tuple[Monomial, int]) -> tuple[int, list[str]]:
    return -len(term[0]), [a.key for a in term[0]]


class Dim:
    """A symbolic size. ``Dim("batch", min=1, max=64)`` names one; arithmetic makes more."""

    __slots__ = ("_hash", "_low", "_text", "terms")

    terms: tuple[tuple[Monomial, int], ...]
    _low: float | None  # what `decide.lower` found
    _text: str | None

    # Called before `==` says no. The front end raises here where the answer would steer user code
    # and is not known; everything else asks for "provably equal".
    doubt: ClassVar[Callable[[Dim, object], None] | None] = None
    # Called with both sides and the sign of a comparison that bounds leave open; a front end that
    # traces for certain sizes answers it. None leaves it open.
    answer: ClassVar[Callable[[DimLike, str, DimLike], bool | None] | None] = None

    def __init__(self, name: str, *, min: int = 0, max: int | None = None) -> None:
        if not name.isidentifier():
            raise ShapeError(f"a dimension's name must be an identifier, got {name!r}")
        if max is not None and max < min:
            raise ShapeError(f"the bounds of {name} contradict: at least {min}, at most {max}")
        self._set((((Symbol(name, min, max),), 1),))

    @staticmethod
    def internal(name: str) -> Dim:
        """A size that no other is equal to: with a space before it, its name is no identifier."""
        return Dim._of((((Symbol(f" {name}", 0, None),), 1),))

    def _set(self, terms: tuple[tuple[Monomial, int], ...]) -> None:
        self.terms = terms
        self._hash = hash(terms)
        self._low = self._text = None

    @staticmethod
    def _make(terms: Mapping[Monomial, int]) -> DimLike:
        kept = [t for t in terms.items() if t[1]]
        if not kept:
            return 0
        if len(kept) > 1:
            kept.sort(key=_place)
        elif not kept[0][0]:
            return kept[0][1]
        return Dim._of(tuple(kept))

    @staticmethod
    def _of(ordered: tuple[tuple[Monomial, int], ...]) -> Dim:
        dim = object.__new__(Dim)
        dim._set(ordered)
        return dim

    @property
    def constant(self) -> int:
        """The term without symbols."""
        monomial, c = self.terms[-1]
        return 0 if monomial else c

    # -- arithmetic -----------------------------------------------------------------------------

    def __add__(self, other: Any) -> Any:
        if type(other) is int:  # changes the last term only
            if not other:
                return self
            monomial, c = self.terms[-1]
            if monomial:
                return Dim._of((*self.terms, ((), other)))
            total = ((), c + other)
            return Dim._of((*self.terms[:-1], total) if c + other else self.terms[:-1])
        if not isinstance(other, int | Dim):
            return _number(self) + other if isinstance(other, float) else NotImplemented
        out = dict(self.terms)
        for m, c in terms_of(other):
            out[m] = out.get(m, 0) + c
        return Dim._make(out)

    __radd__ = __add__

    def __neg__(self) -> DimLike:
        return Dim._of(tuple((m, -c) for m, c in self.terms))

    def __sub__(self, other: Any) -> Any:
        if not isinstance(other, int | Dim | float):
            return NotImplemented
        return self + (-other)

    def __rsub__(self, other: Any) -> Any:
        return (-self) + other

    def __mul__(self, other: Any) -> Any:
        if type(other) is int:
            if other == 1:
                return self
            return Dim._of(tuple((m, c * other) for m, c in self.terms)) if other else 0
        if not isinstance(other, int | Dim):
            return _number(self) * other if isinstance(other, float) else NotImplemented
        out: dict[Monomial, int] = {}
        for m1, c1 in self.terms:
            for m2, c2 in terms_of(other):
                m = tuple(sorted(m1 + m2, key=_key)) if m1 and m2 else m1 or m2
                out[m] = out.get(m, 0) + c1 * c2
        return Dim._make(out)

    __rmul__ = __mul__

    def __pow__(self, exponent: Any) -> Any:
        if type(exponent) is int and exponent >= 0:
            return math.prod([self] * exponent)
        return _number(self) ** exponent

    def __rpow__(self, base: Any) -> SizeNumber:
        return base ** _number(self)  # type: ignore[no-any-return]

    def __truediv__(self, other: Any) -> SizeNumber:
        return _number(self) / other  # type: ignore[no-any-return]

    def __rtruediv__(self, other: Any) -> SizeNumber:
        return other / _number(self)  # type: ignore[no-any-return]

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

    def __divmod__(self, other: DimLike) -> tuple[DimLike, DimLike]:
        return floordiv(self, other), mod(self, other)

    def __rdivmod__(self, other: int) -> tuple[DimLike, DimLike]:
        return floordiv(other, self), mod(other, self)

    def __abs__(self) -> DimLike:
        return maximum(self, -self)

    def __pos__(self) -> Dim:
        return self

    def __ceil__(self) -> Dim:
        return self

    __floor__ = __trunc__ = __ceil__

    def __round__(self, digits: int | None = None) -> Dim:
        return self

    # -- comparison -----------------------------------------------------------------------------

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Dim) and self._hash == other._hash and self.terms == other.terms:
            return True
        if Dim.answer is not None and isinstance(other, int | Dim):
            found = Dim.answer(self, "==", other)
            if found is not None:
                return found
        if Dim.doubt is not None:
            Dim.doubt(self, other)
        return False

    def __hash__(self) -> int:
        return self._hash

    def __lt__(self, other: Any) -> bool:
        if isinstance(other, float):
            return _number(self) < other
        if not isinstance(other, int | Dim):
            return NotImplemented
        return _is_negative(self - other, "<", self, other)

    def __le__(self, other: Any) -> bool:
        if isinstance(other, float):
            return _number(self) <= other
        if not isinstance(other, int | Dim):
            return NotImplemented
        return _is_negative(self - other - 1, "<=", self, other)

    def __gt__(self, other: Any) -> bool:
        if isinstance(other, float):
            return _number(self) > other
        if not isinstance(other, int | Dim):
            return NotImplemented
        return _is_negative(other - self, ">", self, other)

    def __ge__(self, other: Any) -> bool:
        if isinstance(other, float):
            return _number(self) >= other
        if not isinstance(other, int | Dim):
            return NotImplemented
        return _is_negative(other - self - 1, ">=", self, other)

    def __bool__(self) -> bool:
        from .decide import differ

        if differ(self, 0):
            return True
        if Dim.answer is not None and (found := Dim.answer(self, "!=", 0)) is not None:
            return found
        raise UndecidedSize(f"whether the symbolic size {self} is zero is not known", self, 0)

    def __index__(self) -> int:
        raise UndecidedSize(
            f"the symbolic size {self} has no value while tracing: keep it in shape arithmetic "
            "(+ - * // %, sym_min, sym_max, sym_int, sym_sqrt), or trace with this dimension static"
        )

    __int__ = __index__

    def __float__(self) -> float:
        raise UndecidedSize(
            f"the symbolic size {self} has no value while tracing: for the number write "
            f"sym_float(size), for its square root size ** 0.5"
        )

    def __str__(self) -> str:
        if self._text is None:
            from .printing import to_text

            self._text = to_text(self)
        return self._text

    def __repr__(self) -> str:
        return str(self)

    @property
    def name(self) -> str | None:
        """The symbol's name if this Dim is a bare symbol, else None."""
        if len(self.terms) == 1 and self.terms[0][1] == 1 and len(self.terms[0][0]) == 1:
            atom = self.terms[0][0][0]
            return atom.name if isinstance(atom, Symbol) else None
        return None


def terms_of(x: DimLike) -> tuple[tuple[Monomial, int], ...]:
    """Monomials with their coefficients, an int's among them."""
    return x.terms if isinstance(x, Dim) else (((), x),)


def _number(x: DimLike) -> SizeNumber:
    from .numbers import ratio

    return ratio(x)


def _is_negative(difference: DimLike, sign: str, left: DimLike, right: DimLike) -> bool:
    """Whether `difference` < 0, from bounds."""
    from .decide import lower

    if lower(difference) >= 0:
        return False
    if -lower(-difference) < 0:
        return True
    if Dim.answer is not None and (found := Dim.answer(left, sign, right)) is not None:
        return found
    raise UndecidedSize(f"whether {left} {sign} {right} is not known", left, right)


# Which are written in terms of what stands above.
from .functions import floordiv, maximum, mod  # noqa: E402
