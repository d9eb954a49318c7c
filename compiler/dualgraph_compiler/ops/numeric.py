"""Arithmetic of whole numbers, and of the parts that floating-point numbers are made of."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from ..dtypes import BOOL, FLOAT, INT, dtype_of, int32
from ..errors import DTypeError
from ..kernels import running
from ..kernels.arrays import narrow, widen
from ..types import TensorType
from . import f
from .base import Array, Grad, Op, normalize_axes, op
from .pointwise import Pointwise, RealPointwise
from .unary import Exp2


@op
class Gcd(Pointwise):
    """The greatest common divisor, not negative; gcd(0, 0) is 0. Source: torch.gcd."""

    categories = (INT,)
    is_costly = True
    ufunc = "gcd"

    def eager(self, xp: Any, a: Array, b: Array) -> Array:
        return xp.gcd(a, b)


@op
class Lcm(Pointwise):
    """The least common multiple, not negative; 0 where one is 0. Source: torch.lcm."""

    categories = (INT,)
    is_costly = True
    ufunc = "lcm"

    def eager(self, xp: Any, a: Array, b: Array) -> Array:
        return xp.lcm(a, b)


@op
class Nextafter(RealPointwise):
    """The number after `a` towards `b`; `b` where they are equal. The gradient of `b` is 0.

    Source: torch.nextafter.
    """

    ufunc = "nextafter"

    def eager(self, xp: Any, a: Array, b: Array) -> Array:
        return xp.nextafter(a, b)

    def vjp(self, g: Array, _y: Array, a: Array, b: Array) -> tuple[Grad, ...]:
        return (
            lambda: f.unbroadcast(f.where(f.equal(a, b), 0, g), a.shape),
            lambda: f.zeros(g, b.shape),
        )


@op
class Frexp(Op):
    """The mantissa, of a magnitude in [1/2, 1), and exponent of x = mantissa 2**exponent.

    Exponent 0 for 0, infinities and NaN. Shapes: x -> x's type, and int32 of its shape. Source:
    torch.frexp.
    """

    n_outputs: ClassVar[int] = 2

    def infer(self, x: TensorType) -> tuple[TensorType, ...]:
        if x.dtype.category != FLOAT or x.dtype.is_narrow:
            raise DTypeError(f"frexp: expected a floating-point operand, got {x.dtype.name}")
        return x, x.with_dtype(int32)

    def eager(self, xp: Any, x: Array) -> tuple[Array, Array]:
        mantissa, exponent = xp.frexp(widen(x))
        finite = xp.abs(mantissa) < 1
        exponent = xp.where(finite, exponent, 0).astype(np.int32)
        return narrow(xp.asarray(mantissa), x.dtype), xp.asarray(exponent)

    def vjp(self, g: Any, y: Any, _x: Array) -> tuple[Grad, ...]:
        if g[0] is None:
            return (None,)
        return (lambda: g[0] * Exp2()(f.cast(-y[1], dtype_of(_x))),)


@op
class XorReduce(Op):
    """The bits set in an odd number of elements over `axes`; 0 for none. Integers and bools."""

    axes: tuple[int, ...]
    keepdims: bool = False

    def infer(self, x: TensorType) -> TensorType:
        normalize_axes("xor_reduce", self.axes, x.ndim)
        if x.dtype.category not in (BOOL, INT) or x.dtype.is_narrow:
            raise DTypeError(f"xor_reduce: expected an integer operand, got {x.dtype.name}")
        if self.keepdims:
            kept = tuple(1 if i in self.axes else d for i, d in enumerate(x.shape))
        else:
            kept = tuple(d for i, d in enumerate(x.shape) if i not in self.axes)
        return x.with_shape(kept)

    def eager(self, xp: Any, x: Array) -> Array:
        return running.xor(xp, x, self.axes, self.keepdims)
