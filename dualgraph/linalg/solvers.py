"""Determinants, inverses and systems of linear equations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from dualgraph_compiler import dtypes as dt
from dualgraph_compiler.dims import product
from dualgraph_compiler.errors import ArgumentError, DTypeError, ShapeError
from dualgraph_compiler.ops import lu as lu_ops
from dualgraph_compiler.ops import matrix, spectral, triangular
from dualgraph_compiler.ops.base import shape_text
from dualgraph_compiler.ops.ldl import LdlSolve

from .._dispatch import apply, apply_many
from ..functions.basics import finish
from ..functions.info import finfo
from ..functions.sizes import sym_max
from . import _results
from ._args import check_info, finish_all, is_vector, matrices, squares

if TYPE_CHECKING:
    from .._tensor import Tensor


# -- determinants ---------------------------------------------------------------------------------


def det(A: Tensor, *, out: Tensor | None = None) -> Tensor:
    """The determinant of square matrices: [.., n, n] -> [..]."""
    return finish(apply(matrix.Det(), squares("linalg.det", A)), out)


def slogdet(A: Tensor, *, out: Any = None) -> Any:
    """(sign, logabsdet) of the determinant of square matrices: [.., n, n] -> [..], real [..]."""
    squares("linalg.slogdet", A)
    return finish_all(_results.Slogdet(apply_many(matrix.SlogDet(), A)), out)


# -- inverses -------------------------------------------------------------------------------------

_SINGULAR = (
    "The diagonal element {place} is zero, the inversion could not be completed because the input "
    "matrix is singular."
)


def inv_ex(A: Tensor, *, check_errors: bool = False, out: Any = None) -> Any:
    """(inverse, info): as `inv`; `info` is 0, or says that a matrix is singular."""
    squares("linalg.inv_ex", A)
    found = apply_many(matrix.Inverse(), A)
    if check_errors:
        check_info("linalg.inv_ex", found[1], _SINGULAR)
    return finish_all(_results.Inverse(found), out)


def inv(A: Tensor, *, out: Tensor | None = None) -> Tensor:
    """The inverse of square matrices [.., n, n].

    Raises:
        LinAlgError: a matrix is singular (not noticed in a trace).
    """
    squares("linalg.inv", A)
    found, info = apply_many(matrix.Inverse(), A)
    check_info("linalg.inv", info, _SINGULAR)
    return finish(found, out)


def tolerances(A: Tensor, atol: Any, rtol: Any) -> tuple[Tensor, Tensor]:
    """Below max(atol, rtol times the largest) a singular value counts as zero.

    The default for `rtol` is max(m, n) eps, or 0 where `atol` is above 0.
    """
    real = dt.REAL_OF.get(A.dtype, A.dtype)
    *_, m, n = A._data.shape
    zero = A.new_zeros((), dtype=real)
    usual = zero + sym_max(m, n) * finfo(real).eps
    low = zero + (0.0 if atol is None else atol)
    if rtol is not None:
        return low.to(real), (zero + rtol).to(real)
    return low.to(real), usual if atol is None else usual.where(low <= 0, zero).to(real)


def pinv(
    A: Tensor,
    rcond: Any = None,
    hermitian: bool = False,
    *,
    atol: Any = None,
    rtol: Any = None,
    out: Tensor | None = None,
) -> Tensor:
    """The pseudo-inverse of matrices: [.., m, n] -> [.., n, m].

    Singular values up to max(atol, rtol times the largest) count as zero; `rcond` is an older name
    of `rtol`. `hermitian` matrices are read in the lower triangle, and cost less.
    """
    matrices("linalg.pinv", A)
    low, share = tolerances(A, atol, rcond if rtol is None else rtol)
    if hermitian:
        squares("linalg.pinv", A)
    return finish(apply(matrix.Pinv(hermitian), A, low, share), out)


def tensorinv(A: Tensor, ind: int = 2, *, out: Tensor | None = None) -> Tensor:
    """The inverse of the map from the dimensions after `ind` to those before it."""
    if ind <= 0:
        raise ArgumentError("Expected a strictly positive integer for 'ind'")
    shape = tuple(A._data.shape)
    if product(shape[:ind]) != product(shape[ind:]):
        raise ShapeError(
            "Expected self to satisfy the requirement prod(self.shape[ind:]) == "
            f"prod(self.shape[:ind]), but got {product(shape[ind:])} != {product(shape[:ind])}"
        )
    n = product(shape[ind:])
    return finish(inv(A.reshape(n, n)).reshape((*shape[ind:], *shape[:ind])), out)


# -- systems --------------------------------------------------------------------------------------


def _right_side(A: Tensor, B: Tensor, left: bool) -> tuple[Tensor, bool]:
    """B as matrices, and whether it holds vectors."""
    if A.dtype is not B.dtype:
        raise DTypeError(
            "linalg.solve: Expected A and B to have the same dtype, but found A of type "
            f"{A.dtype.name} and B of type {B.dtype.name} instead"
        )
    if not is_vector(A, B):
        return (B if left else B.mT), False
    if not left:
        raise ArgumentError(
            "linalg.solve: Vector broadcasting of the left hand side is not supported for "
            "left=False"
        )
    return B.unsqueeze(-1), True


def solve_ex(
    A: Tensor, B: Tensor, *, left: bool = True, check_errors: bool = False, out: Any = None
) -> Any:
    """(result, info): as `solve`; `info` is 0, or the place of a zero pivot."""
    squares("linalg.solve_ex", A)
    right, vector = _right_side(A, B, left)
    x, info = apply_many(matrix.Solve(), A if left else A.mT, right)
    if check_errors:
        check_info(
            "linalg.solve_ex", info, "The solver failed because the input matrix is singular."
        )
    x = x.squeeze(-1) if vector else x if left else x.mT
    return finish_all(_results.Solve((x, info)), out)


def solve(A: Tensor, B: Tensor, *, left: bool = True, out: Tensor | None = None) -> Tensor:
    """The X with A X = B (X A = B without `left`) for square matrices A [.., n, n].

    B holds matrices [.., n, k], which broadcast, or a vector [n] or one for each matrix [.., n].

    Raises:
        LinAlgError: a matrix is singular (not noticed in a trace).
    """
    x, info = solve_ex(A, B, left=left)
    check_info(
        "torch.linalg.solve", info, "The solver failed because the input matrix is singular."
    )
    return finish(x, out)


def solve_triangular(
    A: Tensor,
    B: Tensor,
    *,
    upper: bool,
    left: bool = True,
    unitriangular: bool = False,
    out: Tensor | None = None,
) -> Tensor:
    """The X with A X = B (X A = B without `left`) for triangular A, of which a triangle is read.

    With `unitriangular` its diagonal counts as ones. Shapes: A [.., n, n], B [.., n, k].
    """
    squares("linalg.solve_triangular", A)
    if left:
        return finish(apply(triangular.SolveTriangular(upper, unitriangular), A, B), out)
    x = apply(triangular.SolveTriangular(not upper, unitriangular), A.mT, B.mT)
    return finish(x.mT, out)


def lu_solve(
    LU: Tensor,
    pivots: Tensor,
    B: Tensor,
    *,
    left: bool = True,
    adjoint: bool = False,
    out: Tensor | None = None,
) -> Tensor:
    """The X with A X = B, given `lu_factor` of A; A^H for A if `adjoint`, X A without `left`."""
    if not left:
        return finish(lu_solve(LU, pivots, B.mH, adjoint=not adjoint).mH, out)
    n = B._data.shape[-2]
    batch = _batch(LU, B)
    b = B.expand((*batch, *B._data.shape[-2:]))
    p = pivots.expand((*batch, n))
    low, up = triangular.SolveTriangular(False, True), triangular.SolveTriangular(True)
    if not adjoint:
        return finish(apply(up, LU, apply(low, LU, lu_ops.permuted(b, p))), out)
    back = triangular.SolveTriangular(False), triangular.SolveTriangular(True, True)
    return finish(lu_ops.permuted(apply(back[1], LU.mH, apply(back[0], LU.mH, b)), p, True), out)


def _batch(*operands: Tensor) -> tuple[Any, ...]:
    from ..functions.shape import broadcast_shapes

    return tuple(broadcast_shapes(*(tuple(x._data.shape[:-2]) for x in operands)))


def ldl_solve(
    LD: Tensor, pivots: Tensor, B: Tensor, *, hermitian: bool = False, out: Tensor | None = None
) -> Tensor:
    """The X with A X = B, given `ldl_factor` of A."""
    op = LdlSolve(hermitian and LD.dtype.is_complex)
    return finish(apply(op, LD, pivots, B), out)


_DRIVERS = ("gels", "gelsy", "gelsd", "gelss")


def lstsq(A: Tensor, B: Tensor, rcond: Any = None, *, driver: str | None = None) -> Any:
    """(solution, residuals, rank, singular_values) of least |A X - B|, and of those least |X|.

    Shapes: A [.., m, n], B [.., m, k] or vectors -> [.., n, k]. Singular values up to `rcond` times
    the largest count as zero (default: max(m, n) eps). What a `driver` of LAPACK's does not compute
    is empty: residuals are for m > n and full rank, and not of "gelsy", which is the default; ranks
    not of "gels"; singular values of "gelsd" and "gelss" only.
    """
    driver = driver or "gelsy"
    if driver not in _DRIVERS:
        raise ArgumentError(f"torch.linalg.lstsq: parameter `driver` should be one of {_DRIVERS}")
    matrices("torch.linalg.lstsq", A)
    vector = is_vector(A, B) and B._data.ndim == A._data.ndim - 1
    right = B.unsqueeze(-1) if vector else B
    low, share = tolerances(A, None, rcond)
    x = apply(matrix.Pinv(), A, low, share) @ right
    *_, m, n = A._data.shape
    s = apply(spectral.Svdvals(), A.detach())
    largest = s.amax(-1, True) if s._data.size else s
    rank = (s > largest * share.unsqueeze(-1)).sum(-1)
    residuals = s.new_zeros(0)
    if m > n and driver != "gelsy" and (driver == "gels" or bool((rank == n).all())):
        gap = A @ x - right
        residuals = (gap.abs() ** 2).sum(-2)
    if driver == "gels":
        rank = rank.new_zeros(0)
    if driver in ("gels", "gelsy"):
        s = s.new_zeros(0)
    return _results.Lstsq((x.squeeze(-1) if vector else x, residuals, rank, s))


def tensorsolve(
    A: Tensor, B: Tensor, dims: Sequence[int] | None = None, *, out: Tensor | None = None
) -> Tensor:
    """The X with tensordot(A, X, X.ndim) = B; the dimensions `dims` of A are moved to its end."""
    if dims is not None:
        A = A.movedim(list(dims), list(range(-len(dims), 0)))
    shape = tuple(A._data.shape)[B._data.ndim :]
    n = product(shape)
    if n != B._data.size:
        raise ShapeError(
            "Expected self to satisfy the requirement prod(self.shape[other.ndim:]) == "
            f"prod(self.shape[:other.ndim]), but got {shape_text(tuple(A._data.shape))}"
        )
    return finish(solve(A.reshape(n, n), B.reshape(n)).reshape(shape), out)
