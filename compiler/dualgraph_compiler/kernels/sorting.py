"""Order along an axis: sort, topk, argmax and argmin, cumulative sums and products.

NaN counts as greater than every number, as in PyTorch; equal elements keep their order, so
results are the same on every run and every device. Indices are int64. A 0-d array counts as one
row of one element, as in PyTorch.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .arrays import Array, is_numpy, narrow, widen


def sort(xp: Any, x: Array, axis: int = -1, descending: bool = False) -> tuple[Array, Array]:
    """Values sorted along `axis`, and where each came from; stable in either direction."""
    if x.ndim == 0:
        return x.copy(), xp.zeros((), np.int64)
    indices = argsort(xp, x, axis, descending)
    return xp.take_along_axis(x, indices, axis), indices


def argsort(xp: Any, x: Array, axis: int = -1, descending: bool = False) -> Array:
    """The indices of `sort`."""
    if x.ndim == 0:
        return xp.zeros((), np.int64)
    keys = widen(x)
    if not descending:
        return _stable_argsort(xp, keys, axis)
    # Ascending order of the reversed row, reversed: equal elements are back in their first order.
    indices = xp.flip(_stable_argsort(xp, xp.flip(keys, axis), axis), axis)
    return (x.shape[axis] - 1) - indices


def _stable_argsort(xp: Any, keys: Array, axis: int) -> Array:
    if keys.shape[axis] == 0:
        return xp.zeros(keys.shape, np.int64)
    return xp.argsort(keys, axis=axis, kind="stable" if is_numpy(xp) else None)


def topk(
    xp: Any, x: Array, k: int, axis: int = -1, largest: bool = True, sorted: bool = True
) -> tuple[Array, Array]:
    """The k largest (or smallest) elements along `axis` and their indices.

    Of equal elements those with lower indices are taken (ONNX TopK-11). In order of value where
    `sorted`; otherwise the order is unspecified. Raises ValueError unless 0 <= k <= size.
    """
    size = x.shape[axis] if x.ndim else 1
    if not 0 <= k <= size:
        raise ValueError(f"topk expects 0 <= k <= {size}, the size of the axis, got k={k}")
    if x.ndim == 0:
        at = xp.zeros((), np.int64)
        return (x.copy(), at) if k else (x.reshape(1)[:0], at.reshape(1)[:0])
    rows = xp.moveaxis(x, axis, -1)
    keys = widen(rows)
    if is_numpy(xp) and k and size >= 128 and 8 * k <= size and not _has_nan(xp, keys):
        indices = _select(xp, keys, k, largest)
        if sorted:
            chosen = xp.take_along_axis(keys, indices, -1)
            order = argsort(xp, chosen, -1, descending=largest)
            indices = xp.take_along_axis(indices, order, -1)
    else:
        indices = argsort(xp, keys, -1, descending=largest)[..., :k]
    indices = xp.ascontiguousarray(indices)
    values = xp.take_along_axis(rows, indices, -1)
    return (
        xp.ascontiguousarray(xp.moveaxis(values, -1, axis)),
        xp.ascontiguousarray(xp.moveaxis(indices, -1, axis)),
    )


def _select(xp: Any, keys: Array, k: int, largest: bool) -> Array:
    """Indices of the k extreme elements of each row, ascending; linear time, ties to the first.

    A partition finds the k-th value; all beyond it are in, and as many equal to it as fit.
    """
    at = keys.shape[-1] - k if largest else k - 1
    kth = xp.partition(keys, at, axis=-1)[..., at : at + 1]
    chosen = keys > kth if largest else keys < kth
    equal = keys == kth
    room = k - chosen.sum(-1, keepdims=True)
    chosen |= equal & (xp.cumsum(equal, -1) <= room)
    return xp.nonzero(chosen)[-1].reshape(*keys.shape[:-1], k)


def _has_nan(xp: Any, x: Array) -> bool:
    return x.dtype.kind == "f" and bool(xp.isnan(x).any())


def argmax(xp: Any, x: Array, axis: int | None = None, keepdims: bool = False) -> Array:
    """Index of the first maximum along `axis`, or in the flattened array; NaN is a maximum."""
    return _arg(xp, xp.argmax, x, axis, keepdims)


def argmin(xp: Any, x: Array, axis: int | None = None, keepdims: bool = False) -> Array:
    """Index of the first minimum along `axis`, or in the flattened array; NaN is a minimum."""
    return _arg(xp, xp.argmin, x, axis, keepdims)


def _arg(xp: Any, f: Any, x: Array, axis: int | None, keepdims: bool) -> Array:
    if x.ndim == 0:
        return xp.zeros((), np.int64)
    x = widen(x)
    if (x.shape[axis] if axis is not None else x.size) == 0:
        raise ValueError(f"an empty range has no extreme element: shape {x.shape}, axis {axis}")
    return xp.asarray(f(x, axis=axis, keepdims=keepdims), np.int64)


def cumsum(
    xp: Any, x: Array, axis: int, *, exclusive: bool = False, reverse: bool = False
) -> Array:
    """Running sums along `axis` in x's dtype (ONNX CumSum-14).

    `reverse` sums from the end, which is also the transpose; `exclusive` leaves the element
    itself out, so that the first sum is zero.
    """
    if x.ndim == 0:
        return xp.zeros_like(x) if exclusive else x.copy()
    wide = xp.ascontiguousarray(widen(x))  # the result is laid out like it
    if reverse:
        wide = xp.flip(wide, axis)
    with np.errstate(over="ignore", invalid="ignore"):
        y = xp.cumsum(wide, axis, dtype=wide.dtype)
    if exclusive:
        before = (slice(None),) * (axis % x.ndim)
        shifted = xp.zeros_like(y)
        shifted[(*before, slice(1, None))] = y[(*before, slice(None, -1))]
        y = shifted
    return narrow(xp.ascontiguousarray(xp.flip(y, axis)) if reverse else y, x.dtype)


def cumprod(xp: Any, x: Array, axis: int) -> Array:
    """Running products along `axis` in x's dtype."""
    if x.ndim == 0:
        return x.copy()
    wide = widen(x)
    with np.errstate(over="ignore", invalid="ignore"):
        return narrow(xp.cumprod(wide, axis, dtype=wide.dtype), x.dtype)
