"""Algebraic simplification: applies the rule tables of :mod:`.rules` until none matches."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import ClassVar

from ..graph import Graph, Node, Value
from ..ops.base import REGISTRY, Op
from .pattern import NodeRule
from .rewrite import Worklist
from .rules import ALGEBRA, FUNCTIONS


@dataclass(frozen=True, slots=True)
class Simplify:
    """Rewrites by rules that make a graph smaller or its ops cheaper.

    With `exact`, only rules that keep every bit of every result, NaN and -0.0 included.
    """

    exact: bool = False
    name: ClassVar[str] = "simplify"

    def run(self, graph: Graph) -> bool:
        rules = _rules(self.exact)
        work = Worklist(graph)
        for node in work:
            new = _apply(graph, node, rules.get(type(node.op), ()))
            if new is not None:
                work.replace(node, [new])
        return work.changed


def _apply(graph: Graph, node: Node, rules: tuple[NodeRule, ...]) -> Value | None:
    for rule in rules:
        with graph.inserting_before(node):
            new = rule(node)
        if new is not None:
            return new
    return None


@cache
def _rules(exact: bool) -> dict[type[Op], tuple[NodeRule, ...]]:
    """Rules by the op at their root."""
    return {op: tuple(_rules_for(op, exact)) for op in REGISTRY.values()}


def _rules_for(op: type[Op], exact: bool) -> Iterator[NodeRule]:
    for rule in ALGEBRA:
        if type(rule.left.op) is op and (rule.exact or not exact):
            yield rule
    for entry in FUNCTIONS:
        if (op in entry.ops or op.kind in entry.kinds) and (entry.exact or not exact):
            yield entry.function
