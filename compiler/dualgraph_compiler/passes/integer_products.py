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
from ..dtypes import float32, int8, int32, uint8
from ..graph import Graph, Node, Value
from ..ops import f
from ..ops.conv import Conv
from ..ops.linalg import Linear, Matmul
from ..ops.movement import Permute
from ..ops.quantize import ConvInteger, DequantizeLinear, MatmulInteger
from .rewrite import Worklist

_BIAS = 2**30  # what is added to sums at most
_MOST = (2**31 - _BIAS) // (255 * 255)  # products that int32 is sure to hold the sum of with it


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
    if made is None:
        return None
    total, scale = made
    rank = total.ndim - 2 if isinstance(node.op, Conv) else 0
    bias = node.inputs[2] if len(node.inputs) > 2 else None
    whole = _whole_bias(bias, x.scale, scale) if bias is not None else None
    if whole is not None:
        total, bias = total + _each(whole, rank), None
    real = f.cast(total, float32) * _each(x.scale * scale, rank)
    return real if bias is None else real + _each(bias, rank)  # type: ignore[no-any-return]


def _each(v: Value, rank: int) -> Value:
    """A number for all, or one a channel as it broadcasts against images with `rank` axes."""
    return f.reshape(v, (*v.shape, *(1,) * rank)) if v.ndim and rank else v


def _whole_bias(bias: Value, x_scale: Value, w_scale: Value) -> Value | None:
    """The int32 that a bias was made of, if they count in the scale that sums have."""
    node = bias.node
    if node is None or not isinstance(node.op, DequantizeLinear) or node.op.block:
        return None
    data, scale, *zero = node.inputs
    if data.dtype is not int32 or not all(v.is_constant for v in (data, scale, x_scale, w_scale)):
        return None
    if zero and not (zero[0].is_constant and not np.any(zero[0].data)):
        return None
    same = np.allclose(scale.data, x_scale.data * w_scale.data, rtol=1e-6, atol=0)
    return data if same and np.abs(data.data.astype(np.int64)).max(initial=0) < _BIAS else None


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


def _conv(op: Conv, x: Quantized, w: Quantized) -> tuple[Value, Value] | None:
    """The sums of a convolution, and the scale of its weight."""
    scale, zero = w.each(w.scale, 0), w.each(w.zero, 0)
    if scale is None or zero is None or _is_deep(product(w.data.shape[1:])):
        return None
    return ConvInteger(*op.geometry())(x.data, w.data, x.zero, zero), scale


def _matmul(x: Quantized, w: Quantized, columns: int) -> tuple[Value, Value] | None:
    """The sums of x w, and the scale of w. `columns` is the axis of w that its columns lie along:
    0 of a layer's weight."""
    if x.data.ndim < 2 or w.data.ndim != 2 or _is_deep(x.data.shape[-1]):
        return None
    scale, zero = w.each(w.scale, columns), w.each(w.zero, columns)
    if scale is None or zero is None:
        return None
    weight = w.data if columns == 1 else f.transpose(w.data)
    return MatmulInteger()(x.data, weight, x.zero, zero), scale


def _is_deep(size: int | Dim) -> bool:
    """Whether a sum of so many products may be too large for int32."""
    return not isinstance(size, int) or size > _MOST
