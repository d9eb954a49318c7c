"""Symbolic sizes: polynomials in a normal form, what is known of them, and arithmetic on them.

- `expressions`: the normal form (:class:`Dim`) and its arithmetic
- `functions`: quotients, remainders, the larger and the smaller of two sizes
- `printing`: sizes as text
- `decide`: bounds, signs and whether two sizes are equal, from the bounds of their symbols
- `values`: values for symbols put in, solved for, read from text
- `numbers`: real numbers computed from sizes (``n / 2``, ``n ** -0.5``)
"""

from .decide import bounds, differ, is_multiple
from .expressions import Apply, Atom, Dim, DimLike, Monomial, Shape, Symbol
from .functions import floordiv, maximum, minimum, mod, product
from .numbers import SizeNumber, ceiling, floor
from .values import as_linear, evaluate, parse_dim, solve, substitute, symbols

__all__ = [
    "Apply",
    "Atom",
    "Dim",
    "DimLike",
    "Monomial",
    "Shape",
    "SizeNumber",
    "Symbol",
    "as_linear",
    "bounds",
    "ceiling",
    "differ",
    "evaluate",
    "floor",
    "floordiv",
    "is_multiple",
    "maximum",
    "minimum",
    "mod",
    "parse_dim",
    "product",
    "solve",
    "substitute",
    "symbols",
]
