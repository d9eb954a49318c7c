"""Integer products: bytes widened to int16, two of which make a word of 32 bits.

Machines multiply the two int16 of a word with those of another and add both products to an int32,
lane by lane. So a product of quantised numbers is one of words, with half the depth, by the
routines of float32. The zero points are subtracted as bytes are widened, which int16 holds exactly:
nothing saturates, and nothing is left to be corrected.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from ..dims import DimLike, product
from ..dtypes import DType, float32, int16, int32
from ..graph import Node, Value
from ..ops import f
from ..ops.base import Array, Kind, Op, broadcast_shapes
from ..ops.bitwise import BitwiseAnd, BitwiseOr, ShiftLeft
from ..ops.conv import Conv
from ..ops.quantize import ConvInteger
from ..types import TensorType, is_static

_EXACT = 2**24 // (255 * 255)  # so many products add up exactly in float32


def words(x: Value, axis: int) -> Value:
    """int16 as words: pairs along an axis, the first in the low half, a zero behind the last."""
    axis %= x.ndim
    n = x.shape[axis]
    if x.is_constant:
        return x.graph.constant(packed(np, x.data, axis))
    assert isinstance(n, int)
    if n % 2:
        x = f.pad(x, [(0, int(i == axis)) for i in range(x.ndim)])
    wide = f.cast(x, int32)
    low = BitwiseAnd()(f.slice_axis(wide, axis, 0, n + n % 2, 2), f.like(wide, 0xFFFF))
    high = ShiftLeft()(f.slice_axis(wide, axis, 1, n + n % 2, 2), f.like(wide, 16))
    return BitwiseOr()(low, high)  # type: ignore[no-any-return]


def packed(xp: Any, x: Array, axis: int) -> Array:
    """`words` of an array."""
    pad = [(0, x.shape[axis] % 2 if i == axis else 0) for i in range(x.ndim)]
    pairs = xp.moveaxis(xp.pad(x, pad), axis, -1)
    return xp.ascontiguousarray(xp.moveaxis(xp.ascontiguousarray(pairs).view(np.int32), -1, axis))


def halves(xp: Any, x: Array, axis: int) -> Array:
    """The int16 that words are made of: what `packed` undoes."""
    last = xp.ascontiguousarray(xp.moveaxis(x, axis, -1)).view(np.int16)
    return xp.moveaxis(last, -1, axis)


@dataclass(frozen=True, slots=True, repr=False)
class WordMatmul(Op):
    """a b summed in int32: a int16 [.., m, 2k], b words of two of its rows each [.., k, n]."""

    name: ClassVar[str] = "word_matmul"
    kind: ClassVar[Kind] = Kind.CONTRACTION

    def infer(self, a: TensorType, b: TensorType) -> TensorType:
        batch = broadcast_shapes(self.name, a.shape[:-2], b.shape[:-2])
        return TensorType(int32, (*batch, a.shape[-2], b.shape[-1]))

    def flops(self, y: TensorType, *inputs: TensorType) -> DimLike:
        return y.size * inputs[0].shape[-1] * 2

    def eager(self, xp: Any, a: Array, b: Array) -> Array:
        b = halves(xp, b, b.ndim - 2)
        return xp.matmul(a.astype(np.float64), b.astype(np.float64)).astype(np.int32)


def integer_product(node: Node) -> Value | None:
    """An integer matrix product by one of words."""
    return _matmul(*node.inputs) if node.op.name == "matmul_integer" else None


def centred(x: Value, zero: Value) -> Value:
    """X - zero as int16."""
    if x.is_constant and zero.is_constant:
        data = x.data.astype(np.int16) - zero.data.astype(np.int16)
        return x.graph.constant(data)
    wide = f.cast(x, int16)
    return wide if _is_zero(zero) else wide - known_cast(zero, int16)  # type: ignore[no-any-return]


def known_cast(x: Value, dtype: DType) -> Value:
    """A value in another dtype; a constant stays one."""
    return x.graph.constant(x.data.astype(dtype.np)) if x.is_constant else f.cast(x, dtype)


def _is_zero(x: Value) -> bool:
    return x.is_constant and not np.any(x.data)


def _matmul(a: Value, b: Value, za: Value, zb: Value) -> Value:
    k = a.shape[-1]
    a, b = centred(a, za), centred(b, zb)
    if not isinstance(k, int) or k == 0:
        return f.matmul(f.cast(a, int32), f.cast(b, int32))  # type: ignore[no-any-return]
    if k % 2:
        a = f.pad(a, [(0, int(i == a.ndim - 1)) for i in range(a.ndim)])
    return WordMatmul()(a, words(b, b.ndim - 2))  # type: ignore[no-any-return]


def image_and_weight(op: ConvInteger, x: Value, w: Value, zx: Value, zw: Value) -> Any:
    """The centred operands of a convolution."""
    if zw.ndim:
        shape = (*zw.shape, *(1,) * (w.ndim - 1))
        known = zw.is_constant
        zw = zw.graph.constant(zw.data.reshape(shape)) if known else f.reshape(zw, shape)
    return centred(x, zx), centred(w, zw)


def plain_integer_conv(node: Node) -> Value | None:
    """What the layouts have left of integer convolutions."""
    if node.op.name != "conv_integer":
        return None
    op: Any = node.op
    x, w = image_and_weight(op, *node.inputs)
    made = in_float(op, x, w)
    if made is None:
        made = Conv(*op.geometry())(f.cast(x, int32), f.cast(w, int32))
    return made


def is_exact_in_float(w: Value) -> bool:
    """Whether float32 holds all sums of a convolution of bytes."""
    return is_static(w.shape) and product(w.shape[1:]) <= _EXACT


def in_float(op: Any, x: Value, w: Value) -> Value | None:
    """A convolution in float32, where its sums are exact; else None."""
    if not is_exact_in_float(w):
        return None
    y = Conv(*op.geometry())(f.cast(x, float32), known_cast(w, float32))
    return f.cast(y, int32)  # type: ignore[no-any-return]
