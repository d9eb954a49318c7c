"""Factorizations: Cholesky, LU, QR, LDL, and products of reflections."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dualgraph_compiler.errors import ArgumentError, ShapeError
from dualgraph_compiler.ops import lu as lu_ops
from dualgraph_compiler.ops import orthogonal, triangular
from dualgraph_compiler.ops.ldl import LdlFactor

from .._dispatch import apply, apply_many
from ..functions.creation import eye
from ..functions.joining import diag_embed, tril, triu
from ..functions.sizes import sym_min
from . import _results
from ._args import check_info, finish_all, matrices, squares

if TYPE_CHECKING:
    from .._tensor import Tensor


NOT_POSITIVE = (
    "The factorization could not be completed because the input is not positive-definite (the "
    "leading minor of order {place} is not positive-definite)."
)


def cholesky(A: Tensor, *, upper: bool = False, out: Tensor | None = None) -> Tensor:
    """The lower L with A = L L^H of Hermitian positive-definite matrices [.., n, n].

    Reads the lower triangle; with `upper` the upper one, and gives U with A = U^H U.

    Raises:
        LinAlgError: a matrix is not positive-definite (not noticed in a trace).
    """
    found, info = cholesky_ex(A, upper=upper)
    check_info("linalg.cholesky", info, NOT_POSITIVE)
    return finish_all((found,), None if out is None else (out,))[0]  # type: ignore[no-any-return]


def cholesky_ex(
    A: Tensor, *, upper: bool = False, check_errors: bool = False, out: Any = None
) -> Any:
    """(L, info): as `cholesky`; `info` is 0, or the order of the first minor not positive."""
    squares("linalg.cholesky", A)
    found, info = apply_many(triangular.Cholesky(upper), A)
    if check_errors:
        check_info("linalg.cholesky_ex", info, NOT_POSITIVE)
    return finish_all(_results.Cholesky((found, info)), out)


def qr(A: Tensor, mode: str = "reduced", *, out: Any = None) -> Any:
    """(Q, R) with A = Q R, orthonormal columns in Q and an upper triangular R.

    Shapes: A [.., m, n] -> [.., m, k], [.., k, n] with k = min(m, n) for the `mode` "reduced",
    k = m for "complete"; for "r" R is reduced, and Q empty.
    """
    matrices("linalg.qr", A)
    if mode not in ("reduced", "complete", "r"):
        raise ArgumentError(
            f"qr received unrecognized mode '{mode}' but expected one of 'reduced' (default), "
            "'r', or 'complete'"
        )
    q, r = apply_many(orthogonal.Qr(mode == "complete"), A)
    return finish_all(_results.Qr((A.new_zeros(0) if mode == "r" else q, r)), out)


# -- LU -------------------------------------------------------------------------------------------


def lu_factor_ex(
    A: Tensor, *, pivot: bool = True, check_errors: bool = False, out: Any = None
) -> Any:
    """(LU, pivots, info): L and U of A = P L U packed into one matrix [.., m, n].

    Pivots are int32 [.., min(m, n)], counted from 1 as LAPACK's; `info` is the place of the first
    zero pivot, or 0.
    """
    matrices("torch.lu_factor", A)
    if not pivot:
        raise ArgumentError("linalg.lu_factor: LU without pivoting is not implemented")
    packed, pivots, info = apply_many(lu_ops.LuFactor(), A)
    if check_errors:
        check_info("linalg.lu_factor_ex", info, _SINGULAR_U)
    return finish_all(_results.LuFactorEx((packed, pivots, info)), out)


_SINGULAR_U = (
    "U[{place},{place}] is zero and using it on lu_solve would result in a division by zero. If "
    "you still want to perform the factorization, consider calling linalg.lu(A, pivot) or "
    "linalg.lu_factor_ex(A, pivot)"
)


def lu_factor(A: Tensor, *, pivot: bool = True, out: Any = None) -> Any:
    """(LU, pivots): see `lu_factor_ex`.

    Raises:
        LinAlgError: a pivot is zero (not noticed in a trace).
    """
    packed, pivots, info = lu_factor_ex(A, pivot=pivot)
    check_info("linalg.lu_factor", info, _SINGULAR_U)
    return finish_all(_results.LuFactor((packed, pivots)), out)


def lu(A: Tensor, *, pivot: bool = True, out: Any = None) -> Any:
    """(P, L, U) with A = P L U: a permutation, lower with ones on its diagonal, and upper.

    Shapes: A [.., m, n] -> [.., m, m], [.., m, k], [.., k, n] with k = min(m, n).
    """
    packed, pivots, _ = lu_factor_ex(A, pivot=pivot)
    return finish_all(_results.Lu(unpacked(packed, pivots)), out)


def unpacked(packed: Tensor, pivots: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """P, L and U from what `lu_factor` gives."""
    *batch, m, n = packed._data.shape
    k = sym_min(m, n)
    one = eye(m, dtype=packed.dtype, device=packed.device).expand((*batch, m, m))
    low = tril(packed.narrow(-1, 0, k), -1) + eye(m, k, dtype=packed.dtype, device=packed.device)
    return lu_ops.permuted(one, pivots, True), low, triu(packed.narrow(-2, 0, k))


# -- LDL ------------------------------------------------------------------------------------------


def ldl_factor_ex(
    A: Tensor, *, hermitian: bool = False, check_errors: bool = False, out: Any = None
) -> Any:
    """(LD, pivots, info): A = L D L^T (L^H if `hermitian`) of symmetric matrices [.., n, n].

    D has blocks of 1 or 2 rows; L and D are packed, and pivots int32, as LAPACK's sytrf and hetrf
    give them for the lower triangle, which alone is read. `info` is the place of a zero block or 0.
    """
    squares("torch.linalg.ldl_factor_ex", A)
    found = apply_many(LdlFactor(hermitian and A.dtype.is_complex), A)
    if check_errors:
        check_info("linalg.ldl_factor_ex", found[2], "The {place}-th block of D is singular.")
    return finish_all(_results.LdlFactorEx(found), out)


def ldl_factor(A: Tensor, *, hermitian: bool = False, out: Any = None) -> Any:
    """(LD, pivots): see `ldl_factor_ex`.

    Raises:
        LinAlgError: D is singular.
    """
    found, pivots, info = ldl_factor_ex(A, hermitian=hermitian)
    check_info("linalg.ldl_factor", info, "The {place}-th block of D is singular.")
    return finish_all(_results.LdlFactor((found, pivots)), out)


# -- reflections ----------------------------------------------------------------------------------


def reflections(A: Tensor, tau: Tensor) -> tuple[Tensor, Tensor]:
    """V and T with H1 H2 .. = I - V T V^H, for the reflections Hi = I - tau_i v_i v_i^H.

    v_i is column i of A below the diagonal, with a 1 on it. T is triangular (Schreiber & Van Loan
    1989): its inverse has 1 / tau on the diagonal and V^H V above; here tau may be 0, too.
    """
    k = tau._data.shape[-1]
    m = A._data.shape[-2]
    if A._data.ndim < 2 or tau._data.ndim != A._data.ndim - 1:
        raise ShapeError("householder_product: expected A [.., m, n] and tau [.., k]")
    v = tril(A.narrow(-1, 0, k), -1) + eye(m, k, dtype=A.dtype, device=A.device)
    scale = tau.unsqueeze(-1)
    mixed = triu(v.mH @ v, 1) * scale + eye(k, dtype=A.dtype, device=A.device)
    return v, apply(triangular.SolveTriangular(True, True), mixed, diag_embed(tau))


def householder_product(A: Tensor, tau: Tensor, *, out: Tensor | None = None) -> Tensor:
    """The first n columns of H1 H2 .., reflections Hi = I - tau_i v_i v_i^H as `geqrf` gives them.

    Shapes: A [.., m, n] with m >= n, tau [.., k] with k <= n -> [.., m, n].
    """
    *_, m, n = matrices("torch.linalg.householder_product", A)._data.shape
    if m < n:
        raise ShapeError(
            "torch.linalg.householder_product: input.shape[-2] must be greater than or equal to "
            "input.shape[-1]"
        )
    v, t = reflections(A, tau)
    first = eye(m, n, dtype=A.dtype, device=A.device)
    found = first - v @ (t @ v.mH.narrow(-1, 0, n))
    return finish_all((found,), None if out is None else (out,))[0]  # type: ignore[no-any-return]
