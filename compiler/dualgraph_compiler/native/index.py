"""Where an element is: integer expressions over the counters of loops.

An `Index` is a sum of counters times sizes, plus a size: ``i0*128 + i1 + 3``. A term may also be
the quotient or remainder of another index, which is how a reshape that splits or joins axes reads
through, or a number that is computed from data. Sizes may be symbolic. Counters know their extents,
so that most quotients disappear.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from ..dims import Dim, DimLike, Shape, bounds, floordiv, mod, product
from ..errors import ShapeError

if TYPE_CHECKING:
    from .loops import Expr

# How many rows and columns a tile of a product or convolution has. Names of sizes come from users
# and files, and theirs may be ``rows``, too.
TILE_ROWS, TILE_COLUMNS = Dim.internal("rows"), Dim.internal("columns")


@dataclass(frozen=True, slots=True)
class Axis:
    """The counter of a loop, which runs from 0 to `extent` - 1."""

    number: int
    extent: DimLike

    def __str__(self) -> str:
        return f"i{self.number}"


@dataclass(frozen=True, slots=True)
class Part:
    """``index // size`` (`is_rest` false) or ``index % size`` of an index that is not negative."""

    index: Index
    size: DimLike
    is_rest: bool

    def __str__(self) -> str:
        return f"({self.index}) {'%' if self.is_rest else '/'} {self.size}"


@dataclass(frozen=True, slots=True)
class Taken:
    """A number computed from data: `value` is an int64 scalar within [0, extent).

    `counters` are those that it depends on. See `loops.taken`.
    """

    value: Expr
    extent: DimLike
    counters: frozenset[Axis]

    def __str__(self) -> str:
        return f"taken of {self.extent}"


Atom: TypeAlias = Axis | Part | Taken


@dataclass(frozen=True, slots=True)
class Index:
    """The sum of ``atom * size`` over `terms`, plus `offset`."""

    terms: tuple[tuple[Atom, DimLike], ...] = ()
    offset: DimLike = 0

    def __add__(self, other: Index | DimLike) -> Index:
        if not isinstance(other, Index):
            return Index(self.terms, self.offset + other)
        total = dict(self.terms)
        for atom, size in other.terms:
            total[atom] = total.get(atom, 0) + size
        return _normal(total, self.offset + other.offset)

    def __mul__(self, size: DimLike) -> Index:
        if size == 0:
            return Index()
        return Index(tuple((a, c * size) for a, c in self.terms), self.offset * size)

    def __neg__(self) -> Index:
        return self * -1

    def __floordiv__(self, size: DimLike) -> Index:
        return self._split(size)[0]

    def __mod__(self, size: DimLike) -> Index:
        return self._split(size)[1]

    def _split(self, size: DimLike) -> tuple[Index, Index]:
        """Quotient and remainder; `self` must not be negative."""
        if size == 1:
            return self, Index()
        if size == 0:  # of a loop that makes no step
            return Index(), Index()
        whole: list[tuple[Atom, DimLike]] = []
        rest: list[tuple[Atom, DimLike]] = []
        for atom, c in self.terms:
            if mod(c, size) == 0:
                whole.append((atom, floordiv(c, size)))
            else:
                rest.append((atom, c))
        quotient, remainder = Index(tuple(whole)), Index(tuple(rest))
        offset = self.offset
        if mod(offset, size) == 0:
            quotient += floordiv(offset, size)
        else:
            remainder += offset
        low, high = remainder.bounds()
        if known_less(high, size) and known_less(-1, low):
            return quotient, remainder
        if not known_less(-1, low):  # only the sum of both parts is known not to be negative
            return Index(((Part(self, size, False), 1),)), Index(((Part(self, size, True), 1),))
        return (
            quotient + Index(((Part(remainder, size, False), 1),)),
            Index(((Part(remainder, size, True), 1),)),
        )

    def bounds(self) -> tuple[DimLike, DimLike]:
        """The least and the largest value, as sizes; loops are taken to run at least once."""
        low = high = self.offset
        for atom, c in self.terms:
            if isinstance(atom, Axis | Taken):
                top = atom.extent - 1
            elif atom.is_rest:
                top = atom.size - 1
            else:
                top = floordiv(atom.index.bounds()[1], atom.size)
            if known_less(-1, c):
                high = high + c * top
            else:
                low = low + c * top
        return low, high

    def stride(self, axis: Axis) -> DimLike | None:
        """How far a step of `axis` moves; None where that is not the same at every step."""
        found: DimLike = 0
        for atom, c in self.terms:
            if atom == axis:
                found = found + c
            elif axis in _counters(atom):
                return None
        return found

    def axes(self) -> set[Axis]:
        """The counters it depends on."""
        found: set[Axis] = set()
        for atom, _ in self.terms:
            found |= _counters(atom)
        return found

    def taken(self) -> list[Taken]:
        """The numbers in it that are computed from data."""
        found: list[Taken] = []
        for atom, _ in self.terms:
            if isinstance(atom, Taken):
                found.append(atom)
            elif isinstance(atom, Part):
                found += atom.index.taken()
        return found

    def substitute(self, new: Mapping[Axis, Index]) -> Index:
        """With counters replaced by indices."""
        total = Index((), self.offset)
        for atom, c in self.terms:
            if isinstance(atom, Axis):
                total += (new[atom] if atom in new else Index(((atom, 1),))) * c
            elif isinstance(atom, Taken):
                from .loops import substituted, taken

                total += taken(substituted(atom.value, new), atom.extent) * c
            else:
                inner = atom.index.substitute(new)
                total += (inner % atom.size if atom.is_rest else inner // atom.size) * c
        return total

    def __str__(self) -> str:
        parts = [str(a) if c == 1 else f"{a}*{c}" for a, c in self.terms]
        if self.offset != 0 or not parts:
            parts.append(str(self.offset))
        return " + ".join(parts)


def _counters(atom: Atom) -> set[Axis]:
    """The counters that a term depends on."""
    if isinstance(atom, Axis):
        return {atom}
    return set(atom.counters) if isinstance(atom, Taken) else atom.index.axes()


def of_axis(axis: Axis) -> Index:
    """The counter itself; a loop of one step has no counter."""
    return Index() if axis.extent == 1 else Index(((axis, 1),))


def known_less(a: DimLike, b: DimLike) -> bool:
    """Whether `a` < `b` for all sizes, as far as the bounds of the dims tell; sizes count from 1.

    A loop over a size of 0 makes no step, so that indices need to be right for sizes from 1 on.
    """
    if isinstance(a, int) and isinstance(b, int):
        return a < b
    difference = b - a
    if bounds(difference)[0] > 0:
        return True
    # (n - 1)*c < n*c and its like: all terms are products of sizes with coefficients >= 0.
    if isinstance(difference, int):
        return difference > 0
    positive = all(c > 0 for m, c in difference.terms if m)
    least = sum(c for _, c in difference.terms)
    plain = all(not hasattr(atom, "function") for m, _ in difference.terms for atom in m)
    return positive and plain and least > 0


def _normal(total: dict[Atom, DimLike], offset: DimLike) -> Index:
    """Zero terms dropped; ``(x / d)*d*c + (x % d)*c`` put together again as ``x*c``."""
    for atom in list(total):
        if not isinstance(atom, Part) or not atom.is_rest or atom not in total:
            continue
        other = Part(atom.index, atom.size, False)
        c = total[atom]
        if c != 0 and total.get(other, 0) == atom.size * c:
            del total[atom], total[other]
            return Index(tuple(total.items()), offset) + atom.index * c
    return Index(tuple((a, c) for a, c in total.items() if c != 0), offset)


# -- shapes ---------------------------------------------------------------------------------------


def row_major(shape: Shape) -> tuple[DimLike, ...]:
    """The strides, in elements, of a contiguous array."""
    strides: list[DimLike] = []
    step: DimLike = 1
    for d in reversed(shape):
        strides.append(step)
        step = step * d
    return tuple(reversed(strides))


def flatten(coords: Sequence[Index], shape: Shape) -> Index:
    """The place of an element in a contiguous array of `shape`."""
    total = Index()
    for at, step in zip(coords, row_major(shape), strict=True):
        total += at * step
    return total


def unflatten(at: Index, shape: Shape) -> tuple[Index, ...]:
    """Coordinates in `shape` of the element at a place in row-major order."""
    coords: list[Index] = []
    first = next((i for i, d in enumerate(shape) if d != 1), 0)  # there nothing is left over
    for i in reversed(range(len(shape))):
        if shape[i] == 1:
            coords.append(Index())
        elif i == first:
            coords.append(at)
        else:
            coords.append(at % shape[i])
            at = at // shape[i]
    return tuple(reversed(coords))


def reshaped(coords: Sequence[Index], shape: Shape, old: Shape) -> tuple[Index, ...]:
    """Coordinates in `old` of the element at `coords` of `shape`, which has as many elements.

    The shapes are cut where their leading sizes multiply to the same, and each piece goes through
    its own flat index, so that axes that keep their size keep their counter.
    """
    if product(shape) != product(old):
        raise ShapeError(f"{shape} and {old} have different numbers of elements")
    if product(shape) == 0:
        return (Index(),) * len(old)
    out: list[Index] = []
    i = j = 0
    while i < len(shape) or j < len(old):
        first, second = i, j
        a: DimLike = 1
        b: DimLike = 1
        if i < len(shape):
            a, i = shape[i], i + 1
        if j < len(old):
            b, j = old[j], j + 1
        while a != b:
            # Sizes that cannot be compared: everything that is left becomes one piece.
            more = _grows(a, b)
            if more is None or (more and i == len(shape)) or (not more and j == len(old)):
                i, j = len(shape), len(old)
                break
            if more:
                a, i = a * shape[i], i + 1
            else:
                b, j = b * old[j], j + 1
        piece = flatten(coords[first:i], shape[first:i])
        out.extend(unflatten(piece, old[second:j]))
    return tuple(out)


def _grows(a: DimLike, b: DimLike) -> bool | None:
    """Whether the first product must take another factor to reach the second."""
    if known_less(a, b):
        return True
    if known_less(b, a):
        return False
    if a == 1:
        return True
    return False if b == 1 else None
