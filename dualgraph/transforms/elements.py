"""Functions that read numbers on the host, under vmap: for one element after the other."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar

from .._dispatch import make, symbolic
from .levels import Wrapped, settled, transforms

_F = TypeVar("_F", bound=Callable[..., Any])


def element_by_element(function: _F) -> _F:
    """Decorates a function that asks for its tensors' values, so that it can be mapped."""

    @functools.wraps(function)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        if symbolic.open_graphs and transforms.levels:
            return _mapped(wrapped, function, args, kwargs)
        return function(*args, **kwargs)

    return wrapped  # type: ignore[return-value]


def _mapped(again: Any, function: Any, args: Any, kwargs: Any) -> Any:
    from dualgraph_compiler.ops import f

    from .batched import Batched

    args = [settled(a) if hasattr(a, "_data") else a for a in args]
    held = [getattr(a, "_data", None) for a in (*args, *kwargs.values())]
    levels = [x.level for x in held if isinstance(x, Wrapped)]
    level = max(levels, key=lambda x: x.depth) if levels else None
    own = [x for x in held if type(x) is Batched and x.level is level]
    if level is None or not own:
        return function(*args, **kwargs)

    def row(a: Any, i: int) -> Any:
        data = getattr(a, "_data", None)
        if isinstance(data, Batched) and data.level is level:
            inner, batched = level.parts(a)
            return f.select(inner, 0, i) if batched else inner
        return a

    rows = [
        again(*(row(a, i) for a in args), **{k: row(v, i) for k, v in kwargs.items()})
        for i in range(int(level.size))
    ]
    return make(Batched(level, f.stack(rows, 0)))
