"""What tracing noticed and a person may want to know, with the line of code it concerns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from dualgraph_compiler.graph import Location

# constant     data baked into the graph
# specialised  a size, dtype or Python value that the graph is for, and no other
# guarded      state that is compared at every call before the graph may run
# replayed     a Python number that is read, or a Python effect that is made, at every call
# branch       Python control flow on tensors that became part of the graph
# fallback     what could not be captured, so that the call runs eagerly
NoteKind: TypeAlias = Literal[
    "constant", "specialised", "guarded", "replayed", "branch", "fallback"
]


@dataclass(frozen=True, slots=True)
class Note:
    """One thing noticed: of what kind, in words, and at which of the user's lines."""

    kind: NoteKind
    what: str
    where: Location | None = None

    def __str__(self) -> str:
        return f"{self.what}  # {self.where}" if self.where is not None else self.what
