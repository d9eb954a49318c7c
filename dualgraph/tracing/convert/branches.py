"""``if``, ``and``, ``or``, ``not`` and their kin, where a traced tensor decides."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

from dualgraph_compiler.dims import Dim, differ
from dualgraph_compiler.errors import DualGraphError, UndecidedSize

from ..._tensor import Tensor
from ..failure import Place, current_place
from .merging import Differ, Kept, Merge, blank, completed, merge_signals, sketch
from .number import is_plain, wrap
from .regions import RaisedInside, Region, condition, in_region, innermost, is_traced
from .signals import NEXT, RETURN, UNBOUND, Signal, Variables, possible

Block = Callable[[], "Signal | None"]


def if_(
    test: Any, then: Block, orelse: Block, cells: Any = None, *, final: bool = False
) -> Signal | None:
    """Run one of two blocks; where the graph is to decide, record both.

    `cells` mentions the variables they write to. With `final` nobody reads those afterwards.
    """
    if not is_traced(test):
        return then() if test else orelse()
    place = current_place()
    innermost().root.note_branch(place)
    return _Branches(test, cells, final, place).signal(then, orelse)


def decide(test: Any, then: Block, orelse: Block, cells: Any, place: Place | None) -> Signal | None:
    """An `if_` that is a part of what stands at `place`."""
    if not is_traced(test):
        return then() if test else orelse()
    return _Branches(test, cells, False, place).signal(then, orelse)


class _Branches:
    """An ``if`` that the graph decides."""

    def __init__(self, test: Tensor, cells: Any, final: bool, place: Place | None) -> None:
        self.capture = innermost()
        self.place = place
        self.test = condition(test)
        self.variables = Variables(cells)
        self.final = final
        self.before = self.variables.load()
        what = f"`{place.expression}`" if place is not None else "a test"
        self.what = f"{what} on line {place.line}" if place is not None else what

    def signal(self, then: Block, orelse: Block) -> Signal | None:
        one, other = self.recorded("then_branch", then), self.recorded("else_branch", orelse)
        self.variables.store(self.before)
        if isinstance(one, Exception) or isinstance(other, Exception):
            return self.raising(one, other, then, orelse)
        (first, a, ours), (second, b, theirs) = one, other
        merge = Merge(first, second, self.what)
        try:
            kind, value = merge_signals(merge, a, b)
        except Differ as error:
            raise self.capture.failure(f"the branches of {self.what} return {error}") from None
        if possible(a) == {RETURN}:  # what comes after the `if` never sees its variables
            ours = self.blank(first, ours, theirs)
        elif possible(b) == {RETURN}:
            theirs = self.blank(second, theirs, ours)
        merged = [] if self.final else self.merged(merge, ours, theirs)
        results = merge.finish(self.test)
        if not self.final:
            self.variables.store([UNBOUND if m is None else completed(m, results) for m in merged])
        ends = possible(a) | possible(b)
        if ends == {NEXT}:
            return None
        return Signal(completed(kind, results), completed(value, results), ends, self.place)

    def blank(self, region: Region, own: list[Any], other: list[Any]) -> list[Any]:
        """Variables of the types of `other`, for a branch that leaves the function."""
        with region:
            return [x if x is y else blank(y) for x, y in zip(own, other, strict=True)]

    def recorded(self, label: str, block: Block) -> Any:
        """The graph of a branch, its signal and the variables after it; or the error it raised."""
        self.variables.store(self.before)
        region = Region(self.capture, label)
        try:
            signal = region.record(block)
        except RaisedInside as raised:
            return raised.error
        return region, signal, self.variables.load()

    def merged(self, merge: Merge, ours: list[Any], theirs: list[Any]) -> list[Any]:
        """The variables after the ``if``; None for those that have no common value."""
        out: list[Any] = []
        for name, a, b in zip(self.variables.names, ours, theirs, strict=True):
            if a is UNBOUND and b is UNBOUND:
                out.append(Kept(UNBOUND))
                continue
            try:
                if a is UNBOUND or b is UNBOUND:
                    raise Differ(f"{sketch(a)} and {sketch(b)}")
                out.append(merge.value(a, b))
            except Differ as error:
                why = f"the branches of {self.what} give {name!r} {error}"
                self.capture.root.unset[name] = f"{why}: after it, {name!r} has no one type"
                out.append(None)
        return out

    def raising(self, one: Any, other: Any, then: Block, orelse: Block) -> Signal | None:
        """Go on with the branch that does not raise, if raising can be left to each call."""
        first = one if isinstance(one, Exception) else other
        both = isinstance(one, Exception) and isinstance(other, Exception)
        if both or in_region() or isinstance(first, DualGraphError):
            raise self.capture.failure(
                f"a branch of {self.what} raises {type(first).__name__}: {first}"
            ) from first
        bad = self.test if first is one else ~self.test
        self.capture.root.check(~bad, first)
        return orelse() if first is one else then()


def choose(test: Any, a: Callable[[], Any], b: Callable[[], Any]) -> Any:
    """``a if test else b``."""
    if not is_traced(test):
        return a() if test else b()
    made = if_(test, lambda: Signal(RETURN, a()), lambda: Signal(RETURN, b()))
    assert made is not None
    return made.value


def result(signal: Signal | None) -> Any:
    """What a function returns whose block gave `signal`."""
    if signal is None:
        return None
    if not is_plain(signal.kind):  # it may come to its end, and return None
        if signal.value is not None:
            raise innermost().failure(
                f"whether {sketch(signal.value)} is returned, or None, depends on data"
            )
        return None
    return signal.value if signal.kind == RETURN else None


def after(signal: Signal | None, rest: Block, cells: Any = None, *, final: bool = False) -> Any:
    """Run the rest of a block, unless control is elsewhere already."""
    if signal is None or signal.kind is NEXT:
        return rest()
    if is_plain(signal.kind):
        return signal
    kinds = signal.possible - {NEXT}
    kind = next(iter(kinds)) if len(kinds) == 1 else signal.kind
    jumped = Signal(kind, signal.value, kinds)
    branches = _Branches(signal.kind != NEXT, cells, final, signal.place)
    return branches.signal(lambda: jumped, rest)


def assert_(test: Any, message: Callable[[], Any] | None) -> None:
    """``assert test, message()``."""

    def fail() -> None:
        raise AssertionError(*(() if message is None else (message(),)))

    if __debug__:
        if_(test, lambda: None, fail)


# -- operators that decide ------------------------------------------------------------------------


def truth(x: Any) -> Any:
    """The truth of `x`: a bool, or a number of the graph."""
    return wrap(condition(x)) if is_traced(x) else bool(x)


def not_(x: Any) -> Any:
    """``not x``."""
    return wrap(~condition(x)) if is_traced(x) else not x


def and_(x: Any, *others: Callable[[], Any]) -> Any:
    """``x and ...``."""
    for i, other in enumerate(others):
        if is_traced(x):
            rest = others[i:]
            return choose(x, lambda: and_(rest[0](), *rest[1:]), lambda: x)  # noqa: B023
        if not x:
            return x
        x = other()
    return x


def or_(x: Any, *others: Callable[[], Any]) -> Any:
    """``x or ...``."""
    for i, other in enumerate(others):
        if is_traced(x):
            rest = others[i:]
            return choose(x, lambda: x, lambda: or_(rest[0](), *rest[1:]))  # noqa: B023
        if x:
            return x
        x = other()
    return x


def and_test(x: Any, *others: Callable[[], Any]) -> Any:
    """``x and ...``, where only its truth matters."""
    return _all([lambda: x, *others]) if is_traced(x) else and_(x, *_truths(others))


def or_test(x: Any, *others: Callable[[], Any]) -> Any:
    """``x or ...``, where only its truth matters."""
    return or_(truth(x) if is_traced(x) else x, *_truths(others))


def _truths(thunks: Any) -> list[Callable[[], Any]]:
    def made(thunk: Callable[[], Any]) -> Callable[[], Any]:
        def value() -> Any:
            x = thunk()
            return truth(x) if is_traced(x) else x

        return value

    return [made(t) for t in thunks]


def _all(thunks: list[Callable[[], Any]]) -> Any:
    first, *rest = _truths(thunks)
    return and_(first(), *rest)


def contains(x: Any, container: Any, *, negated: bool) -> Any:
    """``x in container`` or, if `negated`, ``x not in container``."""
    found = _contains(x, container)
    return not_(found) if negated else found


def _contains(x: Any, container: Any) -> Any:
    if is_traced(container):
        return truth((container == x).any())
    if type(container) in (list, tuple) and any(map(is_traced, (x, *container))):
        found: Any = False
        for element in container:
            if element is x:
                return True
            found = or_(found, lambda e=element: truth(e == x))  # type: ignore[misc]
        return found
    if type(container) in (list, tuple):
        for element in container:
            _require_decided(x, element)
    return x in container


def _equal(a: Any, b: Any) -> Any:
    _require_decided(a, b)
    return a == b


def _unequal(a: Any, b: Any) -> Any:
    _require_decided(a, b)
    return a != b


def _require_decided(a: Any, b: Any) -> None:
    """Raise where user code asks whether symbolic sizes are equal, and that is open."""
    if isinstance(b, Dim):
        a, b = b, a
    if isinstance(a, Dim) and isinstance(b, int | Dim) and a != b and not differ(a, b):
        raise UndecidedSize(f"whether {a} == {b} is not known", a, b)


_COMPARISONS: dict[str, Callable[[Any, Any], Any]] = {
    "Eq": _equal,
    "NotEq": _unequal,
    "Lt": operator.lt,
    "LtE": operator.le,
    "Gt": operator.gt,
    "GtE": operator.ge,
    "Is": operator.is_,
    "IsNot": operator.is_not,
    "In": lambda a, b: contains(a, b, negated=False),
    "NotIn": lambda a, b: contains(a, b, negated=True),
}


def chain(left: Any, op: str, right: Callable[[], Any], *more: Any) -> Any:
    """``left op right() ...``, as ``a < b < c``."""
    value = right()
    found = _COMPARISONS[op](left, value)
    if not more:
        return found
    return and_(found, lambda: chain(value, *more))
