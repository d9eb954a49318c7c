"""oneDNN (once MKL-DNN), which is not used here."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

__all__ = ["flags", "is_available", "set_flags"]

enabled = True


def is_available() -> bool:
    """Whether oneDNN is used: never."""
    return False


def set_flags(_enabled: bool) -> tuple[bool]:
    """Set `enabled`; returns what it was before."""
    before = (enabled,)
    globals()["enabled"] = bool(_enabled)
    return before


@contextlib.contextmanager
def flags(enabled: bool = False) -> Iterator[None]:
    """`enabled` for a `with` block."""
    before = set_flags(enabled)
    try:
        yield
    finally:
        set_flags(*before)
