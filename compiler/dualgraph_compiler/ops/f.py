"""The ops as functions, for gradient rules and decompositions.

Each function takes arrays, graph Values or Tensors (see ``Op.__call__``). Operands must share one
dtype; a Python number takes the dtype of the operand beside it. The user-facing functions, with
PyTorch's names and promotion, are ``dualgraph``'s and build on the same ops.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..dims import DimLike, Shape, product
from ..dtypes import DType, dtype_of
from ..kernels.broadcast import broadcast_to

# Modules, not names: gradient rules of these modules call back into this one.
from . import activation as _ac
from . import comparison as _cmp
from . import composite as _co
from . import convert as _cv
from . import extremum as _ex
from . import linalg as _la
from . import movement as _mv
from . import padding as _pd
from . import rearrange as _re
from . import reduction as _rd
from . import slicing as _sl
from . import trigonometry as _tg
from . import unary as _un
from .base import Array, array_module

_SMALL = 1024  # elements
_ndarray = np.ndarray
_empty = np.empty

_NUMBERS = (int, float)


def like(x: Array, value: complex) -> Array:
    """`value` as an operand beside `x`: a 0-d constant of the same dtype, graph or device."""
    make = getattr(type(x), "__dualgraph_scalar__", None)
    return make(x, value) if make is not None else x.dtype.type(value)


def cast(x: Array, dtype: DType) -> Array:
    """`x` converted to `dtype`; `x` itself where it has it already."""
    return x if dtype_of(x) is dtype else _cv.Cast(dtype)(x)


def conj(x: Array) -> Array:
    """The complex conjugate; `x` itself where it is real."""
    if type(x) is _ndarray:  # the tape's hot path
        return np.conj(x) if x.dtype.kind == "c" else x
    return _cv.Conj()(x) if dtype_of(x).is_complex else x


def factor_grad(g: Array, other: Array, shape: Shape) -> Array:
    """The gradient of one factor of a product with the `other`, in the factor's `shape`."""
    if type(other) is _ndarray and other.dtype.kind != "c":  # the tape's hot path
        found = g * other
    else:
        found = g * conj(other)
    return found if found.shape == shape else unbroadcast(found, shape)


def where(cond: Array, a: Array, b: Array) -> Array:
    """`a` where `cond` holds, else `b`; one of `a`, `b` may be a number."""
    if type(a) in _NUMBERS:  # and not isinstance: NumPy's float64 is a float
        a = like(b, a)
    elif type(b) in _NUMBERS:
        b = like(a, b)
    return _cmp.Where()(cond, a, b)


def exp(x: Array) -> Array:
    """e**x."""
    return _un.Exp()(x)


def log(x: Array) -> Array:
    """The natural logarithm."""
    return _un.Log()(x)


def sqrt(x: Array) -> Array:
    """The square root."""
    return _un.Sqrt()(x)


def tanh(x: Array) -> Array:
    """The hyperbolic tangent."""
    return _tg.Tanh()(x)


def sigmoid(x: Array) -> Array:
    """1 / (1 + e**-x)."""
    return _ac.Sigmoid()(x)


def abs(x: Array) -> Array:
    """|x|."""
    return _ex.Abs()(x)


def softplus(x: Array) -> Array:
    """log(1 + e**x)."""
    return _ac.Softplus()(x)


def erf(x: Array) -> Array:
    """The error function."""
    return _un.Erf()(x)


def clip(x: Array, low: float | None, high: float | None) -> Array:
    """`x` limited to [low, high]."""
    return _ex.Clip(low, high)(x)


def softmax(x: Array, axis: int) -> Array:
    """exp(x) / sum(exp(x)) along `axis` (non-negative)."""
    return _co.Softmax(axis)(x)


def logical_or(a: Array, b: Array) -> Array:
    """`a` or `b`, of bool."""
    return _cmp.LogicalOr()(a, b)


def max(x: Array, axes: Sequence[int], keepdims: bool = False) -> Array:
    """The largest element over `axes` (non-negative, sorted)."""
    return _rd.Max(tuple(axes), keepdims)(x) if axes else x


def real(x: Array) -> Array:
    """The real part; `x` itself where it is real."""
    return _cv.Real()(x) if dtype_of(x).is_complex else x


def equal(a: Array, b: Array) -> Array:
    """`a == b`, element by element; `b` may be a number."""
    return _cmp.Equal()(a, like(a, b) if type(b) in _NUMBERS else b)


def not_equal(a: Array, b: Array) -> Array:
    """`a != b`; `b` may be a number."""
    return _cmp.NotEqual()(a, like(a, b) if type(b) in _NUMBERS else b)


def less(a: Array, b: Array) -> Array:
    """`a < b`; `b` may be a number."""
    return _cmp.Less()(a, like(a, b) if type(b) in _NUMBERS else b)


def less_equal(a: Array, b: Array) -> Array:
    """`a <= b`; `b` may be a number."""
    return _cmp.LessEqual()(a, like(a, b) if type(b) in _NUMBERS else b)


def greater(a: Array, b: Array) -> Array:
    """`a > b`; `b` may be a number."""
    return _cmp.Greater()(a, like(a, b) if type(b) in _NUMBERS else b)


def greater_equal(a: Array, b: Array) -> Array:
    """`a >= b`; `b` may be a number."""
    return _cmp.GreaterEqual()(a, like(a, b) if type(b) in _NUMBERS else b)


def matmul(a: Array, b: Array) -> Array:
    """Matrix products over the last two axes; those before broadcast."""
    return _la.Matmul()(a, b)


def count(x: Array, axes: Sequence[int]) -> Array:
    """How many elements of `x` share a position outside `axes`, as an operand beside `x`."""
    n = product(tuple(x.shape[a] for a in axes))
    return like(x, n) if isinstance(n, int) else _rd.NumElements(tuple(axes))(x)


def mean(x: Array, axes: Sequence[int], keepdims: bool = False) -> Array:
    """The mean over `axes` (non-negative, sorted)."""
    return _rd.Mean(tuple(axes), keepdims)(x) if axes else x


def sum(x: Array, axes: Sequence[int], keepdims: bool = False) -> Array:
    """Sum over `axes` (non-negative, sorted)."""
    return _rd.Sum(tuple(axes), keepdims)(x) if axes else x


def reshape(x: Array, shape: Sequence[DimLike]) -> Array:
    """`x` with another shape of as many elements; `x` itself where it has it."""
    return x if x.shape == tuple(shape) else _mv.Reshape(tuple(shape))(x)


def expand(x: Array, shape: Sequence[DimLike]) -> Array:
    """`x` broadcast to `shape`; `x` itself where it has it."""
    shape = tuple(shape)
    if type(x) is _ndarray:  # the tape's hot path
        if x.shape == shape:
            return x
        out = _empty(shape, x.dtype)
        if out.size > _SMALL:
            return broadcast_to(np, x, shape)
        # A small copy costs less than a view does, counting what reads it next.
        out[...] = x
        return out
    return x if x.shape == shape else _mv.Expand(shape)(x)


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


def full(x: Array, shape: Sequence[DimLike], value: complex) -> Array:
    """`value` in a shape, with the dtype (and graph, or device) of `x`."""
    xp = array_module(x)
    if xp is not np:  # of a number alone `expand` could not tell the device
        return xp.full(tuple(shape), value, x.dtype)
    return expand(like(x, value), shape)


def zeros_like(x: Array) -> Array:
    """Zeros of x's shape and dtype."""
    return full(x, x.shape, 0)


def zeros(x: Array, shape: Sequence[DimLike]) -> Array:
    """Zeros of a shape, with the dtype (and graph, or device) of `x`."""
    return full(x, shape, 0)


def diagonal_mask(x: Array, n: DimLike) -> Array:
    """A bool [n, n], true on the diagonal, beside `x`."""
    ones = full(x, (n, n), 1)
    return equal(_re.Tril(0)(_re.Triu(0)(ones)), 1)


def is_array(x: Any) -> bool:
    """Whether `x` is a concrete NumPy array or scalar (as opposed to a Value, Tensor or CuPy)."""
    return isinstance(x, np.ndarray | np.generic)


# -- movement -------------------------------------------------------------------------------------


def slice_axis(x: Array, axis: int, start: DimLike, stop: DimLike, step: int = 1) -> Array:
    """``x[start:stop:step]`` along one axis; bounds within it."""
    if start == 0 and stop == x.shape[axis] and step == 1:
        return x
    starts, stops, steps = _sl.full_bounds(tuple(x.shape))
    starts[axis], stops[axis], steps[axis] = start, stop, step
    return _sl.Slice(tuple(starts), tuple(stops), tuple(steps))(x)


def select(x: Array, axis: int, index: DimLike) -> Array:
    """``x[index]`` along one axis, which is dropped; `index` counts from the front."""
    shape = tuple(x.shape)
    return reshape(slice_axis(x, axis, index, index + 1), shape[:axis] + shape[axis + 1 :])


def concat(xs: Sequence[Array], axis: int) -> Array:
    """The operands joined along an existing axis."""
    return xs[0] if len(xs) == 1 else _re.Concat(axis)(*xs)


def stack(xs: Sequence[Array], axis: int) -> Array:
    """The operands joined along a new axis."""
    shape = list(xs[0].shape)
    shape.insert(axis, 1)
    return concat([reshape(x, shape) for x in xs], axis)


def flip(x: Array, axes: Sequence[int]) -> Array:
    """The order of elements reversed along `axes` (non-negative)."""
    return _re.Flip(tuple(axes))(x)


def pad(x: Array, pads: Sequence[tuple[DimLike, DimLike]], value: complex = 0) -> Array:
    """`value` added before and after each axis; negative amounts crop."""
    return _pd.Pad(tuple(pads), value)(x) if any(p != (0, 0) for p in pads) else x


def roll(x: Array, shift: int, axis: int) -> Array:
    """Elements moved `shift` places along an axis, those at the end back to the start."""
    size = x.shape[axis]
    shift = shift % size if size != 0 else 0
    if shift == 0:
        return x
    first = slice_axis(x, axis, size - shift, size)
    return concat([first, slice_axis(x, axis, 0, size - shift)], axis)


def tile(x: Array, repeats: Sequence[DimLike]) -> Array:
    """`x` repeated whole, `repeats[i]` times along axis i; at least as many repeats as axes."""
    shape = (1,) * (len(repeats) - x.ndim) + tuple(x.shape)
    pairs = [(1, d) for d in shape]
    x = reshape(x, [v for p in pairs for v in p])
    x = expand(x, [v for r, d in zip(repeats, shape, strict=True) for v in (r, d)])
    return reshape(x, [r * d for r, d in zip(repeats, shape, strict=True)])
