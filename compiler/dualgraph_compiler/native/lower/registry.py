"""Tables of rules by op, as every kind of lowering keeps one.

Beside its rule an op says in what its native form is not the eager kernel, bit for bit: in nothing,
for a start in a rounding.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias, TypeVar

from ...graph import Node
from ...ops.base import REGISTRY, Op

R = TypeVar("R")

# Why the result of a node is not the eager one to the last bit, or EXACT; NaN is NaN, whatever its
# payload. The second form is for what depends on a node's dtype or attributes.
Inexact: TypeAlias = str | Callable[[Node], str]
EXACT = ""
ROUNDING = "its native form rounds otherwise than NumPy"
ORDER = "it adds in another order than NumPy"
SIGN_OF_ZERO = "which of two zeros is taken is NumPy's choice"
SIGN_OF_FOLDED_ZERO = "which of several zeros is taken is NumPy's choice"
INEXACT: dict[type[Op], Inexact] = {}


def why_inexact(node: Node) -> str:
    """Why the native form of a node does not give the eager result's bits; EXACT where it does."""
    said = INEXACT.get(type(node.op), ROUNDING)
    return said if isinstance(said, str) else said(node)


def registering(rules: dict[type[Op], R], default: Inexact) -> Callable[..., Callable[[R], R]]:
    """A decorator that enters a rule into `rules` for the ops of the given names.

    `default` says why their results are not exact, unless the decorator is told otherwise.
    """

    def rule(*names: str, inexact: Inexact = default) -> Callable[[R], R]:
        def add(made: R) -> R:
            for name in names:
                rules[REGISTRY[name]] = made
                INEXACT[REGISTRY[name]] = inexact
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
