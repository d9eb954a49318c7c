"""Random draws in other ops: what a graph in which nothing draws, such as ONNX's, can hold.

Philox4x32-10 multiplies 32-bit words; here they stand in int64, and every product is taken in two
halves, so that nothing is ever negative or wraps around. The bits are those of `..kernels.random`.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from ..dims import DimLike, Shape, product
from ..dtypes import DType, float32, float64, int64
from ..errors import OnnxError
from . import f
from .base import REGISTRY, Array

if TYPE_CHECKING:
    from ..graph import Graph, Value

_M = np.array([[0xD2511F53], [0xCD9E8D57]], np.int64)
_W = np.array([[0x9E3779B9], [0xBB67AE85]], np.int64)
_ROUNDS = 10
_WORD = 2**32


def _op(name: str, *attributes: Any) -> Any:
    return REGISTRY[name](*attributes)


def _constant(graph: Graph, value: Any) -> Array:
    return graph.constant(np.asarray(value, np.int64))


def _div(x: Value, by: int) -> Array:
    """`x`, which is not negative, divided by `by`."""
    return _op("trunc_div")(x, f.like(x, by))


def _mod(x: Value, by: int) -> Array:
    return _op("remainder")(x, f.like(x, by))


def _halves(x: Value) -> tuple[Array, Array]:
    """The upper and the lower 32 bits of a 64-bit number."""
    x = f.cast(x, int64)
    low = _mod(x, _WORD)
    return _mod(_op("floor_div")(x, f.like(x, _WORD)), _WORD), low


def _products(a: Value, b: Any) -> tuple[Array, Array]:
    """The upper and the lower word of the product of two words."""
    if isinstance(b, int):
        b = f.like(a, b)
    high, low = _div(a, 2**16) * b, _mod(a, 2**16) * b
    upper = _div(high + _div(low, 2**16), 2**16)
    return upper, _mod(_mod(high, 2**16) * f.like(a, 2**16) + low, _WORD)


def words(seed: Value, offset: Value, n: DimLike) -> Array:
    """Words 0..n-1 of the stream of `seed` at `offset`, both 0-d uint64: int64 [n]."""
    graph = seed.graph
    if n == 0:
        return _constant(graph, [])
    blocks = -(-n // 4)
    (key1, key0), (high, low) = _halves(seed), _halves(offset)
    place = graph.call(_op("arange", 0, blocks, 1, int64), ()) + low
    c1 = high + _div(place, _WORD)
    even = f.stack([_mod(place, _WORD), _div(c1, _WORD)], 0)
    odd = f.stack([_mod(c1, _WORD), f.zeros(c1, (blocks,))], 0)
    steps = _constant(graph, np.arange(_ROUNDS)[:, None, None] * _W)
    keys = _mod(f.reshape(f.stack([key0, key1], 0), (1, 2, 1)) + steps, _WORD)
    rounds = _op("scan", _round(type(graph)("philox"), blocks), 2, 1, _ROUNDS)
    even, odd = rounds(even, odd, keys)
    lanes = [f.select(x, 0, i) for i in (0, 1) for x in (even, odd)]
    return f.slice_axis(f.reshape(f.stack(lanes, 1), (blocks * 4,)), 0, 0, n)


def _round(body: Graph, blocks: DimLike) -> Graph:
    """One round on [c0, c2] and [c1, c3], given the two keys."""
    from ..types import TensorType

    even, odd = (body.add_input(TensorType(int64, (2, blocks)), v) for v in ("even", "odd"))
    key = body.add_input(TensorType(int64, (2, 1)), "key")
    upper, lower = _products(even, _constant(body, _M))
    xor = _op("bitwise_xor")
    mixed = xor(xor(f.flip(upper, (0,)), odd), key)
    body.set_outputs([mixed, f.flip(lower, (0,))], ["even", "odd"])
    return body


def _pairs(seed: Value, offset: Value, n: DimLike) -> tuple[Array, Array]:
    """The upper and the lower halves of n 64-bit numbers."""
    both = f.reshape(words(seed, offset, 2 * n), (n, 2))
    return f.select(both, 1, 0), f.select(both, 1, 1)


def uniform(seed: Value, offset: Value, shape: Shape, dtype: DType) -> Array:
    """Uniform numbers in [0, 1)."""
    n = product(shape)
    if dtype is float64:
        high, low = _pairs(seed, offset, n)
        u = f.cast(high * f.like(high, 2**21) + _div(low, 2**11), float64)
        return f.reshape(u * f.like(u, 2.0**-53), shape)
    bits = {"float32": 24, "float16": 11, "bfloat16": 8}[dtype.name]
    u = f.cast(_div(words(seed, offset, n), 2 ** (32 - bits)), float32)
    return f.reshape(f.cast(u * f.like(u, 2.0**-bits), dtype), shape)


def normal(seed: Value, offset: Value, shape: Shape, dtype: DType) -> Array:
    """Standard normal numbers."""
    if dtype.is_complex:
        raise OnnxError("random_normal: ONNX has no operator that makes complex numbers")
    n = product(shape)
    pairs = -(-n // 2)
    u = uniform(seed, offset, (pairs, 2), float64 if dtype is float64 else float32)
    radius = f.sqrt(f.log(f.like(u, 1) - f.select(u, 1, 0)) * f.like(u, -2))
    angle = f.select(u, 1, 1) * f.like(u, 2 * math.pi)
    both = f.stack([_op("cos")(angle) * radius, _op("sin")(angle) * radius], 1)
    flat = f.slice_axis(f.reshape(both, (pairs * 2,)), 0, 0, n)
    return f.reshape(f.cast(flat, dtype), shape)


def bernoulli(seed: Value, offset: Value, shape: Shape, p: float) -> Array:
    """Bools, true with probability `p`."""
    drawn = words(seed, offset, product(shape))
    return f.reshape(f.less(drawn, round(p * _WORD)), shape)


def integers(seed: Value, offset: Value, low: int, high: int, shape: Shape, dtype: DType) -> Array:
    """Integers in [low, high)."""
    span = high - low
    if span >= _WORD:
        raise OnnxError(
            f"random_int: ONNX divides no unsigned 64-bit numbers, which a range of {span} needs; "
            f"expected high - low below 2^32"
        )
    upper, lower = _pairs(seed, offset, product(shape))
    carry, _ = _products(lower, span)
    whole, rest = _products(upper, span)
    y = whole + _div(rest + carry, _WORD) + f.like(carry, low)
    return f.reshape(f.cast(y, dtype), shape)


def permutation(seed: Value, offset: Value, n: DimLike) -> Array:
    """0..n-1 in the order of n random 64-bit numbers whose last bits are their place."""
    if not isinstance(n, int):
        raise OnnxError(f"random_permutation of {n} has no ONNX form: the size must be known")
    upper, lower = _pairs(seed, offset, n)
    # Signed numbers that stand in the order of the unsigned ones.
    key = (upper - f.like(upper, 2**31)) * f.like(upper, _WORD) + lower
    place = key.graph.call(_op("arange", 0, n, 1, int64), ())
    key = key - _mod(key, 1 << max(n - 1, 0).bit_length()) + place
    return _op("sort", 0)(key)[1]
