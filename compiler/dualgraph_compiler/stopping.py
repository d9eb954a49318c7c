"""Runs that somebody may want to end: loops, of which a model may hold an endless one, ask."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from .errors import RunStopped

_wanted: ContextVar[Callable[[], bool] | None] = ContextVar("stop wanted", default=None)


@contextmanager
def stopped_by(wanted: Callable[[], bool]) -> Iterator[None]:
    """What runs in here, in this thread, stops soon after `wanted` says so."""
    token = _wanted.set(wanted)
    try:
        yield
    finally:
        _wanted.reset(token)


def raise_if_stopped() -> None:
    """Raise RunStopped if the run going on in this thread is to stop."""
    wanted = _wanted.get()
    if wanted is not None and wanted():
        raise RunStopped("the run was stopped")
