"""Anomaly mode: a backward pass that says which line of the forward made a NaN."""

from __future__ import annotations

import traceback
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from dualgraph_compiler.errors import AutogradError

from .tape import regions, watchers

__all__ = [
    "detect_anomaly",
    "is_anomaly_check_nan_enabled",
    "is_anomaly_enabled",
    "set_detect_anomaly",
]

_PACKAGE = str(Path(__file__).resolve().parent.parent)
# The call stacks in which entries of the tape were recorded, innermost last.
_stacks: WeakKeyDictionary[Any, list[traceback.FrameSummary]] = WeakKeyDictionary()


class Anomaly:
    """Whether the mode is on, for all threads, and whether gradients are looked at."""

    enabled = False
    check_nan = True


class _Seer:
    """Notes where each entry was recorded."""

    def see(self, entry: Any) -> Any:
        """The entry itself."""
        _stacks[entry] = traceback.extract_stack()[:-3]
        return entry


_seer = _Seer()


def set_mode(enabled: bool, check_nan: bool = True) -> None:
    """Switch the mode on or off for this process."""
    from .._dispatch import symbolic

    if enabled and not Anomaly.enabled:
        symbolic.opened()  # backward passes look whether there is a mode only where this is counted
        watchers.count += 1
        regions.seers = (*regions.seers, _seer)
    elif Anomaly.enabled and not enabled:
        symbolic.closed()
        watchers.count -= 1
        regions.seers = tuple(s for s in regions.seers if s is not _seer)
    Anomaly.enabled, Anomaly.check_nan = enabled, check_nan


class set_detect_anomaly:
    """Switch anomaly mode at once; as a context manager, back at the end."""

    def __init__(self, mode: bool, check_nan: bool = True) -> None:
        self._before = (Anomaly.enabled, Anomaly.check_nan)
        set_mode(mode, check_nan)

    def __enter__(self) -> None:
        pass

    def __exit__(self, *exception: object) -> None:
        set_mode(*self._before)


class detect_anomaly:
    """Anomaly mode for a ``with`` block.

    What is recorded inside remembers the line it comes from, and a backward pass inside raises
    AutogradError as soon as an operation's gradient is NaN, naming that line. Slow: for debugging.
    """

    def __init__(self, check_nan: bool = True) -> None:
        self._check_nan = check_nan
        warnings.warn(
            "Anomaly Detection has been enabled. This mode will increase the runtime and should "
            "only be enabled for debugging.",
            stacklevel=2,
        )

    def __enter__(self) -> None:
        self._before = (Anomaly.enabled, Anomaly.check_nan)
        set_mode(True, self._check_nan)

    def __exit__(self, *exception: object) -> None:
        set_mode(*self._before)


def is_anomaly_enabled() -> bool:
    """Whether anomaly mode is on."""
    return Anomaly.enabled


def is_anomaly_check_nan_enabled() -> bool:
    """Whether anomaly mode looks for NaN."""
    return Anomaly.check_nan


def checked(entry: Any, gradients: Sequence[Any]) -> list[Any]:
    """An entry's gradients, computed and without NaN.

    Raises:
        AutogradError: one has a NaN; the message names the line that recorded the entry.
    """
    found = []
    for i, g in enumerate(gradients):
        edge = entry.edges[i] if i < len(entry.edges) else None
        g = g() if callable(g) and not hasattr(g, "shape") and edge is not None else g
        found.append(g)
        if edge is not None and Anomaly.check_nan and _has_nan(g):
            stack = _stacks.get(entry)
            if stack is None:
                where = (
                    "No forward pass information available. Enable detect anomaly during forward "
                    "pass for more information."
                )
                line = ""
            else:
                text = "".join(traceback.format_list(stack))
                where = f"Traceback of forward call that caused the error:\n{text}"
                line = f" The forward operation is {_line(stack)}"
            warnings.warn(f"Error detected in {entry.name}. {where}", stacklevel=2)
            raise AutogradError(
                f"Function '{entry.name}' returned nan values in its {i}th output.{line}"
            )
    return found


def metadata(entry: Any) -> dict[str, Any]:
    """The call stack in which the entry was recorded, as ``traceback_``."""
    stack = _stacks.get(entry)
    return {} if stack is None else {"traceback_": traceback.format_list(stack)}


def _has_nan(g: Any) -> bool:
    data = getattr(g, "_data", g)
    if isinstance(data, np.ndarray | np.generic) and data.dtype.kind in "fcV":
        return bool(np.isnan(data).any())
    if type(data).__module__.startswith("cupy"):
        return bool((data != data).any())
    return False  # part of a graph: it has no numbers yet


def _line(stack: list[traceback.FrameSummary]) -> str:
    """The innermost frame outside of this package."""
    for frame in reversed(stack):
        if not frame.filename.startswith(_PACKAGE):
            return f"at {frame.filename}:{frame.lineno}, in {frame.name}: {frame.line}"
    return "not known"
