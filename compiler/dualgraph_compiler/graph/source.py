"""The user's code around a location, for display.

Locations may come from a model file, which could name any file of this machine: only code that
this process has run is shown.
"""

from __future__ import annotations

import linecache
import sys

from .core import Location

_AROUND = 4  # lines before and after
_LONGEST = 160  # characters of a line


def snippet(loc: Location) -> list[tuple[int, str]]:
    """Numbered lines around `loc`; none where the code is not known."""
    if not _is_ours_to_show(loc.file):
        return []
    lines = linecache.getlines(loc.file)
    first = max(loc.line - _AROUND, 1)
    shown = lines[first - 1 : loc.line + _AROUND]
    return [(first + i, line.rstrip("\n")[:_LONGEST]) for i, line in enumerate(shown)]


def _is_ours_to_show(file: str) -> bool:
    if file.startswith("<"):  # a cell of a notebook
        return file in linecache.cache
    return file in linecache.cache or any(
        getattr(module, "__file__", None) == file for module in list(sys.modules.values())
    )
