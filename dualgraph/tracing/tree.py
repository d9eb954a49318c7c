"""Nested arguments and results, flattened to leaves and put together again.

Tuples, named tuples, lists, dicts and dataclasses are structure; everything else is a leaf.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Iterator
from typing import Any


def flatten(tree: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """The leaves with their dotted paths, in a fixed order."""
    children = _children(tree)
    if children is None:
        yield path, tree
        return
    for key, child in children:
        yield from flatten(child, f"{path}.{key}" if path else str(key))


def structure(tree: Any) -> Any:
    """A hashable description of everything but the leaves."""
    children = _children(tree)
    if children is None:
        return None
    return (type(tree), tuple((_key(key), structure(child)) for key, child in children))


def _key(key: Any) -> Any:
    return key if type(key) is str else (type(key), key)  # 1, 1.0 and True are equal


def map_leaves(
    function: Callable[[Any], Any], tree: Any, made: dict[int, Any] | None = None
) -> Any:
    """The same structure with `function` applied to each leaf.

    With `made`, a container that occurs twice is one container in the result, too.
    """
    children = _children(tree)
    if children is None:
        return function(tree)
    new = [(key, map_leaves(function, child, made)) for key, child in children]
    if made is None:
        return _rebuilt(tree, new)
    if id(tree) not in made:
        made[id(tree)] = _rebuilt(tree, new)
    return made[id(tree)]


def _rebuilt(tree: Any, new: list[tuple[Any, Any]]) -> Any:
    """A structure like `tree` with other children."""
    if type(tree) is dict:
        return dict(new)
    if isinstance(tree, dict):
        made: Any = copy.copy(tree)  # keeps what else it has, such as a default
        for key, value in new:
            made[key] = value
        return made
    if dataclasses.is_dataclass(tree):
        made = copy.copy(tree)
        for key, value in new:
            object.__setattr__(made, key, value)  # frozen ones, too
        return made
    values = [v for _, v in new]
    return tree._make(values) if hasattr(tree, "_fields") else type(tree)(values)


def containers(tree: Any) -> Iterator[Any]:
    """The structures in a tree that may be changed, each as often as it occurs."""
    children = _children(tree)
    if children is not None:
        if not isinstance(tree, tuple):
            yield tree
        for _, child in children:
            yield from containers(child)


def _children(tree: Any) -> list[tuple[Any, Any]] | None:
    """Keys and children of a structure; None for a leaf."""
    cls = type(tree)
    kind = _KINDS.get(cls)
    if kind is None:
        kind = _KINDS[cls] = _classify(cls)
    if kind == "leaf":
        return None
    if kind == "sequence":
        return list(enumerate(tree))
    if kind == "dict":
        return list(tree.items())
    if kind == "namedtuple":
        return list(zip(tree._fields, tree, strict=True))
    return [(f.name, getattr(tree, f.name)) for f in dataclasses.fields(tree)]


# How each type met so far is taken apart: asked for every argument of every compiled call.
_KINDS: dict[type, str] = {}


def _classify(cls: type) -> str:
    if issubclass(cls, tuple) and hasattr(cls, "_fields"):
        return "namedtuple"
    if cls in (tuple, list):
        return "sequence"
    if issubclass(cls, dict):
        return "dict"
    return "dataclass" if dataclasses.is_dataclass(cls) else "leaf"
