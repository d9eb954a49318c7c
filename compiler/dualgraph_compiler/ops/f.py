"""The ops as functions, for gradient rules and decompositions.

Each function takes arrays, graph Values or Tensors (see ``Op.__call__``). Operands must share one
dtype; a Python number takes the dtype of the operand beside it. The user-facing functions, with
PyTorch's names and promotion, are ``dualgraph``'s and build on the same ops.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..dims import DimLike, Shape
from ..dtypes import DType, dtype_of

# Modules, not names: gradient rules of these modules call back into this one.
from . import movement as _mv
from . import pointwise as _pw
from . import reduction as _rd
from .base import Array


def like(x: Array, value: complex) -> Array:
    """`value` as an operand beside `x`: a 0-d constant of the same dtype, graph or device."""
    make = getattr(type(x), "__dualgraph_scalar__", None)
    return make(x, value) if make is not None else x.dtype.type(value)


def cast(x: Array, dtype: DType) -> Array:
    """`x` converted to `dtype`; `x` itself where it has it already."""
    return x if dtype_of(x) is dtype else _pw.Cast(dtype)(x)


def conj(x: Array) -> Array:
    """The complex conjugate; `x` itself where it is real."""
    return _pw.Conj()(x) if dtype_of(x).is_complex else x


def where(cond: Array, a: Array, b: Array) -> Array:
    """`a` where `cond` holds, else `b`; one of `a`, `b` may be a number."""
    if isinstance(a, int | float):
        a = like(b, a)
    elif isinstance(b, int | float):
        b = like(a, b)
    return _pw.Where()(cond, a, b)


def exp(x: Array) -> Array:
    """e**x."""
    return _pw.Exp()(x)


def sum(x: Array, axes: Sequence[int], keepdims: bool = False) -> Array:
    """Sum over `axes` (non-negative, sorted)."""
    return _rd.Sum(tuple(axes), keepdims)(x) if axes else x


def reshape(x: Array, shape: Sequence[DimLike]) -> Array:
    """`x` with another shape of as many elements; `x` itself where it has it."""
    return x if x.shape == tuple(shape) else _mv.Reshape(tuple(shape))(x)


def expand(x: Array, shape: Sequence[DimLike]) -> Array:
    """`x` broadcast to `shape`; `x` itself where it has it."""
    return x if x.shape == tuple(shape) else _mv.Expand(tuple(shape))(x)


def permute(x: Array, axes: Sequence[int]) -> Array:
    """Axes reordered."""
    return _mv.Permute(tuple(axes))(x)


def transpose(x: Array) -> Array:
    """The last two axes swapped."""
    n = x.ndim
    return _mv.Permute((*range(n - 2), n - 1, n - 2))(x)


def unbroadcast(g: Array, shape: Shape) -> Array:
    """`g` summed down to `shape`, undoing a broadcast from `shape` to ``g.shape``."""
    if g.shape == shape:
        return g
    lead = g.ndim - len(shape)
    axes = [*range(lead)]
    axes += [i + lead for i, d in enumerate(shape) if d == 1 and g.shape[i + lead] != 1]
    return reshape(sum(g, axes), shape)


def zeros_like(x: Array) -> Array:
    """Zeros of x's shape and dtype."""
    return expand(like(x, 0), x.shape)


def is_array(x: Any) -> bool:
    """Whether `x` is a concrete NumPy array or scalar (as opposed to a Value, Tensor or CuPy)."""
    return isinstance(x, np.ndarray | np.generic)
