"""Watching a trace: which Python data the user's code reads and writes while it runs.

Every function of the user's that starts is looked at through :mod:`.bytecode`; the places that it
names are kept with what they held before, so that afterwards it is known what the trace depended
on and what it changed.
"""

from __future__ import annotations

import functools
import gc
import importlib
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from inspect import CO_OPTIMIZED
from types import CodeType, FrameType, FunctionType
from typing import Any

from .._dispatch import captures
from . import bytecode, loose
from .bytecode import BASE, IDENTITY, INCREMENT, STORE, VALUE, CodeFacts, facts_of
from .objects import (
    defined,
    filled,
    functions_in,
    has_attributes,
    inside,
    is_library,
    is_library_class,
    is_used_up,
    is_users,
    target_of,
)
from .originals import original_of
from .places import INDEXED, MISSING, MUTABLE, Attribute, Cell, Element, Global, Place, root_of
from .snapshots import GlobalRandomState, Snapshot

_IMPORT = importlib._bootstrap._find_and_load.__code__  # type: ignore[attr-defined]


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
        self.scopes: dict[int, Any] = {}  # the globals of code that ran
        self.facts: list[CodeFacts] = []  # of the code that ran
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
            for f in functions_in([self.function])
            for cell in f.__closure__ or ()
            if filled(cell)
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
            self.facts.append(facts)
        for path, uses in facts.uses.items():
            self._follow(path, uses, values, frame.f_globals, code)
        self.scopes[id(frame.f_globals)] = frame.f_globals
        loose.see_reachable(self, facts, frame.f_globals)

    def _method(self, cls: type, code: CodeType) -> None:
        """Note which function, or property, of a class is the one that runs."""
        written = original_of(code) or code
        for owner in cls.__mro__:
            if is_library_class(owner):
                continue
            for name, found in defined(owner, written):
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
            for name, x in inside(value, root.key):
                if has_attributes(x):
                    self.meet(x, name)
        elif root.kind == "import":
            place, value = None, sys.modules.get(root.key, MISSING)
            if has_attributes(value):
                self.meet(value, root.key)
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
                    if place is not None and VALUE in uses and isinstance(value, MUTABLE):
                        self.see(place, value, {VALUE})  # ``items.append``, kept for later
                    return
                place = Attribute(value, step.key, f"{self._name(value, place)}.{step.key}")
            elif place is None or not isinstance(value, INDEXED):
                return
            else:
                place = Element(place, step.key)
            value = place.get()
        if place is None or (len(path) == 1 and root.kind == "global" and is_library(value)):
            return
        if VALUE in uses and facts_of(code).compares_identity:
            uses = uses | {IDENTITY}
        self.see(place, value, uses)

    def see(self, place: Place, value: Any, uses: set[str]) -> None:
        """Note a place, with what it holds now if it was not known."""
        if uses - {BASE, STORE} and is_used_up(value) and captures.current is not None:
            raise captures.current.failure(
                f"{place.name}, a {type(value).__name__}, changes as it is used",
                "Pass what it gives as an argument; draw random numbers with dg.rand, ...",
            )
        found = self.seen.get(place.key)
        if found is None:
            found = self.seen[place.key] = Seen(place, Snapshot(value))
            for name, x in inside(value, place.name):
                if has_attributes(x):
                    self.meet(x, name)
        found.uses |= uses

    def meet(self, x: Any, name: str) -> None:
        self.objects.setdefault(id(x), (x, name))

    def _name(self, x: Any, place: Place | None) -> str:
        known = self.objects.get(id(x))
        return known[1] if known else place.name if place is not None else type(x).__name__

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
        for function in functions_in(start):
            if function.__code__ in self._executed:
                found.setdefault(function.__code__, []).append(function)
        return found

    def restore_cells(self) -> None:
        """Make the variables of closures what they were before the trace."""
        for cell, before in self._cells:
            if cell.cell_contents is not before:
                cell.cell_contents = before

    def is_outside(self, place: Place) -> bool:
        """Whether the place was there before the trace."""
        start = root_of(place)
        return not isinstance(start, Attribute) or id(start.owner) not in self.made
