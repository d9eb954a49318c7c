"""The native engine's compiler: a graph becomes one C translation unit. See docs/native.md."""

from typing import TYPE_CHECKING

from .._lazy import lazy
from .plan import ERRORS, Home, Interpreted, Program, Segment, Slot, Work
from .target import Target

if TYPE_CHECKING:
    from .exact import Exact
    from .program import build
else:
    __getattr__ = lazy(__name__, {"exact": ("Exact",), "program": ("build",)})

__all__ = [
    "ERRORS",
    "Exact",
    "Home",
    "Interpreted",
    "Program",
    "Segment",
    "Slot",
    "Target",
    "Work",
    "build",
]
