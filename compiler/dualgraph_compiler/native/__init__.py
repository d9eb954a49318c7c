"""The native engine's compiler: a graph becomes one C translation unit. See docs/native.md."""

from .program import ERRORS, Home, Interpreted, Program, Segment, Slot, build, why_not
from .target import Target

__all__ = [
    "ERRORS",
    "Home",
    "Interpreted",
    "Program",
    "Segment",
    "Slot",
    "Target",
    "build",
    "why_not",
]
