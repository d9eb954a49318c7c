"""What has been met so far along an axis, besides sums and products (see :mod:`.cumulative`)."""

from __future__ import annotations

import math
from typing import Any

from ..dtypes import int64
from ..errors import DTypeError
from ..kernels import running as kernels
from ..types import TensorType
from . import f
from .base import Array, Grad, Op, normalize_axis, op
from .cumulative import LinearScan, shift


class _RunningPosition(Op):
    """The int64 index of the extreme element up to each one along `axis`."""

    __slots__ = ()
    axis: int

    def infer(self, x: TensorType) -> TensorType:
        normalize_axis(self.name, self.axis, x.ndim)
        if x.dtype.is_complex or x.dtype.is_narrow:
            raise DTypeError(f"{self.name}: {x.dtype.name} numbers have no order")
        return x.with_dtype(int64)


@op
class RunningArgMax(_RunningPosition):
    """Where the largest element up to each one along `axis` is; the last of equal ones or NaN.

    Shapes: x -> int64 of x's shape. Source: torch.cummax.
    """

    axis: int

    def eager(self, xp: Any, x: Array) -> Array:
        return kernels.argmax(xp, x, self.axis)


@op
class RunningArgMin(_RunningPosition):
    """Where the smallest element up to each one along `axis` is; the last of equal ones or NaN.

    Shapes: x -> int64 of x's shape. Source: torch.cummin.
    """

    axis: int

    def eager(self, xp: Any, x: Array) -> Array:
        return kernels.argmax(xp, x, self.axis, smallest=True)


@op
class LogCumsumExp(Op):
    """log of the running sums of exp(x) along `axis`; x's shape and dtype.

    Source: torch.logcumsumexp.
    """

    axis: int

    def infer(self, x: TensorType) -> TensorType:
        normalize_axis("log_cumsum_exp", self.axis, x.ndim)
        if not x.dtype.is_differentiable:
            raise DTypeError(
                f"log_cumsum_exp: expected a floating-point operand, got {x.dtype.name}"
            )
        return x

    def eager(self, xp: Any, x: Array) -> Array:
        return kernels.logcumsumexp(xp, x, self.axis)

    def vjp(self, g: Array, y: Array, x: Array) -> tuple[Grad, ...]:
        if len(x.shape) == 0:
            return (g,)
        # dL/dx_k = exp(x_k - y_k) s_k with s_k = g_k + exp(y_k - y_{k+1}) s_{k+1}: no factor is
        # above 1.
        x, y = f.conj(x), f.conj(y)
        kept = _ratio(y, shift(y, self.axis, -1, 0))
        later = LinearScan(self.axis, True)(kept, g)
        return (_ratio(x, y) * later,)


def _ratio(a: Array, b: Array) -> Array:
    """exp(a - b), and 0 where a is minus infinity."""
    nothing = f.equal(f.real(a), -math.inf)
    gap = f.where(nothing, 0, a - b)
    return f.where(nothing, 0, f.exp(f.where(f.equal(a, b), 0, gap)))
