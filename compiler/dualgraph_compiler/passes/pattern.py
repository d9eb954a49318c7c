"""Rewrite rules that read like algebra: ``Rule(neg(neg(x)), x)``.

A pattern is written with the ops themselves. Variables match any value, the same one wherever they
stand again; a number matches a constant whose elements all equal it (and have its sign, for zero).
Operands of commutative ops are tried both ways round.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from ..dtypes import DType
from ..graph import Node, Value
from ..ops import f
from ..ops.base import REGISTRY, Op

COMMUTATIVE: frozenset[type[Op]] = frozenset(
    REGISTRY[name]
    for name in (
        "add",
        "mul",
        "maximum",
        "minimum",
        "equal",
        "not_equal",
        "logical_and",
        "logical_or",
        "logical_xor",
        "bitwise_and",
        "bitwise_or",
        "bitwise_xor",
    )
    if name in REGISTRY
)

# A function rule: the value that may stand in the node's place, or None where it does not apply.
NodeRule: TypeAlias = Callable[[Node], Value | None]
Bindings: TypeAlias = dict["Var", Value]


class Pattern:
    """What a rule's two sides are made of; arithmetic operators build larger ones."""

    __slots__ = ()
    __array_ufunc__ = None

    def __dualgraph_call__(self, op: Op, operands: Sequence[Any]) -> Apply:
        return Apply(op, tuple(x if isinstance(x, Pattern) else Number(x) for x in operands))

    def __add__(self, other: Any) -> Apply:
        return self.__dualgraph_call__(REGISTRY["add"](), (self, other))

    def __sub__(self, other: Any) -> Apply:
        return self.__dualgraph_call__(REGISTRY["sub"](), (self, other))

    def __rsub__(self, other: Any) -> Apply:
        return self.__dualgraph_call__(REGISTRY["sub"](), (other, self))

    def __mul__(self, other: Any) -> Apply:
        return self.__dualgraph_call__(REGISTRY["mul"](), (self, other))

    def __truediv__(self, other: Any) -> Apply:
        return self.__dualgraph_call__(REGISTRY["div"](), (self, other))

    def __rtruediv__(self, other: Any) -> Apply:
        return self.__dualgraph_call__(REGISTRY["div"](), (other, self))

    def __pow__(self, other: Any) -> Apply:
        return self.__dualgraph_call__(REGISTRY["pow"](), (self, other))

    def __neg__(self) -> Apply:
        return self.__dualgraph_call__(REGISTRY["neg"](), (self,))


@dataclass(frozen=True, slots=True, eq=False)
class Var(Pattern):
    """Matches any value, or any of one dtype."""

    name: str
    dtype: DType | None = None


@dataclass(frozen=True, slots=True)
class Number(Pattern):
    """Matches a constant all of whose elements equal `value`; zeros must have its sign."""

    value: complex


@dataclass(frozen=True, slots=True)
class Apply(Pattern):
    """Matches the only output of a node with an equal op."""

    op: Op
    operands: tuple[Pattern, ...]


def variables(names: str) -> tuple[Var, ...]:
    """Fresh variables, one for each name."""
    return tuple(map(Var, names.split()))


@dataclass(frozen=True, slots=True)
class Rule:
    """`left` may be replaced by `right`.

    `exact`: bit for bit, NaN and -0.0 included; otherwise `note` says what differs. `when` further
    restricts the element type of the result.
    """

    left: Apply
    right: Pattern
    exact: bool = True
    note: str = ""
    when: Callable[[DType], bool] = lambda dtype: True

    def __call__(self, node: Node) -> Value | None:
        """What may replace the output of `node`; None where the rule does not match."""
        if not self.when(node.outputs[0].dtype):
            return None
        for found in _match_node(self.left, node, {}):
            new = _build(self.right, found, node)
            return fit(new, node.outputs[0])
        return None


def fit(new: Value, old: Value) -> Value | None:
    """`new` broadcast to the shape of `old`; None if the element types differ."""
    return f.expand(new, old.shape) if new.dtype is old.dtype else None


def _match(pattern: Pattern, value: Value, bound: Bindings) -> Iterator[Bindings]:
    """Every way `pattern` matches `value`, given what variables stand for already."""
    if isinstance(pattern, Var):
        known = bound.get(pattern, value)
        if known is value and pattern.dtype in (None, value.dtype):
            yield {**bound, pattern: value}
    elif isinstance(pattern, Number):
        if is_uniform(value, pattern.value):
            yield bound
    elif value.node is not None:
        yield from _match_node(pattern, value.node, bound)


def _match_node(pattern: Pattern, node: Node, bound: Bindings) -> Iterator[Bindings]:
    if not isinstance(pattern, Apply) or pattern.op != node.op:
        return
    yield from _match_all(pattern.operands, node.inputs, bound)
    if type(node.op) in COMMUTATIVE:
        yield from _match_all(pattern.operands, node.inputs[::-1], bound)


def _match_all(
    patterns: Sequence[Pattern], values: Sequence[Value], bound: Bindings
) -> Iterator[Bindings]:
    if not patterns:
        yield bound
        return
    for found in _match(patterns[0], values[0], bound):
        yield from _match_all(patterns[1:], values[1:], found)


def _build(pattern: Pattern, bound: Bindings, node: Node) -> Value:
    """The value `pattern` describes, its nodes inserted before `node`."""
    if isinstance(pattern, Var):
        return bound[pattern]
    if isinstance(pattern, Number):
        return f.like(node.outputs[0], pattern.value)  # type: ignore[no-any-return]
    assert isinstance(pattern, Apply)
    built = [_build(p, bound, node) for p in pattern.operands if not isinstance(p, Number)]
    others = iter(built)
    operands = [
        f.like(built[0], p.value) if isinstance(p, Number) else next(others)
        for p in pattern.operands
    ]
    return pattern.op(*operands)  # type: ignore[no-any-return]


def is_uniform(value: Value, number: complex) -> bool:
    """Whether `value` is a constant, not empty, with every element `number` (and its sign)."""
    data = value.data
    if not value.is_constant or data is None or data.size == 0:
        return False
    # Weights are compared with small numbers often: the first element nearly always tells.
    if data.reshape(-1)[0] != number or not bool((data == number).all()):
        return False
    if number != 0 or not value.dtype.is_differentiable:
        return True
    negative = bool(np.signbit(np.asarray(number).real))
    if value.dtype.is_complex:
        return False  # two signs to tell apart, and no rule that needs them
    return bool((np.signbit(data) == negative).all())
