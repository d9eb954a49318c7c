"""The LDL factorization of symmetric and Hermitian matrices, on the host, one matrix at a time.

By diagonal pivoting (Bunch & Kaufman 1977, Some stable methods for calculating inertia and solving
symmetric linear systems, algorithm A). How L, D and the exchanges are packed is that of LAPACK's
sytrf and hetrf for the lower triangle.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .matrix import converging

_Matrix = np.ndarray[Any, Any]
_ALPHA = (1 + math.sqrt(17)) / 8


def _size(x: Any) -> Any:
    return abs(x.real) + abs(x.imag)


def ldl(a: _Matrix, conjugated: bool) -> tuple[_Matrix, _Matrix, int]:
    """L and D packed in the lower triangle, pivots, and info, of one matrix [n, n]."""
    x = np.tril(a)
    n = len(x)
    if conjugated:
        np.fill_diagonal(x, x.diagonal().real)
    pivots = np.zeros(n, np.int32)
    info = k = 0
    while k < n:
        p, step = _pivot(x, k)
        if p is None:
            info = info or k + 1
            p = k
        else:
            _exchange(x, k, k + step - 1, p, conjugated)
            _eliminate(x, k, step, conjugated)
        pivots[k : k + step] = p + 1 if step == 1 else -(p + 1)
        k += step
    return x, pivots, info


def _pivot(x: _Matrix, k: int) -> tuple[int | None, int]:
    """The row to exchange, and the size of the block of D at k; None for a column of zeros."""
    here = _size(x[k, k])
    below = _size(x[k + 1 :, k])
    best = k + 1 + int(below.argmax()) if below.size else k
    largest = below.max(initial=0.0)
    if not max(here, largest) > 0:
        return None, 1
    if here >= _ALPHA * largest:
        return k, 1
    across = max(_size(x[best, k:best]).max(), _size(x[best + 1 :, best]).max(initial=0.0))
    if here >= _ALPHA * largest * (largest / across):
        return k, 1
    return best, (1 if _size(x[best, best]) >= _ALPHA * across else 2)


def _exchange(x: _Matrix, k: int, i: int, p: int, conjugated: bool) -> None:
    """Exchange rows and columns i and p of what is left from k on, in the lower triangle."""
    if i == p:
        return
    x[p + 1 :, [i, p]] = x[p + 1 :, [p, i]]
    between = x[i + 1 : p, i].copy()
    x[i + 1 : p, i] = x[p, i + 1 : p].conj() if conjugated else x[p, i + 1 : p]
    x[p, i + 1 : p] = between.conj() if conjugated else between
    if conjugated:
        x[p, i] = x[p, i].conj()
    x[i, i], x[p, p] = x[p, p], x[i, i]
    if i > k:  # a block of two rows
        x[i, k], x[p, k] = x[p, k], x[i, k]


def _block(x: _Matrix, k: int, conjugated: bool) -> _Matrix:
    """The block of D of two rows at k."""
    low = x[k + 1, k]
    return np.array([[x[k, k], low.conj() if conjugated else low], [low, x[k + 1, k + 1]]])


def _eliminate(x: _Matrix, k: int, step: int, conjugated: bool) -> None:
    end = k + step
    columns = x[end:, k:end].copy()
    if step == 1:
        scaled = columns / x[k, k]
    else:
        scaled = converging(np.linalg.solve, _block(x, k, conjugated).T, columns.T).T
    rest = np.tril(scaled @ (columns.conj() if conjugated else columns).T)
    x[end:, end:] -= rest
    x[end:, k:end] = scaled


def ldl_solve(x: _Matrix, pivots: _Matrix, b: _Matrix, conjugated: bool) -> _Matrix:
    """The y with A y = b [n, m], for one factorization."""
    y = np.array(b)
    n = len(x)
    starts = []
    k = 0
    while k < n:
        starts.append(k)
        step = 1 if pivots[k] > 0 else 2
        i, p, end = k + step - 1, abs(int(pivots[k])) - 1, k + step
        y[[i, p]] = y[[p, i]]
        y[end:] -= x[end:, k:end] @ y[k:end]
        y[k:end] = (
            y[k] / x[k, k]
            if step == 1
            else converging(np.linalg.solve, _block(x, k, conjugated), y[k:end])
        )
        k = end
    for k in reversed(starts):
        step = 1 if pivots[k] > 0 else 2
        i, p, end = k + step - 1, abs(int(pivots[k])) - 1, k + step
        below = x[end:, k:end]
        y[k:end] -= (below.conj() if conjugated else below).T @ y[end:]
        y[[i, p]] = y[[p, i]]
    return y
