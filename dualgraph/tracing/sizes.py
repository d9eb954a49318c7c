"""Sizes of the arguments that may vary: which become symbols, and what code asks of them."""

from __future__ import annotations

import operator
import re
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from dualgraph_compiler.dims import Dim, DimLike, differ, evaluate, solve, symbols
from dualgraph_compiler.errors import ShapeError, UndecidedSize
from dualgraph_compiler.graph import Assumption, Graph

from .objects import is_users

# Tensor argument (by its number) and axis.
Position: TypeAlias = tuple[int, int]
Shapes: TypeAlias = tuple[tuple[int, ...], ...]

_SIGNS: dict[str, Callable[[int, int], bool]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


@dataclass(frozen=True, slots=True)
class Answer:
    """A comparison of sizes in the user's code, and how it came out in the call traced."""

    left: DimLike
    sign: str
    right: DimLike
    holds: bool

    def fits(self, sizes: Mapping[str, int]) -> bool:
        """Whether it comes out the same for these sizes."""
        now = _SIGNS[self.sign](evaluate(self.left, sizes), evaluate(self.right, sizes))
        return now is self.holds

    def __str__(self) -> str:
        text = f"{self.left} {self.sign} {self.right}"
        return text if self.holds else f"not {text}"


class Answers:
    """While active, comparisons of symbolic sizes in the user's code are answered for `sizes`.

    The `given` answers are what the graph is for.
    """

    def __init__(self, sizes: Mapping[str, int]) -> None:
        self.sizes = sizes
        self.given: dict[Answer, None] = {}

    def __enter__(self) -> Answers:
        self._outer = _current.answers
        _current.answers = self
        return self

    def __exit__(self, *exception: object) -> None:
        _current.answers = self._outer

    def answer(self, left: DimLike, sign: str, right: DimLike) -> bool | None:
        """How a comparison comes out that the user's code makes; None for one of another's."""
        frame = sys._getframe(3)
        while (
            "dualgraph_compiler" in frame.f_code.co_filename and "dims" in frame.f_code.co_filename
        ):
            assert frame.f_back is not None
            frame = frame.f_back
        if not is_users(frame.f_code.co_filename):
            return None  # an operation's own rule: right for all sizes
        _current.answers = None
        try:
            if sign == "==" and differ(left, right):
                return False
            found = Answer(left, sign, right, True)
            if not found.fits(self.sizes):
                found = Answer(left, sign, right, False)
        except ShapeError:
            return None
        finally:
            _current.answers = self
        self.given[found] = None
        return found.holds


class _Current(threading.local):
    answers: Answers | None = None


_current = _Current()


def _answer(left: DimLike, sign: str, right: DimLike) -> bool | None:
    answers = _current.answers
    return None if answers is None else answers.answer(left, sign, right)


Dim.answer = _answer


@dataclass
class Sizes:
    """The sizes of the tensor arguments in all calls of one kind, and which of them vary.

    With `dynamic` None, a size becomes a symbol once it has been seen to vary; True: all are from
    the start; False: none ever. Sizes that were equal in all calls have one symbol. Those in
    `fixed` cannot be symbols; the notes say why.
    """

    dynamic: bool | None
    names: Sequence[str]
    seen: list[Shapes] = field(default_factory=list)
    fixed: dict[Position, str] = field(default_factory=dict)

    def note(self, shapes: Shapes) -> None:
        """Take a call into account."""
        if shapes not in self.seen:
            self.seen.append(shapes)
            del self.seen[1:-63]

    def symbols(self) -> dict[Position, str]:
        """The names of the sizes that are symbols now."""
        if self.dynamic is False:
            return {}
        columns: dict[tuple[int, ...], str] = {}
        found = {}
        for i, shape in enumerate(self.seen[0]):
            for axis in range(len(shape)):
                column = tuple(shapes[i][axis] for shapes in self.seen)
                if (i, axis) in self.fixed or not (self.dynamic or len(set(column)) > 1):
                    continue
                label = "".join(c if c.isalnum() else "_" for c in f"{self.names[i]}_{axis}")
                found[i, axis] = columns.setdefault(column, f"s_{label}")
        return found

    def fix(
        self,
        error: Exception,
        used: Mapping[Position, str],
        trace_with: Callable[[dict[Position, str]], Any],
    ) -> list[str]:
        """Let sizes that an error is about, or all of those `used`, be fixed; says which.

        An error may name sizes that it is not about, such as those of a whole shape: of several,
        the first is fixed without which `trace_with` has another error or none.
        """
        names: set[str] = set()
        if isinstance(error, UndecidedSize):
            for side in (error.left, error.right):
                names |= {s.name for s in symbols(side)} if isinstance(side, Dim) else set()
        names = names or {n for n in used.values() if n in str(error)}
        fixed = [p for p, n in used.items() if not names or n in names]
        if len(fixed) > 1 and not isinstance(error, UndecidedSize):
            about = (p for p in fixed if _is_about(error, p, used, trace_with))
            fixed = [p] if (p := next(about, None)) is not None else fixed
        for position in fixed:
            self.fixed[position] = str(error)
        return [self.label(p) for p in fixed]

    def label(self, position: Position) -> str:
        """A size in words."""
        return f"argument {self.names[position[0]]} dim {position[1]}"

    def varied(self) -> list[str]:
        """The sizes that vary and are fixed in each graph, with the values seen."""
        lines = []
        for i, shape in enumerate(self.seen[0] if self.seen else ()):
            for axis in range(len(shape)):
                column = list(dict.fromkeys(shapes[i][axis] for shapes in self.seen))
                if len(column) > 1 and (self.dynamic is False or (i, axis) in self.fixed):
                    shown = ", ".join(map(str, column[:6])) + ", ..." * (len(column) > 6)
                    lines.append(f"{self.label((i, axis))}: {shown}")
        return lines


def _is_about(
    error: Exception,
    position: Position,
    used: Mapping[Position, str],
    trace_with: Callable[[dict[Position, str]], Any],
) -> bool:
    """Whether a trace that has no symbol for this size has another error, or none."""
    try:
        trace_with({p: n for p, n in used.items() if p != position})
    except Exception as other:
        return _gist(other, used.values()) != _gist(error, used.values())
    return True


def _gist(error: Exception, names: Iterable[str]) -> str:
    """What an error says in its first line, whatever the sizes are."""
    first = str(error).partition("\n")[0]
    return re.sub(rf"\b({'|'.join(map(re.escape, names))}|\d+)\b", "#", first)


@dataclass(frozen=True, slots=True)
class Pattern:
    """The shapes that a graph is for: `fixed` ones, or sizes and symbols.

    Of the symbols it knows the answers that the code was given, and what the graph assumes.
    `composed` are sizes that are expressions in symbols: the graph itself checks them.
    """

    shapes: tuple[tuple[int | str | None, ...], ...]  # None: a composed one
    answers: tuple[Answer, ...] = ()
    is_fixed: bool = True
    assumptions: tuple[Assumption, ...] = ()
    composed: tuple[tuple[Position, Dim], ...] = ()

    @property
    def is_free(self) -> bool:
        """Whether sizes vary, and nothing is known of them but which ones are equal."""
        return not (self.is_fixed or self.answers or self.assumptions or self.composed)

    @staticmethod
    def of(
        graph: Graph, answers: Iterable[Answer], assumptions: Iterable[Assumption] = ()
    ) -> Pattern:
        """The pattern of what a graph with its inputs was made for."""
        types = [v.type.shape for v in graph.inputs]
        pattern = tuple(tuple(d.name if isinstance(d, Dim) else d for d in t) for t in types)
        fixed = all(isinstance(d, int) for t in types for d in t)
        composed = tuple(
            ((i, axis), d)
            for i, t in enumerate(types)
            for axis, d in enumerate(t)
            if isinstance(d, Dim) and d.name is None
        )
        known = tuple(dict.fromkeys(assumptions))
        return Pattern(pattern, tuple(answers), fixed, known, composed)

    def fits(self, shapes: Shapes) -> bool:
        """Whether arguments of these shapes are right for the graph."""
        if self.is_fixed:
            return self.shapes == shapes
        sizes: dict[str, int] = {}
        for wanted, shape in zip(self.shapes, shapes, strict=True):
            for want, n in zip(wanted, shape, strict=True):
                if type(want) is int:
                    if want != n:
                        return False
                elif want is not None and sizes.setdefault(want, n) != n:  # type: ignore[arg-type]
                    return False
        if self.answers and not all(a.fits(sizes) for a in self.answers):
            return False
        return not self.assumptions or self.failing(shapes) is None

    def failing(self, shapes: Shapes) -> Assumption | None:
        """The first thing that the graph assumes of sizes and that is not so for these."""
        named: list[tuple[DimLike, int]] = [
            (Dim(want), n)
            for wanted, shape in zip(self.shapes, shapes, strict=True)
            for want, n in zip(wanted, shape, strict=True)
            if isinstance(want, str)
        ]
        env = solve([*named, *((d, shapes[i][axis]) for (i, axis), d in self.composed)])
        return next((a for a in self.assumptions if not a.fits(env)), None)

    def answered(self) -> str:
        """The answers in words."""
        return " and ".join(map(str, self.answers))

    def __str__(self) -> str:
        return ", ".join(f"[{', '.join(map(str, shape))}]" for shape in self.shapes)


def assumed(graph: Graph) -> Iterator[Assumption]:
    """What a graph, and those that its nodes hold, assume of sizes."""
    yield from graph.assumptions
    for node in graph.nodes:
        for name in node.op.bodies:
            yield from assumed(getattr(node.op, name))


def dimensions(used: Mapping[Position, str]) -> dict[int, dict[int, Any]]:
    """For each tensor argument, the Dims of its axes that are symbols."""
    found: dict[int, dict[int, Any]] = {}
    made: dict[str, Dim] = {}
    for (i, axis), name in used.items():
        found.setdefault(i, {})[axis] = made.setdefault(name, Dim(name))
    return found
