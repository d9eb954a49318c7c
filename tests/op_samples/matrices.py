"""Eigenvalues, singular values, determinants, inverses and functions of matrices.

Vectors are checked by what defines them, since it leaves their signs open.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from dualgraph_compiler.errors import DTypeError
from dualgraph_compiler.ops import matrix, spectral

from . import OpSamples, Refused, Sample, bfloat16, rand, strided, t
from ._matrices import C128, F64, NONE, adjoint, near, positive, regular, square

# -- eigenvalues and singular values --------------------------------------------------------------


def is_eigh(op: Any, inputs: Any, outputs: Any) -> None:
    (a,), (w, v) = inputs, outputs
    half = np.triu(a, 1) if op.upper else np.tril(a, -1)
    whole = half + adjoint(half) + np.triu(np.tril(a)).real
    near(v * w[..., None, :], whole @ v, a)
    near(adjoint(v) @ v, np.eye(a.shape[-1]), a)
    assert (np.diff(w) >= 0).all()


EIGH = OpSamples(
    spectral.Eigh,
    lambda op, a: (a, a),
    [
        Sample(spectral.Eigh(), (positive(3, 3),)),
        Sample(spectral.Eigh(), (rand(2, 3, 3, dtype=C128),), "one triangle"),
        Sample(spectral.Eigh(True), (rand(2, 3, 3, dtype=C128),), "the other"),
        Sample(spectral.Eigh(), (np.diag([1.0, 2.0]),), expected_grads=(np.eye(2),)),
        Sample(spectral.Eigh(), (strided(positive(3, 3, dtype=np.float32)),)),
        Sample(spectral.Eigh(), (rand(2, 0, 0),), "nothing"),
    ],
    square(spectral.Eigh()),
    check=is_eigh,
    onnx=NONE,
)

EIGVALSH = OpSamples(
    spectral.Eigvalsh,
    lambda op, a: np.linalg.eigvals(a).real[..., np.argsort(np.linalg.eigvals(a).real)],
    [
        Sample(spectral.Eigvalsh(), (positive(3, 3),), expected_grads=(np.eye(3),)),
        Sample(spectral.Eigvalsh(True), (positive(3, 3, dtype=C128),), expected_grads=(np.eye(3),)),
        Sample(spectral.Eigvalsh(), (positive(3, 3, dtype=np.float32),), tol=1e-4),
        Sample(spectral.Eigvalsh(), (rand(0, 0),), "nothing"),
    ],
    square(spectral.Eigvalsh()),
    onnx=NONE,
)


def is_eig(op: Any, inputs: Any, outputs: Any) -> None:
    (a,), (w, v) = inputs, outputs
    near(v * w[..., None, :], a @ v, a)
    near((v * v.conj()).sum(-2), np.ones(()), a)


DISTINCT = np.diag([1.0, 2.0, 4.0]) + 0.2 * rand(3, 3, dtype=F64)

EIG = OpSamples(
    spectral.Eig,
    lambda op, a: (a, a),
    [
        Sample(spectral.Eig(), (DISTINCT,), "real eigenvalues", grad=True),
        Sample(spectral.Eig(), (np.array([[0.0, 1.0], [-1.0, 0.0]]),), "complex eigenvalues"),
        Sample(spectral.Eig(), (rand(2, 3, 3, dtype=C128),)),
        Sample(spectral.Eig(), (strided(rand(3, 3)),)),
        Sample(spectral.Eig(), (rand(0, 0),), "nothing"),
    ],
    square(spectral.Eig()),
    check=is_eig,
    onnx=NONE,
)


def is_svd(op: Any, inputs: Any, outputs: Any) -> None:
    (a,), (u, s, vh) = inputs, outputs
    k = s.shape[-1]
    near((u[..., :k] * s[..., None, :]) @ vh[..., :k, :], a, a)
    near(adjoint(u) @ u, np.eye(u.shape[-1]), a)
    near(vh @ adjoint(vh), np.eye(vh.shape[-2]), a)
    assert (np.diff(s) <= 0).all()
    assert (s >= 0).all()


SVD = OpSamples(
    spectral.Svd,
    lambda op, a: (a, a, a),
    [
        Sample(spectral.Svd(), (rand(3, 3, dtype=F64),), grad=True, grad_tol=1e-5),
        Sample(spectral.Svd(), (rand(2, 4, 2, dtype=F64),), "tall", grad=True, grad_tol=1e-5),
        Sample(spectral.Svd(), (rand(2, 4, dtype=F64),), "wide", grad=True, grad_tol=1e-5),
        Sample(spectral.Svd(True), (rand(2, 4, dtype=F64),)),
        Sample(spectral.Svd(), (rand(2, 2, 3, dtype=C128),)),
        Sample(spectral.Svd(), (strided(rand(3, 4)),)),
        Sample(spectral.Svd(), (rand(3, 0),), "no columns"),
    ],
    [
        Refused(spectral.Svd(), (t("f32[3]"),), match="matrices"),
        Refused(spectral.Svd(), (t("i64[2, 2]"),), DTypeError, "floating"),
    ],
    check=is_svd,
    onnx=NONE,
)

SVDVALS = OpSamples(
    spectral.Svdvals,
    lambda op, a: np.sqrt(
        np.sort(np.linalg.eigvalsh(adjoint(a) @ a))[..., ::-1][..., : min(a.shape[-2:])].clip(0)
    ),
    [
        Sample(spectral.Svdvals(), (rand(3, 3, dtype=F64),), grad=True),
        Sample(spectral.Svdvals(), (rand(2, 4, 2, dtype=C128),), grad=True),
        Sample(spectral.Svdvals(), (rand(2, 4),), tol=1e-3),
        Sample(spectral.Svdvals(), (rand(0, 2, 2),), "no matrices"),
    ],
    [Refused(spectral.Svdvals(), (t("f32[3]"),), match="matrices")],
    onnx=NONE,
)

# -- determinants, inverses, exponentials ---------------------------------------------------------

FEW = "ONNX Runtime takes float32 only"

DET = OpSamples(
    matrix.Det,
    lambda op, x: np.linalg.det(x),
    [
        Sample(matrix.Det(), (regular(3, 3),), grad=True, runtime=FEW),
        Sample(matrix.Det(), (regular(2, 2, 2),), grad=True, runtime=FEW),
        Sample(matrix.Det(), (rand(2, 3, 4, 4),), tol=1e-4),
        Sample(matrix.Det(), (strided(rand(3, 3)),), tol=1e-4),
        Sample(
            matrix.Det(),
            (np.ones((2, 2), np.float32),),
            "singular",
            expected_grads=(np.array([[1, -1], [-1, 1]]),),
        ),
        Sample(matrix.Det(), (rand(0, 3, 3),), "no matrices"),
        Sample(matrix.Det(), (regular(2, 2, dtype=np.float16),), tol=1e-2, runtime=FEW),
        Sample(matrix.Det(), (regular(2, 2, dtype=bfloat16),), tol=1e-1, runtime=FEW),
        Sample(matrix.Det(), (regular(2, 2, dtype=C128),), grad=True, onnx="complex"),
    ],
    square(matrix.Det()),
)


def minors(_op: Any, x: Any) -> Any:
    """The determinants of all that remains without a row and a column."""
    n = x.shape[-1]
    out = np.zeros(x.shape, x.dtype)
    for i, j in np.ndindex(n, n):
        rest = np.delete(np.delete(x, i, -2), j, -1)
        out[..., j, i] = (-1) ** (i + j) * np.linalg.det(rest)
    return out


ADJUGATE = OpSamples(
    matrix.Adjugate,
    minors,
    [
        Sample(matrix.Adjugate(), (regular(3, 3),), grad=True),
        Sample(matrix.Adjugate(), (regular(2, 3, 3, dtype=C128),), grad=True),
        Sample(matrix.Adjugate(), (np.ones((3, 3)),), "of rank 1"),
        Sample(matrix.Adjugate(), (np.diag([1.0, 2.0, 0.0]),), "singular"),
        Sample(matrix.Adjugate(), (rand(4, 4),), tol=1e-3),
        Sample(matrix.Adjugate(), (rand(1, 1, dtype=F64),)),
        Sample(matrix.Adjugate(), (rand(0, 2, 2),), "no matrices"),
    ],
    square(matrix.Adjugate()),
    onnx=NONE,
)


def sign_and_log(_op: Any, x: Any) -> Any:
    det = np.linalg.det(x)
    return np.where(det == 0, 0, det / np.where(det == 0, 1, abs(det))), np.log(abs(det))


SLOG_DET = OpSamples(
    matrix.SlogDet,
    sign_and_log,
    [
        Sample(matrix.SlogDet(), (regular(3, 3),), grad=True),
        Sample(matrix.SlogDet(), (-regular(2, 3, 3),), grad=True),
        Sample(matrix.SlogDet(), (regular(2, 2, 2, dtype=C128),), grad=True),
        Sample(matrix.SlogDet(), (np.zeros((2, 2)),), "singular"),
        Sample(matrix.SlogDet(), (regular(3, 3, dtype=np.float32),), tol=1e-4),
    ],
    square(matrix.SlogDet()),
    onnx=NONE,
)


def inverse(op: Any, inputs: Any, outputs: Any) -> None:
    (a,), (x, info) = inputs, outputs
    if a.size and not np.linalg.det(a.astype(C128)).all():
        assert info
        assert not np.isfinite(x).all()
        return
    assert not info.any()
    near(a.astype(C128) @ x, np.eye(a.shape[-1]), a)


INVERSE = OpSamples(
    matrix.Inverse,
    lambda op, x: (x, x),
    [
        Sample(matrix.Inverse(), (regular(3, 3),), grad=True),
        Sample(matrix.Inverse(), (regular(2, 2, 2, dtype=C128),), grad=True),
        Sample(matrix.Inverse(), (regular(4, 4, dtype=np.float32),)),
        Sample(matrix.Inverse(), (np.ones((2, 2)),), "singular"),
        Sample(matrix.Inverse(), (regular(2, 2, dtype=np.float16),)),
        Sample(matrix.Inverse(), (rand(2, 0, 0),), "nothing"),
    ],
    square(matrix.Inverse()),
    check=inverse,
    onnx=NONE,
)


def solved(op: Any, inputs: Any, outputs: Any) -> None:
    (a, b), (x, info) = inputs, outputs
    if a.size and not np.linalg.det(a).all():
        assert int(info) == 2
        assert not np.isfinite(x).all()
        return
    assert not info.any()
    near(a @ x, b, a)


SOLVE = OpSamples(
    matrix.Solve,
    lambda op, a, b: (b, b),
    [
        Sample(matrix.Solve(), (regular(3, 3), rand(3, 2, dtype=F64)), grad=True),
        Sample(matrix.Solve(), (regular(3, 3), rand(2, 3, 2, dtype=F64)), grad=True),
        Sample(matrix.Solve(), (regular(2, 3, 3, dtype=C128), rand(3, 1, dtype=C128)), grad=True),
        Sample(matrix.Solve(), (strided(regular(4, 4, dtype=np.float32)), rand(4, 2))),
        Sample(matrix.Solve(), (rand(0, 0), rand(0, 2)), "nothing"),
    ],
    [
        Refused(matrix.Solve(), (t("f32[2, 3]"), t("f32[2, 2]")), match="square"),
        Refused(matrix.Solve(), (t("f32[2, 2]"), t("f32[3, 2]")), match="rows"),
        Refused(matrix.Solve(), (t("f32[2, 2]"), t("f32[2]")), match="rows"),
        Refused(matrix.Solve(), (t("f32[2, 2]"), t("f64[2, 2]")), DTypeError, "one dtype"),
    ],
    check=solved,
    onnx=NONE,
)


def is_pinv(op: Any, inputs: Any, outputs: Any) -> None:
    """Penrose's four conditions."""
    (a, _, _), (p,) = inputs, outputs
    if op.hermitian:
        a = np.tril(a, -1) + adjoint(np.tril(a))
    near(a @ p @ a, a, a)
    near(p @ a @ p, p, a)
    near(adjoint(a @ p), a @ p, a)
    near(adjoint(p @ a), p @ a, a)


TOLERANCES = (np.array(0.0), np.array(1e-12))

PINV = OpSamples(
    matrix.Pinv,
    lambda op, a, atol, rtol: a,
    [
        Sample(matrix.Pinv(), (regular(3, 3), *TOLERANCES), grad=True, grad_tol=1e-5),
        Sample(matrix.Pinv(), (regular(2, 2, 4), *TOLERANCES), "wide", grad=True, grad_tol=1e-5),
        Sample(matrix.Pinv(), (regular(4, 2, dtype=C128), *TOLERANCES), grad=True, grad_tol=1e-5),
        Sample(matrix.Pinv(), (np.ones((2, 3, 3)), np.zeros(2), np.array([1e-12])), "of rank 1"),
        Sample(matrix.Pinv(True), (positive(3, 3), *TOLERANCES)),
        Sample(matrix.Pinv(True), (np.ones((3, 3)), *TOLERANCES), "of rank 1"),
        Sample(matrix.Pinv(), (rand(3, 0, dtype=F64), *TOLERANCES), "nothing"),
    ],
    [
        Refused(matrix.Pinv(), (t("f32[3]"), t("f32[]"), t("f32[]")), match="matrices"),
        Refused(matrix.Pinv(True), (t("f32[2, 3]"), t("f32[]"), t("f32[]")), match="square"),
        Refused(matrix.Pinv(), (t("f32[2, 3]"), t("f32[2]"), t("f32[]")), match="tolerances"),
        Refused(matrix.Pinv(), (t("c64[2, 3]"), t("f64[]"), t("f32[]")), DTypeError, "tolerances"),
    ],
    check=is_pinv,
    no_grad=(1, 2),
    onnx=NONE,
)


def series(_op: Any, x: Any) -> Any:
    """The sum that defines it, of an argument halved often enough."""
    small, term = x / 2**10, np.broadcast_to(np.eye(x.shape[-1]), x.shape)
    y = term
    for k in range(1, 15):
        term = term @ small / k
        y = y + term
    for _ in range(10):
        y = y @ y
    return y


MATRIX_EXP = OpSamples(
    matrix.MatrixExp,
    series,
    [
        Sample(matrix.MatrixExp(), (rand(3, 3, dtype=F64),), tol=1e-9, grad=True),
        Sample(matrix.MatrixExp(), (rand(2, 2, 2, dtype=C128),), tol=1e-9, grad=True),
        Sample(matrix.MatrixExp(), (np.stack([np.zeros((3, 3)), 4 * regular(3, 3)]),), tol=1e-6),
        Sample(matrix.MatrixExp(), (rand(3, 3),), tol=1e-4),
        Sample(matrix.MatrixExp(), (rand(0, 2, 2),), "no matrices"),
    ],
    square(matrix.MatrixExp()),
    onnx=NONE,
)

SAMPLES = [
    EIGH,
    EIGVALSH,
    EIG,
    SVD,
    SVDVALS,
    DET,
    ADJUGATE,
    SLOG_DET,
    INVERSE,
    SOLVE,
    PINV,
    MATRIX_EXP,
]
