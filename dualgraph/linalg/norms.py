"""Norms, condition numbers and ranks."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from dualgraph_compiler import dtypes as dt
from dualgraph_compiler.errors import ArgumentError, ShapeError

from .._promote import cast
from ..functions.basics import axis_of, finish
from ..functions.statistics import vector_norm
from ._args import floats, matrices, squares
from .solvers import inv_ex, tolerances
from .spectra import eigvalsh, svdvals

if TYPE_CHECKING:
    from .._tensor import Tensor

__all__ = ["cond", "matrix_norm", "matrix_rank", "norm", "vector_norm"]


def matrix_norm(
    A: Tensor,
    ord: Any = "fro",
    dim: Any = (-2, -1),
    keepdim: bool = False,
    *,
    dtype: Any = None,
    out: Tensor | None = None,
) -> Tensor:
    """A norm of matrices over two dimensions: [.., m, n] -> real [..].

    `ord` is "fro" (root of the sum of squares), "nuc" (sum of singular values), 2 or -2 (largest or
    smallest singular value), 1 or -1 (largest or smallest sum of a column's magnitudes), inf or
    -inf (of a row's).
    """
    matrices("linalg.matrix_norm", A)
    if dtype is not None:
        A = cast(A, dt.as_dtype(dtype))
    if isinstance(dim, int) or len(dim) != 2:
        raise ArgumentError(f"linalg.matrix_norm: dim must be a 2-tuple. Got {dim}")
    ndim = A._data.ndim
    row, column = (axis_of("linalg.matrix_norm", d, ndim) for d in dim)
    if row == column:
        raise ShapeError(f"linalg.matrix_norm: dims must be different. Got {dim}")
    if ord == "fro":
        return vector_norm(A, 2, (row, column), keepdim, out=out)
    if ord == "nuc" or (not isinstance(ord, str) and abs(ord) == 2):
        return finish(_by_singular_values(A, ord, row, column, keepdim), out)
    if isinstance(ord, str) or abs(ord) not in (1, math.inf):
        raise ArgumentError(f"linalg.matrix_norm: Order {ord} not supported.")
    first, second = (row, column) if abs(ord) == 1 else (column, row)
    sums = vector_norm(A, 1, first, True)
    found = sums.amin(second, True) if ord < 0 else _largest(sums, second)
    return finish(found if keepdim else found.squeeze((row, column)), out)


def _largest(sizes: Tensor, dim: int) -> Tensor:
    """The largest of numbers that are not negative, along a dimension that is kept; 0 of none."""
    return sizes.amax(dim, True) if sizes._data.shape[dim] != 0 else sizes.sum(dim, True)


def _by_singular_values(A: Tensor, ord: Any, row: int, column: int, keepdim: bool) -> Tensor:
    s = svdvals(A.movedim((row, column), (-2, -1)))
    if ord == "nuc":
        found = s.sum(-1)
    else:
        found = s.amin(-1) if ord < 0 else _largest(s, s._data.ndim - 1).squeeze(-1)
    if keepdim:
        for d in sorted((row, column)):
            found = found.unsqueeze(d)
    return found


def norm(
    A: Tensor,
    ord: Any = None,
    dim: Any = None,
    keepdim: bool = False,
    *,
    out: Tensor | None = None,
    dtype: Any = None,
) -> Tensor:
    """The norm of vectors (one `dim`) or matrices (two), or of all numbers as one vector.

    Without `dim`, an `ord` is that of a 1-d or 2-d input. See `vector_norm` and `matrix_norm`.
    """
    if isinstance(dim, int):
        dim = (dim,)
    if ord is None:
        return vector_norm(floats("linalg.norm", A), 2, dim, keepdim, dtype=dtype, out=out)
    if dim is None and A._data.ndim not in (1, 2):
        raise ShapeError(
            "linalg.norm: If dim is not specified but ord is, the input must be 1D or 2D. Got "
            f"{A._data.ndim}D."
        )
    axes = tuple(range(A._data.ndim)) if dim is None else tuple(dim)
    if isinstance(ord, str) and len(axes) != 2:
        raise ArgumentError(f"linalg.norm: ord={ord!r} is a norm of matrices, got dim={dim}")
    if len(axes) == 2:
        return matrix_norm(A, ord, axes, keepdim, dtype=dtype, out=out)
    return vector_norm(floats("linalg.norm", A), ord, axes, keepdim, dtype=dtype, out=out)


def cond(A: Tensor, p: Any = None, *, out: Tensor | None = None) -> Tensor:
    """The condition number of matrices: [.., m, n] -> real [..].

    norm(A, p) norm(inv(A), p) for square ones, infinite of singular ones; by singular values of any
    for p = None or 2 (the largest by the smallest) and -2.
    """
    matrices("linalg.cond", A)
    if p is None or p in (2, -2):
        s = svdvals(A)
        if s._data.shape[-1] == 0:
            return finish(s.sum(-1), out)
        first, last = s.select(-1, 0), s.select(-1, -1)
        return finish(last / first if p == -2 else first / last, out)
    squares(f"linalg.cond({p})", A)
    if not A._data.size:
        return finish(A.abs().sum((-2, -1)), out)
    inverse, info = inv_ex(A)
    found = matrix_norm(A, p) * matrix_norm(inverse, p)
    return finish(found.masked_fill(info != 0, math.inf), out)


def matrix_rank(
    A: Tensor,
    tol: Any = None,
    hermitian: bool = False,
    *,
    atol: Any = None,
    rtol: Any = None,
    out: Tensor | None = None,
) -> Tensor:
    """How many singular values are above max(atol, rtol times the largest): int64 [..].

    `tol` is an older name of `atol`, beside which `rtol` is 0. Of `hermitian` matrices the sizes of
    the eigenvalues are counted.
    """
    matrices("linalg.matrix_rank", A)
    if tol is not None:
        atol, rtol = tol, 0.0
    low, share = tolerances(A, atol, rtol)
    s = eigvalsh(A.detach()).abs() if hermitian else svdvals(A.detach())
    if s._data.shape[-1] == 0:
        return finish(s.sum(-1).to(dt.int64), out)
    least = low.maximum(share * s.amax(-1)).unsqueeze(-1)
    return finish((s > least).sum(-1), out)
