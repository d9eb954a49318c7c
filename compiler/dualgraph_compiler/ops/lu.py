"""The LU factorization with partial pivoting, and the permutations that it tells."""

from __future__ import annotations

from typing import Any, ClassVar

from ..dims import DimLike, minimum
from ..dtypes import int32, int64
from ..errors import DTypeError, ShapeError
from ..kernels import factorization
from ..kernels.arrays import narrow, widen
from ..types import TensorType
from . import f
from .base import Array, Grad, op
from .indexing import Gather
from .rearrange import Tril, Triu
from .triangular import LinearAlgebra, SolveTriangular, check_matrices, hermitian


@op
class PivotsToPermutation(LinearAlgebra):
    """The order into which exchanging row i with row pivots[i] - 1, in turn, brings `n` rows.

    Row i of what comes out is row p[i] of what went in (the other way round with `inverse`).
    Shapes: int32 pivots [.., k] -> int64 p [.., n]. Source: LAPACK laswp, torch.lu_unpack.
    """

    n: DimLike
    inverse: bool = False

    def infer(self, pivots: TensorType) -> TensorType:
        if pivots.dtype is not int32:
            raise DTypeError(f"pivots_to_permutation: expected int32, got {pivots.dtype.name}")
        if not pivots.ndim:
            raise ShapeError("pivots_to_permutation: expected pivots [.., k], got a 0-d operand")
        return TensorType(int64, (*pivots.shape[:-1], self.n))

    def eager(self, xp: Any, pivots: Array) -> Array:
        return factorization.permutation(xp, pivots, self.n, self.inverse)  # type: ignore[arg-type]


def permuted(x: Array, pivots: Array, inverse: bool = False) -> Array:
    """Rows of x [.., n, k] exchanged as pivots [.., m] say: P^T x, or P x if `inverse`."""
    order = PivotsToPermutation(x.shape[-2], inverse)(pivots)
    index = f.expand(f.reshape(order, (*order.shape, 1)), x.shape)
    return Gather(x.ndim - 2)(x, index)


@op
class LuFactor(LinearAlgebra):
    """a = P L U, L and U packed into one matrix, with the pivots that give P, and `info`.

    L has ones on its diagonal, which are not stored. Pivots are LAPACK's: row i was exchanged with
    row pivots[i] - 1, in turn. `info` is the place of the first zero pivot, counted from 1, or 0.
    Shapes: a [.., m, n] -> [.., m, n], int32 [.., min(m, n)], int32 [..].
    Source: torch.linalg.lu_factor_ex.
    """

    n_outputs: ClassVar[int] = 3

    def infer(self, a: TensorType) -> tuple[TensorType, ...]:
        check_matrices("lu_factor", a)
        batch, k = a.shape[:-2], minimum(a.shape[-2], a.shape[-1])
        return a, TensorType(int32, (*batch, k)), TensorType(int32, batch)

    def eager(self, xp: Any, a: Array) -> tuple[Array, Array, Array]:
        packed, pivots, info = factorization.lu(xp, widen(a))
        return narrow(packed, a.dtype), pivots, info

    def vjp(self, g: tuple[Array, ...], y: tuple[Array, ...], _a: Array) -> tuple[Grad, ...]:
        if g[0] is None:
            return (None,)
        return (lambda: permuted(_packed_grad(g[0], y[0]), y[1], True),)


def _packed_grad(g: Array, packed: Array) -> Array:
    """The gradient of P^T a, given that of the packed factors.

    What sticks out of the square part, L2 = A2 U^-1 of a tall matrix and U2 = L^-1 A2 of a wide
    one, has a rule of its own, and adds to the gradient of the square factor.
    """
    m, n = packed.shape[-2:]
    rows, columns = packed.ndim - 2, packed.ndim - 1
    wide, tall = m < n, n < m
    k = m if wide else n

    def square(x: Array) -> Array:
        return f.slice_axis(f.slice_axis(x, rows, 0, k), columns, 0, k)

    both, g_both = square(packed), square(g)
    solve_u, solve_lh = SolveTriangular(True), SolveTriangular(True, True)
    g_low, g_up = Tril(-1)(g_both), Triu(0)(g_both)
    if wide:
        u, g_u = (f.slice_axis(x, columns, k, n) for x in (packed, g))
        beside = solve_lh(hermitian(both), g_u)
        g_low = g_low - Tril(-1)(f.matmul(beside, hermitian(u)))
    if tall:
        low, g_l = (f.slice_axis(x, rows, k, m) for x in (packed, g))
        beside = hermitian(solve_u(both, hermitian(g_l)))
        g_up = g_up - Triu(0)(f.matmul(hermitian(low), beside))
    inner = Tril(-1)(f.matmul(hermitian(Tril(-1)(both)), g_low) + g_low)
    inner = inner + Triu(0)(f.matmul(g_up, hermitian(Triu(0)(both))))
    inner = hermitian(solve_u(both, hermitian(solve_lh(hermitian(both), inner))))
    return f.concat([inner, beside], columns if wide else rows) if wide or tall else inner
