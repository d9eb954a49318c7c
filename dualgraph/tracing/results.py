"""Results that are neither tensors nor containers of them: what must not be kept between calls."""

from __future__ import annotations

import copy
import gc
from collections import deque
from types import (
    BuiltinFunctionType,
    CodeType,
    FrameType,
    FunctionType,
    MethodType,
    ModuleType,
)
from typing import Any

from dualgraph_compiler.graph import Graph, Value

from .._tensor import Tensor

# Without anything inside that could be a tensor.
_PLAIN = (int, float, complex, str, bytes, bool, type(None), type, ModuleType, range, slice)
_SKIPPED = (*_PLAIN, CodeType, FrameType, BuiltinFunctionType, Graph)
_MOST = 10_000


def holds_traced(x: Any, graph: Graph) -> bool:
    """Whether tensors of `graph` are in `x`: in its attributes, closure, local variables, ..."""
    if isinstance(x, _PLAIN):
        return False
    met = {id(x)}
    queue = [x]
    while queue and len(met) < _MOST:
        for y in _parts(queue.pop()):
            if isinstance(y, Tensor):
                if type(y._data) is Value and y._data.graph is graph:
                    return True
            elif id(y) not in met and not isinstance(y, _SKIPPED) and not _has_state(y):
                met.add(id(y))
                queue.append(y)
    return False


def _parts(x: Any) -> list[Any]:
    if _has_state(x):
        return []
    if isinstance(x, FunctionType):  # without its globals
        cells = [c for c in x.__closure__ or () if _filled(c)]
        kept = [x.__defaults__, x.__kwdefaults__, x.__dict__]
        return [*(c.cell_contents for c in cells), *(k for k in kept if k)]
    if isinstance(x, MethodType):
        return [x.__self__, x.__func__]
    return gc.get_referents(x)


def _has_state(x: Any) -> bool:
    """Whether `x` is a module or an optimizer, whose tensors are symbolic during a trace only."""
    return hasattr(type(x), "named_parameters") or hasattr(type(x), "add_param_group")


def _filled(cell: Any) -> bool:
    try:
        return cell.cell_contents is not None
    except ValueError:
        return False


def renewed(x: Any) -> Any:
    """A copy of a container that the caller may change, so that the next call's is another."""
    return copy.copy(x) if type(x) in (set, deque, bytearray) else x
