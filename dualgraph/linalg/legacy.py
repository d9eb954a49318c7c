"""Linear algebra under the older names: functions of ``dualgraph`` itself and methods of Tensor."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dualgraph_compiler import dtypes as dt
from dualgraph_compiler.errors import ArgumentError
from dualgraph_compiler.ops import matrix, orthogonal, spectral, triangular

from .._dispatch import apply, apply_many
from ..functions.basics import finish
from ..functions.creation import eye, zeros
from ..functions.random import randn
from ..functions.sizes import sym_min
from . import factors, solvers
from ._args import check_info, finish_all, matrices, squares
from ._results import results
from .factors import householder_product, unpacked
from .products import matrix_exp, multi_dot
from .solvers import det

if TYPE_CHECKING:
    from .._tensor import Tensor

__all__ = [
    "chain_matmul",
    "cholesky",
    "cholesky_inverse",
    "cholesky_solve",
    "det",
    "geqrf",
    "inverse",
    "logdet",
    "lu",
    "lu_solve",
    "lu_unpack",
    "matrix_exp",
    "orgqr",
    "ormqr",
    "pca_lowrank",
    "pinverse",
    "qr",
    "slogdet",
    "svd",
    "svd_lowrank",
    "triangular_solve",
]

_GeqrfResult = results("geqrf", "a tau")
_LuResult = results("lu", "LU pivots")
_LuInfoResult = results("lu", "LU pivots infos")
_UnpackResult = results("lu_unpack", "P L U")
_QrResult = results("qr", "Q R")
_SlogdetResult = results("slogdet", "sign logabsdet")
_SvdResult = results("svd", "U S V")
_TriangularResult = results("triangular_solve", "solution cloned_coefficient")


orgqr = householder_product


# -- determinants and inverses --------------------------------------------------------------------


def slogdet(input: Tensor, *, out: Any = None) -> Any:
    """(sign, logabsdet) of the determinant of square matrices: [.., n, n] -> [..], real [..]."""
    squares("slogdet", input)
    return finish_all(_SlogdetResult(apply_many(matrix.SlogDet(), input)), out)


def logdet(input: Tensor) -> Tensor:
    """The logarithm of the determinant of square matrices; NaN where that is below 0.

    Shapes: [.., n, n] -> [..].
    """
    sign, log = apply_many(matrix.SlogDet(), squares("logdet", input))
    if input.dtype.is_complex:
        return sign.log() + log
    return log.masked_fill(sign == -1, float("nan"))


def inverse(input: Tensor, *, out: Tensor | None = None) -> Tensor:
    """The inverse of square matrices [.., n, n]; see ``linalg.inv``."""
    return solvers.inv(input, out=out)


def pinverse(input: Tensor, rcond: float = 1e-15) -> Tensor:
    """The pseudo-inverse of matrices: [.., m, n] -> [.., n, m]; see ``linalg.pinv``."""
    return solvers.pinv(input, rcond)


def chain_matmul(*matrices: Any, out: Tensor | None = None) -> Tensor:
    """The product of matrices, given one by one or in a list, in the order that costs least.

    Shapes: [a, b], [b, c], .. -> [a, last].
    """
    given = matrices[0] if len(matrices) == 1 else matrices
    factors = list(given) if isinstance(given, list | tuple) else [given]
    return finish(factors[0], out) if len(factors) == 1 else multi_dot(factors, out=out)


# -- Cholesky -------------------------------------------------------------------------------------


def cholesky(input: Tensor, upper: bool = False, *, out: Tensor | None = None) -> Tensor:
    """The lower L with L L^H, or upper U with U^H U, the Hermitian positive-definite input.

    Shapes: [.., n, n] -> the same.
    """
    found, info = apply_many(triangular.Cholesky(upper), squares("cholesky", input))
    check_info("cholesky", info, factors.NOT_POSITIVE)
    return finish(found, out)


def cholesky_solve(
    input: Tensor, L: Tensor, upper: bool = False, *, out: Tensor | None = None
) -> Tensor:
    """The X with A X = input, given the Cholesky factor of A: [.., n, k], [.., n, n]."""
    squares("cholesky_solve", L)
    return finish(apply(triangular.CholeskySolve(upper), L, input), out)


def cholesky_inverse(L: Tensor, upper: bool = False, *, out: Tensor | None = None) -> Tensor:
    """The inverse of A, given its Cholesky factor [.., n, n]."""
    squares("cholesky_inverse", L)
    one = eye(L._data.shape[-1], dtype=L.dtype, device=L.device)
    return cholesky_solve(one, L, upper, out=out)


# -- LU -------------------------------------------------------------------------------------------


def lu(A: Tensor, pivot: bool = True, get_infos: bool = False, out: Any = None) -> Any:
    """(LU, pivots), and infos if `get_infos`, of A = P L U; see ``linalg.lu_factor_ex``.

    Shapes: [.., m, n] -> [.., m, n], [.., min(m, n)].
    """
    packed, pivots, info = factors.lu_factor_ex(A, pivot=pivot)
    found = (packed, pivots, info) if get_infos else (packed, pivots)
    if not get_infos:
        check_info("lu", info, "a pivot, the {place}-th, is zero")
    return finish_all((_LuInfoResult if get_infos else _LuResult)(found), out)


def lu_solve(
    input: Tensor, LU_data: Tensor, LU_pivots: Tensor, *, out: Tensor | None = None
) -> Tensor:
    """The X with A X = input, given `lu` of A: [.., n, k]."""
    return solvers.lu_solve(LU_data, LU_pivots, input, out=out)


def lu_unpack(
    LU_data: Tensor,
    LU_pivots: Tensor,
    unpack_data: bool = True,
    unpack_pivots: bool = True,
    *,
    out: Any = None,
) -> Any:
    """(P, L, U) from the packed factors and pivots of `lu`; empty where not asked for.

    Shapes: [.., m, n], [.., min(m, n)] -> [.., m, m], [.., m, k], [.., k, n], k the smaller.
    """
    p, low, up = unpacked(LU_data, LU_pivots)
    none = LU_data.new_zeros(0)
    found = (p if unpack_pivots else none, *((low, up) if unpack_data else (none, none)))
    return finish_all(_UnpackResult(found), out)


# -- QR -------------------------------------------------------------------------------------------


def qr(input: Tensor, some: bool = True, *, out: Any = None) -> Any:
    """(Q, R) with orthonormal columns in Q and an upper triangular R; Q square without `some`.

    Shapes: [.., m, n] -> [.., m, k], [.., k, n], k the smaller.
    """
    found = apply_many(orthogonal.Qr(not some), matrices("qr", input))
    return finish_all(_QrResult(found), out)


def geqrf(input: Tensor, *, out: Any = None) -> Any:
    """(a, tau): R and, below it, the reflections whose product is Q (see `orgqr`, `ormqr`).

    Shapes: [.., m, n] -> [.., m, n], [.., min(m, n)].
    """
    found = apply_many(orthogonal.Geqrf(), matrices("geqrf", input))
    return finish_all(_GeqrfResult(found), out)


def ormqr(
    input: Tensor,
    tau: Tensor,
    other: Tensor,
    left: bool = True,
    transpose: bool = False,
    *,
    out: Tensor | None = None,
) -> Tensor:
    """Q other (other Q without `left`), or with Q^H if `transpose`, for the Q of `geqrf`.

    Shapes: [.., m, k], [.., k], [.., m, n] -> [.., m, n].
    """
    v, t = factors.reflections(input, tau)
    inner = t.mH if transpose else t
    if left:
        return finish(other - v @ (inner @ (v.mH @ other)), out)
    return finish(other - ((other @ v) @ inner) @ v.mH, out)


# -- singular values and triangles ----------------------------------------------------------------


def svd(input: Tensor, some: bool = True, compute_uv: bool = True, *, out: Any = None) -> Any:
    """(U, S, V) with U diag(S) V^H the input; U and V are square without `some`.

    Without `compute_uv` they are zeros.

    Shapes: [.., m, n] -> [.., m, k], [.., k], [.., n, k], k the smaller.
    """
    matrices("svd", input)
    if compute_uv:
        u, s, vh = apply_many(spectral.Svd(not some), input)
        return finish_all(_SvdResult((u, s, vh.mH)), out)
    s = apply(spectral.Svdvals(), input)
    *batch, m, n = input._data.shape
    u, v = (zeros((*batch, d, d), dtype=input.dtype, device=input.device) for d in (m, n))
    return finish_all(_SvdResult((u, s, v)), out)


def triangular_solve(
    b: Tensor,
    A: Tensor,
    upper: bool = True,
    transpose: bool = False,
    unitriangular: bool = False,
    *,
    out: Any = None,
) -> Any:
    """(solution, A): the X with A X = b, or A^T X = b if `transpose`, for a triangular A.

    Shapes: [.., n, k], [.., n, n] -> [.., n, k], [.., n, n].
    """
    squares("triangular_solve", A)
    side = upper != transpose
    x = apply(triangular.SolveTriangular(side, unitriangular), A.mT if transpose else A, b)
    return finish_all(_TriangularResult((x, A.clone())), out)


# -- approximations -------------------------------------------------------------------------------


def svd_lowrank(
    A: Tensor, q: int | None = 6, niter: int | None = 2, M: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """(U, S, V) of rank `q` with U diag(S) V^H about A (or A - M): [.., m, q], [.., q], [.., n, q].

    Draws `q` random vectors, and improves what they span `niter` times. Source: Halko, Martinsson &
    Tropp 2009, Finding structure with randomness, algorithms 4.4 and 5.1.
    """
    x = matrices("svd_lowrank", A) if M is None else A - M.expand(tuple(A._data.shape))
    n = x._data.shape[-1]
    count = 6 if q is None else q
    drawn = randn(n, count, dtype=x.dtype, device=x.device)
    base = _orthonormal(x @ drawn)
    for _ in range(2 if niter is None else niter):
        base = _orthonormal(x @ _orthonormal(x.mH @ base))
    u, s, vh = apply_many(spectral.Svd(), base.mH @ x)
    return base @ u, s, vh.mH


def _orthonormal(x: Tensor) -> Tensor:
    return apply_many(orthogonal.Qr(), x)[0]


def pca_lowrank(
    A: Tensor, q: int | None = None, center: bool = True, niter: int = 2
) -> tuple[Tensor, Tensor, Tensor]:
    """(U, S, V) of rank `q` (6 by default) of the rows of A, with their mean taken off if `center`.

    V holds the principal directions in columns; S**2 / (m - 1) are the variances along them.

    Shapes: [.., m, n] -> [.., m, q], [.., q], [.., n, q].
    """
    *_, m, n = matrices("pca_lowrank", A)._data.shape
    most = sym_min(m, n)
    count = sym_min(6, most) if q is None else q
    if not 0 <= count <= most:
        raise ArgumentError(
            f"q(={count}) must be non-negative integer and not greater than min(m, n)={most}"
        )
    if A.dtype.category < dt.FLOAT:
        raise ArgumentError(f"pca_lowrank: expected a floating-point input, got {A.dtype.name}")
    x = A - A.mean(-2, keepdim=True) if center else A
    return svd_lowrank(x, count, niter)
