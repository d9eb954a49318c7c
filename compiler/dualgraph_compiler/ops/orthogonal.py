"""The QR factorization, and the reflections that LAPACK computes it by."""

from __future__ import annotations

from typing import Any, ClassVar

from ..dims import minimum
from ..errors import AutogradError
from ..kernels.arrays import narrow, widen
from ..types import TensorType
from . import f
from .base import Array, Grad, op
from .rearrange import Triu
from .triangular import (
    LinearAlgebra,
    SolveTriangular,
    check_matrices,
    half_diagonal,
    hermitian,
)


@op
class Qr(LinearAlgebra):
    """a = Q R with orthonormal columns in Q and an upper triangular R.

    Shapes: a [.., m, n] -> [.., m, k] and [.., k, n], where k is min(m, n), or m if `complete`.
    The gradient is that of a matrix of full rank; there is none for what completes Q.
    Source: torch.linalg.qr.
    """

    complete: bool = False
    n_outputs: ClassVar[int] = 2

    def infer(self, a: TensorType) -> tuple[TensorType, ...]:
        *batch, m, n = check_matrices("qr", a).shape
        k = m if self.complete else minimum(m, n)
        return a.with_shape((*batch, m, k)), a.with_shape((*batch, k, n))

    def eager(self, xp: Any, a: Array) -> tuple[Array, Array]:
        q, r = xp.linalg.qr(widen(a), "complete" if self.complete else "reduced")
        return narrow(q, a.dtype), narrow(r, a.dtype)

    def vjp(self, g: tuple[Array, ...], y: tuple[Array, ...], a: Array) -> tuple[Grad, ...]:
        m, n = a.shape[-2:]
        if self.complete and n < m:
            raise AutogradError(
                "The QR decomposition is not differentiable when mode='complete' and nrows > ncols."
            )
        return (lambda: _wide_grad(g, y, a) if m < n else _tall_grad(g[0], g[1], *y),)


def _tall_grad(g_q: Array, g_r: Array, q: Array, r: Array) -> Array:
    """The gradient of a matrix with no more columns than rows; either of g_q and g_r may be None.

    Source: Walter & Lehmann 2018, Algorithmic differentiation of linear algebra functions.
    """
    inner = None
    if g_r is not None:
        inner = f.matmul(g_r, hermitian(r))
    if g_q is not None:
        overlap = f.matmul(hermitian(q), g_q)
        inner = -overlap if inner is None else inner - overlap
    upper = Triu(0)(inner)
    both = upper + hermitian(upper) - half_diagonal(upper) - half_diagonal(hermitian(upper))
    back = f.matmul(q, both) if g_q is None else g_q + f.matmul(q, both)
    return hermitian(SolveTriangular(True)(r, hermitian(back)))


def _wide_grad(g: tuple[Array, ...], y: tuple[Array, ...], a: Array) -> Array:
    """With more columns than rows: a = [a1 | a2], a1 = Q R1 is square, and R2 = Q^H a2."""
    g_q, g_r = g
    q, r = y
    m, n = a.shape[-2:]
    last = a.ndim - 1
    if g_r is None:
        left = _tall_grad(g_q, None, q, f.slice_axis(r, last, 0, m))
        return f.concat([left, f.zeros_like(f.slice_axis(a, last, m, n))], last)
    right = f.slice_axis(g_r, last, m, n)
    more = f.matmul(f.slice_axis(a, last, m, n), hermitian(right))
    g_q = more if g_q is None else g_q + more
    left = _tall_grad(g_q, f.slice_axis(g_r, last, 0, m), q, f.slice_axis(r, last, 0, m))
    return f.concat([left, f.matmul(q, right)], last)


@op
class Geqrf(LinearAlgebra):
    """R and, below it, the reflections I - tau v v^H whose product is Q.

    Column i of the result holds v below the diagonal, where v has a 1. Shapes: a [.., m, n] ->
    [.., m, n] and tau [.., min(m, n)]. Source: LAPACK geqrf, torch.geqrf.
    """

    n_outputs: ClassVar[int] = 2

    def infer(self, a: TensorType) -> tuple[TensorType, ...]:
        *batch, m, n = check_matrices("geqrf", a).shape
        return a, a.with_shape((*batch, minimum(m, n)))

    def eager(self, xp: Any, a: Array) -> tuple[Array, Array]:
        h, tau = xp.linalg.qr(widen(a), "raw")
        return narrow(xp.ascontiguousarray(xp.swapaxes(h, -1, -2)), a.dtype), narrow(tau, a.dtype)
