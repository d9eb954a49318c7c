"""Python's ``multiprocessing`` under PyTorch's name, with its :func:`spawn`.

Tensors are sent to other processes as copies.
"""

from __future__ import annotations

import multiprocessing as _multiprocessing
import traceback as _traceback
from collections.abc import Callable
from multiprocessing import *  # noqa: F403
from multiprocessing.connection import wait as _wait
from typing import Any

__all__ = [
    *_multiprocessing.__all__,
    "ProcessContext",
    "ProcessRaisedException",
    "get_all_sharing_strategies",
    "get_sharing_strategy",
    "set_sharing_strategy",
    "spawn",
]


class ProcessRaisedException(Exception):
    """An exception in a process that :func:`spawn` started, with its traceback."""


class ProcessContext:
    """The processes that :func:`spawn` started."""

    def __init__(self, processes: list[Any], errors: list[Any]) -> None:
        self.processes = processes
        self._errors = errors

    def pids(self) -> list[int]:
        """The numbers of the processes."""
        return [p.pid for p in self.processes]

    def join(self, timeout: float | None = None) -> bool:
        """Wait for processes to end; True when all have.

        Raises:
            ProcessRaisedException: one raised an exception; the others are ended.
        """
        running = [p for p in self.processes if p.exitcode is None]
        if running:
            _wait([p.sentinel for p in running], timeout)
        for index, process in enumerate(self.processes):
            if process.exitcode not in (None, 0):
                for other in self.processes:
                    other.terminate()
                for other in self.processes:
                    other.join()
                error = self._errors[index]
                told = error.get() if not error.empty() else f"exit status {process.exitcode}"
                raise ProcessRaisedException(f"Process {index} terminated:\n{told}")
        return all(p.exitcode == 0 for p in self.processes)


def _run(fn: Callable[..., Any], index: int, args: tuple[Any, ...], error: Any) -> None:
    try:
        fn(index, *args)
    except KeyboardInterrupt:
        pass
    except Exception:
        error.put(_traceback.format_exc())
        raise SystemExit(1) from None


def spawn(
    fn: Callable[..., Any],
    args: tuple[Any, ...] = (),
    nprocs: int = 1,
    join: bool = True,
    daemon: bool = False,
    start_method: str = "spawn",
) -> ProcessContext | None:
    """Call ``fn(i, *args)`` in `nprocs` processes, i being the number of each.

    Args:
        fn: a function of a module's top level.
        args: what it is given after its number.
        nprocs: how many processes.
        join: wait until all have ended.
        daemon: end them with this process.
        start_method: "spawn", "fork" or "forkserver".

    Returns:
        With ``join=False`` the processes, to be joined later.

    Raises:
        ProcessRaisedException: a process raised an exception.

    Source: ``torch.multiprocessing.spawn``.
    """
    context: Any = _multiprocessing.get_context(start_method)
    processes, errors = [], []
    for index in range(nprocs):
        errors.append(context.SimpleQueue())
        process = context.Process(target=_run, args=(fn, index, args, errors[-1]), daemon=daemon)
        process.start()
        processes.append(process)
    started = ProcessContext(processes, errors)
    if not join:
        return started
    while not started.join():
        pass
    return None


def get_all_sharing_strategies() -> set[str]:
    """How memory may be shared with other processes: one way, by name."""
    return {"file_system"}


def get_sharing_strategy() -> str:
    """The name of that way."""
    return "file_system"


def set_sharing_strategy(new_strategy: str) -> None:
    """Nothing: there is one way, whatever is asked for."""
