"""What changes Python objects: a piece that may not run must change none but its own.

A graph holds tensor computations only. Where both branches are traced, an object that one of them
changes would be changed whatever happens, so such code is refused.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

from dualgraph_compiler.dtypes import bool_

from ..._dispatch import captures
from ..._promote import is_number
from ..._tensor import Tensor
from ...functions import ones, where
from .regions import in_region, innermost

_OPERATORS: dict[str, Callable[[Any, Any], Any]] = {
    "Add": operator.iadd,
    "Sub": operator.isub,
    "Mult": operator.imul,
    "MatMult": operator.imatmul,
    "Div": operator.itruediv,
    "Mod": operator.imod,
    "Pow": operator.ipow,
    "LShift": operator.ilshift,
    "RShift": operator.irshift,
    "BitOr": operator.ior,
    "BitXor": operator.ixor,
    "BitAnd": operator.iand,
    "FloorDiv": operator.ifloordiv,
}

# Methods of built-in types that change what they are called on, and functions that do.
_CHANGING = {
    "append", "appendleft", "add", "clear", "discard", "extend", "extendleft", "insert", "pop",
    "popitem", "popleft", "remove", "reverse", "rotate", "setdefault", "sort", "update", "write",
    "writelines", "send", "throw", "close", "fill", "put", "resize", "partition", "itemset", "seed",
    "shuffle", "__setitem__", "__delitem__", "__setattr__", "__delattr__", "__next__", "__iadd__",
    "difference_update", "intersection_update", "symmetric_difference_update", "move_to_end",
    "read", "readline", "readlines", "random", "getrandbits",
}  # fmt: skip
_EFFECTS = {print, input, open, next, setattr, delattr, exec}


def new(x: Any) -> Any:
    """`x`, which was made just now."""
    capture: Any = captures.current
    if in_region():
        capture.fresh[id(x)] = x
    return x


def target(x: Any, part: str) -> Any:
    """`x`, a part of which is about to be replaced."""
    if in_region() and not isinstance(x, Tensor):
        require_own(x, f"changes {type(x).__name__}{part}")
    return x


def require_own(x: Any, what: str) -> None:
    """Raise unless `x` was made in the piece that runs now."""
    capture: Any = innermost()
    if id(x) not in capture.fresh:
        raise capture.failure(
            f"code that runs only if a tensor says so, or several times, {what}",
            "Return or assign new values instead, outside of the if or loop where need be.",
        )


def outer(name: str) -> None:
    """Variable `name` of a function around, or of the module, is about to be written."""
    if in_region():
        raise innermost().failure(
            f"code that runs only if a tensor says so, or several times, writes to variable "
            f"{name!r} of the code around its function"
        )


def require_pure(function: Any, args: tuple[Any, ...]) -> None:
    """Raise if a built-in function or method, about to be called in a region, changes something."""
    owner = getattr(function, "__self__", None)
    name = getattr(function, "__name__", "")
    try:
        listed = function in _EFFECTS
    except TypeError:
        listed = False
    if listed:
        if function is next and args and id(args[0]) in innermost().fresh:  # type: ignore[attr-defined]
            return
        raise innermost().failure(
            f"code that runs only if a tensor says so, or several times, calls {name}()"
        )
    bound = owner is not None and not isinstance(owner, type) and type(owner).__name__ != "module"
    if bound and name in _CHANGING and not isinstance(owner, Tensor):
        require_own(owner, f"calls .{name}() of a {type(owner).__name__}")


def augment(op: str, x: Any, value: Any) -> Any:
    """What ``x op= value`` assigns to x."""
    immutable = isinstance(x, Tensor | int | float | complex | str | bytes | tuple | frozenset)
    if in_region() and not immutable:
        require_own(x, f"changes a {type(x).__name__} in place")
    return _OPERATORS[op](x, value)


def augment_attribute(op: str, x: Any, name: str, value: Callable[[], Any]) -> None:
    """``x.name op= value()``."""
    old = getattr(x, name)
    found = augment(op, old, value())
    if found is not old or not isinstance(found, Tensor):
        setattr(target(x, f".{name}"), name, found)


def augment_item(op: str, x: Any, key: Any, value: Callable[[], Any]) -> None:
    """``x[key] op= value()``."""
    mask = _mask_of(x, key)
    if mask is not None and _augment_masked(op, x, mask, given := value()):
        return
    if mask is not None:
        value = lambda: given  # noqa: E731 - it was computed
    old = x[key]
    found = augment(op, old, value())
    target(x, "[...]")[key] = found


def _mask_of(x: Any, key: Any) -> Tensor | None:
    """The mask, if ``x[key]`` is what a mask picks of a tensor: its size would be in the data."""
    if type(key) is tuple and len(key) == 1:
        (key,) = key
    both = isinstance(x, Tensor) and isinstance(key, Tensor) and key.dtype is bool_
    whole = both and tuple(key.shape) == tuple(x.shape[: key.ndim])
    return key if whole and captures.current is not None else None


def _augment_masked(op: str, x: Tensor, mask: Tensor, value: Any) -> bool:
    """``x[mask] op= value``, with the shape of `x`; whether that can be done."""
    size = 0 if is_number(value) else value.ndim if isinstance(value, Tensor) else None
    if size is None or size > x.ndim - mask.ndim or op == "MatMult":
        return False  # it may be as many values as the mask picks
    shown = mask.reshape(tuple(mask.shape) + (1,) * (x.ndim - mask.ndim))
    # Where nothing is to change, a number of which neither the result nor a gradient is infinite.
    new = _OPERATORS[op](where(shown, x, ones((), dtype=x.dtype)), value)
    x[...] = where(shown, new, x)
    return True
