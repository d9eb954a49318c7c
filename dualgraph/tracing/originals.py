"""Code made by rewriting a user's code, and what it was made of."""

from __future__ import annotations

from types import CodeType

# None: a piece of a function, or an expression of one, which runs as part of it.
_originals: dict[CodeType, CodeType | None] = {}


def note_original(made: CodeType, original: CodeType | None) -> None:
    """Note what `made` was rewritten from; None for a part of a rewritten function."""
    _originals[made] = original


def original_of(code: CodeType) -> CodeType | None:
    """The code as the user wrote it; None for a part of a rewritten function."""
    return _originals.get(code, code) if _originals else code
