"""opt_einsum: products of an einsum are taken from left to right, as PyTorch does without it."""

from __future__ import annotations

__all__ = ["get_opt_einsum", "is_available"]

enabled = False
strategy: str | None = None


def is_available() -> bool:
    """Whether opt_einsum is used: never."""
    return False


def get_opt_einsum() -> None:
    """The package opt_einsum: None."""
    return None
