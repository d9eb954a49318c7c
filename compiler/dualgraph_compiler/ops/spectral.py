"""Eigenvalues and singular values.

Gradients of vectors are those of functions that do not depend on their signs (or phases), and want
eigenvalues, or singular values, that differ.
"""

from __future__ import annotations

from typing import Any, ClassVar

from ..dims import minimum
from ..dtypes import COMPLEX_OF, REAL_OF, DType, dtype_of
from ..kernels.arrays import narrow, widen
from ..kernels.matrix import converging
from ..types import TensorType
from . import f
from .base import Array, Grad, op
from .matrix import Solve
from .triangular import (
    LinearAlgebra,
    check_matrices,
    check_square,
    column,
    diagonal_of,
    hermitian,
    matrix,
)


def _real_of(dtype: DType) -> DType:
    return REAL_OF.get(dtype, dtype)


def _differences(w: Array, like: Array) -> Array:
    """w[j] - w[i] at [.., i, j], in the dtype of `like`; ones on the diagonal."""
    w = f.cast(w, dtype_of(like))
    gaps = matrix(w) - column(w)
    return f.where(f.diagonal_mask(gaps, w.shape[-1]), 1.0, gaps)


def _off_diagonal(x: Array) -> Array:
    return x - diagonal_of(x)


def _scaled_columns(x: Array, w: Array) -> Array:
    """Column j of x times w[j]."""
    return x * matrix(f.cast(w, dtype_of(x)))


def _as_diagonal(w: Array, like: Array) -> Array:
    """Matrices in the dtype of `like` with the vectors w on their diagonals."""
    w = column(f.cast(w, dtype_of(like)))
    n = w.shape[-2]
    zeros = f.like(w, 0)
    return f.where(f.diagonal_mask(w, n), f.expand(w, (*w.shape[:-1], n)), zeros)


# -- Hermitian matrices ---------------------------------------------------------------------------


@op
class Eigh(LinearAlgebra):
    """The eigenvalues of Hermitian matrices, ascending, and their orthonormal eigenvectors.

    Only the lower triangle is read, or the `upper`. Shapes: a [.., n, n] -> real [.., n] and
    [.., n, n], vectors in columns. Source: torch.linalg.eigh.
    """

    upper: bool = False
    n_outputs: ClassVar[int] = 2

    def infer(self, a: TensorType) -> tuple[TensorType, ...]:
        check_square("eigh", a)
        return a.with_dtype(_real_of(a.dtype)).with_shape(a.shape[:-1]), a

    def eager(self, xp: Any, a: Array) -> tuple[Array, Array]:
        w, v = converging(xp.linalg.eigh, widen(a), "LU"[self.upper])
        return narrow(w, _real_of(dtype_of(a)).np), narrow(v, a.dtype)

    def vjp(self, g: tuple[Array, ...], y: tuple[Array, ...], _a: Array) -> tuple[Grad, ...]:
        return (lambda: self._grad(*g, *y),)

    def _grad(self, g_w: Array, g_v: Array, w: Array, v: Array) -> Array:
        if g_v is None:
            return f.matmul(_scaled_columns(v, g_w), hermitian(v))
        turned = _skew(f.matmul(hermitian(v), g_v))  # which is how orthonormal vectors can turn
        inner = _off_diagonal(turned / _differences(w + w, turned))
        if g_w is not None:
            inner = inner + _as_diagonal(g_w, inner)
        return f.matmul(v, f.matmul(inner, hermitian(v)))


@op
class Eigvalsh(LinearAlgebra):
    """The eigenvalues of Hermitian matrices, ascending: [.., n, n] -> real [.., n].

    Only the lower triangle is read, or the `upper`. Source: torch.linalg.eigvalsh.
    """

    upper: bool = False

    def infer(self, a: TensorType) -> TensorType:
        check_square("eigvalsh", a)
        return a.with_dtype(_real_of(a.dtype)).with_shape(a.shape[:-1])

    def eager(self, xp: Any, a: Array) -> Array:
        return narrow(
            converging(xp.linalg.eigvalsh, widen(a), "LU"[self.upper]), _real_of(dtype_of(a)).np
        )

    def vjp(self, g: Array, _y: Array, a: Array) -> tuple[Grad, ...]:
        def grad() -> Array:
            _, v = Eigh(self.upper)(a)
            return f.matmul(_scaled_columns(v, g), hermitian(v))

        return (grad,)


# -- general matrices -----------------------------------------------------------------------------


def _complex_of(dtype: DType) -> DType:
    return COMPLEX_OF.get(dtype, dtype)


@op
class Eig(LinearAlgebra):
    """The eigenvalues of square matrices, in no order, and their eigenvectors, of length 1.

    Shapes: a [.., n, n] -> complex [.., n] and [.., n, n], vectors in columns.
    Source: torch.linalg.eig.
    """

    n_outputs: ClassVar[int] = 2

    def infer(self, a: TensorType) -> tuple[TensorType, ...]:
        check_square("eig", a)
        v = a.with_dtype(_complex_of(a.dtype))
        return v.with_shape(a.shape[:-1]), v

    def eager(self, xp: Any, a: Array) -> tuple[Array, Array]:
        w, v = converging(xp.linalg.eig, widen(a))
        dtype = _complex_of(dtype_of(a)).np  # NumPy's are real where no eigenvalue is complex
        return w.astype(dtype, copy=False), v.astype(dtype, copy=False)

    def vjp(self, g: tuple[Array, ...], y: tuple[Array, ...], a: Array) -> tuple[Grad, ...]:
        def grad() -> Array:
            back = self._grad(*g, *y)
            return back if dtype_of(a).is_complex else f.real(back)

        return (grad,)

    def _grad(self, g_w: Array, g_v: Array, w: Array, v: Array) -> Array:
        """Of a loss that knows the vectors' directions only, as their lengths are fixed."""
        if g_v is None:
            return Solve()(hermitian(v), column(g_w) * hermitian(v))[0]
        turned = f.matmul(hermitian(v), g_v)
        along = f.cast(f.real(_diagonal(turned)), dtype_of(v))
        turned = turned - f.matmul(hermitian(v), _scaled_columns(v, along))
        inner = _off_diagonal(turned / f.conj(_differences(w, turned)))
        if g_w is not None:
            inner = inner + _as_diagonal(g_w, inner)
        return Solve()(hermitian(v), f.matmul(inner, hermitian(v)))[0]


def _diagonal(x: Array) -> Array:
    """The diagonals of square matrices: [.., n, n] -> [.., n]."""
    return f.sum(diagonal_of(x), (x.ndim - 1,))


# -- singular values ------------------------------------------------------------------------------


@op
class Svd(LinearAlgebra):
    """a = U diag(s) Vh, with orthonormal columns in U and rows in Vh, and s descending.

    Shapes: a [.., m, n] -> U [.., m, k], real s [.., k], Vh [.., k, n] with k = min(m, n); U and Vh
    are square if `full`. Source: torch.linalg.svd.
    """

    full: bool = False
    n_outputs: ClassVar[int] = 3

    def infer(self, a: TensorType) -> tuple[TensorType, ...]:
        *batch, m, n = check_matrices("svd", a).shape
        k = minimum(m, n)
        rows, columns = (m, n) if self.full else (k, k)
        s = a.with_dtype(_real_of(a.dtype)).with_shape((*batch, k))
        return a.with_shape((*batch, m, rows)), s, a.with_shape((*batch, columns, n))

    def eager(self, xp: Any, a: Array) -> tuple[Array, ...]:
        u, s, vh = converging(xp.linalg.svd, widen(a), full_matrices=self.full)
        return narrow(u, a.dtype), narrow(s, _real_of(dtype_of(a)).np), narrow(vh, a.dtype)

    def vjp(self, g: tuple[Array, ...], y: tuple[Array, ...], _a: Array) -> tuple[Grad, ...]:
        return (lambda: self._grad(*g, *y),)

    def _grad(self, g_u: Array, g_s: Array, g_vh: Array, u: Array, s: Array, vh: Array) -> Array:
        """Vectors beyond the first k are not determined, and take no gradient."""
        m, n, k = u.shape[-2], vh.shape[-1], s.shape[-1]
        rows, columns = u.ndim - 2, u.ndim - 1
        u, g_u = (None if x is None else f.slice_axis(x, columns, 0, k) for x in (u, g_u))
        vh, g_vh = (None if x is None else f.slice_axis(x, rows, 0, k) for x in (vh, g_vh))
        if g_u is None and g_vh is None:
            return f.matmul(_scaled_columns(u, g_s), vh)
        wide = f.cast(s, dtype_of(u))
        squares = _differences(wide * wide, wide)
        inner = f.zeros_like(squares) if g_s is None else _as_diagonal(g_s, u)
        if g_u is not None:
            turned = _skew(f.matmul(hermitian(u), g_u))
            inner = inner + _scaled_columns(_off_diagonal(turned) / squares, s)
            if dtype_of(u).is_complex:
                inner = inner + diagonal_of(turned) / matrix(wide + wide)
        if g_vh is not None:
            turned = _skew(f.matmul(vh, hermitian(g_vh)))
            inner = inner + column(wide) * (_off_diagonal(turned) / squares)
        back = f.matmul(f.matmul(u, inner), vh)
        if g_u is not None and m != k:
            rest = g_u - f.matmul(u, f.matmul(hermitian(u), g_u))
            back = back + f.matmul(rest / matrix(wide), vh)
        if g_vh is not None and n != k:
            rest = g_vh - f.matmul(f.matmul(g_vh, hermitian(vh)), vh)
            back = back + f.matmul(u / matrix(wide), rest)
        return back


def _skew(x: Array) -> Array:
    return x - hermitian(x)


@op
class Svdvals(LinearAlgebra):
    """The singular values of matrices, descending: [.., m, n] -> real [.., min(m, n)].

    Source: torch.linalg.svdvals.
    """

    def infer(self, a: TensorType) -> TensorType:
        *batch, m, n = check_matrices("svdvals", a).shape
        return a.with_dtype(_real_of(a.dtype)).with_shape((*batch, minimum(m, n)))

    def eager(self, xp: Any, a: Array) -> Array:
        return narrow(
            converging(xp.linalg.svd, widen(a), compute_uv=False), _real_of(dtype_of(a)).np
        )

    def vjp(self, g: Array, _y: Array, a: Array) -> tuple[Grad, ...]:
        def grad() -> Array:
            u, _, vh = Svd()(a)
            return f.matmul(_scaled_columns(u, g), vh)

        return (grad,)
