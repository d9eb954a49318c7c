"""Data that code reaches in ways that do not name it: all that may be meant is seen.

``getattr(x, name)``, ``vars(x)``, ``globals()[name]``; and attributes of what a call gave, or of an
element, of which the name is known but not the object.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from types import FunctionType, MemberDescriptorType, ModuleType, NoneType
from typing import TYPE_CHECKING, Any

from .._tensor import Tensor
from .bytecode import BASE, STORE, VALUE, CodeFacts, Step
from .objects import has_attributes, inside, is_library, is_library_class, is_used_up
from .places import COMPUTED, MISSING, Attribute, Global, Names, look_up

if TYPE_CHECKING:
    from .watch import Watch

_MOST_OBJECTS = 5000
_DATA = (int, float, complex, str, bytes, NoneType, Tensor, list, tuple, dict, set)


def see_reachable(watch: Watch, facts: CodeFacts, scope: dict[str, Any]) -> None:
    """As code starts, see what it may reach and assign to, with what is there now."""
    if facts.scopes:
        for name, value in list(scope.items()):
            if not (name.startswith("__") or is_library(value)):
                uses = {BASE} if is_used_up(value) else {VALUE}
                watch.see(Global(scope, name), value, uses)
    if facts.environment:
        variables = Attribute(os.environ, "_data", "os.environ")
        watch.see(variables, variables.get(), {VALUE})
    if not (facts.loose_stores or facts.wild):
        return
    for x, name in _reachable(watch):
        own = vars(x) if hasattr(x, "__dict__") and not isinstance(x, type) else {}
        for attribute in {*own, *facts.loose_stores} if facts.wild else facts.loose_stores:
            place = Attribute(x, attribute, f"{name}.{attribute}")
            if place.key not in watch.seen:
                watch.see(place, place.get(), {STORE})
        if facts.wild:
            _see_names(watch, x, name)


def _see_names(watch: Watch, x: Any, name: str) -> None:
    if hasattr(x, "__dict__") and not isinstance(x, type | ModuleType | FunctionType):
        names = Names(x, name)
        if names.key not in watch.seen:
            watch.see(names, names.get(), {STORE})


def _reachable(watch: Watch) -> list[tuple[Any, str]]:
    """Objects met, and those in their attributes, to any depth."""
    found = dict(watch.objects)
    queue = list(found.values())
    while queue and len(found) < _MOST_OBJECTS:
        x, name = queue.pop()
        if isinstance(x, ModuleType | type):
            continue
        for attribute, value in list(getattr(x, "__dict__", {}).items()):
            for label, y in inside(value, f"{name}.{attribute}"):
                if id(y) not in found and has_attributes(y):
                    found[id(y)] = (y, label)
                    queue.append((y, label))
    return list(found.values())


def add_loose(watch: Watch) -> None:
    """After the trace, see the attributes, of objects met, that code may have read."""
    facts = watch.facts
    names = {name for f in facts for name in f.loose}
    methods = {name for f in facts for name in f.loose_methods}
    wild = any(f.wild for f in facts)
    if any((Step("global", "super"),) in f.uses for f in facts):
        for x, _ in list(watch.objects.values()):
            for base in type(x).__mro__[1:]:
                if has_attributes(base):
                    watch.meet(base, base.__name__)
    if any(f.modules for f in facts):
        for name, module in list(sys.modules.items()):
            known = names if id(vars(module)) not in watch.scopes else vars(module).keys()
            if has_attributes(module) and not known.isdisjoint(vars(module)):
                watch.meet(module, name)
    done: set[int] = set()
    while len(done) < len(watch.objects) and len(done) < _MOST_OBJECTS:
        for key, (x, called) in list(watch.objects.items()):
            if key in done:
                continue
            done.add(key)
            if key in watch.made:
                continue
            read = names | set(_all_names(x)) if wild else names
            if wild:
                _see_all(watch, x, called)
            for name in read | methods:
                value = look_up(x, name)
                if value is MISSING or value is COMPUTED:
                    continue
                uses = {VALUE} if name in read and not is_used_up(value) else {BASE}
                watch.see(Attribute(x, name, f"{called}.{name}"), value, uses)


def _see_all(watch: Watch, x: Any, called: str) -> None:
    """See which attributes there are, and meet the class, of an object that is looked through."""
    if isinstance(x, type | ModuleType | FunctionType):
        return
    seen = watch.seen.get((id(x), "names"))
    if seen is not None:
        seen.uses.add(VALUE)
    elif hasattr(x, "__dict__"):
        names = Names(x, called)
        watch.see(names, names.get(), {VALUE})
    for cls in type(x).__mro__:
        if has_attributes(cls):
            watch.meet(cls, cls.__name__)


def _all_names(x: Any) -> Iterator[str]:
    """The names by which data may be kept in an object, a class or a module."""
    if isinstance(x, type):
        yield from (n for n in vars(x) if not n.startswith("__"))
    elif isinstance(x, ModuleType):  # not the objects in it, which lead everywhere
        for name, value in vars(x).items():
            data = not name.startswith("__") and isinstance(value, _DATA)
            if data and not any(has_attributes(y) for _, y in inside(value, "")):
                yield name
    else:
        yield from getattr(x, "__dict__", ())
        for cls in type(x).__mro__:
            if not is_library_class(cls):
                yield from (n for n, v in vars(cls).items() if type(v) is MemberDescriptorType)
