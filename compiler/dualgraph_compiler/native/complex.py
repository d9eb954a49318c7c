"""Complex numbers as pairs of real ones: a pass over the graph, before it is partitioned.

Every complex value whose op has a rule becomes two real values, so that all that follows (fusion,
loops, vectors) knows real numbers only. Complex memory is read by `PartOf`, every other number of
it, and written by `Join`. What has no rule stays complex, and is interpreted.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from ..dtypes import COMPLEX_OF, REAL_OF
from ..graph import Graph, Node, Value
from ..ops.base import Kind, Op
from ..passes import RemoveDeadCode
from ..types import TensorType
from .complex_rules import RULES, Operand, Pair


@dataclass(frozen=True, slots=True, repr=False)
class PartOf(Op):
    """The real parts (`part` 0) or imaginary parts (1) of complex numbers in memory."""

    part: int
    name: ClassVar[str] = "part_of"
    kind: ClassVar[Kind] = Kind.MOVEMENT

    def infer(self, x: TensorType) -> TensorType:
        return x.with_dtype(REAL_OF[x.dtype])


@dataclass(frozen=True, slots=True, repr=False)
class Join(Op):
    """Complex numbers in memory, of two real operands of one shape."""

    name: ClassVar[str] = "join"
    kind: ClassVar[Kind] = Kind.MOVEMENT

    def infer(self, re: TensorType, im: TensorType) -> TensorType:
        return re.with_dtype(COMPLEX_OF[re.dtype])


def split_complex(graph: Graph) -> None:
    """Put pairs of real values in the place of complex ones."""
    if not any(v.dtype.is_complex for n in graph.nodes for v in (*n.inputs, *n.outputs)):
        return
    pairs: dict[Value, Pair] = {}
    for node in list(graph.nodes):
        rule = RULES.get(node.op.name)
        touched = any(v.dtype.is_complex for v in (*node.inputs, *node.outputs))
        if not touched or rule is None:
            continue
        with graph.inserting_before(node):
            operands: list[Operand] = [_parts(graph, v, pairs) for v in node.inputs]
            made = rule(node.op, node, *operands)
            if made is None:
                continue
            results = made if isinstance(made, list) else [made]
            for old, new in zip(node.outputs, results, strict=True):
                if isinstance(new, Pair):
                    whole = _whole(new, old)
                    value = Join()(*whole)
                    pairs[value] = whole
                else:
                    value = new
                value.name = value.name or old.name
                graph.replace_uses(old, value)
        _erase(graph, node)
    RemoveDeadCode().run(graph)


def _whole(pair: Pair, old: Value) -> Pair:
    """Parts that have the shape of the complex value."""
    from ..ops import f

    re, im = (v if v.shape == old.shape else f.expand(v, old.shape) for v in pair)
    return Pair(re, im)


def _erase(graph: Graph, node: Node) -> None:
    if not any(v.uses or v in graph.outputs for v in node.outputs):
        graph.erase(node)


def _parts(graph: Graph, value: Value, pairs: dict[Value, Pair]) -> Any:
    """A complex value's parts; a real value itself."""
    if not value.dtype.is_complex:
        return value
    if value in pairs:
        return pairs[value]
    if value.is_constant:
        return Pair(graph.constant(value.data.real.copy()), graph.constant(value.data.imag.copy()))
    return Pair(PartOf(0)(value), PartOf(1)(value))
