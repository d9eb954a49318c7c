"""Matrices for samples, and what their checks share."""

from __future__ import annotations

from typing import Any

import numpy as np

from dualgraph_compiler.errors import DTypeError

from . import Refused, rand, t

F64, C128 = np.dtype(np.float64), np.dtype(np.complex128)
NONE = "ONNX has none of it"


def regular(*shape: int, dtype: Any = F64) -> Any:
    """Matrices far from singular."""
    wide = C128 if np.dtype(dtype).kind == "c" else F64
    return (rand(*shape, dtype=wide) + 3 * np.eye(*shape[-2:])).astype(dtype)


def adjoint(x: Any) -> Any:
    return np.conj(np.swapaxes(x, -1, -2))


def positive(*shape: int, dtype: Any = F64) -> Any:
    """Hermitian positive-definite matrices."""
    x = regular(*shape, dtype=dtype)
    return x @ adjoint(x)


def square(name: Any, *more: Any) -> list[Refused]:
    return [
        Refused(name, (t("f32[2, 3]"), *more), match="square"),
        Refused(name, (t("f32[3]"), *more), match="square"),
        Refused(name, (t("i64[2, 2]"), *more), DTypeError, "floating"),
    ]


def near(a: Any, b: Any, like: Any) -> None:
    single = like.dtype.itemsize <= (8 if like.dtype.kind == "c" else 4)
    tol = 1e-4 if single else 1e-10
    if like.dtype.itemsize == 2:
        tol = 5e-2
    a, b = (x.astype(C128) for x in (a, b))
    np.testing.assert_allclose(a, np.broadcast_to(b, a.shape), rtol=tol, atol=tol)
