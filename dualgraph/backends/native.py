"""Whether eager operations on the CPU run by compiled code, where that is faster than NumPy.

They do, unless the variable ``DUALGRAPH_EXECUTION`` says ``interpreter`` or there is no C compiler.
What is compiled gives NumPy's results but for rounding, the same at every call.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from dualgraph_runtime.native import eager
from dualgraph_runtime.native.toolchain import find_compiler

__all__ = ["enable", "flags", "is_available", "is_enabled"]


def is_available() -> bool:
    """Whether there is a C compiler."""
    return find_compiler() is not None


def is_enabled() -> bool:
    """Whether compiled code is used where there is any."""
    return eager.is_enabled()


def enable(enabled: bool = True) -> None:
    """Use compiled code from now on; False: NumPy alone."""
    eager.enable(enabled)


@contextlib.contextmanager
def flags(enabled: bool = True) -> Iterator[None]:
    """`enable` for a ``with`` block, in all threads.

    >>> import dualgraph as dg
    >>> with dg.backends.native.flags(enabled=False):
    ...     y = dg.randn(64, 64).softmax(dim=1)
    """
    before = is_enabled()
    enable(enabled)
    try:
        yield
    finally:
        enable(before)
