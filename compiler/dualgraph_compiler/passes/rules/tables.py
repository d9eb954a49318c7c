"""Where function rules register: on op classes, or on whole kinds of ops."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ...ops.base import Kind, Op
from ..pattern import NodeRule


@dataclass(frozen=True, slots=True)
class FunctionRule:
    """A rule tried on nodes of `ops` and of `kinds`; `exact` as for equations."""

    function: NodeRule
    ops: tuple[type[Op], ...]
    kinds: tuple[Kind, ...]
    exact: bool


FUNCTIONS: list[FunctionRule] = []


def on(*where: type[Op] | Kind, exact: bool = True) -> Callable[[NodeRule], NodeRule]:
    """Try this rule on nodes of these ops or kinds.

    `exact` rules keep every bit of the result; the docstring of another says what may differ.
    """

    def register(rule: NodeRule) -> NodeRule:
        ops = tuple(w for w in where if not isinstance(w, Kind))
        kinds = tuple(w for w in where if isinstance(w, Kind))
        FUNCTIONS.append(FunctionRule(rule, ops, kinds, exact))
        return rule

    return register
