"""Triangular systems and the Cholesky factorization."""

from __future__ import annotations

from typing import Any, ClassVar

from ..dtypes import int32
from ..errors import DTypeError, OnnxError, ShapeError
from ..kernels import factorization
from ..kernels.arrays import narrow, widen
from ..types import TensorType
from . import f
from .base import Array, Grad, Op, broadcast_shapes, op, require_same_dtype, shape_text
from .onnx_rules import Export
from .rearrange import Tril, Triu


def check_square(name: str, x: TensorType) -> TensorType:
    """`x`, if it holds square matrices of floating-point or complex numbers."""
    if not x.dtype.is_differentiable:
        raise DTypeError(f"{name}: expected floating-point operands, got {x.dtype.name}")
    if x.ndim < 2 or x.shape[-1] != x.shape[-2]:
        raise ShapeError(f"{name}: expected square matrices, got {shape_text(x.shape)}")
    return x


def check_matrices(name: str, x: TensorType) -> TensorType:
    """`x`, if it holds matrices of floating-point or complex numbers."""
    if not x.dtype.is_differentiable:
        raise DTypeError(f"{name}: expected floating-point operands, got {x.dtype.name}")
    if x.ndim < 2:
        raise ShapeError(f"{name}: expected matrices, got {shape_text(x.shape)}")
    return x


def check_system(name: str, a: TensorType, b: TensorType) -> TensorType:
    """The type of x in a x = b."""
    require_same_dtype(name, a, b)
    check_square(name, a)
    if b.ndim < 2 or b.shape[-2] != a.shape[-1]:
        raise ShapeError(
            f"{name}: expected as many rows on the right as there are unknowns, got "
            f"{shape_text(a.shape)} and {shape_text(b.shape)}"
        )
    batch = broadcast_shapes(name, a.shape[:-2], b.shape[:-2])
    return b.with_shape((*batch, *b.shape[-2:]))


def hermitian(x: Array) -> Array:
    """The conjugate transpose of the last two axes."""
    return f.conj(f.transpose(x))


def matrix(x: Array) -> Array:
    """[.., n] as rows [.., 1, n]."""
    return f.reshape(x, (*x.shape[:-1], 1, x.shape[-1]))


def column(x: Array) -> Array:
    """[.., n] as columns [.., n, 1]."""
    return f.reshape(x, (*x.shape, 1))


class LinearAlgebra(Op):
    """Has no ONNX form."""

    __slots__ = ()

    def to_onnx(self, ctx: Export, *inputs: str) -> Any:
        raise OnnxError(f"{self.name} has no ONNX form")


@op
class SolveTriangular(LinearAlgebra):
    """The x with a x = b, for a triangular `a` of which the other triangle is not read.

    With `unit` the diagonal counts as ones, and is not read. Shapes: a [.., n, n], b [.., n, k] ->
    [.., n, k]; the axes before broadcast. Source: torch.linalg.solve_triangular.
    """

    upper: bool
    unit: bool = False

    def infer(self, a: TensorType, b: TensorType) -> TensorType:
        return check_system("solve_triangular", a, b)

    def eager(self, xp: Any, a: Array, b: Array) -> Array:
        found = factorization.solve_triangular(xp, widen(a), widen(b), self.upper, self.unit)
        return narrow(found, b.dtype)

    def vjp(self, g: Array, y: Array, a: Array, _b: Array) -> tuple[Grad, ...]:
        back = SolveTriangular(not self.upper, self.unit)(hermitian(a), g)

        def grad_a() -> Array:
            whole = -f.matmul(back, hermitian(y))
            kept = Triu(int(self.unit)) if self.upper else Tril(-int(self.unit))
            return f.unbroadcast(kept(whole), a.shape)

        return grad_a, lambda: f.unbroadcast(back, _b.shape)


@op
class Cholesky(LinearAlgebra):
    """The lower triangular L with a = L L^H, or the `upper` U with a = U^H U, and `info`.

    Only that triangle of `a` is read; the gradient is that of a Hermitian matrix. `info` is 0, or
    the order of the first leading minor that is not positive. Shapes: a [.., n, n] -> [.., n, n]
    and int32 [..]. Source: torch.linalg.cholesky_ex.
    """

    upper: bool = False
    n_outputs: ClassVar[int] = 2

    def infer(self, a: TensorType) -> tuple[TensorType, ...]:
        check_square("cholesky", a)
        return a, TensorType(int32, a.shape[:-2])

    def eager(self, xp: Any, a: Array) -> tuple[Array, Array]:
        wide = widen(a)
        found, info = factorization.cholesky(xp, hermitian(wide) if self.upper else wide)
        return narrow(hermitian(found) if self.upper else found, a.dtype), info

    def vjp(self, g: tuple[Array, ...], y: tuple[Array, ...], _a: Array) -> tuple[Grad, ...]:
        if g[0] is None:
            return (None,)

        def grad() -> Array:
            low, back = (hermitian(x) if self.upper else x for x in (y[0], g[0]))
            inner = f.matmul(hermitian(low), back)
            inner = (Tril(0)(inner) + hermitian(Tril(-1)(inner))) * f.like(inner, 0.5)
            solve = SolveTriangular(True)
            left = solve(hermitian(low), inner)
            return hermitian(solve(hermitian(low), hermitian(left)))

        return (grad,)


@op
class CholeskySolve(LinearAlgebra):
    """The x with L L^H x = b, or U^H U x = b for the `upper` factor.

    Only that triangle is read; the factor's gradient is that of a full matrix in its place. Shapes:
    factor [.., n, n], b [.., n, k] -> [.., n, k]; the axes before broadcast.
    Source: torch.cholesky_solve.
    """

    upper: bool = False

    def infer(self, factor: TensorType, b: TensorType) -> TensorType:
        return check_system("cholesky_solve", factor, b)

    def eager(self, xp: Any, factor: Array, b: Array) -> Array:
        wide = widen(factor)
        low, up = (hermitian(wide), wide) if self.upper else (wide, hermitian(wide))
        y = factorization.solve_triangular(xp, low, widen(b), False, False)
        return narrow(factorization.solve_triangular(xp, up, y, True, False), b.dtype)

    def vjp(self, g: Array, y: Array, factor: Array, _b: Array) -> tuple[Grad, ...]:
        back = self(factor, g)

        def grad() -> Array:
            whole = f.matmul(back, hermitian(y))
            whole = -(whole + hermitian(whole))
            found = f.matmul(factor, whole) if self.upper else f.matmul(whole, factor)
            return f.unbroadcast(found, factor.shape)

        return grad, lambda: f.unbroadcast(back, _b.shape)


def diagonal_of(x: Array) -> Array:
    """Square matrices with zeros outside of their diagonals."""
    return Tril(0)(Triu(0)(x))


def half_diagonal(x: Array) -> Array:
    """Half of the diagonals."""
    return diagonal_of(x) * f.like(x, 0.5)
