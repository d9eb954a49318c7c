"""Arithmetic on sizes that Python's own functions cannot do for symbolic ones; what sizes must be.

``int(n / 2)``, ``math.sqrt(n)`` and ``min(n, 4)`` must give Python numbers, which a symbolic size
has none of. The `sym_` functions, named as in PyTorch, do the same for both.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from functools import reduce
from typing import Any

from dualgraph_compiler.dims import Dim, DimLike, SizeNumber, maximum, minimum
from dualgraph_compiler.errors import ShapeError
from dualgraph_compiler.graph import Assumption

from .._dispatch import captures


def sym_max(a: Any, b: Any) -> Any:
    """The larger of two sizes."""
    return maximum(a, b) if isinstance(a, Dim) or isinstance(b, Dim) else max(a, b)


def sym_min(a: Any, b: Any) -> Any:
    """The smaller of two sizes."""
    return minimum(a, b) if isinstance(a, Dim) or isinstance(b, Dim) else min(a, b)


def sym_int(a: Any) -> Any:
    """A number rounded towards zero to a size, as ``int``.

    Raises:
        UndecidedSize: `a` is computed from symbolic sizes in a way that cannot be rounded exactly.
    """
    return math.trunc(a)


def sym_float(a: Any) -> Any:
    """A size as a real number."""
    return a / 1 if isinstance(a, Dim | SizeNumber) else float(a)


def sym_sqrt(a: Any) -> Any:
    """The square root of a size or of a number computed from sizes."""
    return a**0.5 if isinstance(a, Dim | SizeNumber) else math.sqrt(a)


def sym_sum(sizes: Iterable[Any]) -> Any:
    """The sum of sizes."""
    return reduce(lambda a, b: a + b, sizes, 0)


def sym_not(a: Any) -> bool:
    """Whether a size is zero; UndecidedSize where that is not known."""
    return not a


def require_size(
    left: DimLike,
    relation: str,
    right: DimLike,
    why: str,
    error: type[Exception] = ShapeError,
) -> None:
    """Raise unless ``left relation right`` (one of ``== != >=``).

    Where symbolic sizes leave that open, the graph assumes it, and a run whose sizes are otherwise
    is refused with `why` and the user's line.
    """
    assumption = Assumption(left, relation, right, why)
    holds = assumption.decide()
    if holds is False:
        raise error(why)
    if holds is None and captures.current is not None:
        captures.current.assume(assumption)
