"""Compilers as child processes: few at a time, of low priority if wanted, none left behind.

No more run at once than there are CPUs, whichever thread asks. When the process ends, those that
still run are stopped.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence

from dualgraph_compiler.errors import DeviceError

from .cpus import available_cpus

_NICENESS = 10
_running: set[subprocess.Popen[str]] = set()
_lock = threading.Lock()
_local = threading.local()
_closing = False


class Stopped(DeviceError):
    """A compiler was stopped, or not started, because this process ends. Nobody need be told."""


_turns = threading.BoundedSemaphore(available_cpus())


def run(commands: Sequence[Sequence[str]]) -> None:
    """Run commands side by side, to their end.

    Raises:
        DeviceError: one cannot be started or fails, with what it wrote to standard error.
        Stopped: this process is ending.
    """
    lowered = _is_lowered()
    if len(commands) == 1 and not lowered:
        _run(commands[0])
        return
    failures: list[BaseException] = []

    def work(command: Sequence[str]) -> None:
        try:
            if lowered:
                _lower_this_thread()
            _run(command)
        except BaseException as error:
            failures.append(error)

    # Daemons, since an executor's threads would be waited for before compilers can be stopped.
    threads = [threading.Thread(target=work, args=(c,), daemon=True) for c in commands]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]


@contextlib.contextmanager
def beside(work: Callable[[], None]) -> Iterator[None]:
    """Do work in another thread, at the priority of this one, while the body runs."""
    lowered = _is_lowered()

    def run() -> None:
        if lowered:
            lower_compilers()
        work()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield
    finally:
        thread.join()


def _is_lowered() -> bool:
    return getattr(_local, "lowered", False)


def lower_compilers() -> None:
    """Give compilers low priority that are run on behalf of this thread."""
    _local.lowered = True


def stop_all() -> None:
    """Stop every compiler that runs; none can be started any longer."""
    global _closing
    with _lock:
        _closing = True
        for child in _running:
            _stop(child)


def _run(command: Sequence[str]) -> None:
    turns = _turns
    with turns:
        with _lock:
            if _closing:
                raise Stopped("the process ends: nothing is compiled any longer")
            try:
                child = subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.PIPE,
                    text=True,
                    errors="replace",
                    process_group=0 if os.name == "posix" else None,
                )
            except OSError as error:
                raise DeviceError(f"cannot run {command[0]}: {error}") from error
            _running.add(child)
        try:
            _, words = child.communicate()
        finally:
            if child.poll() is None:
                _stop(child)
                child.wait()
            with _lock:
                _running.discard(child)
    if child.returncode and _closing:
        raise Stopped("the process ends: its compilers are stopped")
    if child.returncode:
        raise DeviceError(
            f"the C compiler {command[0]} failed with status {child.returncode}:\n" + words[-4000:]
        )


def _stop(child: subprocess.Popen[str]) -> None:
    """End a compiler and the processes it has started."""
    with contextlib.suppress(OSError):
        if os.name == "posix":
            os.killpg(child.pid, signal.SIGKILL)
        else:
            child.kill()


def _lower_this_thread() -> None:
    """Child processes inherit the priority of the thread that starts them, on Linux."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError):
            lowered = min(os.getpriority(os.PRIO_PROCESS, 0) + _NICENESS, 19)
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), lowered)


def _forked() -> None:
    """A forked child has none of its parent's threads, so none of its locks or compilers."""
    global _lock, _turns
    _lock = threading.Lock()
    _turns = threading.BoundedSemaphore(available_cpus())
    _running.clear()


atexit.register(stop_all)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)
