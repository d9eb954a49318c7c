"""What a graph takes for granted of symbolic sizes.

Where an operation asks something of a size that its bounds leave open (a dimension to be halved
must be even), the answer is assumed, noted with the user's line, and checked when a run tells the
sizes.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from ..dims import DimLike, differ, evaluate, substitute, symbols
from ..errors import FeedError

if TYPE_CHECKING:
    from .core import Location

_HOLDS: dict[str, Callable[[int, int], bool]] = {
    "==": operator.eq,
    "!=": operator.ne,
    ">=": operator.ge,
}


@dataclass(frozen=True, slots=True)
class Assumption:
    """``left relation right``, one of ``== != >=``; `why` says for whom, `loc` is the line."""

    left: DimLike
    relation: str
    right: DimLike
    why: str
    loc: Location | None = None

    def decide(self) -> bool | None:
        """Whether it holds for all sizes (True), for none (False), or a run must tell (None)."""
        if self.relation == ">=":
            try:
                return self.left >= self.right
            except ValueError:
                return None
        if self.left == self.right:
            return self.relation == "=="
        return self.relation == "!=" if differ(self.left, self.right) else None

    def names(self) -> set[str]:
        """The symbols it speaks of."""
        return {s.name for side in (self.left, self.right) for s in symbols(side)}

    def sized(self, env: Mapping[str, DimLike]) -> Assumption:
        """The same of other sizes."""
        return replace(self, left=substitute(self.left, env), right=substitute(self.right, env))

    def fits(self, env: Mapping[str, int]) -> bool:
        """Whether it holds of these sizes, or they do not tell."""
        if not self.names() <= env.keys():
            return True
        return _HOLDS[self.relation](evaluate(self.left, env), evaluate(self.right, env))

    def __str__(self) -> str:
        return f"{self.left} {self.relation} {self.right}"


def check_assumptions(assumptions: Iterable[Assumption], env: Mapping[str, int]) -> None:
    """Raise FeedError for one that does not hold of these sizes; what they do not tell is left."""
    for a in assumptions:
        if not a.fits(env):
            given = ", ".join(f"{name} = {env[name]}" for name in sorted(a.names()))
            where = f" (at {a.loc.file}:{a.loc.line})" if a.loc is not None else ""
            raise FeedError(f"{a.why}{where}: the graph needs {a}, but {given}")


def merged(known: Sequence[Assumption], more: Iterable[Assumption]) -> list[Assumption]:
    """Those known, and those of `more` that say something new and undecided."""
    out = list(known)
    said: set[Any] = {(a.left, a.relation, a.right) for a in known}
    for a in more:
        key = a.left, a.relation, a.right
        if key not in said and a.decide() is not True:
            said.add(key)
            out.append(a)
    return out
