"""Products and powers of matrices, and functions of vectors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from dualgraph_compiler.errors import ArgumentError, ShapeError
from dualgraph_compiler.ops import matrix

from .._dispatch import apply
from ..functions.basics import finish
from ..functions.joining import cat
from ..functions.joining import diagonal as _diagonal
from ..functions.linalg import cross as _cross
from ..functions.linalg import matmul, matrix_power
from ._args import squares

if TYPE_CHECKING:
    from .._tensor import Tensor

__all__ = [
    "cross",
    "diagonal",
    "matmul",
    "matrix_exp",
    "matrix_power",
    "multi_dot",
    "vander",
    "vecdot",
]


def matrix_exp(A: Tensor) -> Tensor:
    """e**A of square matrices [.., n, n], the sum of A**k / k!."""
    return apply(matrix.MatrixExp(), squares("linalg.matrix_exp", A))


def multi_dot(tensors: Sequence[Tensor], *, out: Tensor | None = None) -> Tensor:
    """The product of several matrices, in the order of multiplications that costs least.

    The first may be a row [n], the last a column [n].
    """
    if len(tensors) < 2:
        raise ArgumentError(f"multi_dot(): expected at least 2 tensors but got {len(tensors)}")
    factors = list(tensors)
    row, column = factors[0]._data.ndim == 1, factors[-1]._data.ndim == 1
    if row:
        factors[0] = factors[0].unsqueeze(0)
    if column:
        factors[-1] = factors[-1].unsqueeze(1)
    for i, x in enumerate(factors):
        if x._data.ndim != 2:
            raise ShapeError(
                f"multi_dot(): tensor {i} must be 2D (1D at the ends), but got {x._data.ndim}D"
            )
    found = _chained(factors)
    if row:
        found = found.squeeze(0)
    if column:
        found = found.squeeze(-1)
    return finish(found, out)


def _chained(factors: list[Tensor]) -> Tensor:
    """By dynamic programming over where to split (Cormen et al., Introduction to Algorithms, 14.2);
    from left to right where sizes are symbolic."""
    sizes = [factors[0]._data.shape[0], *(x._data.shape[1] for x in factors)]
    n = len(factors)
    if not all(isinstance(d, int) for d in sizes):
        product = factors[0]
        for x in factors[1:]:
            product = matmul(product, x)
        return product
    best: dict[tuple[int, int], tuple[int, int]] = {(i, i): (0, i) for i in range(n)}
    for length in range(1, n):
        for i in range(n - length):
            j = i + length
            best[i, j] = min(
                (best[i, k][0] + best[k + 1, j][0] + sizes[i] * sizes[k + 1] * sizes[j + 1], k)
                for k in range(i, j)
            )

    def multiply(i: int, j: int) -> Tensor:
        if i == j:
            return factors[i]
        k = best[i, j][1]
        return matmul(multiply(i, k), multiply(k + 1, j))

    return multiply(0, n - 1)


def vander(x: Tensor, N: int | None = None) -> Tensor:
    """The powers 0 to N - 1 of numbers in rows: [.., n] -> [.., n, N], N = n by default."""
    x = x if x._data.ndim else x.reshape(1)
    count = x._data.shape[-1] if N is None else N
    if isinstance(count, int) and count <= 1:
        raise ArgumentError(f"N must be greater than 1, but got {count}")
    column = x.unsqueeze(-1)
    powers = column.expand((*x._data.shape, count - 1)).cumprod(-1)
    return cat([column.new_ones(tuple(column._data.shape), dtype=powers.dtype), powers], -1)


def vecdot(x: Tensor, y: Tensor, *, dim: int = -1, out: Tensor | None = None) -> Tensor:
    """The sum of conj(x) y along `dim`; both broadcast."""
    return finish((x.conj() * y).sum(dim), out)


def cross(input: Tensor, other: Tensor, *, dim: int = -1, out: Tensor | None = None) -> Tensor:
    """The vector product along a dimension of size 3; both have as many dimensions."""
    if input._data.ndim != other._data.ndim:
        raise ShapeError(
            "linalg.cross: inputs must have the same number of dimensions."
            f" Got shapes {list(input.shape)} and {list(other.shape)}"
        )
    return finish(_cross(input, other, dim), out)


def diagonal(A: Tensor, *, offset: int = 0, dim1: int = -2, dim2: int = -1) -> Tensor:
    """The diagonals of matrices: [.., m, n] -> [.., k]. A view."""
    return _diagonal(A, offset, dim1, dim2)
