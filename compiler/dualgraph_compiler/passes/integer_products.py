"""Products of dequantised numbers become products of the integers themselves.

``conv(dequantize(x, sx, zx), dequantize(w, sw, zw))`` is ``sx sw conv(x - zx, w - zw)``, of which
the convolution is exact in int32. So are matrix products and linear layers. The result is rounded
once where that of floats is rounded at every step; the two differ by that.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ..dims import Dim, product
from ..dtypes import float32, int8, uint8
from ..graph import Graph, Node, Value
from ..ops import f
from ..ops.conv import Conv
from ..ops.linalg import Linear, Matmul
from ..ops.movement import Permute
from ..ops.quantize import ConvInteger, DequantizeLinear, MatmulInteger
from .rewrite import Worklist

_MOST = 2**31 // (255 * 255)  # products of bytes that int32 is sure to hold the sum of


@dataclass(frozen=True, slots=True)
class Quantized:
    """The integers behind a dequantised value; scale and zero are 0-d or along `axis`."""

    data: Value
    scale: Value
    zero: Value
    axis: int

    def each(self, v: Value, axis: int) -> Value | None:
        """The scale or zero as it lies along `axis` of the integers; None where it lies along
        another one."""
        return v if v.ndim == 0 or self.axis == axis else None


@dataclass(frozen=True, slots=True)
class IntegerProducts:
    """Finds convolutions and products of a dequantised operand with a dequantised constant."""

    name: ClassVar[str] = "integer products"

    def run(self, graph: Graph) -> bool:
        if not any(isinstance(n.op, DequantizeLinear) for n in graph.nodes):
            return False
        work = Worklist(graph)
        for node in work:
            if not isinstance(node.op, Conv | Matmul | Linear):
                continue
            with graph.inserting_before(node):
                made = _integer(node)
            if made is not None:
                work.replace(node, (made,))
        return work.changed


def _integer(node: Node) -> Value | None:
    x, w = (_quantized(v) for v in node.inputs[:2])
    if x is None or w is None or x.scale.ndim or not w.data.is_constant:
        return None
    if isinstance(node.op, Conv):
        made = _conv(node.op, x, w)
    else:
        made = _matmul(x, w, 0 if isinstance(node.op, Linear) else 1)
    if made is None or len(node.inputs) < 3:
        return made
    bias = node.inputs[2]
    if isinstance(node.op, Conv):
        bias = f.reshape(bias, (*bias.shape, *(1,) * (made.ndim - 2)))
    return made + bias


def _quantized(v: Value) -> Quantized | None:
    """The integers that a float32 value was made of, seen through a change of axes."""
    node = v.node
    if node is None or v.dtype is not float32:
        return None
    if isinstance(node.op, Permute):
        inner = _quantized(node.inputs[0])
        if inner is None:
            return None
        axis = node.op.axes.index(inner.axis) if inner.scale.ndim else 0
        axes, data = node.op.axes, inner.data
        known = data.is_constant  # and stays so
        data = v.graph.constant(data.data.transpose(axes)) if known else f.permute(data, axes)
        return Quantized(data, inner.scale, inner.zero, axis)
    if not isinstance(node.op, DequantizeLinear) or node.op.block:
        return None
    data, scale, *zero = node.inputs
    if data.dtype not in (int8, uint8) or scale.dtype is not float32:
        return None
    if not zero:
        zero = [v.graph.constant(np.zeros((), data.dtype.np))]
    return Quantized(data, scale, zero[0], node.op.axis % data.ndim if data.ndim else 0)


def _conv(op: Conv, x: Quantized, w: Quantized) -> Value | None:
    scale, zero = w.each(w.scale, 0), w.each(w.zero, 0)
    if scale is None or zero is None or _is_deep(product(w.data.shape[1:])):
        return None
    total = ConvInteger(*op.geometry())(x.data, w.data, x.zero, zero)
    scale = x.scale * scale
    if scale.ndim:
        scale = f.reshape(scale, (*scale.shape, *(1,) * (total.ndim - 2)))
    return f.cast(total, float32) * scale  # type: ignore[no-any-return]


def _matmul(x: Quantized, w: Quantized, columns: int) -> Value | None:
    """X w, where `columns` is the axis of w that its columns lie along: 0 of a layer's weight."""
    if x.data.ndim < 2 or w.data.ndim != 2 or _is_deep(x.data.shape[-1]):
        return None
    scale, zero = w.each(w.scale, columns), w.each(w.zero, columns)
    if scale is None or zero is None:
        return None
    weight = w.data if columns == 1 else f.transpose(w.data)
    total = MatmulInteger()(x.data, weight, x.zero, zero)
    return f.cast(total, float32) * (x.scale * scale)  # type: ignore[no-any-return]


def _is_deep(size: int | Dim) -> bool:
    """Whether a sum of so many products may be too large for int32."""
    return not isinstance(size, int) or size > _MOST
