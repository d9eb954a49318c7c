"""Calls in rewritten code: the called function is rewritten, too, if it is the user's."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from types import BuiltinFunctionType, FunctionType, MethodType
from typing import Any

from dualgraph_compiler.dims import Dim
from dualgraph_compiler.graph import Value

from ..._dispatch import captures
from ..._tensor import Tensor
from ...autograd.grad_mode import _GradMode
from .branches import truth
from .effects import new, require_pure
from .functions import converted, is_users
from .number import KINDS, Number, as_number
from .regions import in_region, innermost, is_traced
from .sequences import Enumerated, Range, Sequence, Zipped, as_sequence
from .source import Unconvertible


def call(function: Any, /, *args: Any, **kwargs: Any) -> Any:
    """``function(*args, **kwargs)``."""
    capture = captures.current
    if capture is None or not capture.root.converting:
        return function(*args, **kwargs)
    kind = type(function)
    if kind is FunctionType:
        return _call_function(function, args, kwargs)
    if kind is MethodType and type(function.__func__) is FunctionType:
        return _call_function(function.__func__, (function.__self__, *args), kwargs)
    if kind is functools.partial:
        return call(function.func, *function.args, *args, **{**function.keywords, **kwargs})
    if isinstance(function, type):
        return _construct(function, args, kwargs)
    if isinstance(function, BuiltinFunctionType) or not hasattr(kind, "__dict__"):
        return _call_builtin(function, args, kwargs)
    wrapped = getattr(function, "_function", None)
    if kind.__name__ == "CompiledFunction" and wrapped is not None:
        return call(wrapped, *args, **kwargs)
    method = getattr(kind, "__call__", None)  # noqa: B004 - what it is, not whether it is
    if type(method) is FunctionType and is_users(method):
        return _call_function(method, (function, *args), kwargs)
    return function(*args, **kwargs)


def adapted(function: Any) -> Any:
    """A function or bound method of the user's, rewritten; anything else as it is."""
    if type(function) is MethodType and type(function.__func__) is FunctionType:
        inner = adapted(function.__func__)
        return function if inner is function.__func__ else MethodType(inner, function.__self__)
    if type(function) is not FunctionType:
        wrapped = getattr(function, "_function", None)
        return adapted(wrapped) if type(function).__name__ == "CompiledFunction" else function
    if not is_users(function):
        return _in_grad_mode(function)
    try:
        return converted(function)
    except Unconvertible as error:
        innermost().root.unconverted[function.__code__] = str(error)
        return function


def _call_function(function: FunctionType, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    if is_users(function):
        made = adapted(function)
        if made is function and in_region() and function.__code__ in _refused():
            raise innermost().failure(
                f"code that runs only if a tensor says so, or several times, calls "
                f"{function.__qualname__!r}, which cannot be looked into: "
                f"{_refused()[function.__code__]}"
            )
        return made(*args, **kwargs)
    special = _SPECIAL.get(function)
    if special is not None and args and is_traced(args[0]):
        return special(*args, **kwargs)
    args = tuple(adapted(a) if type(a) in (FunctionType, MethodType) else a for a in args)
    kwargs = {
        k: adapted(a) if type(a) in (FunctionType, MethodType) else a for k, a in kwargs.items()
    }
    return _in_grad_mode(function)(*args, **kwargs)


def _refused() -> dict[Any, str]:
    return innermost().root.unconverted


_GRAD_WRAPPER = _GradMode(True)(lambda: None).__code__


def _in_grad_mode(function: FunctionType) -> Any:
    """What ``@no_grad()`` made of a function, with that function rewritten."""
    if function.__code__ is not _GRAD_WRAPPER:
        return function
    names = function.__code__.co_freevars
    cells = dict(zip(names, function.__closure__ or (), strict=True))
    inner = adapted(cells["function"].cell_contents)
    return _GradMode(cells["mode"].cell_contents)(inner)


def _call_builtin(function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    if function in (len, isinstance, math.isnan, math.isfinite, any, all, max, min):
        found = _answer(function, args)
        if found is not NotImplemented:
            return found
    if in_region():
        require_pure(function, args)
        if getattr(function, "__name__", "") in ("copy", "sorted"):
            return new(function(*args, **kwargs))
    if function in (sorted, max, min):
        kwargs = {k: adapted(v) for k, v in kwargs.items()}
    return function(*args, **kwargs)


def _answer(function: Any, args: tuple[Any, ...]) -> Any:
    """What a built-in function gives for traced operands; NotImplemented where there are none."""
    x = args[0] if args else None
    if function is isinstance and type(x) is Number:
        return isinstance(x.kind(), args[1]) or (x.kind is int and args[1] is int)
    if function is len and isinstance(x, Tensor) and type(x._data) is Value and x.ndim:
        return x._data.shape[0]
    if function in (any, all) and isinstance(x, list | tuple) and any(map(is_traced, x)):
        from .branches import and_test, or_test

        join = or_test if function is any else and_test
        return truth(join(x[0], *[functools.partial(_same, v) for v in x[1:]]))
    if function in (max, min) and len(args) == 2 and all(map(_numeric, args)):
        from .branches import choose

        a, b = args
        better = b > a if function is max else b < a
        return choose(better, lambda: b, lambda: a)
    return NotImplemented


def _same(x: Any) -> Any:
    return x


def _numeric(x: Any) -> bool:
    return type(x) in (int, float) or is_traced(x)


def _construct(cls: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """An instance of a class, or what stands for it where its arguments are traced."""
    x: Any = args[0] if args else None
    if cls in KINDS and len(args) == 1 and is_traced(x):
        return as_number(x, cls)
    if cls is type and len(args) == 1 and type(x) is Number:
        return x.kind
    if cls is range and not kwargs and any(isinstance(a, Tensor | Dim) for a in args):
        return Range.of(*args)
    if cls is enumerate and _symbolic(x):
        return Enumerated(as_sequence(x), *args[1:], **kwargs)
    if cls is zip and any(map(_symbolic, args)) and all(as_sequence(a) for a in args):
        return Zipped([as_sequence(a) for a in args])
    if cls in (map, filter) and args:
        args = (adapted(x), *args[1:])
    return new(cls(*args, **kwargs))


def _symbolic(x: Any) -> bool:
    """Whether a loop over `x` has a number of steps that only a call tells."""
    if isinstance(x, Sequence):
        return True
    return isinstance(x, Tensor) and x.ndim > 0 and isinstance(x._data.shape[0], Dim)


def _item(t: Tensor) -> Any:
    return as_number(t)


_SPECIAL: dict[Any, Callable[..., Any]] = {
    Tensor.item: _item,
    Tensor.__bool__: truth,
    Tensor.__float__: lambda t: as_number(t, float),
    Tensor.__int__: lambda t: as_number(t, int),
}
