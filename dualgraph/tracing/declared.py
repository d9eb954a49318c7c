"""The names given to dimensions that may vary: strings, Dims with bounds, arithmetic of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from dualgraph_compiler.dims import Dim, DimLike, Symbol, parse_dim, substitute, symbols
from dualgraph_compiler.errors import ArgumentError, ShapeError


class DeclaredDims:
    """Sizes from what `dynamic_shapes` says of them.

    A name is one size wherever it occurs; bounds given at one place hold at all.

    Raises:
        ArgumentError: two places give one name different bounds.
    """

    def __init__(self, spec: Any) -> None:
        bounded: dict[str, tuple[int, int | None]] = {}
        for s in _symbols_in(spec):
            limits = s.min, s.max
            if limits != (0, None) and bounded.setdefault(s.name, limits) != limits:
                raise ArgumentError(
                    f"dynamic_shapes declares {s.name!r} within {_text(bounded[s.name])} and "
                    f"within {_text(limits)}: one name is one size; give it one pair of bounds, or "
                    "the other size another name"
                )
        self._named = {n: Dim(n, min=low, max=high) for n, (low, high) in bounded.items()}

    def size(self, declared: Any) -> DimLike:
        """The size for a string (``"batch"``, ``"2*half"``), a Dim or an int."""
        if isinstance(declared, str):
            try:
                return parse_dim(declared, self._named)
            except ShapeError as error:
                raise ArgumentError(f"dynamic_shapes: {error}") from None
        if isinstance(declared, Dim):
            return substitute(declared, self._named)
        if isinstance(declared, int):
            return declared
        raise ArgumentError(
            f"dynamic_shapes: expected a name, a Dim or an int for a dimension, got {declared!r}"
        )


def _text(limits: tuple[int, int | None]) -> str:
    low, high = limits
    return f"[{low}, {'...' if high is None else high}]"


def _symbols_in(spec: Any) -> Iterator[Symbol]:
    if isinstance(spec, Dim):
        yield from symbols(spec)
    elif isinstance(spec, Mapping):
        for value in spec.values():
            yield from _symbols_in(value)
    elif isinstance(spec, list | tuple):
        for value in spec:
            yield from _symbols_in(value)
