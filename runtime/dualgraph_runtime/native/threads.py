"""How many threads compiled code may use, and the pool that it shares its work among (pool.c).

As many as the program has set (`set_default_threads`), or ``$DUALGRAPH_NUM_THREADS`` says; else as
there are CPUs that this process may run on, and that its control group has quota for. There is one
pool per process; what a session asks for is how many of its threads a call may use.
"""

from __future__ import annotations

import ctypes
import functools
import logging
import os
from collections.abc import Callable
from importlib import resources
from pathlib import Path

from dualgraph_compiler.errors import ArgumentError, DualGraphError

from . import cache, processes
from .cpus import available_cpus
from .toolchain import Compiler

_log = logging.getLogger("dualgraph")

MOST = 64  # as in pool.c
_chosen: int | None = None  # by the program, see `set_default_threads`


def set_default_threads(threads: int) -> None:
    """Let code that is compiled from now on use so many threads where nobody says another number.

    Raises:
        ArgumentError: the number is not positive.
    """
    global _chosen
    if threads < 1:
        raise ArgumentError(f"the number of threads must be positive, got {threads}")
    _chosen = min(threads, MOST)


def default_threads() -> int:
    """The number of threads where nobody says another.

    Raises:
        ArgumentError: ``DUALGRAPH_NUM_THREADS`` is no positive number.
    """
    if _chosen is not None:
        return _chosen
    named = os.environ.get("DUALGRAPH_NUM_THREADS")
    if named:
        if not named.isdecimal() or int(named) < 1:
            raise ArgumentError(f"DUALGRAPH_NUM_THREADS must be a positive number, got {named!r}")
        return min(int(named), MOST)
    return min(available_cpus(), MOST)


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
