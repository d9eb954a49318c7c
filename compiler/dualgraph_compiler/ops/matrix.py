"""Determinants, inverses and exponentials of matrices, over the axes before the last two."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from ..dtypes import REAL_OF, dtype_of, int32
from ..errors import DTypeError, ShapeError
from ..kernels import matrix as kernels
from ..kernels.arrays import narrow, widen
from ..types import TensorType
from . import f
from .base import Array, Grad, Op, broadcast_shapes, op, shape_text
from .convert import Complex, Imag
from .onnx_rules import Export, Import, from_onnx
from .onnx_types import emit
from .triangular import (
    LinearAlgebra,
    check_matrices,
    check_square,
    check_system,
    hermitian,
)


def _beside(x: Array, like: Array) -> Array:
    """One number a matrix, as an operand beside matrices in their dtype."""
    return f.cast(f.reshape(x, (*x.shape, 1, 1)), dtype_of(like))


@op
class Det(Op):
    """The determinant of each matrix: x [.., n, n] -> [..].

    Source: ONNX Det-22, torch.linalg.det.
    """

    def infer(self, x: TensorType) -> TensorType:
        return check_square("det", x).with_shape(x.shape[:-2])

    def eager(self, xp: Any, x: Array) -> Array:
        with np.errstate(all="ignore"):
            return narrow(xp.asarray(xp.linalg.det(widen(x))), x.dtype)

    def vjp(self, g: Array, _y: Array, x: Array) -> tuple[Grad, ...]:
        return (lambda: _beside(g, x) * hermitian(Adjugate()(x)),)

    def to_onnx(self, ctx: Export, x: str) -> Any:
        ctx.require_opset(11, "det")
        return emit(ctx, ctx.type(x).dtype, "Det", x)


@from_onnx("Det")
def _import_det(ctx: Import, x: Any) -> Any:
    return Det()(x)


@op
class Adjugate(LinearAlgebra):
    """det(x) x^-1 of each matrix [.., n, n], which singular ones have too.

    The gradient is that of regular matrices. Source: Stewart 1998, On the adjugate matrix.
    """

    def infer(self, x: TensorType) -> TensorType:
        return check_square("adjugate", x)

    def eager(self, xp: Any, x: Array) -> Array:
        return narrow(kernels.adjugate(xp, widen(x)), x.dtype)

    def vjp(self, g: Array, y: Array, x: Array) -> tuple[Grad, ...]:
        def grad() -> Array:
            inverse = hermitian(Inverse()(x)[0])
            back = f.matmul(f.matmul(inverse, g), hermitian(y))
            along = f.sum(f.conj(hermitian(inverse)) * g, (x.ndim - 2, x.ndim - 1))
            return _beside(along, x) * hermitian(y) - back

        return (grad,)


@op
class SlogDet(LinearAlgebra):
    """The sign (or the direction in the complex plane) and the logarithm of |det|.

    Shapes: x [.., n, n] -> [..] in x's dtype and real [..]; 0 and -infinity of a singular matrix.
    Source: torch.linalg.slogdet.
    """

    n_outputs: ClassVar[int] = 2

    def infer(self, x: TensorType) -> tuple[TensorType, ...]:
        sign = check_square("slog_det", x).with_shape(x.shape[:-2])
        return sign, sign.with_dtype(REAL_OF.get(x.dtype, x.dtype))

    def eager(self, xp: Any, x: Array) -> tuple[Array, Array]:
        with np.errstate(all="ignore"):
            sign, log = xp.linalg.slogdet(widen(x))
        dtype = dtype_of(x)
        real = REAL_OF.get(dtype, dtype).np
        return narrow(xp.asarray(sign), x.dtype), narrow(xp.asarray(log), real)

    def vjp(self, g: tuple[Array, ...], y: tuple[Array, ...], x: Array) -> tuple[Grad, ...]:
        g_sign, g_log = g
        if not dtype_of(x).is_complex:
            if g_log is None:
                return (None,)
            return (lambda: _beside(g_log, x) * hermitian(Inverse()(x)[0]),)

        def grad() -> Array:
            back = g_log
            if g_sign is not None:  # the sign can turn only
                turn = Imag()(g_sign * f.conj(y[0]))
                back = Complex()(f.zeros_like(turn) if back is None else back, turn)
            return _beside(back, x) * hermitian(Inverse()(x)[0])

        return (grad,)


# -- inverses and systems -------------------------------------------------------------------------


@op
class Inverse(LinearAlgebra):
    """The inverse of each matrix [.., n, n], and `info`, the place of a zero pivot or 0.

    What a singular matrix gives is not finite. `info` is int32 [..]. Source: torch.linalg.inv_ex.
    """

    n_outputs: ClassVar[int] = 2

    def infer(self, x: TensorType) -> tuple[TensorType, ...]:
        check_square("inverse", x)
        return x, TensorType(int32, x.shape[:-2])

    def eager(self, xp: Any, x: Array) -> tuple[Array, Array]:
        found, info = kernels.solve(xp, widen(x), xp.eye(x.shape[-1], dtype=widen(x).dtype))
        return narrow(found, x.dtype), info

    def vjp(self, g: tuple[Array, ...], y: tuple[Array, ...], _x: Array) -> tuple[Grad, ...]:
        if g[0] is None:
            return (None,)
        back = hermitian(y[0])
        return (lambda: -f.matmul(f.matmul(back, g[0]), back),)


@op
class Solve(LinearAlgebra):
    """The x with a x = b, and `info`, the place of a zero pivot or 0.

    What a singular `a` gives is not finite. Shapes: a [.., n, n], b [.., n, k] -> [.., n, k] and
    int32 [..]; the axes before broadcast. Source: torch.linalg.solve_ex.
    """

    n_outputs: ClassVar[int] = 2

    def infer(self, a: TensorType, b: TensorType) -> tuple[TensorType, ...]:
        x = check_system("solve", a, b)
        return x, TensorType(int32, a.shape[:-2])

    def eager(self, xp: Any, a: Array, b: Array) -> tuple[Array, Array]:
        found, info = kernels.solve(xp, widen(a), widen(b))
        return narrow(found, b.dtype), info

    def vjp(self, g: tuple[Array, ...], y: tuple[Array, ...], a: Array, _b: Array) -> Any:
        if g[0] is None:
            return None, None
        back, _ = Solve()(hermitian(a), g[0])
        return (
            lambda: f.unbroadcast(-f.matmul(back, hermitian(y[0])), a.shape),
            lambda: f.unbroadcast(back, _b.shape),
        )


@op
class Pinv(LinearAlgebra):
    """The pseudo-inverse (Moore and Penrose) of each matrix: x [.., m, n] -> [.., n, m].

    Singular values up to max(atol, rtol times the largest) count as zero; both are real and
    broadcast against [..]. The gradient is that of matrices of constant rank (Golub & Pereyra
    1973). `hermitian` matrices are read in the lower triangle, and their eigenvalues taken.
    Source: torch.linalg.pinv.
    """

    hermitian: bool = False

    def infer(self, x: TensorType, atol: TensorType, rtol: TensorType) -> TensorType:
        check = check_square if self.hermitian else check_matrices
        *batch, m, n = check("pinv", x).shape
        real = REAL_OF.get(x.dtype, x.dtype)
        if atol.dtype is not real or rtol.dtype is not real:
            raise DTypeError(f"pinv: expected tolerances of {real.name}")
        for t in (atol, rtol):
            if broadcast_shapes("pinv", tuple(batch), t.shape) != tuple(batch):
                raise ShapeError(
                    f"pinv: tolerances {shape_text(t.shape)} for matrices {shape_text(x.shape)}"
                )
        return x.with_shape((*batch, n, m))

    def eager(self, xp: Any, x: Array, atol: Array, rtol: Array) -> Array:
        return narrow(kernels.pinv(xp, widen(x), widen(atol), widen(rtol), self.hermitian), x.dtype)

    def vjp(self, g: Array, y: Array, x: Array, _atol: Array, _rtol: Array) -> tuple[Grad, ...]:
        def grad() -> Array:
            back, across = hermitian(y), hermitian(g)
            left = f.matmul(f.matmul(across, y), back)
            right = f.matmul(back, f.matmul(y, across))
            left = left - f.matmul(x, f.matmul(y, left))
            right = right - f.matmul(f.matmul(right, y), x)
            return left + right - f.matmul(f.matmul(back, g), back)

        return grad, None, None


@op
class MatrixExp(LinearAlgebra):
    """e**x of each square matrix, the sum of x**k / k!: [.., n, n].

    By a quotient of polynomials after scaling, then squared (Higham 2005).
    Source: torch.linalg.matrix_exp.
    """

    def infer(self, x: TensorType) -> TensorType:
        return check_square("matrix_exp", x)

    def eager(self, xp: Any, x: Array) -> Array:
        return narrow(kernels.matrix_exp(xp, widen(x)), x.dtype)

    def vjp(self, g: Array, _y: Array, x: Array) -> tuple[Grad, ...]:
        def grad() -> Array:
            # The derivative in the direction g at x^H is a corner of the exponential of twice the
            # size (Mathias 1996).
            back, n, rows, columns = hermitian(x), x.shape[-1], x.ndim - 2, x.ndim - 1
            above = f.concat([back, g], columns)
            below = f.concat([f.zeros_like(back), back], columns)
            whole = MatrixExp()(f.concat([above, below], rows))
            return f.slice_axis(f.slice_axis(whole, rows, 0, n), columns, n, 2 * n)

        return (grad,)
