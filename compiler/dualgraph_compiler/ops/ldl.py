"""The LDL factorization of symmetric and Hermitian matrices."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from ..dtypes import int32
from ..errors import DTypeError, ShapeError
from ..kernels.arrays import narrow, widen
from ..kernels.ldl import ldl, ldl_solve
from ..types import TensorType
from .base import Array, broadcast_shapes, op, shape_text
from .triangular import LinearAlgebra, check_square, check_system


def _on_host(x: Array) -> Any:
    return x.get() if hasattr(x, "get") else x


@op
class LdlFactor(LinearAlgebra):
    """a = L D L^T, or L D L^H if `conjugated`, with blocks of 1 or 2 rows in D.

    Packed into the lower triangle, which alone is read, with pivots as LAPACK's sytrf and hetrf;
    `info` is the place of a column of zeros, counted from 1, or 0. Computed on the host. Shapes:
    a [.., n, n] -> [.., n, n], int32 [.., n], int32 [..]. Source: torch.linalg.ldl_factor_ex.
    """

    conjugated: bool = False
    n_outputs: ClassVar[int] = 3

    def infer(self, a: TensorType) -> tuple[TensorType, ...]:
        check_square("ldl_factor", a)
        return a, TensorType(int32, a.shape[:-1]), TensorType(int32, a.shape[:-2])

    def eager(self, xp: Any, a: Array) -> tuple[Array, ...]:
        x = np.array(widen(_on_host(a)))
        pivots, info = np.zeros(x.shape[:-1], np.int32), np.zeros(x.shape[:-2], np.int32)
        for at in np.ndindex(x.shape[:-2]):
            x[at], pivots[at], info[at] = ldl(x[at], self.conjugated)
        return narrow(xp.asarray(x), a.dtype), xp.asarray(pivots), xp.asarray(info)


@op
class LdlSolve(LinearAlgebra):
    """The x with a x = b, given what `LdlFactor` makes of `a`. Computed on the host.

    Shapes: factors [.., n, n], int32 pivots [.., n], b [.., n, k] -> [.., n, k]; the axes before
    broadcast. Source: torch.linalg.ldl_solve.
    """

    conjugated: bool = False

    def infer(self, a: TensorType, pivots: TensorType, b: TensorType) -> TensorType:
        if pivots.dtype is not int32:
            raise DTypeError(f"ldl_solve: expected pivots of int32, got {pivots.dtype.name}")
        if pivots.shape != a.shape[:-1]:
            raise ShapeError(
                f"ldl_solve: expected a pivot for each row of {shape_text(a.shape)}, got "
                f"{shape_text(pivots.shape)}"
            )
        return check_system("ldl_solve", a, b)

    def eager(self, xp: Any, a: Array, pivots: Array, b: Array) -> Array:
        x, p, y = widen(_on_host(a)), _on_host(pivots), widen(_on_host(b))
        batch = broadcast_shapes("ldl_solve", x.shape[:-2], y.shape[:-2])
        x = np.broadcast_to(x, (*batch, *x.shape[-2:]))  # type: ignore[arg-type]
        p = np.broadcast_to(p, (*batch, p.shape[-1]))  # type: ignore[arg-type]
        y = np.array(np.broadcast_to(y, (*batch, *y.shape[-2:])))  # type: ignore[arg-type]
        for at in np.ndindex(y.shape[:-2]):
            y[at] = ldl_solve(x[at], p[at], y[at], self.conjugated)
        return narrow(xp.asarray(y), b.dtype)
