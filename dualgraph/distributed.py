"""What programs ask before they would train in several processes: it is not available."""

from __future__ import annotations

__all__ = ["is_available", "is_initialized", "is_torchelastic_launched"]


def is_available() -> bool:
    """Whether processes can train together: no."""
    return False


def is_initialized() -> bool:
    """Whether a process group exists: never."""
    return False


def is_torchelastic_launched() -> bool:
    """Whether started by ``torchrun``: never."""
    return False
