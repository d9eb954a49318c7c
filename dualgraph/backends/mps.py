"""Apple's GPUs, which cannot be used."""

from __future__ import annotations

__all__ = ["is_available", "is_built"]


def is_available() -> bool:
    """Whether an Apple GPU can be used: never."""
    return False


def is_built() -> bool:
    """Whether there is code for Apple GPUs: no."""
    return False
