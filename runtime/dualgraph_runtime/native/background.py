"""Work that goes on while its result is not there yet: compiled code, above all.

One thread of the process does it, one piece after another, and ends when there is none left. The
caller goes on with what it has until the result has come.
"""

from __future__ import annotations

import atexit
import logging
import os
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from . import processes
from .executable import NotCompiled

_log = logging.getLogger("dualgraph")

T = TypeVar("T")


class Background(Generic[T]):
    """Something better that is made in the background. Safe to use from several threads.

    `ready` is the result once it is there. It stays None where `make` fails, which the log says
    once; `why` says it, too.

    Args:
        make: makes the result. Called once, in another thread. Where it raises NotCompiled, what
            there is already is good enough; any other exception is a failure.
        what: what is being made, for the log.
        after: how many calls of `get` come before the work begins; with 0 it begins at once.
    """

    def __init__(self, make: Callable[[], T], what: str, *, after: int = 0) -> None:
        self.ready: T | None = None
        self.why = "its compiled form is not ready yet"
        self._make: Callable[[], T] | None = make
        self._what = what
        self._after = after
        self._done = threading.Event()
        self._queued = False
        self._lock = threading.Lock()
        self._ref = weakref.ref(self)
        _unfinished.add(self)
        if after == 0:
            self.begin()

    def get(self) -> T | None:
        """What there is so far: the result, or None."""
        if self.ready is None and not self._queued:
            if self._after > 0:
                self._after -= 1
            else:
                self.begin()
        return self.ready

    def begin(self) -> None:
        """Begin the work, if nobody has."""
        with self._lock:
            if self._queued or self._done.is_set():
                return
            self._queued = True
        _queue(self._ref)

    def wait(self, timeout: float | None = None) -> T | None:
        """Begin the work, wait until it is done (`timeout` seconds at most), and give the result.

        What has not been begun is done in the calling thread, if there is no timeout.
        """
        if timeout is None and not self._done.is_set():
            if self._take():
                self._work()
        else:
            self.begin()
        self._done.wait(timeout)
        return self.ready

    def hold(self) -> None:
        """Begin the work, which is done even if nobody holds this object, or the process ends."""
        _held.add(self)
        self.begin()

    @property
    def done(self) -> bool:
        """Whether nothing more will come."""
        return self._done.is_set()

    def _take(self) -> bool:
        """Take the work for the calling thread; False where another one has begun."""
        with self._lock, _lock:
            if self._queued:
                if self._ref not in _waiting:
                    return False
                _waiting.remove(self._ref)
            self._queued = True
            return not self._done.is_set()

    def _work(self) -> None:
        make = self._make
        if make is None:
            return
        started = time.perf_counter()
        try:
            self.ready = make()
            seconds = time.perf_counter() - started
            _log.info("%s: done in %.2f s", self._what, seconds)
            self.why = ""
        except NotCompiled as error:
            self.why = str(error)
            _log.info("%s: interpreted, since %s", self._what, error)
        except processes.Stopped as error:
            self.why = str(error)
        except Exception as error:
            self.why = f"compiling failed: {error}"
            if not _closing.is_set():
                _log.warning("%s: interpreted, since compiling failed: %s", self._what, error)
        finally:
            self._make = None  # and with it what it was made from
            _unfinished.discard(self)
            _held.discard(self)
            self._done.set()

    def _forked(self) -> None:
        """In a forked child, what the parent's thread was doing is to be begun again."""
        self._lock = threading.Lock()
        if self.ready is None and self._make is not None:
            self._done = threading.Event()
            self._queued = False


_unfinished: weakref.WeakSet[Background[Any]] = weakref.WeakSet()
_held: set[Background[Any]] = set()
# Weak, so that what nobody holds any longer is not built.
_waiting: deque[weakref.ref[Background[Any]]] = deque()
_lock = threading.Lock()
_thread: threading.Thread | None = None
_closing = threading.Event()
# A process that has its answer and ends should not have begun what it must then wait for.
_BREATH = 0.02


def _queue(work: weakref.ref[Background[Any]]) -> None:
    global _thread
    with _lock:
        _waiting.append(work)
        if _thread is None and not _closing.is_set():
            _thread = threading.Thread(target=_run, name="dualgraph-builder", daemon=True)
            _thread.start()


def _run() -> None:
    global _thread
    processes.lower_compilers()
    _closing.wait(_BREATH)
    while True:
        with _lock:
            if not _waiting:
                _thread = None
                return
            work = _waiting.popleft()()
        if work is not None:
            work._work()
        del work


def _close() -> None:
    """At the end of the process: compilers are stopped, only what is held is still done."""
    _closing.set()
    with _lock:
        held = [ref for ref in _waiting if ref() in _held]
        _waiting.clear()
        _waiting.extend(held)
    processes.stop_all()
    thread = _thread
    if thread is not None:
        thread.join(timeout=5.0 if _held else 1.0)


def _after_fork() -> None:
    global _lock, _thread
    _lock = threading.Lock()
    _thread = None
    _waiting.clear()
    for work in list(_unfinished):
        work._forked()


atexit.register(_close)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
