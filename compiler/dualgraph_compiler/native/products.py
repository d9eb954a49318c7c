"""Matrix products and convolutions of other dtypes than float32, as sums of products.

Integers wrap; half precision is summed in float32 and rounded once. Large products of float64 are
left to the interpreter, whose BLAS is blocked for caches.
"""

from __future__ import annotations

from typing import Any

from ..dims import Dim, product
from ..dtypes import float32, float64
from ..graph import Node, Value
from ..ops import f
from .scalars import NARROW
from .windows import Windows

_LARGE = 1 << 21  # multiplications of float64


def sum_of_products(node: Node) -> Value | None:
    """The result of a product as a sum; None where it is none, or has a routine of its own."""
    op: Any = node.op
    rule = {"matmul": _matmul, "conv": _conv, "conv_weight_grad": _weight_gradient}.get(op.name)
    if rule is None:
        return None
    dtype = node.inputs[0].dtype
    if dtype is float32 or dtype.is_complex:
        return None
    if op.name == "conv_weight_grad" and dtype is float64:
        return None  # which has a routine
    if dtype in NARROW:
        made = rule(op, *(f.cast(v, float32) for v in node.inputs))
        return None if made is None else f.cast(made, dtype)
    return rule(op, *node.inputs)


def _summed(a: Value, b: Value, axes: tuple[int, ...]) -> Value | None:
    terms = a * b
    size = product(terms.shape)
    if a.dtype is float64 and (isinstance(size, Dim) or size > _LARGE):
        return None
    return f.sum(terms, axes)  # type: ignore[no-any-return]


def _matmul(op: Any, a: Value, b: Value) -> Value | None:
    """[.., m, k, 1] times [.., 1, k, n], summed over k."""
    a = f.reshape(a, (*a.shape, 1))
    b = f.reshape(b, (*b.shape[:-2], 1, *b.shape[-2:]))
    return _summed(a, b, (max(a.ndim, b.ndim) - 2,))


def _windows(op: Any, x: Value, kernel: Any, places: Any) -> Value:
    """The windows of an image by groups: [N, G, C, *K, *P]."""
    before = tuple(lo for lo, _ in op.padding)
    found = Windows(places, tuple(kernel), op.stride, op.dilation, before, 0)(x)
    rank = len(kernel)
    order = (0, 1, *range(2 + rank, 2 + 2 * rank), *range(2, 2 + rank))
    n, c = x.shape[:2]
    return f.reshape(  # type: ignore[no-any-return]
        f.permute(found, order), (n, op.groups, c // op.groups, *kernel, *places)
    )


def _conv(op: Any, x: Value, w: Value) -> Value | None:
    """Windows [N, G, 1, C, *K, *P] times weights [G, O, C, *K, 1..], summed over C and K."""
    rows, channels, *kernel = w.shape
    if any(isinstance(k, Dim) for k in kernel):
        return None
    rank = len(kernel)
    places = op.output(tuple(x.shape[2:]), tuple(kernel))
    windows = _windows(op, x, kernel, places)
    windows = f.reshape(windows, (*windows.shape[:2], 1, *windows.shape[2:]))
    weight = f.reshape(w, (op.groups, rows // op.groups, channels, *kernel, *(1,) * rank))
    y = _summed(windows, weight, tuple(range(3, 4 + rank)))
    return None if y is None else f.reshape(y, (x.shape[0], rows, *places))


def _weight_gradient(op: Any, g: Value, x: Value) -> Value | None:
    """Windows [N, G, 1, C, *K, *P] times g [N, G, O, 1, 1.., *P], summed over N and P."""
    n, rows, *places = g.shape
    rank = len(places)
    windows = _windows(op, x, op.kernel, tuple(places))
    windows = f.reshape(windows, (*windows.shape[:2], 1, *windows.shape[2:]))
    g = f.reshape(g, (n, op.groups, rows // op.groups, 1, *(1,) * rank, *places))
    y = _summed(windows, g, (0, *range(4 + rank, 4 + 2 * rank)))
    return None if y is None else f.reshape(y, (rows, x.shape[1] // op.groups, *op.kernel))
