"""What is quantised again is scaled once: no division by the step, and one product, not two.

Zero points of 0 go, too: they need not be added.

``quantize(total scale + bias, step)`` is ``round(total (scale / step) + bias / step)``, of which
what stands in brackets is known before a run. The two differ where a number lies within rounding
of the middle between two steps. The scale of sums of integers is so the one that ONNX Runtime
computes for QLinearConv, and that of dequantised operands of an addition the one for QLinearAdd.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from ..dtypes import FLOAT, float32, int32
from ..graph import Graph, Node, Value
from ..ops.activation import Relu
from ..ops.convert import Cast
from ..ops.pointwise import Add, Mul
from ..ops.quantize import DequantizeLinear, QuantizeLinear
from .rewrite import Worklist

_LEAST = 1e-18  # a step whose quotients stay within float32, as it stays within its inverse


class Requantization:
    """Divides known factors by the scale of the quantisation that follows them."""

    name: ClassVar[str] = "requantization"

    def run(self, graph: Graph) -> bool:
        if not any(isinstance(n.op, QuantizeLinear | DequantizeLinear) for n in graph.nodes):
            return False
        work = Worklist(graph)
        for node in work:
            if not isinstance(node.op, QuantizeLinear | DequantizeLinear):
                continue
            x, scale, *zero = node.inputs
            with graph.inserting_before(node):
                if zero and zero[0].is_constant and not np.any(zero[0].data):
                    work.replace(node, (node.op(x, scale),))
                elif isinstance(node.op, QuantizeLinear) and _is_divided(node):
                    one = graph.constant(np.ones((), np.float32))
                    work.replace(node, (node.op(_divided(x, scale), one, *zero),))
        return work.changed


def _is_divided(node: Node) -> bool:
    """Whether a quantisation is to integers by a known, positive step that x can be made of."""
    x, scale = node.inputs[:2]
    if node.output.dtype.category == FLOAT or x.dtype is not float32 or scale.ndim:
        return False
    return scale.is_constant and _LEAST < scale.data < 1 / _LEAST and scale.data != 1 and _takes(x)


def _takes(v: Value) -> bool:
    """Whether integers are scaled, added or limited by 0 to make a value that no other reads."""
    node = v.node
    if node is None:
        return False
    if isinstance(node.op, DequantizeLinear):
        return not node.op.block and _is_known(node.inputs[1])
    if len(v.uses) != 1 or v in v.graph.outputs:
        return False
    if isinstance(node.op, Mul):
        total, scale = node.inputs
        made = total.node
        sums = made is not None and isinstance(made.op, Cast) and made.inputs[0].dtype is int32
        return sums and _is_known(scale)
    if isinstance(node.op, Add):
        return any(map(_takes, node.inputs)) and all(_takes(x) or _is_known(x) for x in node.inputs)
    return isinstance(node.op, Relu) and _takes(node.inputs[0])


def _divided(v: Value, step: Value) -> Value:
    """V / step, of a value that is known or that `_takes` takes."""
    node = v.node
    if node is None or _is_known(v):
        return v / step
    if isinstance(node.op, DequantizeLinear):
        data, scale, *zero = node.inputs
        return node.op(data, scale / step, *zero)  # type: ignore[no-any-return]
    if isinstance(node.op, Mul):
        return node.inputs[0] * (node.inputs[1] / step)
    return node.op(*(_divided(x, step) for x in node.inputs))  # type: ignore[no-any-return]


def _is_known(v: Value) -> bool:
    """Whether a value is made of nothing but constants."""
    if v.node is None:
        return v.is_constant
    return all(map(_is_known, v.node.inputs))
