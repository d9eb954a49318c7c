"""What code may ask of, and say to, ``dg.compile``: names of ``torch.compiler``."""

from __future__ import annotations

import functools
from typing import Any

from ._dispatch import captures
from .tracing import CompiledFunction, compile

__all__ = ["compile", "disable", "is_compiling", "is_dynamo_compiling", "is_exporting", "reset"]


def is_compiling() -> bool:
    """Whether the code that asks is being traced, by ``dg.compile``, ``dg.trace`` or an export.

    What a branch on it does is traced, too: a graph holds the side for graphs.
    """
    capture = captures.current
    return capture is not None and capture.root.whole


is_exporting = is_dynamo_compiling = is_compiling


def reset() -> None:
    """Nothing to forget: every compiled function keeps its own graphs."""


def disable(fn: Any = None, recursive: bool = True, *, reason: str | None = None) -> Any:
    """`fn`, never captured: a compiled call that comes to it runs eagerly, after one warning.

    Usable as a decorator, with or without arguments, and on modules, which it returns. Given to
    ``dg.compile``, such a function just runs.

    Args:
        fn: the function or module.
        recursive: whether compiled functions that it calls run eagerly, too.
        reason: why, for the warning.

    Raises:
        CaptureFailure: a compiled function with ``fullgraph=True``, or a trace, comes to it.

    Source: ``torch.compiler.disable``.
    """
    if fn is None:
        return functools.partial(disable, recursive=recursive, reason=reason)
    if hasattr(fn, "named_parameters"):
        fn.forward = disable(fn.forward, recursive, reason=reason)
        return fn
    if isinstance(fn, CompiledFunction):
        fn = fn.__wrapped__

    @functools.wraps(fn)
    def eager(*args: Any, **kwargs: Any) -> Any:
        capture = captures.current
        if capture is not None:
            name = getattr(fn, "__qualname__", type(fn).__name__)
            why = f"; {reason}" if reason else ""
            raise capture.failure(f"{name} is excluded from graphs (dg.compiler.disable{why})")
        before = captures.disabled
        captures.disabled = before or recursive
        try:
            return fn(*args, **kwargs)
        finally:
            captures.disabled = before

    eager.is_disabled = True  # type: ignore[attr-defined]
    return eager
