"""Text for terminals: what names and numbers from files look like there."""

from __future__ import annotations

from rich.text import Text


def printable(text: str) -> str:
    """`text` without control characters: a name from a file cannot steer the terminal."""
    return "".join(ch if ch.isprintable() else "?" for ch in text)


def literal(text: object, style: str = "") -> Text:
    """`text` as it stands, brackets not read as markup."""
    return Text(printable(str(text)), style)


def byte_size(n: float) -> str:
    """A number of bytes for people: ``23.4 KiB``."""
    for unit in ("B", "KiB", "MiB"):
        if n < 1024:
            return f"{n:.0f} {unit}" if unit == "B" else f"{n:.1f} {unit}"
        n /= 1024
    return f"{n:.1f} GiB"


def duration(seconds: float) -> str:
    """A time for people, three digits: ``812 us``, ``1.25 ms``, ``3.1 s``."""
    for scale, unit in ((1e6, "us"), (1e3, "ms")):
        if seconds * scale < 999.5:
            value = seconds * scale
            digits = max(0, 2 - len(str(int(value))) + 1)
            return f"{value:.{digits}f} {unit}"
    return f"{seconds:.1f} s"
