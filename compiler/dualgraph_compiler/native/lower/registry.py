"""Tables of rules by op, as every kind of lowering keeps one."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from ...graph import Node
from ...ops.base import REGISTRY, Op

R = TypeVar("R")


def registering(rules: dict[type[Op], R]) -> Callable[..., Callable[[R], R]]:
    """A decorator that enters a rule into `rules` for the ops of the given names."""

    def rule(*names: str) -> Callable[[R], R]:
        def add(made: R) -> R:
            for name in names:
                rules[REGISTRY[name]] = made
            return made

        return add

    return rule


def unlisted(node: Node, rules: dict[type[Op], R]) -> str | None:
    """Why `rules` cannot serve a node: it has none for the op, or none for complex numbers."""
    if type(node.op) not in rules:
        return f"{node.op.name} has no native form yet"
    in_parts = node.op.name in ("part_of", "join")
    if not in_parts and any(v.dtype.is_complex for v in [*node.inputs, *node.outputs]):
        return "complex numbers have no native form yet"
    return None
