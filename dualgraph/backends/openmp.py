"""OpenMP: compiled code has a pool of threads of its own instead."""

from __future__ import annotations

__all__ = ["is_available"]


def is_available() -> bool:
    """Whether OpenMP is used: never."""
    return False
