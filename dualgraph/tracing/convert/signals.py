"""How control leaves a block of rewritten code, and the variables that blocks share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import CellType
from typing import Any

from ..failure import Place
from .expressions import HELPER

NEXT, CONTINUE, BREAK, RETURN = range(4)


class Signal:
    """A block ended with a jump of `kind`: a number of the graph where data decides.

    `possible` are the kinds that it may be, `value` is what is returned, should it be RETURN;
    `place` is the test that decided.
    """

    __slots__ = ("kind", "place", "possible", "value")

    def __init__(
        self, kind: Any, value: Any = None, possible: Any = (), place: Place | None = None
    ) -> None:
        self.kind = kind
        self.value = value
        self.possible = frozenset(possible) or frozenset((kind,))
        self.place = place


_BREAK, _CONTINUE = Signal(BREAK), Signal(CONTINUE)


def Return(value: Any) -> Signal:
    """``return value``."""
    return Signal(RETURN, value)


def break_() -> Signal:
    """``break``."""
    return _BREAK


def continue_() -> Signal:
    """``continue``."""
    return _CONTINUE


def kind_of(signal: Signal | None) -> Any:
    """The kind of what a block gave: None is its end."""
    return NEXT if signal is None else signal.kind


def possible(signal: Signal | None) -> frozenset[int]:
    """The kinds that the signal of a block may be."""
    return frozenset((NEXT,)) if signal is None else signal.possible


class _Unbound:
    def __repr__(self) -> str:
        return "unbound"


UNBOUND = _Unbound()


class Variables:
    """The variables that a lambda mentions, read and written through its cells."""

    def __init__(self, cells: Callable[[], Any] | None) -> None:
        self.names: list[str] = []
        self.cells: list[CellType] = []
        if cells is not None:
            pairs = zip(cells.__code__.co_freevars, cells.__closure__ or (), strict=True)
            for name, cell in pairs:
                if name != HELPER:
                    self.names.append(name)
                    self.cells.append(cell)

    def load(self) -> list[Any]:
        """Their values; UNBOUND where there is none."""
        return [_load(cell) for cell in self.cells]

    def store(self, values: Sequence[Any]) -> None:
        """Set, or unset, each of them."""
        for cell, value in zip(self.cells, values, strict=True):
            if value is not UNBOUND:
                cell.cell_contents = value
            elif _load(cell) is not UNBOUND:
                del cell.cell_contents


def _load(cell: CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:
        return UNBOUND
