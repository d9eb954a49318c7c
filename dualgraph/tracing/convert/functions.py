"""Functions with their control flow rewritten: which ones, made once, and how."""

from __future__ import annotations

import os
import site
import sysconfig
import threading
from pathlib import Path
from types import CellType, CodeType, FunctionType

import dualgraph_compiler
import dualgraph_runtime

from ..failure import OURS
from ..originals import note_original
from .expressions import HELPER, THUNK
from .rewrite import PREFIX, rewrite
from .source import Unconvertible, compiled, definition, owner

# By code, and its file: equal code of two files has other lines.
_codes: dict[tuple[CodeType, str], CodeType | Unconvertible] = {}
_lock = threading.RLock()


def _libraries() -> tuple[str, ...]:
    """The folders of installed code and of this package, which are taken as they are."""
    names = ("stdlib", "platstdlib", "purelib", "platlib")
    paths = [*map(sysconfig.get_path, names), *site.getsitepackages(), site.getusersitepackages()]
    compiler, runtime = (
        str(Path(m.__file__ or "").parent) for m in (dualgraph_compiler, dualgraph_runtime)
    )
    return (OURS, *(os.path.join(p, "") for p in [*paths, compiler, runtime]))


_LIBRARIES = _libraries()


def is_users(function: FunctionType) -> bool:
    """Whether a function belongs to the program rather than to a library."""
    return not function.__code__.co_filename.startswith((*_LIBRARIES, "<frozen"))


def converted(function: FunctionType) -> FunctionType:
    """`function` with control flow that tensors may decide; the same object for the same function.

    Raises:
        Unconvertible: it cannot be rewritten.
    """
    code = function.__code__
    if HELPER in code.co_freevars:
        return function
    with _lock:
        key = code, code.co_filename
        found = _codes.get(key)
        if found is None:
            try:
                found = _convert(function)
            except Unconvertible as error:
                found = error
            _codes[key] = found
    if isinstance(found, Unconvertible):
        raise found
    return _instance(function, found)


def _convert(function: FunctionType) -> CodeType:
    code = function.__code__
    node = definition(function)
    try:
        rewrite(node)
        free = tuple(n for n in code.co_freevars if n != HELPER)
        made = compiled(node, code, (*free, HELPER), owner(code))
    except (SyntaxError, RecursionError) as error:
        raise Unconvertible(f"{code.co_qualname!r} cannot be rewritten: {error}") from error
    return _renamed(made, code)


def _renamed(code: CodeType, original: CodeType) -> CodeType:
    """Code under the name of the function it is made of, as tracebacks show it."""
    consts = tuple(_inner(c, original) if isinstance(c, CodeType) else c for c in code.co_consts)
    made = code.replace(
        co_name=original.co_name, co_qualname=original.co_qualname, co_consts=consts
    )
    note_original(made, original)
    return made


def _inner(code: CodeType, original: CodeType) -> CodeType:
    """Code in rewritten code: a part of that, or what the function defines."""
    own = next(
        (
            c
            for c in _nested(original)
            if (c.co_firstlineno, c.co_name) == (code.co_firstlineno, code.co_name)
        ),
        None,
    )
    part = code.co_name.startswith(PREFIX) or THUNK in code.co_varnames
    if own is not None and not part:
        return _renamed(code, own)
    consts = tuple(_inner(c, original) if isinstance(c, CodeType) else c for c in code.co_consts)
    made = code.replace(
        co_name=original.co_name, co_qualname=original.co_qualname, co_consts=consts
    )
    note_original(made, None)
    return made


def _nested(code: CodeType) -> list[CodeType]:
    return [c for c in code.co_consts if isinstance(c, CodeType)]


def _instance(function: FunctionType, code: CodeType) -> FunctionType:
    """A function of rewritten code with everything else, down to its variables, of `function`."""
    from . import runtime

    cells: dict[str, CellType] = dict(
        zip(function.__code__.co_freevars, function.__closure__ or (), strict=True)
    )
    cells[HELPER] = CellType(runtime)
    closure = tuple(cells[name] for name in code.co_freevars)
    made = FunctionType(code, function.__globals__, function.__name__, None, closure)
    made.__defaults__ = function.__defaults__
    made.__kwdefaults__ = function.__kwdefaults__
    made.__qualname__ = function.__qualname__
    made.__doc__ = function.__doc__
    made.__module__ = function.__module__
    made.__dict__.update(function.__dict__)
    return made
