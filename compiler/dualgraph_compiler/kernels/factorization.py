"""Factorizations and triangular systems that NumPy and CuPy lack, over batches of matrices.

All loops run over rows or columns, and over blocks of them, so that the work within is matrix
products and array arithmetic on whole batches. Source: Golub & Van Loan, Matrix Computations,
sections 3.1, 3.4 and 4.4; names and conventions (pivots counted from 1, `info`) are LAPACK's.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .arrays import Array

_BLOCK = 32  # rows or columns up to which products of matrices are not worth their call


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
        _substitute(a, x, upper, unit)
    return x


def _substitute(a: Array, x: Array, upper: bool, unit: bool) -> None:
    """Solve for x in place, half by half."""
    n = a.shape[-1]
    if n <= _BLOCK:
        _substitute_rows(a, x, upper, unit)
        return
    half = n // 2
    low, high = slice(0, half), slice(half, n)
    first, second = (high, low) if upper else (low, high)
    _substitute(a[..., first, first], x[..., first, :], upper, unit)
    x[..., second, :] -= a[..., second, first] @ x[..., first, :]
    _substitute(a[..., second, second], x[..., second, :], upper, unit)


def _substitute_rows(a: Array, x: Array, upper: bool, unit: bool) -> None:
    n = a.shape[-1]
    for i in reversed(range(n)) if upper else range(n):
        known = slice(i + 1, n) if upper else slice(0, i)
        if known.start < known.stop:
            x[..., i : i + 1, :] -= a[..., i : i + 1, known] @ x[..., known, :]
        if not unit:
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
    if x.shape[0]:
        for start in range(0, k, _BLOCK):
            stop = min(start + _BLOCK, k)
            _eliminate(xp, x, pivots, info, start, stop)
            rest = x[:, start:stop, stop:]
            if rest.size:
                _substitute_rows(x[:, start:stop, start:stop], rest, False, True)
                x[:, stop:, stop:] -= x[:, stop:, start:stop] @ rest
    return x.reshape(a.shape), pivots.reshape(*batch, k), info.reshape(batch)


def _eliminate(xp: Any, x: Array, pivots: Array, info: Array, start: int, stop: int) -> None:
    """Factor columns start..stop of every matrix, exchanging whole rows."""
    which = xp.arange(x.shape[0])
    for j in range(start, stop):
        best = xp.argmax(_size(xp, x[:, j:, j]), axis=1) + j
        pivots[:, j] = best + 1
        row = x[which, best]
        x[which, best] = x[:, j]
        x[:, j] = row
        pivot = x[:, j, j]
        zero = pivot == 0
        info[...] = xp.where(zero & (info == 0), j + 1, info)
        x[:, j + 1 :, j] /= xp.where(zero, xp.ones_like(pivot), pivot)[:, None]
        if j + 1 < stop:
            x[:, j + 1 :, j + 1 : stop] -= x[:, j + 1 :, j, None] * x[:, j, None, j + 1 : stop]


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
