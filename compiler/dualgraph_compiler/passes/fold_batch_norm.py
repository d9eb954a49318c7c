"""Folds per-channel affine maps into the weights of the linear op before them.

``batch_norm(conv(x, w, b))`` with constant statistics is ``conv(x, w', b')``::

    s  = weight / sqrt(var + eps)
    w' = w * s   (along the output channels)
    b' = (b - mean) * s + bias

and so is a multiplication by, or addition of, a constant with one value per channel. The new
weights are computed in float64 and rounded once. Results differ by rounding.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from ..graph import Graph, Node, Value
from ..ops.batch_norm import BatchNorm
from ..ops.conv import Conv
from ..ops.conv_transpose import ConvTranspose
from ..ops.linalg import Linear
from ..ops.pointwise import Add, Div, Mul, Sub
from .rewrite import Worklist

Vector = np.ndarray[Any, np.dtype[np.float64]]


@dataclass(frozen=True, slots=True)
class Affine:
    """y[:, c] = x[:, c] * scale[c] + shift[c]"""

    x: Value
    scale: Vector
    shift: Vector


@dataclass(frozen=True, slots=True)
class FoldBatchNorm:
    """Folds batch norm and other per-channel constants into Conv, ConvTranspose and Linear.

    Only where nothing else reads the linear op's result and its weights are constant (see
    ``Graph.freeze``).
    """

    name: ClassVar[str] = "fold batch norm"

    def run(self, graph: Graph) -> bool:
        work = Worklist(graph)
        kept = set(graph.outputs)
        for node in work:
            affine = _affine(node)
            if affine is None or affine.x in kept or len(affine.x.uses) != 1:
                continue
            with graph.inserting_before(node):
                new = _fold(graph, affine)
            if new is not None:
                work.replace(node, [new])
        return work.changed


def _affine(node: Node) -> Affine | None:
    """The node as a per-channel map of one operand, if it is one with constants."""
    op, inputs = node.op, node.inputs
    if isinstance(op, BatchNorm):
        if not all(_is_known(v) for v in inputs[1:]):
            return None
        *affine, mean, var = (_float64(v) for v in inputs[1:])
        weight, bias = affine or (np.ones_like(mean), np.zeros_like(mean))
        scale = weight / np.sqrt(var + op.eps)
        return Affine(inputs[0], scale, bias - mean * scale)
    if not isinstance(op, Add | Sub | Mul | Div) or not node.output.dtype.is_floating_point:
        return None
    a, b = inputs
    if isinstance(op, Add | Mul) and _is_known(a):
        a, b = b, a
    # The constant must not broadcast the other operand.
    if not _is_known(b) or a.shape != node.output.shape:
        return None
    c = _per_channel(b, a)
    if c is None:
        return None
    one, zero = np.ones_like(c), np.zeros_like(c)
    match op:
        case Add():
            return Affine(a, one, c)
        case Sub():
            return Affine(a, one, -c)
        case Mul():
            return Affine(a, c, zero)
    return Affine(a, 1 / c, zero) if c.all() else None


def _per_channel(constant: Value, x: Value) -> Vector | None:
    """The constant as one value per channel (axis 1) of `x`; None if it varies along others."""
    channels = x.shape[1] if x.ndim >= 2 else None
    if not isinstance(channels, int) or constant.ndim > x.ndim:
        return None
    shape = (1,) * (x.ndim - constant.ndim) + constant.shape
    if any(d != 1 for axis, d in enumerate(shape) if axis != 1):
        return None
    return np.broadcast_to(_float64(constant).reshape(-1), (channels,))


def _fold(graph: Graph, affine: Affine) -> Value | None:
    """The linear op before `affine` with the map in its weights; None if there is none."""
    node = affine.x.node
    if node is None or not isinstance(node.op, Conv | ConvTranspose | Linear):
        return None
    x, weight, *bias = node.inputs
    if not all(_is_known(v) for v in (weight, *bias)):
        return None
    if isinstance(node.op, Linear) and affine.x.ndim != 2:
        return None  # its channels are the last axis, and the map's are axis 1
    old_w = _host(weight)
    old_b = _float64(bias[0]) if bias else np.zeros_like(affine.shift)
    if isinstance(node.op, ConvTranspose):
        # [C_in, C_out / groups, *kernel]: group g of the inputs makes block g of the channels.
        groups = node.op.groups
        grouped = old_w.reshape(groups, -1, *old_w.shape[1:])
        factor = affine.scale.reshape(groups, 1, -1, *(1,) * (old_w.ndim - 2))
    else:
        grouped, factor = old_w, affine.scale.reshape(-1, *(1,) * (old_w.ndim - 1))
    new_b = old_b * affine.scale + affine.shift
    if bias:
        name = bias[0].name
    else:
        name = weight.name.replace("weight", "bias") if "weight" in weight.name else ""
    if not (affine.scale == 1).all():
        new_w = np.empty_like(grouped)
        # Multiplied as float64, piece by piece: such copies of all weights would take far longer.
        np.multiply(grouped, factor, out=new_w, dtype=np.float64, casting="unsafe")
        weight = _constant(graph, new_w.reshape(old_w.shape), weight, weight.name)
    bias = [_constant(graph, new_b, weight, name)]
    return node.op(x, weight, *bias)  # type: ignore[no-any-return]


def _constant(graph: Graph, data: Vector, like: Value, name: str) -> Value:
    return graph.constant(data.astype(like.dtype.np, copy=False), f"{name}_folded" if name else "")


def _is_known(value: Value) -> bool:
    return value.is_constant and value.data is not None


def _host(value: Value) -> Any:
    data = value.data
    return np.asarray(data.get() if hasattr(data, "get") else data)  # CuPy's lie on the device


def _float64(value: Value) -> Vector:
    return _host(value).astype(np.float64)  # type: ignore[no-any-return]
