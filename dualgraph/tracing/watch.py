"""Watching a trace: which Python data the user's code reads and writes while it runs.

Every function of the user's that starts is looked at through :mod:`.bytecode`; the places that it
names are kept with what they held before, so that afterwards it is known what the trace depended
on and what it changed.
"""

from __future__ import annotations

import functools
import gc
import importlib
import os
import random
import sys
import sysconfig
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from inspect import CO_OPTIMIZED
from io import IOBase
from pathlib import Path
from types import CodeType, FrameType, FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np

from dualgraph_compiler.graph import Value

from .._dispatch import captures
from .._tensor import Tensor
from . import bytecode
from .bytecode import BASE, IDENTITY, INCREMENT, STORE, VALUE, CodeFacts, Step, facts_of
from .originals import original_of
from .places import (
    COMPUTED,
    INDEXED,
    MISSING,
    Attribute,
    Cell,
    Element,
    Global,
    Place,
    is_module,
    look_up,
)
from .snapshots import GlobalRandomState, Snapshot

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
_MOST_OBJECTS = 5000
_MOST_ELEMENTS = 100
_IMPORT = importlib._bootstrap._find_and_load.__code__  # type: ignore[attr-defined]


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


def _opaque(module: str) -> bool:
    return module.partition(".")[0] in _OPAQUE


@dataclass
class Seen:
    """A place, what it held when first seen, and how the user's code uses it."""

    place: Place
    before: Snapshot
    uses: set[str] = field(default_factory=set)


class Watch:
    """While active, watches the user's code that runs in the current thread inside a capture.

    Attributes:
        seen: what was met, by the keys of the places.
        random: whether NumPy's or Python's own generator was drawn from, which is undone.
        ambiguous: variables that are assigned to in one of several closures of the same function.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function
        self.seen: dict[Any, Seen] = {}
        self.objects: dict[int, tuple[Any, str]] = {}  # met, with how a person would call them
        self.made: dict[int, Any] = {}  # made inside
        self.methods: dict[tuple[type, str], Any] = {}  # of the user's classes, that ran
        self.random = False
        self.ambiguous: list[str] = []
        self._facts: list[CodeFacts] = []
        self._executed: dict[CodeType, None] = {}
        self._variables: dict[tuple[CodeType, str, int], Cell] = {}
        self._entered: set[Any] = set()
        self._previous: Any = None
        self._importing: FrameType | None = None

    def __enter__(self) -> Watch:
        function = target_of(self.function)
        for defaults in ("__defaults__", "__kwdefaults__"):
            if (value := getattr(function, defaults, None)) is not None:
                function = getattr(function, "__func__", function)
                place = Attribute(function, defaults, f"{function.__name__}.{defaults}")
                self.see(place, value, {VALUE})
        self._cells = [
            (cell, cell.cell_contents)
            for f in _functions_in([self.function])
            for cell in f.__closure__ or ()
            if _filled(cell)
        ]
        self._random = GlobalRandomState()
        self._previous = sys.getprofile()
        self._collects = gc.isenabled()
        gc.disable()  # its callbacks are functions of somebody's, too
        sys.setprofile(self._event)
        return self

    def __exit__(self, *exception: object) -> None:
        sys.setprofile(self._previous)
        if self._collects:
            gc.enable()
        self.random = self._random.changed()

    def _event(self, frame: FrameType, event: str, arg: Any) -> None:
        if self._importing is not None:
            if event == "return" and frame is self._importing:
                self._importing = None
        elif event == "call":
            code = frame.f_code
            if code is _IMPORT:  # what import hooks and the new module do happens once only
                self._importing = frame
            elif is_users(code.co_filename) and captures.current is not None:
                written = original_of(code)
                if written is not None:
                    self._enter(frame, written)
        if self._previous is not None:
            self._previous(frame, event, arg)

    # -- as functions start -----------------------------------------------------------------------

    def _enter(self, frame: FrameType, code: CodeType) -> None:
        values = frame.f_locals
        if code.co_name in ("__init__", "__new__", "__post_init__") and code.co_varnames:
            made = values.get(code.co_varnames[0])
            self.made[id(made)] = made
        if code.co_filename.startswith("<") and code.co_name.startswith("__"):
            return  # generated, for a dataclass say
        facts = facts_of(code)
        key = (code, id(frame.f_globals), *(id(values[n]) for n in facts.roots if n in values))
        if key in self._entered:
            return
        self._entered.add(key)
        if code.co_argcount and type(values.get(code.co_varnames[0])).__module__ != "builtins":
            self._method(type(values[code.co_varnames[0]]), code)
        if code not in self._executed:
            self._executed[code] = None
            self._facts.append(facts)
        for path, uses in facts.uses.items():
            self._follow(path, uses, values, frame.f_globals, code)
        if facts.loose_stores or facts.wild:
            self._snapshot_reachable(facts)

    def _method(self, cls: type, code: CodeType) -> None:
        """Note which function, or property, of a class is the one that runs."""
        written = original_of(code) or code
        for owner in cls.__mro__:
            if _opaque(owner.__module__):
                continue
            for name, found in _defined(owner, written):
                self.methods[owner, name] = found
                first = next(c.__dict__[name] for c in cls.__mro__ if name in c.__dict__)
                if isinstance(first, FunctionType | property | functools.cached_property):
                    self.methods[cls, name] = first

    def _follow(
        self,
        path: bytecode.Path,
        uses: set[str],
        values: dict[str, Any],
        scope: dict[str, Any],
        code: CodeType,
    ) -> None:
        root = path[0]
        place: Place | None
        if root.kind == "local":
            place, value = None, values.get(root.key, MISSING)
            for name, x in _inside(value, root.key):
                if has_attributes(x):
                    self._meet(x, name)
        elif root.kind == "import":
            place, value = None, sys.modules.get(root.key, MISSING)
            if has_attributes(value):
                self._meet(value, root.key)
        elif root.kind == "global":
            place = Global(scope, root.key)
            value = place.get()
            if value is MISSING and STORE not in uses:
                return
        elif not code.co_flags & CO_OPTIMIZED:
            return  # the body of a class: the function around it has these variables
        else:
            value = values.get(root.key, MISSING)
            which = (code, root.key, id(value))  # closures of one function have their own
            place = self._variables.get(which)
            if place is None:
                cell = Cell(root.key, None, value)
                cell.key = which
                place = self._variables[which] = cell
        for step in path[1:]:
            if step.kind == "attr":
                if place is not None and hasattr(type(value), "_fields"):
                    self.see(place, value, {VALUE})
                if not has_attributes(value):
                    return
                place = Attribute(value, step.key, f"{self._name(value, place)}.{step.key}")
            elif place is None or not isinstance(value, INDEXED):
                return
            else:
                place = Element(place, step.key)
            value = place.get()
        if place is None or (len(path) == 1 and root.kind == "global" and _is_library(value)):
            return
        if VALUE in uses and facts_of(code).compares_identity:
            uses = uses | {IDENTITY}
        self.see(place, value, uses)

    def see(self, place: Place, value: Any, uses: set[str]) -> None:
        """Note a place, with what it holds now if it was not known."""
        if uses - {BASE, STORE} and _is_used_up(value) and captures.current is not None:
            raise captures.current.failure(
                f"{place.name}, a {type(value).__name__}, changes as it is used",
                "Pass what it gives as an argument; draw random numbers with dg.rand, ...",
            )
        found = self.seen.get(place.key)
        if found is None:
            found = self.seen[place.key] = Seen(place, Snapshot(value))
            for name, x in _inside(value, place.name):
                if has_attributes(x):
                    self._meet(x, name)
        found.uses |= uses

    def _meet(self, x: Any, name: str) -> None:
        self.objects.setdefault(id(x), (x, name))

    def _name(self, x: Any, place: Place | None) -> str:
        known = self.objects.get(id(x))
        return known[1] if known else place.name if place is not None else type(x).__name__

    def _snapshot_reachable(self, facts: CodeFacts) -> None:
        """Note what attributes hold that this code may assign to, of objects not known yet."""
        for x, name in self._reachable():
            held = vars(x) if hasattr(x, "__dict__") and not isinstance(x, type) else {}
            for attribute in {*held, *facts.loose_stores} if facts.wild else facts.loose_stores:
                place = Attribute(x, attribute, f"{name}.{attribute}")
                if place.key not in self.seen:
                    self.see(place, place.get(), {STORE})

    def _reachable(self) -> list[tuple[Any, str]]:
        """Objects met, and those in their attributes, to any depth."""
        found = dict(self.objects)
        queue = list(found.values())
        while queue and len(found) < _MOST_OBJECTS:
            x, name = queue.pop()
            if isinstance(x, ModuleType | type):
                continue
            for attribute, value in list(getattr(x, "__dict__", {}).items()):
                for label, y in _inside(value, f"{name}.{attribute}"):
                    if id(y) not in found and has_attributes(y):
                        found[id(y)] = (y, label)
                        queue.append((y, label))
        return list(found.values())

    # -- afterwards -------------------------------------------------------------------------------

    def resolve(self) -> None:
        """Find the cells of free variables; forget those that were made inside."""
        functions = self._functions()
        for function in (f for found in functions.values() for f in found):
            for defaults in ("__defaults__", "__kwdefaults__"):
                if (value := getattr(function, defaults)) is not None:
                    place = Attribute(function, defaults, f"{function.__name__}.{defaults}")
                    self.see(place, value, {VALUE})
        nested = {
            inner: code
            for code in self._executed
            for inner in code.co_consts
            if isinstance(inner, CodeType)
        }
        unknown = {code for code, _, _ in self._variables} - functions.keys() - nested.keys()
        for found in gc.get_referrers(*unknown) if unknown else ():
            if isinstance(found, FunctionType):
                functions.setdefault(found.__code__, []).append(found)
        for (code, _, _), variable in self._variables.items():
            owner = code
            while owner not in functions and owner in nested:
                owner = nested[owner]
            self._find_cells(variable, owner, functions.get(owner, ()))
        fresh = {v.key for v in self._variables.values() if v.cell is None}
        merged: dict[Any, Seen] = {}
        for seen in self.seen.values():
            start = root_of(seen.place)
            if isinstance(start, Cell):
                if start.key in fresh:
                    continue
                if seen.place is start:
                    start.key = (id(start.cell), "cell")
            merged.setdefault(seen.place.key, seen).uses.update(seen.uses)
        self.seen = merged

    def _find_cells(
        self, variable: Cell, code: CodeType, functions: Sequence[FunctionType]
    ) -> None:
        """Find the cell of a free variable, or the cells that it may be, of functions of `code`."""
        name = variable.name
        if variable.cell is not None or name not in code.co_freevars:
            return
        index = code.co_freevars.index(name)
        found = [f.__closure__[index] for f in functions if f.__closure__]
        cells = list({id(cell): cell for cell in found}.values())
        seen = self.seen.get(variable.key)
        if len(cells) > 1:
            if seen is not None and seen.uses & {STORE, INCREMENT}:
                self.ambiguous.append(name)
                return
            cells = [c for c in cells if Cell(name, c).get() is variable.value]
        if cells:
            variable.cell = cells[0]
        for cell in cells[1:]:
            other = Cell(name, cell)
            if seen is not None:
                self.seen.setdefault(other.key, Seen(other, seen.before, set(seen.uses)))

    def _functions(self) -> dict[CodeType, list[FunctionType]]:
        """Functions from outside that were met, by their code."""
        start = [self.function, *(seen.before.value for seen in self.seen.values())]
        found: dict[CodeType, list[FunctionType]] = {}
        for function in _functions_in(start):
            if function.__code__ in self._executed:
                found.setdefault(function.__code__, []).append(function)
        return found

    def restore_cells(self) -> None:
        """Make the variables of closures what they were before the trace."""
        for cell, before in self._cells:
            if cell.cell_contents is not before:
                cell.cell_contents = before

    def add_loose(self) -> None:
        """See the attributes, of objects met, whose names are read of objects not known."""
        names: set[str] = set()
        methods: set[str] = set()
        wild = supers = False
        for facts in self._facts:
            names |= facts.loose
            methods |= facts.loose_methods
            wild |= facts.wild
            supers |= (Step("global", "super"),) in facts.uses
        if supers:
            for x, _ in list(self.objects.values()):
                for base in type(x).__mro__[1:]:
                    if has_attributes(base):
                        self._meet(base, base.__name__)
        done: set[int] = set()
        while len(done) < len(self.objects) and len(done) < _MOST_OBJECTS:
            for key, (x, called) in list(self.objects.items()):
                if key in done:
                    continue
                done.add(key)
                if key in self.made:
                    continue
                if wild and not isinstance(x, type | ModuleType):
                    names = names | set(getattr(x, "__dict__", ()))
                for name in names | methods:
                    value = look_up(x, name)
                    if value is MISSING or value is COMPUTED:
                        continue
                    uses = {VALUE} if name in names else {BASE}
                    self.see(Attribute(x, name, f"{called}.{name}"), value, uses)

    def is_outside(self, place: Place) -> bool:
        """Whether the place was there before the trace."""
        start = root_of(place)
        return not isinstance(start, Attribute) or id(start.owner) not in self.made


def is_library_class(cls: type) -> bool:
    """Whether a class is not the user's."""
    return _opaque(cls.__module__)


def target_of(function: Any) -> Any:
    """What has the parameters: a module's forward, or the function itself."""
    return function.forward if hasattr(function, "named_parameters") else function


def _functions_in(start: Sequence[Any]) -> Iterator[FunctionType]:
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
            queue += [c.cell_contents for c in x.__closure__ or () if _filled(c)]
            queue.append(getattr(x, "__wrapped__", None))
        elif is_module(x):
            queue.append(x.forward)
            queue += [*x._forward_hooks.values(), *x._forward_pre_hooks.values()]
            queue += x._modules.values()
        elif isinstance(x, list | tuple | dict) and len(x) <= _MOST_ELEMENTS:
            queue += x.values() if isinstance(x, dict) else x
        elif (inner := getattr(x, "__dict__", {}).get("_function")) is not None:
            queue.append(inner)  # a compiled function


def _defined(owner: type, code: CodeType) -> Iterator[tuple[str, Any]]:
    """The names by which a class has a function, or property, of this code, most often its own."""
    own = code.co_name
    for name in (own,) if own in owner.__dict__ else list(owner.__dict__):
        found = owner.__dict__[name]
        inner = getattr(found, "fget", None) or getattr(found, "func", None) or found
        if getattr(inner, "__code__", None) == code:
            yield name, found


def root_of(place: Place) -> Place:
    """The place that an element's container is kept in, or its container's container, ..."""
    while isinstance(place, Element):
        place = place.parent
    return place


def _is_used_up(x: Any) -> bool:
    """Whether `x` is an iterator, or a generator of random numbers other than dualgraph's."""
    if isinstance(x, Iterator):
        return not isinstance(x, IOBase)
    return isinstance(x, np.random.Generator | np.random.RandomState | random.Random)


def _filled(cell: Any) -> bool:
    try:
        return cell.cell_contents is not MISSING
    except ValueError:
        return False


def _is_library(x: Any) -> bool:
    """Whether a global is part of a library: a module, or a function or class of one."""
    if isinstance(x, ModuleType):
        return not has_attributes(x)
    return getattr(x, "__module__", None) == "builtins" and callable(x)


def _inside(value: Any, name: str, depth: int = 0) -> Iterator[tuple[str, Any]]:
    """A value, or what is in it if it is a container."""
    if depth < 6 and isinstance(value, list | tuple):
        for i, x in enumerate(value):
            yield from _inside(x, f"{name}[{i}]", depth + 1)
    elif depth < 6 and isinstance(value, dict):
        for key, x in list(value.items()):
            yield from _inside(x, f"{name}[{key!r}]", depth + 1)
    else:
        yield name, value


def has_symbolic(value: Any) -> bool:
    """Whether tensors of a graph are in a value."""
    return any(isinstance(x, Tensor) and type(x._data) is Value for _, x in _inside(value, ""))
