"""Eigenvalues and singular values."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dualgraph_compiler.errors import ArgumentError
from dualgraph_compiler.ops import spectral

from .._dispatch import apply, apply_many
from ..functions.basics import finish
from . import _results
from ._args import finish_all, matrices, squares

if TYPE_CHECKING:
    from .._tensor import Tensor


def eig(A: Tensor, *, out: Any = None) -> Any:
    """(eigenvalues, eigenvectors) of square matrices [.., n, n]: complex [.., n], [.., n, n].

    Vectors are columns of length 1; gradients are those of functions of their directions.
    """
    squares("linalg.eig", A)
    return finish_all(_results.Eig(apply_many(spectral.Eig(), A)), out)


def eigvals(A: Tensor, *, out: Tensor | None = None) -> Tensor:
    """The eigenvalues of square matrices: [.., n, n] -> complex [.., n]."""
    squares("linalg.eigvals", A)
    return finish(apply_many(spectral.Eig(), A)[0], out)


def _is_upper(uplo: str) -> bool:
    if uplo.upper() not in ("L", "U"):
        raise ArgumentError(f"Expected UPLO argument to be 'L' or 'U', but got {uplo}")
    return uplo.upper() == "U"


def eigh(A: Tensor, UPLO: str = "L", *, out: Any = None) -> Any:
    """(eigenvalues, eigenvectors) of Hermitian matrices [.., n, n]: real and ascending, columns.

    `UPLO` is the triangle that is read.
    """
    squares("linalg.eigh", A)
    return finish_all(_results.Eigh(apply_many(spectral.Eigh(_is_upper(UPLO)), A)), out)


def eigvalsh(A: Tensor, UPLO: str = "L", *, out: Tensor | None = None) -> Tensor:
    """The eigenvalues of Hermitian matrices, ascending: [.., n, n] -> real [.., n]."""
    squares("linalg.eigvalsh", A)
    return finish(apply(spectral.Eigvalsh(_is_upper(UPLO)), A), out)


def svd(
    A: Tensor, full_matrices: bool = True, *, driver: str | None = None, out: Any = None
) -> Any:
    """(U, S, Vh) with A = U diag(S) Vh, orthonormal vectors and S descending.

    Shapes: A [.., m, n] -> [.., m, m], real [.., k], [.., n, n] with k = min(m, n); [.., m, k] and
    [.., k, n] without `full_matrices`. `driver` is a hint of PyTorch's for GPUs.
    """
    matrices("linalg.svd", A)
    return finish_all(_results.Svd(apply_many(spectral.Svd(full_matrices), A)), out)


def svdvals(A: Tensor, *, driver: str | None = None, out: Tensor | None = None) -> Tensor:
    """The singular values of matrices, descending: [.., m, n] -> real [.., min(m, n)]."""
    matrices("linalg.svdvals", A)
    return finish(apply(spectral.Svdvals(), A), out)
