"""Joining tensors, and rearranging their elements: flips, rolls, diagonals, triangles."""

from __future__ import annotations

import builtins
import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from dualgraph_compiler import dtypes as dt
from dualgraph_compiler.dims import Dim, DimLike
from dualgraph_compiler.errors import ArgumentError, ShapeError
from dualgraph_compiler.ops.base import normalize_axes
from dualgraph_compiler.ops.rearrange import Concat, Diagonal, Flip, Tril, Triu

from .._dispatch import apply, apply1
from .._promote import unify
from .basics import axis_of, finish, require_tensors, wrap
from .parts import part
from .shape import expand, flatten, permute, reshape, transpose, unsqueeze
from .sizes import sym_max

if TYPE_CHECKING:
    from .._tensor import Tensor


def cat(
    tensors: Sequence[Tensor], dim: int = 0, *, axis: int | None = None, out: Tensor | None = None
) -> Tensor:
    """Tensors joined along an existing dimension, promoted to a common dtype.

    Shapes: any number of [.., d_i, ..] -> [.., sum d_i, ..]; 1-d tensors without elements are
    left out, as in PyTorch.
    """
    dim = dim if axis is None else axis
    require_tensors("cat", tensors)
    if not tensors:
        raise ArgumentError("cat(): expected a non-empty list of Tensors")
    kind = tensors[0]._data.dtype
    xs = tensors if all(x._data.dtype is kind for x in tensors) else unify(tensors)
    kept = [x for x in xs if tuple(x._data.shape) != (0,)] or xs[:1]
    if kept[0]._data.ndim == 0:
        raise ShapeError("zero-dimensional tensor (at position 0) cannot be concatenated")
    joined: Tensor = apply(Concat(axis_of("cat", dim, kept[0]._data.ndim)), *kept)
    return joined if out is None else finish(joined, out)


concat = concatenate = cat


def stack(tensors: Sequence[Tensor], dim: int = 0, *, out: Tensor | None = None) -> Tensor:
    """Tensors of one shape joined along a new dimension."""
    require_tensors("stack", tensors)
    if not tensors:
        raise ArgumentError("stack expects a non-empty TensorList")
    shape = tuple(tensors[0]._data.shape)
    for i, x in enumerate(tensors):
        if tuple(x._data.shape) != shape:
            raise ShapeError(
                f"stack expects each tensor to be equal size, but got {list(shape)} at entry 0 and "
                f"{list(x._data.shape)} at entry {i}"
            )
    at = axis_of("stack", dim, len(shape) + 1)
    return cat([unsqueeze(x, at) for x in tensors], at, out=out)


def _at_least(ndim: int, tensors: tuple[Any, ...]) -> Any:
    if len(tensors) == 1 and isinstance(tensors[0], list | tuple):
        return tuple(_raised(t, ndim) for t in tensors[0])
    raised = tuple(_raised(t, ndim) for t in tensors)
    return raised[0] if len(raised) == 1 else raised


def _raised(t: Tensor, ndim: int) -> Tensor:
    shape = tuple(t._data.shape)
    if len(shape) >= ndim:
        return t
    if not shape:
        return reshape(t, (1,) * ndim)
    if ndim == 2:
        return reshape(t, (1, *shape))
    return reshape(t, (1, *shape, 1) if len(shape) == 1 else (*shape, 1))


def atleast_1d(*tensors: Any) -> Any:
    """Tensors with one dimension or more."""
    return _at_least(1, tensors)


def atleast_2d(*tensors: Any) -> Any:
    """Tensors with two dimensions or more."""
    return _at_least(2, tensors)


def atleast_3d(*tensors: Any) -> Any:
    """Tensors with three dimensions or more."""
    return _at_least(3, tensors)


def hstack(tensors: Sequence[Tensor]) -> Tensor:
    """Tensors side by side: joined along dimension 1 (0 for vectors)."""
    xs = [_raised(t, 1) for t in tensors]
    return cat(xs, 0 if xs[0]._data.ndim == 1 else 1)


def vstack(tensors: Sequence[Tensor]) -> Tensor:
    """Tensors on top of each other: joined along dimension 0, vectors as rows."""
    return cat([_raised(t, 2) for t in tensors], 0)


row_stack = vstack


def dstack(tensors: Sequence[Tensor]) -> Tensor:
    """Tensors one behind the other: joined along dimension 2."""
    return cat([_raised(t, 3) for t in tensors], 2)


def column_stack(tensors: Sequence[Tensor]) -> Tensor:
    """Tensors side by side, vectors as columns.

    Shapes: [n] or [n, k] each -> [n, columns of all].
    """
    return cat([t if t._data.ndim > 1 else reshape(t, (-1, 1)) for t in tensors], 1)


def block_diag(*tensors: Tensor) -> Tensor:
    """The matrix with the given matrices (vectors are rows) along its diagonal, zeros elsewhere.

    Shapes: matrices, vectors as rows, numbers -> [sum of rows, sum of columns].
    """
    for x in tensors:
        if x._data.ndim > 2:
            raise ShapeError(
                f"torch.block_diag: Input tensors must have 2 or fewer dimensions. Got {x.ndim}"
            )
    matrices = unify([reshape(x, (1, -1)) if x._data.ndim < 2 else x for x in tensors])
    width = builtins.sum(m._data.shape[1] for m in matrices)
    rows, start = [], 0
    for m in matrices:
        height, columns = m._data.shape
        before = m.new_zeros((height, start))
        after = m.new_zeros((height, width - start - columns))
        rows.append(cat([before, m, after], 1))
        start += columns
    return cat(rows, 0)


def cartesian_prod(*tensors: Tensor) -> Tensor:
    """All combinations of one element of each vector: [product of sizes, count]."""
    if len(tensors) == 1:
        return tensors[0]
    count = len(tensors)
    grids = [
        reshape(x, tuple(-1 if i == axis else 1 for i in range(count)))
        for axis, x in enumerate(tensors)
    ]
    shape = tuple(x._data.shape[0] for x in tensors)
    return reshape(stack([expand(g, shape) for g in grids], -1), (-1, count))


def combinations(input: Tensor, r: int = 2, with_replacement: bool = False) -> Tensor:
    """All combinations of `r` elements of a vector, in order: [count, r]."""
    choose = itertools.combinations_with_replacement if with_replacement else itertools.combinations
    picked = list(choose(range(input._data.shape[0]), r))
    places = np.array(picked, np.int64).reshape(len(picked), r)
    if r == 0:
        return input.new_empty((0,))
    return reshape(input.index_select(0, wrap(places.reshape(-1), None)), (len(picked), r))


# -- order ----------------------------------------------------------------------------------------


def flip(input: Tensor, dims: Any, *more: int) -> Tensor:
    """A copy with the order of elements reversed along `dims`: several numbers, or a sequence."""
    along = (dims, *more) if isinstance(dims, int) else dims
    axes = normalize_axes("flip", tuple(along), input._data.ndim)
    return apply1(Flip(axes), input)


def fliplr(input: Tensor) -> Tensor:
    """Columns in reverse order.

    Shapes: two dimensions or more -> the same.
    """
    return flip(input, 1)


def flipud(input: Tensor) -> Tensor:
    """Rows in reverse order.

    Shapes: one dimension or more -> the same.
    """
    return flip(input, 0)


def roll(input: Tensor, shifts: Any, dims: Any = None) -> Tensor:
    """Elements moved by `shifts` along `dims`, those at the end back to the start.

    Without `dims` the tensor is rolled as if it were flat.
    """
    amounts = (shifts,) if isinstance(shifts, int | Dim) else tuple(shifts)
    if dims is None or dims == ():
        if len(amounts) != 1:
            raise ArgumentError("roll: shifts and dimensions must align")
        return reshape(_rolled(flatten(input), amounts[0], 0), tuple(input._data.shape))
    axes = (dims,) if isinstance(dims, int) else tuple(dims)
    if len(axes) != len(amounts):
        raise ArgumentError(
            f"shifts and dimensions must align. shifts: {len(amounts)}, dims:{len(axes)}"
        )
    for amount, dim in zip(amounts, axes, strict=True):
        input = _rolled(input, amount, axis_of("roll", dim, input._data.ndim))
    return input


def _rolled(x: Tensor, shift: DimLike, axis: int) -> Tensor:
    size = x._data.shape[axis] if x._data.ndim else 1
    if size == 0:
        return x.clone()
    shift = shift % sym_max(size, 1)
    if type(shift) is int and shift == 0:
        return x.clone()
    return cat([part(x, axis, size - shift, size), part(x, axis, 0, size - shift)], axis)


def rot90(input: Tensor, k: int = 1, dims: Sequence[int] = (0, 1)) -> Tensor:
    """Turned by 90 degrees `k` times in the plane of two dimensions, first towards second."""
    a, b = (axis_of("rot90", d, input._data.ndim) for d in dims)
    if a == b:
        raise ArgumentError(f"expected rotation dims to be different, but got {a} and {b}")
    turns = k % 4
    if turns == 0:
        return input.clone()
    if turns == 2:
        return flip(input, (a, b))
    if turns == 1:
        return transpose(flip(input, b), a, b)
    return flip(transpose(input, a, b), b)


# -- diagonals and triangles ----------------------------------------------------------------------


def diagonal(input: Tensor, offset: int = 0, dim1: int = 0, dim2: int = 1) -> Tensor:
    """A view of the diagonal of the matrices in two dimensions, as the last dimension."""
    a, b = (axis_of("diagonal", d, input._data.ndim) for d in (dim1, dim2))
    if a == b:
        raise ArgumentError(f"diagonal dimensions cannot be identical {dim1}, {dim2}")
    return apply1(Diagonal(offset, a, b), input)


def diag_embed(input: Tensor, offset: int = 0, dim1: int = -2, dim2: int = -1) -> Tensor:
    """Zero matrices in two new dimensions, with the last dimension of the input as diagonal."""
    x = _raised(input, 1)
    ndim = x._data.ndim + 1
    a, b = axis_of("diag_embed", dim1, ndim), axis_of("diag_embed", dim2, ndim)
    if a == b:
        raise ArgumentError(f"diagonal dimensions cannot be identical {dim1}, {dim2}")
    shape = tuple(x._data.shape)
    size = shape[-1] + (offset if offset >= 0 else -offset)
    base = x.new_zeros((*shape[:-1], size, size))
    from dualgraph_compiler.ops.rearrange import DiagonalUpdate

    made: Tensor = apply(DiagonalUpdate(offset, ndim - 2, ndim - 1), base, x)
    order = list(range(ndim - 2))
    for to, origin in sorted([(a, ndim - 2), (b, ndim - 1)]):
        order.insert(to, origin)
    return permute(made, tuple(order)) if order != list(range(ndim)) else made


def diag(input: Tensor, diagonal: int = 0) -> Tensor:
    """The diagonal of a matrix (a copy), or the square matrix with a vector as its diagonal.

    Shapes: [n] -> [n, n], [n, m] -> its diagonal.
    """
    if input._data.ndim == 1:
        return diag_embed(input, diagonal)
    if input._data.ndim != 2:
        raise ShapeError(f"diag(): Supports 1D or 2D tensors. Got {input._data.ndim}D")
    return apply1(Diagonal(diagonal, 0, 1), input).clone()


def diagflat(input: Tensor, offset: int = 0) -> Tensor:
    """The square matrix with the elements of the input as its diagonal."""
    return diag_embed(flatten(input), offset)


def tril(input: Tensor, diagonal: int = 0, *, out: Tensor | None = None) -> Tensor:
    """Each matrix of the last two dimensions with zeros above `diagonal`."""
    return finish(apply1(Tril(diagonal), input), out)


def triu(input: Tensor, diagonal: int = 0, *, out: Tensor | None = None) -> Tensor:
    """Each matrix of the last two dimensions with zeros below `diagonal`."""
    return finish(apply1(Triu(diagonal), input), out)


def tril_indices(
    row: int,
    col: int,
    offset: int = 0,
    *,
    dtype: Any = None,
    device: Any = None,
    layout: Any = None,
) -> Tensor:
    """Rows and columns of the lower triangle of a matrix: [2, count], int64 by default."""
    return _triangle(np.tril_indices(row, offset, col), dtype, device)


def triu_indices(
    row: int,
    col: int,
    offset: int = 0,
    *,
    dtype: Any = None,
    device: Any = None,
    layout: Any = None,
) -> Tensor:
    """Rows and columns of the upper triangle of a matrix: [2, count], int64 by default."""
    return _triangle(np.triu_indices(row, offset, col), dtype, device)


def _triangle(indices: Any, dtype: Any, device: Any) -> Tensor:
    kind = dt.int64 if dtype is None else dt.as_dtype(dtype)
    return wrap(np.stack(indices).astype(kind.np), device)
