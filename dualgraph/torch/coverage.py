"""What of PyTorch's vocabulary is there, what is missing, and what is left out for a reason."""

from __future__ import annotations

from dataclasses import dataclass

from .absent import reason
from .finder import has
from .vocabulary import vocabulary

__all__ = ["Coverage", "coverage"]


@dataclass(frozen=True)
class Coverage:
    """How much of one module there is: the names present, and of those absent, why."""

    module: str
    present: tuple[str, ...]
    missing: tuple[str, ...]  # nothing speaks against them
    left_out: dict[str, str]  # those with a reason

    @property
    def wanted(self) -> int:
        """How many names there should be."""
        return len(self.present) + len(self.missing)


def coverage() -> list[Coverage]:
    """What is there of every module of PyTorch's."""
    return [_of(module, names) for module, names in vocabulary().items()]


def _of(module: str, names: list[str]) -> Coverage:
    present, missing, left_out = [], [], {}
    for name in names:
        if has(module, name):
            present.append(name)
        elif (why := reason(f"{module}.{name}")) is not None:
            left_out[name] = why
        else:
            missing.append(name)
    return Coverage(module, tuple(present), tuple(missing), left_out)
