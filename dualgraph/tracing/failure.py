"""What Python code cannot be captured: where it stands, and why."""

from __future__ import annotations

import itertools
import linecache
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from dualgraph_compiler.errors import TraceError

if TYPE_CHECKING:
    from .capture import Capture

# Frames of these files are ours; the first frame outside them is the user's line.
OURS = str(Path(__file__).resolve().parent.parent) + os.sep


class CaptureFailure(TraceError):
    """The traced function does something that its graph could not do again.

    Args:
        why: what was met, and why a graph cannot hold it.
        place: the user's code where it was met.
        advice: what to write instead.
    """

    def __init__(self, why: str, place: Place | None = None, advice: str = "") -> None:
        super().__init__(why, place, advice)
        self.why = why
        self.place = place
        self.advice = advice
        self.capture: Capture | None = None  # set once the trace has ended

    def __str__(self) -> str:
        where = f" ({self.place})" if self.place is not None else ""
        return f"{self.why}{where}{'. ' + self.advice if self.advice else ''}"


class EagerFallbackWarning(UserWarning):
    """A compiled function met Python that cannot be captured, and runs such calls eagerly."""


@dataclass(frozen=True, slots=True)
class Place:
    """A line of the user's code, and the expression on it."""

    file: str
    line: int
    function: str = ""
    expression: str = ""

    def __str__(self) -> str:
        shown = f": `{self.expression}`" if self.expression else ""
        return f"at {self.file}:{self.line}{shown}"


def user_frame() -> FrameType | None:
    """The innermost running frame of code outside this package."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and frame.f_code.co_filename.startswith(OURS):
        frame = frame.f_back
    return frame


def current_place() -> Place | None:
    """The user's expression that runs now."""
    frame = user_frame()
    if frame is None:
        return None
    code = frame.f_code
    return Place(code.co_filename, frame.f_lineno, code.co_name, _expression(frame))


def _expression(frame: FrameType) -> str:
    """The source text of what a frame evaluates now, on one line; empty if it is not known."""
    positions = frame.f_code.co_positions()
    found = next(itertools.islice(positions, frame.f_lasti // 2, None), None)
    if found is None or None in found:
        return linecache.getline(frame.f_code.co_filename, frame.f_lineno).strip()
    return source_text(frame.f_code.co_filename, *found)  # type: ignore[arg-type]


def source_text(file: str, first: int, last: int, start: int, end: int) -> str:
    """The text of a file from byte `start` of line `first` to byte `end` of line `last`.

    Of several lines, only the first.
    """
    line = linecache.getline(file, first).encode()
    if last != first:
        return f"{line[start:].decode(errors='replace').strip()} ..."
    return line[start:end].decode(errors="replace").strip()


def place_of(error: BaseException) -> Place | None:
    """The user's line that raised an error which has left it already."""
    place = None
    step = error.__traceback__
    while step is not None:
        code = step.tb_frame.f_code
        if not code.co_filename.startswith(OURS):
            text = linecache.getline(code.co_filename, step.tb_lineno).strip()
            place = Place(code.co_filename, step.tb_lineno, code.co_name, text)
        step = step.tb_next
    return place
