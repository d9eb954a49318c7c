"""What the datasets here have in common: pairs, and what is done to their halves."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

from dualgraph.utils.data import Dataset

__all__ = ["Pairs", "Transform"]

Transform: TypeAlias = Callable[[Any], Any] | None


class Pairs(Dataset[tuple[Any, Any]]):
    """Samples and targets, each through a function of the user's if there is one."""

    def __init__(self, transform: Transform, target_transform: Transform) -> None:
        self.transform = transform
        self.target_transform = target_transform

    def pair(self, sample: Any, target: Any) -> tuple[Any, Any]:
        """What `__getitem__` returns for a sample as it is stored."""
        if self.transform is not None:
            sample = self.transform(sample)
        if self.target_transform is not None:
            target = self.target_transform(target)
        return sample, target
