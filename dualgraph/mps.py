"""Apple's GPUs, which cannot be used: for programs that ask."""

from __future__ import annotations

__all__ = ["device_count", "is_available"]


def is_available() -> bool:
    """Whether such a GPU can be used: never."""
    return False


def device_count() -> int:
    """The number of such GPUs that can be used: none."""
    return 0
