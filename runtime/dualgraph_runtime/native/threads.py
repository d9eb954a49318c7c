"""How many threads compiled code may use, and the pool that it shares its work among (pool.c).

As many as ``$DUALGRAPH_NUM_THREADS`` says; else as there are CPUs that this process may run on, and
that its control group has quota for. There is one pool per process; what a session asks for is how
many of its threads a call may use.
"""

from __future__ import annotations

import ctypes
import functools
import logging
import os
import re
from collections.abc import Callable
from importlib import resources
from pathlib import Path

from dualgraph_compiler.errors import ArgumentError, DualGraphError

from . import cache, processes
from .toolchain import Compiler

_log = logging.getLogger("dualgraph")

MOST = 64  # as in pool.c


def default_threads() -> int:
    """The number of threads where nobody says another.

    Raises:
        ArgumentError: ``DUALGRAPH_NUM_THREADS`` is no positive number.
    """
    named = os.environ.get("DUALGRAPH_NUM_THREADS")
    if named:
        if not named.isdecimal() or int(named) < 1:
            raise ArgumentError(f"DUALGRAPH_NUM_THREADS must be a positive number, got {named!r}")
        return min(int(named), MOST)
    return min(available_cpus(), MOST)


def available_cpus(root: Path = Path("/")) -> int:
    """The CPUs this process may run on, or fewer where its control group has less quota."""
    if hasattr(os, "sched_getaffinity"):
        cpus = len(os.sched_getaffinity(0))
    else:
        cpus = os.cpu_count() or 1
    quota = cpu_quota(root)
    return cpus if quota is None else max(1, min(cpus, int(quota)))


def cpu_quota(root: Path = Path("/")) -> float | None:
    """CPUs' worth of time that this process's control groups grant, the least; None for no limit.

    Version 2 says it in ``cpu.max``, version 1 in ``cpu.cfs_quota_us`` and ``cpu.cfs_period_us``,
    each for a group and all those around it.
    """
    found: list[float] = []
    for mount, group in _groups(root):
        for folder in (mount / group, *(mount / group).parents):
            if not folder.is_relative_to(mount):
                break
            quota = _quota(folder)
            if quota is not None:
                found.append(quota)
    return min(found, default=None)


def _groups(root: Path) -> list[tuple[Path, str]]:
    """Where control groups with CPU limits are mounted, and the path of this process's there."""
    found = []
    for line in _read(root / "proc/self/cgroup").splitlines():
        _, controllers, path = (*line.split(":", 2), "", "")[:3]
        path = path.lstrip("/")
        if ".." in path.split("/"):  # a group outside of what this namespace can see
            path = ""
        if not controllers:
            found.append((root / "sys/fs/cgroup", path))
        elif "cpu" in controllers.split(","):
            found += [(root / "sys/fs/cgroup" / name, path) for name in ("cpu", controllers)]
    return found


def _quota(folder: Path) -> float | None:
    numbers = _read(folder / "cpu.max").split()
    if not numbers:
        names = ("cpu.cfs_quota_us", "cpu.cfs_period_us")
        numbers = [n for name in names for n in _read(folder / name).split()]
    if len(numbers) != 2 or not all(re.fullmatch(r"[1-9]\d*", n) for n in numbers):
        return None  # "max", or -1, or nothing there
    return int(numbers[0]) / int(numbers[1])


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return ""


def team(threads: int, compiler: Compiler) -> tuple[int, int]:
    """The address to hand to programs that may use so many threads, and their number.

    0 and 1 where one thread is asked for, or the pool cannot be built, which the log says.
    """
    pool = _pool(compiler) if threads > 1 else None
    threads = min(threads, MOST)
    return (pool(threads), threads) if pool is not None else (0, 1)


def source(compiler: Compiler) -> tuple[str, Callable[[Path], None]]:
    """The pool's key in the cache, and what builds it."""
    text = resources.files(__package__).joinpath("pool.c").read_text(encoding="utf-8")
    extra = ("-pthread",)
    key = cache.key_of(text, *compiler.flags, compiler.identity, *extra)
    return key, lambda to: compiler.build(text, to, extra)


@functools.lru_cache(maxsize=4)
def _pool(compiler: Compiler) -> ctypes._FuncPointer | None:
    """``dualgraph_team`` of pool.c."""
    try:
        function = ctypes.CDLL(str(cache.cached(*source(compiler)))).dualgraph_team
    except processes.Stopped:
        return None
    except (DualGraphError, OSError) as error:
        _log.warning("compiled code uses one thread: its pool cannot be built: %s", error)
        return None
    function.argtypes = [ctypes.c_int64]
    function.restype = ctypes.c_void_p
    return function
