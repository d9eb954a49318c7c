"""What kinds of objects a trace meets: the user's, whose data it watches, and libraries'."""

from __future__ import annotations

import functools
import os
import random
import sys
import sysconfig
import threading
from collections.abc import Iterator, Sequence
from io import IOBase
from pathlib import Path
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np

from dualgraph_compiler.graph import Value

from .._tensor import Tensor
from .places import MISSING, is_module

_PACKAGE = str(Path(__file__).resolve().parent.parent) + os.sep
_LAYERS = os.path.join(_PACKAGE, "nn", "modules") + os.sep
_LIBRARIES = tuple(
    os.path.join(path, "")
    for path in (
        sysconfig.get_path("stdlib"),
        str(Path(np.__file__).parent),
        str(Path(sys.modules["dualgraph_compiler"].__file__ or "").parent),
        str(Path(sys.modules["dualgraph_runtime"].__file__ or "").parent),
    )
)
# Objects of these packages keep nothing that a trace reads by attributes.
_OPAQUE = frozenset(
    (
        *("builtins", "dualgraph", "dualgraph_compiler", "dualgraph_runtime", "numpy", "logging"),
        *("threading", "_thread", "io", "_io", "weakref", "re", "typing", "abc", "functools"),
        *("itertools", "operator", "ml_dtypes"),
    )
)
_MOST_ELEMENTS = 100


@functools.cache
def is_users(filename: str) -> bool:
    """Whether code of this file is the user's, or a layer's: code that reads attributes."""
    if filename.startswith(_PACKAGE):
        name = os.path.basename(filename)
        return filename.startswith(_LAYERS) and not name.startswith("_") and name != "module.py"
    if "site-packages" in filename and not filename.startswith(_LIBRARIES[1:]):
        return True
    return not filename.startswith((*_LIBRARIES, "<frozen"))


def has_attributes(x: Any) -> bool:
    """Whether `x` is an object whose attributes are looked at."""
    if is_module(x):
        return True
    cls = type(x)
    if isinstance(x, type):
        return not _opaque(x.__module__)
    if isinstance(x, threading.local):
        return True
    if isinstance(x, FunctionType):
        return is_users(x.__code__.co_filename)
    if isinstance(x, ModuleType):
        file: str = getattr(x, "__file__", None) or ""
        if not file:
            return getattr(x, "__spec__", None) is None  # made by hand
        return not file.startswith(_PACKAGE) and is_users(file)
    if isinstance(x, Tensor | MethodType) or (callable(x) and _opaque(cls.__module__)):
        return False
    return not _opaque(cls.__module__) and hasattr(cls, "__dict__")


def _opaque(module: Any) -> bool:
    return isinstance(module, str) and module.partition(".")[0] in _OPAQUE


def is_library_class(cls: type) -> bool:
    """Whether a class is not the user's."""
    return _opaque(cls.__module__)


def target_of(function: Any) -> Any:
    """What has the parameters: a module's forward, or the function itself."""
    return function.forward if hasattr(function, "named_parameters") else function


def functions_in(start: Sequence[Any]) -> Iterator[FunctionType]:
    """Functions among some values, in their closures, in what they wrap, hooks of modules."""
    queue = list(start)
    met = set()
    while queue:
        x = queue.pop()
        if id(x) in met:
            continue
        met.add(id(x))
        if isinstance(x, functools.partial):
            queue.append(x.func)
        elif isinstance(x, MethodType):
            queue += [x.__func__, x.__self__]
        elif isinstance(x, FunctionType):
            yield x
            queue += [c.cell_contents for c in x.__closure__ or () if filled(c)]
            queue.append(getattr(x, "__wrapped__", None))
        elif is_module(x):
            queue.append(x.forward)
            queue += [*x._forward_hooks.values(), *x._forward_pre_hooks.values()]
            queue += x._modules.values()
        elif isinstance(x, list | tuple | dict) and len(x) <= _MOST_ELEMENTS:
            queue += x.values() if isinstance(x, dict) else x
        elif (inner := getattr(x, "__dict__", {}).get("_function")) is not None:
            queue.append(inner)  # a compiled function


def is_used_up(x: Any) -> bool:
    """Whether `x` is an iterator, or a generator of random numbers other than dualgraph's."""
    if isinstance(x, Iterator):
        return not isinstance(x, IOBase)
    return isinstance(x, np.random.Generator | np.random.RandomState | random.Random)


def filled(cell: Any) -> bool:
    """Whether a variable of a closure has a value."""
    try:
        return cell.cell_contents is not MISSING
    except ValueError:
        return False


def is_library(x: Any) -> bool:
    """Whether a global is part of a library: a module, or a function or class of one."""
    if isinstance(x, ModuleType):
        return not has_attributes(x)
    return getattr(x, "__module__", None) == "builtins" and callable(x)


def inside(value: Any, name: str, depth: int = 0) -> Iterator[tuple[str, Any]]:
    """A value, or what is in it if it is a container."""
    if depth < 6 and isinstance(value, list | tuple):
        for i, x in enumerate(value):
            yield from inside(x, f"{name}[{i}]", depth + 1)
    elif depth < 6 and isinstance(value, dict):
        for key, x in list(value.items()):
            yield from inside(x, f"{name}[{key!r}]", depth + 1)
    else:
        yield name, value


def has_symbolic(value: Any) -> bool:
    """Whether tensors of a graph are in a value."""
    return any(isinstance(x, Tensor) and type(x._data) is Value for _, x in inside(value, ""))


def defined(owner: type, code: CodeType) -> Iterator[tuple[str, Any]]:
    """The names by which a class has a function, or property, of this code, most often its own."""
    own = code.co_name
    for name in (own,) if own in owner.__dict__ else list(owner.__dict__):
        found = owner.__dict__[name]
        inner = getattr(found, "fget", None) or getattr(found, "func", None) or found
        if getattr(inner, "__code__", None) == code:
            yield name, found
