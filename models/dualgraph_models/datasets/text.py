"""English text that every Python installation carries: what ``help("topics")`` shows."""

from __future__ import annotations

_ASCII = str.maketrans({"‘": "'", "’": "'", "“": '"', "”": '"', "–": "-", "—": "-", "…": "..."})


def load_text() -> str:
    """Return the language reference behind ``help()``, as ASCII: 465,000 characters in Python 3.11.

    Its articles stand in the order of their names. The text differs a little between Python's
    versions. Source: the standard library's ``pydoc_data.topics``.
    """
    from pydoc_data.topics import topics

    text = "\n\n".join(topics[name] for name in sorted(topics))
    return text.translate(_ASCII).encode("ascii", "replace").decode()


def load_lines(shortest: int = 20, longest: int = 70) -> list[str]:
    """Return the lines of the text whose length, without indentation, is in these bounds."""
    lines = (line.strip() for line in load_text().splitlines())
    return [line for line in lines if shortest <= len(line) <= longest]
