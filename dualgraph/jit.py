"""PyTorch's ``torch.jit``, as far as it marks or wraps functions.

Code is never compiled from its source here: what is scripted stays Python, and ``dg.compile`` and
``dg.trace`` make graphs of what it does.
"""

from __future__ import annotations

import builtins
from collections.abc import Callable
from typing import Any, Final

from ._dispatch import captures
from .tracing import compile

__all__ = [
    "Final",
    "annotate",
    "export",
    "freeze",
    "ignore",
    "is_scripting",
    "is_tracing",
    "isinstance",
    "optimize_for_inference",
    "script",
    "script_if_tracing",
    "trace",
    "unused",
]


def script(obj: Any, *args: Any, **kwargs: Any) -> Any:
    """`obj`, a function, class or module, as it is; as a decorator, too."""
    return obj


def trace(func: Callable[..., Any], example_inputs: Any = None, **options: Any) -> Any:
    """`func` compiled: traced at its first call, and again where calls differ in kind.

    So branches are never frozen as one example took them, unlike in PyTorch; `example_inputs` and
    options of the check are not needed.
    """
    return compile(func)


def script_if_tracing(fn: Callable[..., Any]) -> Callable[..., Any]:
    """`fn` as it is: control flow is captured while tracing."""
    return fn


def export(fn: Any) -> Any:
    """`fn` as it is: every method can be called."""
    return fn


def ignore(drop: Any = False, **kwargs: Any) -> Any:
    """The function as it is; a decorator with or without arguments."""
    return drop if callable(drop) else lambda fn: fn


def unused(fn: Any) -> Any:
    """`fn` as it is."""
    return fn


def freeze(mod: Any, *args: Any, **kwargs: Any) -> Any:
    """The module as it is; sessions over exported models hold weights constant."""
    return mod


def optimize_for_inference(mod: Any, *args: Any, **kwargs: Any) -> Any:
    """The module as it is; see :func:`freeze`."""
    return mod


def annotate(the_type: Any, the_value: Any) -> Any:
    """`the_value`: Python needs no such note."""
    return the_value


def isinstance(obj: Any, target_type: Any) -> bool:
    """Whether `obj` is of `target_type`, of generic types their class."""
    plain = getattr(target_type, "__origin__", target_type)
    return builtins.isinstance(obj, plain)


def is_scripting() -> bool:
    """Whether the code that asks is being scripted: never."""
    return False


def is_tracing() -> bool:
    """Whether the code that asks is being traced into a graph."""
    return captures.current is not None
