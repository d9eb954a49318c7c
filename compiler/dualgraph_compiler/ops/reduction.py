"""Reductions: ops that fold axes. Axes are non-negative and sorted; the front end normalises them."""

from __future__ import annotations

from typing import Any, ClassVar

from ..errors import DTypeError
from ..types import TensorType
from . import f
from .base import Array, Grad, Kind, Op, normalize_axes, op
from ..dtypes import BOOL


def reduced_shape(t: TensorType, axes: tuple[int, ...], keepdims: bool, name: str) -> TensorType:
    """`t` without `axes`, or with size 1 there."""
    axes = normalize_axes(name, axes, t.ndim)
    if keepdims:
        return t.with_shape(1 if i in axes else d for i, d in enumerate(t.shape))
    return t.with_shape(d for i, d in enumerate(t.shape) if i not in axes)


def restore(x: Array, axes: tuple[int, ...], keepdims: bool, ndim: int) -> Array:
    """A reduced `x` with its reduced axes back as size 1."""
    if keepdims or not axes:
        return x
    rest = iter(x.shape)
    return f.reshape(x, tuple(1 if i in axes else next(rest) for i in range(ndim)))


class Reduction(Op):
    """Folds `axes`; the dtype stays."""

    __slots__ = ()
    kind = Kind.REDUCTION
    axes: tuple[int, ...]
    keepdims: bool

    def infer(self, x: TensorType) -> TensorType:
        return reduced_shape(x, self.axes, self.keepdims, self.name)


@op
class Sum(Reduction):
    """Sum over `axes`.

    Shapes: x (d0..dn) -> x without `axes` (size 1 where `keepdims`); the dtype of x, which is not
    bool. Source: ONNX ReduceSum-13.
    """

    axes: tuple[int, ...]
    keepdims: bool = False

    def infer(self, x: TensorType) -> TensorType:
        if x.dtype.category == BOOL:
            raise DTypeError("sum: cast bool to an integer type first")
        return Reduction.infer(self, x)

    def eager(self, xp: Any, x: Array) -> Array:
        # dtype: NumPy would widen small integers to int64.
        return xp.add.reduce(x, axis=self.axes, dtype=x.dtype, keepdims=self.keepdims)

    def vjp(self, g: Array, _y: Array, _x: Array) -> tuple[Grad, ...]:
        return (f.expand(restore(g, self.axes, self.keepdims, _x.ndim), _x.shape),)
