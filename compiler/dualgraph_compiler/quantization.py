"""Post-training quantisation to 8 bits: which layers, with which numbers, as a graph.

A layer is quantised by quantising what it reads and dequantising that again: the graph stays one of
ordinary operators, and whoever runs it may see integer products in it (`passes.integer_products`).
Weights become int8, symmetric, with a scale for each output channel; activations uint8 with a zero
point, over the range that was measured (static), or over that of each run (dynamic); biases int32.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from .dims import Dim, product
from .dtypes import float32, uint8
from .graph import Graph, Node, Value, prune
from .ops.conv import Conv
from .ops.linalg import Linear, Matmul
from .ops.quantize import DequantizeLinear, DynamicQuantizeLinear, QuantizeLinear

Array = np.ndarray[Any, Any]
Range = tuple[float, float]

_FEWEST = 1 << 10  # multiplications for each element that is quantised on the way in: 2^10 weights
_MOST = 2**31 // (255 * 255)  # products that int32 is sure to hold the sum of


@dataclass(frozen=True, slots=True)
class Layer:
    """A product with a constant weight: `axis` of the weight counts its output channels.

    `refused` says why it stays in float32; empty where it can be quantised.
    """

    node: Node
    name: str
    axis: int
    refused: str = ""

    @property
    def x(self) -> Value:
        """What the layer reads."""
        return self.node.inputs[0]

    @property
    def weight(self) -> Array:
        """Its weight, float32."""
        data: Array = np.asarray(self.node.inputs[1].data)
        return data


def layers(graph: Graph) -> list[Layer]:
    """The convolutions, linear layers and matrix products of a graph, in order."""
    found: list[Layer] = []
    for node in graph.nodes:
        if isinstance(node.op, Conv | Linear | Matmul):
            axis = 1 if isinstance(node.op, Matmul) else 0
            name = node.output.name or f"{node.op.name} {len(found)}"
            found.append(Layer(node, name, axis, _refused(node)))
    return found


def _refused(node: Node) -> str:
    x, w = node.inputs[:2]
    if x.dtype is not float32:
        return f"its numbers are {x.dtype.name}"
    if not w.is_constant:
        return "its weight is no constant"
    if isinstance(node.op, Matmul) and w.ndim != 2:
        return "its weight is a batch of matrices"
    if isinstance(node.op, Conv) and 1 < node.op.groups == x.shape[1]:
        return "slower: a depthwise convolution reads more than it multiplies"
    depth = product(w.shape[1:]) if not isinstance(node.op, Matmul) else w.shape[0]
    if isinstance(depth, Dim) or depth > _MOST:
        return "a sum of so many products may be too large for int32"
    if w.size < _FEWEST:
        return "slower: so small that quantising what it reads takes longer than its products"
    return ""


def quantized_weight(weight: Array, axis: int) -> tuple[Array, Array]:
    """A weight as int8, and the scale of each of its channels along `axis`."""
    others = tuple(i for i in range(weight.ndim) if i != axis)
    top = np.abs(weight).max(others) if weight.size else np.zeros(weight.shape[axis])
    scale = np.where(top > 0, top / 127, 1.0).astype(np.float32)
    shape = [-1 if i == axis else 1 for i in range(weight.ndim)]
    steps = np.rint(weight / scale.reshape(shape))
    return np.clip(steps, -127, 127).astype(np.int8), scale


def activation(low: float, high: float) -> tuple[np.float32, np.uint8]:
    """Scale and zero point of uint8 over a range, which is widened to hold 0."""
    low, high = min(low, 0.0), max(high, 0.0)
    scale = np.float32((high - low) / 255 or 1.0)
    return scale, np.uint8(np.clip(np.rint(-low / scale), 0, 255))


def quantize_graph(graph: Graph, chosen: Mapping[str, Range | None]) -> Graph:
    """A copy of `graph` in which the layers named in `chosen` multiply dequantised numbers.

    Args:
        graph: with constant weights; it stays as it is.
        chosen: for each layer, by name (see :func:`layers`), the range of what it reads, or None
            to find it anew in each run.
    """
    out = graph.copy()
    made: dict[Value, tuple[Value, Value]] = {}
    for layer in layers(out):
        if layer.name not in chosen or layer.refused:
            continue
        with out.inserting_before(layer.node):
            _quantize(out, layer, chosen[layer.name], made)
    prune(out)
    return out


def _quantize(
    graph: Graph, layer: Layer, bounds: Range | None, made: dict[Value, tuple[Value, Value]]
) -> None:
    """Replace a layer by the same of dequantised numbers; `made`: those there are, and scales."""
    if layer.x not in made:
        made[layer.x] = _dequantized(graph, layer.x, bounds)
    x, scale = made[layer.x]
    data, scales = quantized_weight(layer.weight, layer.axis)
    w = DequantizeLinear(float32, layer.axis)(graph.constant(data), graph.constant(scales))
    operands = [x, w]
    if len(layer.node.inputs) > 2:
        operands.append(_bias(graph, layer.node.inputs[2], scale, scales))
    (y,) = graph.add_node(layer.node.op, operands).outputs
    old = layer.node.output
    y.name, old.name = old.name, ""
    graph.replace_uses(old, y)
    graph.erase(layer.node)


def _dequantized(graph: Graph, x: Value, bounds: Range | None) -> tuple[Value, Value]:
    if bounds is None:
        q, scale, zero = DynamicQuantizeLinear()(x)
    else:
        size, offset = activation(*bounds)
        scale, zero = graph.constant(size), graph.constant(offset)
        q = QuantizeLinear(uint8)(x, scale, zero)
    return DequantizeLinear(float32)(q, scale, zero), scale


def _bias(graph: Graph, bias: Value, scale: Value, scales: Array) -> Value:
    """A bias in steps of the products that it is added to, where those are known."""
    if not (bias.is_constant and scale.is_constant):
        return bias
    each = (np.asarray(scale.data) * scales).astype(np.float32)
    steps = np.rint(bias.data.astype(np.float64) / each)
    if np.abs(steps).max(initial=0) >= 2**31:
        return bias
    data = graph.constant(steps.astype(np.int32))
    return DequantizeLinear(float32, 0)(data, graph.constant(each))  # type: ignore[no-any-return]
