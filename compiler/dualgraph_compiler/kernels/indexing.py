"""Gathers and scatters by integer indices, with PyTorch's shapes and checked bounds.

An index out of range is always an IndexError; nothing is clamped or wraps silently. Negative
indices count from the end where `negative` is true (ONNX, NumPy) and are an error where it is not
(PyTorch's gather, scatter and embedding). On a GPU the error comes when the host next waits for
the device (see `postponed`).

Sums over repeated indices run in index order on NumPy (so they repeat exactly) and by atomic
additions on a GPU (so float sums may differ in the last bits from run to run).
"""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from .arrays import Array, is_numpy, narrow, widen
from .postponed import note


def check_indices(
    xp: Any, index: Array, size: int, *, negative: bool = False, what: str = "index"
) -> Array:
    """`index` as int64 in [0, size), or IndexError naming the offending value (later on a GPU)."""
    if index.dtype.kind not in "iu":
        raise IndexError(f"{what} must have an integer dtype, got {index.dtype}")
    if index.size == 0:
        return index.astype(np.int64, copy=False)
    least = -size if negative else 0
    if not is_numpy(xp):
        note(xp, index, least, size - 1, what)
        index = index.astype(np.int64, copy=False)
        return xp.where(index < 0, index + size, index) if negative else index
    low, high = int(index.min()), int(index.max())
    if low < least or high >= size:
        wrong = low if low < least else high
        raise IndexError(f"{what} {wrong} is out of bounds: expected {least} <= {what} < {size}")
    index = index.astype(np.int64, copy=False)
    return xp.where(index < 0, index + size, index) if low < 0 else index


def take(xp: Any, x: Array, index: Array, axis: int = 0, *, negative: bool = False) -> Array:
    """x[..., index, ...]: `axis` of x replaced by index's shape (index_select, ONNX Gather-13)."""
    return xp.take(x, check_indices(xp, index, x.shape[axis], negative=negative), axis)


def gather(xp: Any, x: Array, axis: int, index: Array, *, negative: bool = False) -> Array:
    """out[i][j][k] = x[index[i][j][k]][j][k] for axis 0 (torch.gather, ONNX GatherElements-13).

    `index` has x's rank and may be smaller in every dim but `axis`, where it may be any size.
    """
    if x.ndim == 0:
        return x.reshape(1)[check_indices(xp, index.reshape(-1), 1)].reshape(index.shape)
    axis %= x.ndim
    index = check_indices(xp, index, x.shape[axis], negative=negative)
    return xp.take_along_axis(_corner(x, index, axis), index, axis)


def scatter(
    xp: Any, x: Array, axis: int, index: Array, src: Any, *, negative: bool = False
) -> Array:
    """A copy of x with x[index[i][j][k]][j][k] = src[i][j][k], for axis 0.

    As torch.scatter and ONNX ScatterElements-18.
    `src` is an array at least as large as `index` in every dim, or a number. Where indices
    repeat, the last source wins on NumPy; on a GPU any of them may.
    """
    out = x.copy()
    flat = out.reshape(-1)
    at = _positions(xp, x, axis, index, negative)
    flat[at.reshape(-1)] = _source(src, index)
    return out


@np.errstate(all="ignore")
def scatter_add(
    xp: Any, x: Array, axis: int, index: Array, src: Any, *, negative: bool = False
) -> Array:
    """A copy of x with x[index[i][j][k]][j][k] += src[i][j][k] (torch.scatter_add)."""
    out = widen(x).copy()
    at = _positions(xp, x, axis, index, negative)
    _add(xp, out.reshape(-1), at.reshape(-1), _source(src, index))
    return narrow(out, x.dtype)


@np.errstate(all="ignore")
def scatter_reduce(
    xp: Any,
    x: Array,
    axis: int,
    index: Array,
    src: Any,
    reduction: str,
    *,
    negative: bool = False,
) -> Array:
    """`scatter_add` with another fold of what is there and the sources: "mul", "max" or "min"."""
    fold = {"mul": xp.multiply, "max": xp.maximum, "min": xp.minimum}[reduction]
    out = widen(x).copy()
    at = _positions(xp, x, axis, index, negative).reshape(-1)
    values = xp.asarray(_source(src, index), out.dtype)
    if at.size:
        if is_numpy(xp):
            fold.at(out.reshape(-1), at, values)
        else:
            _fold_runs(xp, out.reshape(-1), at, values, fold)
    return narrow(out, x.dtype)


def _fold_runs(xp: Any, out: Array, at: Array, values: Array, fold: Any) -> None:
    """out[at] = fold(out[at], values), repeats included: CuPy has `at` for few folds and types.

    Sorted by position, each run of equal ones is folded by doubling; its last element has all.
    """
    order = xp.argsort(at)
    at, values = at[order], values[order]
    reach = 1
    while reach < at.size:
        same = at[reach:] == at[:-reach]
        folded = fold(values[reach:], values[:-reach])
        values = xp.concatenate([values[:reach], xp.where(same, folded, values[reach:])])
        reach *= 2
    last = xp.concatenate([at[1:] != at[:-1], xp.ones(1, bool)])
    # Elements that are not the last of their run go to a place past the end.
    wide = xp.concatenate([out, out[:1]])
    target = xp.where(last, at, out.size)
    wide[target] = fold(wide[target], values)
    out[...] = wide[:-1]


@np.errstate(all="ignore")
def put_add(xp: Any, shape: tuple[int, ...], key: Any, g: Array) -> Array:
    """Zeros of `shape` with g added at [key]: the transpose of x[key], for any NumPy key.

    Repeated positions add up. `key` is whatever indexes an array: ints, slices, None, Ellipsis,
    integer or bool arrays and tuples of these; g has (or broadcasts to) the shape x[key] has.
    """
    if not _is_advanced(key):
        out = xp.zeros(shape, g.dtype)
        out[key] = g
        return out
    single = key[0] if isinstance(key, tuple) and len(key) == 1 else key
    if hasattr(single, "dtype") and single.dtype.kind in "iu" and len(shape) > 1:
        g = xp.broadcast_to(g, (*single.shape, *shape[1:]))
        return add_rows(xp, shape[0], single, g, negative=True)
    at = xp.arange(prod(shape)).reshape(shape)[key]
    return add_at(xp, prod(shape), at, xp.broadcast_to(g, at.shape)).reshape(shape)


@np.errstate(all="ignore")
def add_rows(
    xp: Any, rows: int, index: Array, g: Array, *, negative: bool = False, skip: int | None = None
) -> Array:
    """Zeros [rows, *D] with g[i] added to row index[i]: the gradient of an embedding table.

    g is [*index.shape, *D]. Row `skip` (an embedding's padding_idx) stays zero. Many additions
    per row are summed row by row after a sort; few are added element by element.
    """
    at = check_indices(xp, index, rows, negative=negative).reshape(-1)
    tail = g.shape[index.ndim :]
    width = prod(tail)
    values = widen(g).reshape(at.size, width)
    if skip is not None:
        kept = at != skip
        if is_numpy(xp):
            at, values = at[kept], values[kept]
        else:  # how many are kept is for the device to know
            values = xp.where(kept[:, None], values, values.dtype.type(0))
    out = xp.zeros((rows, width), values.dtype)
    if is_numpy(xp) and width > 1 and at.size >= 8 * rows:
        order = np.argsort(at, kind="stable")
        ordered = at[order]
        starts = np.flatnonzero(np.diff(ordered, prepend=-1))
        out[ordered[starts]] = np.add.reduceat(values[order], starts, axis=0)
    elif values.size:
        flat = (at[:, None] * width + xp.arange(width)).reshape(-1)
        _add(xp, out.reshape(-1), flat, values.reshape(-1))
    return narrow(out, g.dtype).reshape(rows, *tail)


@np.errstate(all="ignore")
def add_at(xp: Any, size: int, positions: Array, values: Array) -> Array:
    """Zeros [size] in values' dtype with values[i] added at positions[i]; bounds are the caller's.

    Both are flattened. Narrow floats are summed in float32.
    """
    wide = widen(values).reshape(-1)
    out = xp.zeros(size, wide.dtype)
    _add(xp, out, positions.reshape(-1), wide)
    return narrow(out, values.dtype)


def _add(xp: Any, out: Array, at: Array, values: Array) -> None:
    """out[at] += values, repeats included, for flat arrays.

    NumPy's add.at has a fast loop for exactly this case: 1-d, contiguous, one dtype. CuPy adds
    atomically: complex numbers by their parts, of integers only unsigned 64-bit ones, which to
    two's complement is the same sum.
    """
    values = xp.asarray(values, out.dtype)
    if is_numpy(xp) or out.dtype.kind == "f":
        xp.add.at(out, at, values)
    elif out.dtype.kind == "c":
        parts = out.view(out.real.dtype)
        values = xp.broadcast_to(values, at.shape)
        xp.add.at(parts, 2 * at, values.real)
        xp.add.at(parts, 2 * at + 1, values.imag)
    else:
        total = out.astype(np.int64).view(np.uint64)
        xp.add.at(total, at, values.astype(np.int64).view(np.uint64))
        out[...] = total.view(np.int64).astype(out.dtype)


def _positions(xp: Any, x: Array, axis: int, index: Array, negative: bool) -> Array:
    """Flat positions in x of the elements that gather(x, axis, index) reads."""
    if x.ndim == 0:
        return check_indices(xp, index, 1, negative=negative)
    axis %= x.ndim
    at = check_indices(xp, index, x.shape[axis], negative=negative)
    _corner(x, index, axis)
    flat: Any = 0
    step = 1
    for d in reversed(range(x.ndim)):
        trailing = (1,) * (x.ndim - 1 - d)
        along = at if d == axis else xp.arange(index.shape[d]).reshape(-1, *trailing)
        flat = flat + along * step
        step *= x.shape[d]
    return flat


def _corner(x: Array, index: Array, axis: int) -> Array:
    """The part of x that `index` covers: its sizes in every dim but `axis`."""
    fits = x.ndim == index.ndim and all(
        d == axis or i <= n for d, (i, n) in enumerate(zip(index.shape, x.shape))
    )
    if not fits:
        raise IndexError(
            f"index of shape {index.shape} must have the rank of {x.shape} and not exceed it "
            f"in any dim but {axis}"
        )
    return x[tuple(slice(None) if d == axis else slice(n) for d, n in enumerate(index.shape))]


def _source(src: Any, index: Array) -> Any:
    """The part of `src` that `index` covers, flat; a number stays one."""
    if not hasattr(src, "ndim"):
        return src
    if src.ndim != index.ndim or any(i > n for i, n in zip(index.shape, src.shape)):
        raise IndexError(f"source of shape {src.shape} does not cover index {index.shape}")
    return src[tuple(slice(n) for n in index.shape)].reshape(-1)


def _is_advanced(key: Any) -> bool:
    """Whether indexing by `key` may read an element twice: any array or list in it."""
    parts = key if isinstance(key, tuple) else (key,)
    return any(hasattr(p, "dtype") or isinstance(p, list) for p in parts)
