"""Factorizations and triangular systems that NumPy and CuPy lack, over batches of matrices.

Both halve their matrices until what is left is small, so that nearly all work is products of
matrices, of a whole batch at once. Source: Golub & Van Loan, Matrix Computations, chapters 3 and 4;
Toledo 1997, Locality of reference in LU decomposition with partial pivoting. Names and conventions
(pivots counted from 1, `info`) are LAPACK's.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .arrays import Array

_BLOCK = 64  # rows of a triangle that is solved as any matrix
_PANEL = 8  # columns that are eliminated one by one


# -- triangular systems ---------------------------------------------------------------------------


@np.errstate(all="ignore")
def solve_triangular(xp: Any, a: Array, b: Array, upper: bool, unit: bool) -> Array:
    """The x with a x = b for triangular `a` [.., n, n], of which only the triangle is read.

    `b` is [.., n, k]; the axes before broadcast. With `unit` the diagonal counts as ones. A zero on
    the diagonal gives infinities and NaN.
    """
    batch = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    x = xp.array(xp.broadcast_to(b, (*batch, *b.shape[-2:])))
    if x.size:
        _substitute(xp, xp.broadcast_to(a, (*batch, *a.shape[-2:])), x, upper, unit)
    return x


def _substitute(xp: Any, a: Array, x: Array, upper: bool, unit: bool) -> None:
    """Solve for x in place, half by half."""
    n = a.shape[-1]
    if n <= _BLOCK:
        try:
            x[...] = xp.linalg.solve(_triangle(xp, a, upper, unit), x)
        except np.linalg.LinAlgError:
            _substitute_rows(a, x, upper)
        return
    half = n // 2
    low, high = slice(0, half), slice(half, n)
    first, second = (high, low) if upper else (low, high)
    _substitute(xp, a[..., first, first], x[..., first, :], upper, unit)
    x[..., second, :] -= a[..., second, first] @ x[..., first, :]
    _substitute(xp, a[..., second, second], x[..., second, :], upper, unit)


def _triangle(xp: Any, a: Array, upper: bool, unit: bool) -> Array:
    kept = xp.triu(a, int(unit)) if upper else xp.tril(a, -int(unit))
    return kept + xp.eye(a.shape[-1], dtype=a.dtype) if unit else kept


def _substitute_rows(a: Array, x: Array, upper: bool) -> None:
    """Row by row, with infinities and NaN from zeros on the diagonal on."""
    n = a.shape[-1]
    for i in reversed(range(n)) if upper else range(n):
        known = slice(i + 1, n) if upper else slice(0, i)
        if known.start < known.stop:
            x[..., i : i + 1, :] -= a[..., i : i + 1, known] @ x[..., known, :]
        x[..., i, :] /= a[..., i, i, None]


# -- LU -------------------------------------------------------------------------------------------


def _size(xp: Any, x: Array) -> Array:
    """What LAPACK compares pivots by: of complex numbers, the sum of the parts' magnitudes."""
    return xp.abs(x.real) + xp.abs(x.imag) if x.dtype.kind == "c" else xp.abs(x)


@np.errstate(all="ignore")
def lu(xp: Any, a: Array) -> tuple[Array, Array, Array]:
    """P L U = a with partial pivoting: L and U packed [.., m, n], pivots and info, int32.

    Row i was exchanged with row pivots[i] - 1, one after the other. `info` is the place, counted
    from 1, of the first zero pivot, or 0.
    """
    m, n = a.shape[-2:]
    batch, k = a.shape[:-2], min(m, n)
    x = xp.array(a.reshape(math.prod(batch), m, n))
    pivots = xp.zeros((x.shape[0], k), np.int32)
    info = xp.zeros(x.shape[0], np.int32)
    if x.shape[0] and k:
        order = _factor(xp, x, pivots, 0, k)
        zeros = xp.diagonal(x, axis1=1, axis2=2) == 0
        info = xp.where(zeros.any(1), xp.argmax(zeros, axis=1) + 1, 0).astype(np.int32)
        if k < n:
            right = x[:, :, k:]
            right[...] = _reordered(xp, right, order)
            _substitute(xp, x[:, :, :k], right, False, True)
    return x.reshape(a.shape), pivots.reshape(*batch, k), info.reshape(batch)


def _factor(xp: Any, x: Array, pivots: Array, start: int, stop: int) -> Array:
    """Factor columns start..stop, from row `start` on; gives the order that rows come into."""
    if stop - start <= _PANEL:
        return _eliminate(xp, x, pivots, start, stop)
    half = (start + stop) // 2
    order = _factor(xp, x, pivots, start, half)
    left, right = x[:, start:, start:half], x[:, start:, half:stop]
    right[...] = _reordered(xp, right, order)
    above, below = right[:, : half - start], right[:, half - start :]
    _substitute(xp, left[:, : half - start], above, False, True)
    below -= left[:, half - start :] @ above
    then = _factor(xp, x, pivots, half, stop)
    low = left[:, half - start :]
    low[...] = _reordered(xp, low, then)
    rest = order[:, half - start :]
    rest[...] = xp.take_along_axis(rest, then, 1)
    return order


def _reordered(xp: Any, x: Array, order: Array) -> Array:
    """The rows of each matrix in an order [batch, rows]."""
    return xp.take_along_axis(x, order[..., None], 1)


def _eliminate(xp: Any, x: Array, pivots: Array, start: int, stop: int) -> Array:
    """`_factor` column by column."""
    which, width, rows = xp.arange(x.shape[0]), stop - start, x.shape[1] - start
    # Columns as rows, which lie in memory in one piece; the last holds where each row was, so that
    # it is exchanged with them.
    panel = xp.empty((x.shape[0], width + 1, rows), x.dtype)
    panel[:, :width] = xp.swapaxes(x[:, start:, start:stop], 1, 2)
    panel[:, width] = xp.arange(rows)
    for j in range(width):
        best = xp.argmax(_size(xp, panel[:, j, j:]), axis=1) + j
        pivots[:, start + j] = best + (start + 1)
        row = panel[which, :, best]
        panel[which, :, best] = panel[:, :, j]
        panel[:, :, j] = row
        pivot = row[:, j]
        factors = panel[:, j, j + 1 :]
        factors /= (pivot + (pivot == 0))[:, None]  # a column of zeros stays one
        if j + 1 < width:
            panel[:, j + 1 : width, j + 1 :] -= row[:, j + 1 : width, None] * factors[:, None]
    x[:, start:, start:stop] = xp.swapaxes(panel[:, :width], 1, 2)
    return panel[:, width].real.astype(np.int64)


def permutation(xp: Any, pivots: Array, n: int, inverse: bool) -> Array:
    """What exchanging row i of `n` with row pivots[i] - 1 in turn does: [.., k] -> [.., n], int64.

    Row i of the result is row p[i] of what there was; the other way with `inverse`.
    """
    flat = pivots.reshape(math.prod(pivots.shape[:-1]), pivots.shape[-1]) - 1
    which = xp.arange(flat.shape[0])
    p = xp.array(xp.broadcast_to(xp.arange(n), (flat.shape[0], n)))
    steps = range(flat.shape[1])
    for i in reversed(steps) if inverse else steps:
        there = flat[:, i]
        row = p[which, there]
        p[which, there] = p[:, i]
        p[:, i] = row
    return p.reshape(*pivots.shape[:-1], n)


# -- Cholesky -------------------------------------------------------------------------------------


@np.errstate(all="ignore")
def cholesky(xp: Any, a: Array) -> tuple[Array, Array]:
    """The lower L with a = L L^H, from a's lower triangle, and info, int32.

    `info` is 0, or the order of the first leading minor that is not positive.
    """
    lower = xp.tril(a)
    try:
        found = xp.linalg.cholesky(lower)
        if bool(xp.isfinite(found).all()):
            return found, xp.zeros(a.shape[:-2], np.int32)
    except np.linalg.LinAlgError:
        pass
    return _cholesky_columns(xp, lower)


def _cholesky_columns(xp: Any, a: Array) -> tuple[Array, Array]:
    """Column by column; what is from the first bad one on stays as it is."""
    x = xp.array(a)
    info = xp.zeros(a.shape[:-2], np.int32)
    for j in range(a.shape[-1]):
        done = x[..., j:, :j]
        column = x[..., j:, j] - (done @ x[..., j, :j, None].conj())[..., 0]
        pivot = column[..., :1].real
        good = (info == 0)[..., None] & (pivot > 0)
        info[...] = xp.where(good[..., 0] | (info != 0), info, j + 1)
        column = column / xp.sqrt(xp.where(good, pivot, xp.ones_like(pivot)))
        x[..., j:, j] = xp.where(good, column, x[..., j:, j])
    return x, info
