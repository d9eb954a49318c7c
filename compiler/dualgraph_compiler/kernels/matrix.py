"""Functions of matrices, over batches, on top of NumPy's and CuPy's linear algebra."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from ..errors import LinAlgError
from .arrays import Array, is_numpy
from .factorization import lu, permutation, solve_triangular


def converging(function: Callable[..., Any], *args: Any, **options: Any) -> Any:
    """What a function of NumPy's linear algebra gives.

    Raises:
        LinAlgError: its iteration did not end, as where numbers are not finite, or a matrix is
            singular.
    """
    try:
        return function(*args, **options)
    except np.linalg.LinAlgError as error:
        raise LinAlgError(f"linalg.{function.__name__}: {error}") from None


@np.errstate(all="ignore")
def solve(xp: Any, a: Array, b: Array) -> tuple[Array, Array]:
    """The x with a x = b, and info, int32: 0, or the place of a zero pivot (on a GPU, 1 for any).

    a is [.., n, n], b [.., n, k]; the axes before broadcast.
    """
    batch = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    b = xp.broadcast_to(b, (*batch, *b.shape[-2:]))
    try:
        x = xp.linalg.solve(xp.broadcast_to(a, (*batch, *a.shape[-2:])), b)
    except np.linalg.LinAlgError:
        packed, pivots, info = lu(xp, a)
        order = permutation(xp, pivots, a.shape[-1], False)
        order = xp.broadcast_to(order[..., None], b.shape)
        y = solve_triangular(xp, packed, xp.take_along_axis(b, order, -2), False, True)
        return solve_triangular(xp, packed, y, True, False), info
    if is_numpy(xp):
        return x, np.zeros(a.shape[:-2], np.int32)
    lead = len(batch) - (a.ndim - 2)
    shared = [i + lead for i, d in enumerate(a.shape[:-2]) if d == 1]
    inside = xp.isfinite(x).all((*range(lead), *shared, -2, -1)).reshape(a.shape[:-2])
    return x, (~inside).astype(np.int32)


@np.errstate(all="ignore")
def adjugate(xp: Any, a: Array) -> Array:
    """det(a) a^-1, by singular values: the product of all but one, for each."""
    u, s, vh = converging(xp.linalg.svd, a)
    n = s.shape[-1]
    others = xp.ones_like(s)
    before, after = xp.ones(s.shape[:-1], s.dtype), xp.ones(s.shape[:-1], s.dtype)
    for i in range(n):
        others[..., i] *= before
        others[..., n - 1 - i] *= after
        before = before * s[..., i]
        after = after * s[..., n - 1 - i]
    turn = xp.asarray(xp.linalg.det(u) * xp.linalg.det(vh))[..., None, None]
    v = xp.swapaxes(vh, -1, -2).conj()
    return turn * (v * others[..., None, :]) @ xp.swapaxes(u, -1, -2).conj()


@np.errstate(all="ignore")
def pinv(xp: Any, a: Array, atol: Array, rtol: Array, hermitian: bool) -> Array:
    """The pseudo-inverse; singular values up to max(atol, rtol times the largest) count as zero."""
    if not a.size:
        return xp.zeros((*a.shape[:-2], a.shape[-1], a.shape[-2]), a.dtype)
    if hermitian:
        s, u = converging(xp.linalg.eigh, a)
        v = u
    else:
        u, s, vh = converging(xp.linalg.svd, a, full_matrices=False)
        v = xp.swapaxes(vh, -1, -2).conj()
    size = xp.abs(s)
    kept = size > xp.maximum(atol, rtol * size.max(-1))[..., None]
    inverse = xp.where(kept, 1 / xp.where(kept, s, xp.ones_like(s)), xp.zeros_like(s))
    return (v * inverse[..., None, :]) @ xp.swapaxes(u, -1, -2).conj()


# The numerator of the quotient for e**x, of degree 13 over 13, and the largest 1-norm up to which
# its relative error is below 2**-53. Source: Higham 2005, The scaling and squaring method.
_DEGREE = 13
_COEFFICIENTS = [
    math.comb(_DEGREE, k) * math.factorial(2 * _DEGREE - k) / math.factorial(2 * _DEGREE)
    for k in range(_DEGREE + 1)
]
_LARGEST = 5.371920351148152


@np.errstate(all="ignore")
def matrix_exp(xp: Any, a: Array) -> Array:
    """e**a of each square matrix: a / 2**s by a quotient of polynomials, then s squarings."""
    if not a.size:
        return a.copy()
    norm = xp.abs(a).sum(-2).max(-1)
    squarings = xp.ceil(xp.log2(xp.maximum(norm / _LARGEST, 1)))
    squarings = xp.where(xp.isfinite(squarings), squarings, xp.zeros_like(squarings))
    a = a / xp.exp2(squarings)[..., None, None].astype(a.dtype)
    x = _quotient(xp, a)
    for i in range(int(squarings.max())):
        x = xp.where((squarings > i)[..., None, None], x @ x, x)
    return x


def _quotient(xp: Any, a: Array) -> Array:
    """The even and odd parts of the numerator, which differ in sign in the denominator."""
    c = _COEFFICIENTS
    one = xp.eye(a.shape[-1], dtype=a.dtype)
    a2 = a @ a
    a4 = a2 @ a2
    a6 = a4 @ a2
    odd = a6 @ (c[13] * a6 + c[11] * a4 + c[9] * a2)
    odd = a @ (odd + c[7] * a6 + c[5] * a4 + c[3] * a2 + c[1] * one)
    even = a6 @ (c[12] * a6 + c[10] * a4 + c[8] * a2)
    even = even + c[6] * a6 + c[4] * a4 + c[2] * a2 + c[0] * one
    return xp.linalg.solve(even - odd, even + odd)
