"""Places where Python data is kept: an attribute, an element, a global, the cell of a closure.

A place can be read again at every call, whatever is there by then, and written. Reading never runs
code of the user: a property is not a place.
"""

from __future__ import annotations

import builtins
from collections import deque
from types import CellType, FunctionType, MemberDescriptorType, ModuleType
from typing import Any

from .._changes import Members, Own
from .._tensor import Tensor

# What a place gives that holds nothing: an absent attribute, an empty cell.
MISSING: Any = type("Missing", (), {"__repr__": lambda self: "nothing"})()
# What an attribute gives that is computed by its class: a method, a property.
COMPUTED: Any = type("Computed", (), {"__repr__": lambda self: "a computed attribute"})()

_MEMBERS = ("_parameters", "_buffers", "_modules")


class Place:
    """Somewhere a value is kept; `name` is how a person would write it, `key` is its identity."""

    __slots__ = ("key", "name")

    key: Any
    name: str

    def get(self) -> Any:
        """What is there now, MISSING, or COMPUTED."""
        raise NotImplementedError

    def put(self, value: Any) -> None:
        """Keep `value` there; MISSING removes what is there."""
        raise NotImplementedError

    def source(self, constants: Constants) -> str:
        """A Python expression that gives what is there, or fails where nothing is."""
        raise NotImplementedError

    @property
    def stable(self) -> bool:
        """Whether it is noted (``_changes.modules``) if something else is put there."""
        return False

    def __repr__(self) -> str:
        return self.name


class Constants(dict[str, Any]):
    """Objects that generated code refers to, by the names it has for them."""

    def __init__(self) -> None:
        super().__init__()
        self._names: dict[int, str] = {}

    def name(self, x: Any) -> str:
        """The name of `x`."""
        found = self._names.get(id(x))
        if found is None:
            found = self._names[id(x)] = f"c{len(self._names)}"
            self[found] = x
        return found


class Attribute(Place):
    """Attribute `attribute` of an object."""

    __slots__ = ("attribute", "owner")

    def __init__(self, owner: Any, attribute: str, name: str) -> None:
        self.owner = owner
        self.attribute = attribute
        self.name = name
        self.key = (id(owner), "attr", attribute)

    def get(self) -> Any:
        return look_up(self.owner, self.attribute)

    def put(self, value: Any) -> None:
        owner, name = self.owner, self.attribute
        held = getattr(owner, "__dict__", None)
        if value is MISSING or value is COMPUTED:
            if look_up(owner, name) is not value:
                delattr(owner, name)
        elif (
            isinstance(held, dict) and isinstance(value, Tensor) and type(held.get(name)) is Tensor
        ):
            dict.__setitem__(held, name, value)  # quick, see `assigned_quietly`
        else:
            setattr(owner, name, value)

    def source(self, constants: Constants) -> str:
        owner = constants.name(self.owner)
        if is_module(self.owner):
            for members in _MEMBERS:
                if self.attribute in self.owner.__dict__.get(members, ()):
                    return f"{owner}.{members}[{self.attribute!r}]"
        if not self.attribute.isidentifier():
            return f"getattr({owner}, {self.attribute!r})"
        return f"{owner}.{self.attribute}"

    @property
    def stable(self) -> bool:
        return tells_changes(self.owner)  # for the class, there is a guard of its own

    @property
    def is_of_class(self) -> bool:
        """Whether a module that tells changes has this from its class, or not at all."""
        if not tells_changes(self.owner):
            return False
        held = self.owner.__dict__
        return self.attribute not in held and not any(self.attribute in held[m] for m in _MEMBERS)


class Method(Place):
    """A function or property that a class has, itself or from its bases."""

    __slots__ = ("attribute", "owner")

    def __init__(self, owner: type, attribute: str) -> None:
        self.owner = owner
        self.attribute = attribute
        self.name = f"{owner.__name__}.{attribute}"
        self.key = (id(owner), "method", attribute)

    def get(self) -> Any:
        owners = (c.__dict__ for c in self.owner.__mro__)
        return next((d[self.attribute] for d in owners if self.attribute in d), MISSING)

    def source(self, constants: Constants) -> str:
        found = self.get()
        if isinstance(found, FunctionType | property):
            return f"{constants.name(self.owner)}.{self.attribute}"
        return f"{constants.name(self)}.get()"


class Element(Place):
    """Element `index` of the list, tuple or dict that another place, or nothing else, holds."""

    __slots__ = ("index", "parent")

    def __init__(self, parent: Place, index: Any) -> None:
        self.parent = parent
        self.index = index
        self.name = f"{parent.name}[{index!r}]"
        self.key = (parent.key, "item", type(index), index)

    def get(self) -> Any:
        container = self.parent.get()
        try:
            if isinstance(container, dict):
                return dict.get(container, self.index, MISSING)
            return container[self.index] if isinstance(container, INDEXED) else MISSING
        except (LookupError, TypeError):
            return MISSING

    def put(self, value: Any) -> None:
        container = self.parent.get()
        if value is not MISSING:
            container[self.index] = value
        elif isinstance(container, dict):
            container.pop(self.index, None)

    def source(self, constants: Constants) -> str:
        plain = type(self.index) in (int, str)
        index = repr(self.index) if plain else constants.name(self.index)
        return f"{self.parent.source(constants)}[{index}]"

    @property
    def stable(self) -> bool:
        return self.parent.stable and type(self.parent.get()) is Members


class Global(Place):
    """A global of a module."""

    __slots__ = ("scope", "variable")

    def __init__(self, scope: dict[str, Any], variable: str) -> None:
        self.scope = scope
        self.variable = self.name = variable
        self.key = (id(scope), "global", variable)

    def get(self) -> Any:
        found = self.scope.get(self.variable, MISSING)
        return getattr(builtins, self.variable, MISSING) if found is MISSING else found

    def put(self, value: Any) -> None:
        if value is MISSING:
            self.scope.pop(self.variable, None)
        else:
            self.scope[self.variable] = value

    def source(self, constants: Constants) -> str:
        return f"{constants.name(self.scope)}[{self.variable!r}]"


class Cell(Place):
    """A variable of an enclosing function.

    A running frame shows the `value` only; which `cell` holds it may be found out later.
    """

    __slots__ = ("cell", "value")

    def __init__(self, name: str, cell: CellType | None, value: Any = MISSING) -> None:
        self.name = name
        self.cell = cell
        self.value = value
        self.key = (id(cell), "cell")

    def get(self) -> Any:
        if self.cell is None:
            return self.value
        try:
            return self.cell.cell_contents
        except ValueError:
            return MISSING

    def put(self, value: Any) -> None:
        if self.cell is None:
            return
        if value is MISSING:
            del self.cell.cell_contents
        else:
            self.cell.cell_contents = value

    def source(self, constants: Constants) -> str:
        return f"{constants.name(self.cell)}.cell_contents"


class Names(Place):
    """The names of an object's own attributes."""

    __slots__ = ("owner",)

    def __init__(self, owner: Any, name: str) -> None:
        self.owner = owner
        self.name = f"the names of attributes of {name}"
        self.key = (id(owner), "names")

    def get(self) -> Any:
        return tuple(self.owner.__dict__)

    def put(self, value: Any) -> None:
        """Nothing: attributes have places of their own."""

    def source(self, constants: Constants) -> str:
        return f"(*{constants.name(self.owner)}.__dict__,)"

    @property
    def stable(self) -> bool:
        return tells_changes(self.owner)


# Containers whose elements are places, and how many elements are looked at one by one.
INDEXED = (list, tuple, dict)
MUTABLE = (list, dict, set, deque)


def root_of(place: Place) -> Place:
    """The place that an element's container is kept in, or its container's container, ..."""
    while isinstance(place, Element):
        place = place.parent
    return place


def is_module(x: Any) -> bool:
    """Whether `x` is a Module."""
    return hasattr(type(x), "named_parameters") and "_modules" in getattr(x, "__dict__", ())


def assigned_quietly(place: Place) -> bool:
    """Whether compiled calls assign to a place without a note: its guards are always checked."""
    if not isinstance(place, Attribute):
        return False
    return type(getattr(place.owner, "__dict__", {}).get(place.attribute)) is Tensor


def tells_changes(x: Any) -> bool:
    """Whether assigning to any attribute of `x` is noted, see ``_changes``."""
    told = is_module(x) and type(x.__dict__) is Own
    return told and getattr(type(x).__setattr__, "tells", False)


def look_up(owner: Any, name: str) -> Any:
    """Attribute `name` of `owner`, found without running any code."""
    if isinstance(owner, ModuleType):
        return owner.__dict__.get(name, MISSING)
    if isinstance(owner, type):
        for cls in owner.__mro__:
            if name in cls.__dict__:
                return _of_class(cls.__dict__[name], None)
        return MISSING
    held = getattr(owner, "__dict__", None)
    if held is not None and name in held:
        return held[name]
    if is_module(owner):
        for members in _MEMBERS:
            found = owner.__dict__.get(members, {})
            if name in found:
                return found[name]
    if isinstance(owner, FunctionType):
        if name in ("__defaults__", "__kwdefaults__"):
            return getattr(owner, name)
        return owner.__dict__.get(name, MISSING)
    for cls in type(owner).__mro__:
        if name in cls.__dict__:
            return _of_class(cls.__dict__[name], owner)
    return MISSING


def _of_class(found: Any, owner: Any) -> Any:
    if type(found) is MemberDescriptorType and owner is not None:  # of __slots__
        try:
            return found.__get__(owner)
        except AttributeError:
            return MISSING
    return COMPUTED if hasattr(type(found), "__get__") else found
