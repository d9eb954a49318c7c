"""Factorizations, determinants, inverses and functions of matrices.

Where a factorization is not unique, what is checked is what makes it one.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from dualgraph_compiler.errors import DTypeError
from dualgraph_compiler.ops import ldl, lu, matrix, orthogonal, spectral, triangular

from . import OpSamples, Refused, Sample, bfloat16, rand, strided, t

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


# -- triangles ------------------------------------------------------------------------------------


def triangle(op: Any, a: Any) -> Any:
    a = np.triu(a, int(op.unit)) if op.upper else np.tril(a, -int(op.unit))
    return a + np.eye(a.shape[-1]) if op.unit else a


SOLVE_TRIANGULAR = OpSamples(
    triangular.SolveTriangular,
    lambda op, a, b: np.linalg.solve(triangle(op, a), b) if a.size else b,
    [
        *(
            Sample(
                triangular.SolveTriangular(upper, unit),
                (regular(2, 3, 3, dtype=dtype), rand(2, 3, 2, dtype=dtype)),
                grad=True,
            )
            for upper in (True, False)
            for unit in (True, False)
            for dtype in (F64, C128)
        ),
        Sample(
            triangular.SolveTriangular(True), (regular(3, 3), rand(2, 3, 1, dtype=F64)), grad=True
        ),
        Sample(
            triangular.SolveTriangular(False),
            (strided(regular(80, 80) + 30 * np.eye(80)), rand(80, 3, dtype=F64)),
            "in blocks",
        ),
        Sample(triangular.SolveTriangular(True), (rand(0, 0), rand(0, 3)), "nothing"),
        Sample(
            triangular.SolveTriangular(True),
            (regular(3, 3, dtype=np.float16), rand(3, 2, dtype=np.float16)),
            tol=1e-2,
        ),
    ],
    [
        Refused(triangular.SolveTriangular(True), (t("f32[2, 3]"), t("f32[2, 2]")), match="square"),
        Refused(triangular.SolveTriangular(True), (t("f32[2, 2]"), t("f32[3, 2]")), match="rows"),
        Refused(
            triangular.SolveTriangular(True),
            (t("f32[2, 2]"), t("f64[2, 2]")),
            DTypeError,
            "one dtype",
        ),
    ],
    onnx=NONE,
)


def cholesky(op: Any, a: Any) -> Any:
    """Row by row, of one matrix after the other."""
    low, info = np.zeros(a.shape, a.dtype), np.zeros(a.shape[:-2])
    for at in np.ndindex(a.shape[:-2]):
        x = a[at].conj().T if op.upper else a[at]
        for i, j in np.ndindex(x.shape):
            if j > i:
                continue
            rest = x[i, j] - low[at][i, :j] @ low[at][j, :j].conj()
            low[at][i, j] = np.sqrt(rest.real) if i == j else rest / low[at][j, j]
    return adjoint(low) if op.upper else low, info


def partial_cholesky(op: Any, inputs: Any, outputs: Any) -> None:
    if inputs[0].shape == (3, 3) and inputs[0][2, 2] < 0:
        assert int(outputs[1]) == 3
        near(outputs[0][:2, :2], np.linalg.cholesky(inputs[0][:2, :2]), inputs[0])
        return
    for got, want in zip(outputs, cholesky(op, inputs[0].astype(C128))):
        near(np.asarray(got), np.asarray(want), inputs[0])


INDEFINITE = np.diag([1.0, 2.0, -1.0])

CHOLESKY = OpSamples(
    triangular.Cholesky,
    cholesky,
    [
        Sample(triangular.Cholesky(), (positive(3, 3),)),
        Sample(triangular.Cholesky(True), (positive(3, 3),)),
        Sample(triangular.Cholesky(), (positive(2, 3, 3, dtype=C128),)),
        Sample(triangular.Cholesky(True), (positive(2, 3, 3, dtype=C128),)),
        Sample(triangular.Cholesky(), (np.eye(3),), expected_grads=(np.full((3, 3), 0.5),)),
        Sample(triangular.Cholesky(), (INDEFINITE,), "one that is not positive-definite"),
        Sample(triangular.Cholesky(), (positive(3, 3) + np.triu(rand(3, 3), 1),), "one triangle"),
        Sample(triangular.Cholesky(), (rand(2, 0, 0),), "nothing"),
        Sample(triangular.Cholesky(), (np.eye(2, dtype=np.float16) * 4,)),
    ],
    square(triangular.Cholesky()),
    check=partial_cholesky,
    onnx=NONE,
)

CHOLESKY_SOLVE = OpSamples(
    triangular.CholeskySolve,
    lambda op, a, b: (
        np.linalg.solve(adjoint(np.triu(a)) @ np.triu(a), b)
        if op.upper
        else np.linalg.solve(np.tril(a) @ adjoint(np.tril(a)), b)
    ),
    [
        Sample(triangular.CholeskySolve(), (regular(3, 3), rand(2, 3, 2, dtype=F64))),
        Sample(triangular.CholeskySolve(True), (regular(3, 3, dtype=C128), rand(3, 2, dtype=C128))),
        Sample(
            triangular.CholeskySolve(),
            (np.array([[2.0]]), np.array([[3.0]])),
            expected_grads=(np.array([[-0.75]]), np.array([[0.25]])),
        ),
        Sample(triangular.CholeskySolve(), (rand(0, 0), rand(0, 1)), "nothing"),
    ],
    [Refused(triangular.CholeskySolve(), (t("f32[2, 2]"), t("f32[3, 2]")), match="rows")],
    onnx=NONE,
)

# -- LU -------------------------------------------------------------------------------------------


def eliminated(_op: Any, a: Any) -> Any:
    """As in a textbook, one matrix after the other."""
    x = np.array(a)
    k = min(x.shape[-2:])
    pivots, info = np.zeros((*x.shape[:-2], k)), np.zeros(x.shape[:-2])
    for at in np.ndindex(x.shape[:-2]):
        m = x[at]
        for j in range(k):
            p = j + int(np.argmax(abs(m[j:, j].real) + abs(m[j:, j].imag)))
            pivots[at][j] = p + 1
            m[[j, p]] = m[[p, j]]
            if m[j, j] == 0:
                info[at] = info[at] or j + 1
                continue
            for i in range(j + 1, len(m)):
                m[i, j] /= m[j, j]
                m[i, j + 1 :] -= m[i, j] * m[j, j + 1 :]
    return x, pivots, info


LU_FACTOR = OpSamples(
    lu.LuFactor,
    eliminated,
    [
        Sample(lu.LuFactor(), (rand(3, 3, dtype=F64),), grad=True),
        Sample(lu.LuFactor(), (rand(2, 3, 3, dtype=C128),), grad=True),
        Sample(lu.LuFactor(), (rand(2, 4, dtype=F64),), "wide", grad=True),
        Sample(lu.LuFactor(), (rand(2, 4, 2, dtype=C128),), "tall", grad=True),
        Sample(lu.LuFactor(), (rand(70, 50, dtype=F64),), "in blocks"),
        Sample(lu.LuFactor(), (rand(2, 40, 70, dtype=F64),), "in blocks"),
        Sample(lu.LuFactor(), (np.zeros((2, 3, 3)),), "singular"),
        Sample(lu.LuFactor(), (np.diag([1.0, 0.0, 2.0]),), "a pivot of zero"),
        Sample(lu.LuFactor(), (strided(rand(3, 3)),), tol=1e-4),
        Sample(lu.LuFactor(), (rand(0, 3, 3),), "no matrices"),
        Sample(lu.LuFactor(), (rand(3, 0),), "no columns"),
    ],
    [
        Refused(lu.LuFactor(), (t("f32[3]"),), match="matrices"),
        Refused(lu.LuFactor(), (t("i64[2, 2]"),), DTypeError, "floating"),
    ],
    onnx=NONE,
)


def exchanged(op: Any, pivots: Any) -> Any:
    out = np.zeros((*pivots.shape[:-1], op.n), np.int64)
    for at in np.ndindex(pivots.shape[:-1]):
        order = list(range(op.n))
        for i, p in enumerate(pivots[at]):
            order[i], order[p - 1] = order[p - 1], order[i]
        out[at] = np.argsort(order) if op.inverse else order
    return out


PIVOTS = np.array([[2, 4, 3], [3, 3, 3]], np.int32)

PIVOTS_TO_PERMUTATION = OpSamples(
    lu.PivotsToPermutation,
    exchanged,
    [
        *(Sample(lu.PivotsToPermutation(4, inverse), (PIVOTS,)) for inverse in (True, False)),
        Sample(lu.PivotsToPermutation(4), (PIVOTS[0],)),
        Sample(lu.PivotsToPermutation(3), (PIVOTS[:, :0],), "none"),
    ],
    [
        Refused(lu.PivotsToPermutation(3), (t("i64[3]"),), DTypeError, "int32"),
        Refused(lu.PivotsToPermutation(3), (t("i32[]"),), match="0-d"),
    ],
    onnx=NONE,
)

# -- QR -------------------------------------------------------------------------------------------


def is_qr(op: Any, inputs: Any, outputs: Any) -> None:
    (a,), (q, r) = inputs, outputs
    near(q.astype(C128) @ r.astype(C128), a, a)
    near(adjoint(q.astype(C128)) @ q, np.eye(q.shape[-1]), a)
    assert not np.tril(r.astype(C128), -1).any()


QR = OpSamples(
    orthogonal.Qr,
    lambda op, a: (a, a),
    [
        Sample(orthogonal.Qr(), (regular(3, 3),), grad=True),
        Sample(orthogonal.Qr(), (regular(2, 4, 3, dtype=C128),), "tall", grad=True),
        Sample(orthogonal.Qr(), (regular(2, 2, 4),), "wide", grad=True),
        Sample(orthogonal.Qr(True), (regular(2, 4, dtype=C128),), "wide", grad=True),
        Sample(orthogonal.Qr(), (strided(regular(3, 3, dtype=np.float32)),)),
        Sample(orthogonal.Qr(), (rand(3, 0),), "no columns"),
        Sample(orthogonal.Qr(), (rand(0, 2, 2),), "no matrices"),
    ],
    [
        Refused(orthogonal.Qr(), (t("f32[3]"),), match="matrices"),
        Refused(orthogonal.Qr(), (t("i64[2, 2]"),), DTypeError, "floating"),
    ],
    check=is_qr,
    onnx=NONE,
)


def reflected(op: Any, inputs: Any, outputs: Any) -> None:
    (a,), (h, tau) = inputs, outputs
    m = a.shape[-2]
    for at in np.ndindex(a.shape[:-2]):
        q = np.eye(m, dtype=C128)
        for i, scale in enumerate(tau[at]):
            v = np.concatenate([np.zeros(i), [1], h[at][i + 1 :, i]])
            q = q @ (np.eye(m) - scale * np.outer(v, v.conj()))
        near(q @ np.triu(h[at]), a[at], a)
        near(adjoint(q) @ q, np.eye(m), a)


GEQRF = OpSamples(
    orthogonal.Geqrf,
    lambda op, a: (a, a),
    [
        Sample(orthogonal.Geqrf(), (regular(3, 3),)),
        Sample(orthogonal.Geqrf(), (regular(2, 4, 3, dtype=C128),)),
        Sample(orthogonal.Geqrf(), (regular(2, 4),)),
        Sample(orthogonal.Geqrf(), (rand(3, 0),), "no columns"),
    ],
    [Refused(orthogonal.Geqrf(), (t("f32[3]"),), match="matrices")],
    check=reflected,
    onnx=NONE,
)

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

# -- LDL ------------------------------------------------------------------------------------------


def solves(op: Any, inputs: Any, outputs: Any) -> None:
    """What is packed solves the systems of the matrix that was factored."""
    (a,), (packed, pivots, info) = inputs, outputs
    whole = np.tril(a) + (adjoint if op.conjugated else lambda v: np.swapaxes(v, -1, -2))(
        np.tril(a, -1)
    )
    if op.conjugated:
        whole = whole - 1j * np.triu(np.tril(a)).imag
    if a.size and not np.linalg.det(whole).all():
        assert info.any()
        return
    one = np.broadcast_to(np.eye(a.shape[-1], dtype=a.dtype), a.shape)
    x = ldl.LdlSolve(op.conjugated).eager(np, packed, pivots, one)
    near(whole @ x, one, a)
    assert not np.triu(packed, 1).any()


BLOCKS = np.array([[0.0, 1.0, 2.0], [1.0, 0.0, 3.0], [2.0, 3.0, 0.0]])

LDL_FACTOR = OpSamples(
    ldl.LdlFactor,
    lambda op, a: (a, a, a),
    [
        Sample(ldl.LdlFactor(), (rand(2, 5, 5, dtype=F64),)),
        Sample(ldl.LdlFactor(), (rand(4, 4, dtype=C128),)),
        Sample(ldl.LdlFactor(True), (rand(2, 5, 5, dtype=C128),)),
        Sample(ldl.LdlFactor(), (BLOCKS,), "blocks of two rows"),
        Sample(ldl.LdlFactor(), (np.zeros((2, 2)),), "singular"),
        Sample(ldl.LdlFactor(), (rand(0, 0),), "nothing"),
    ],
    square(ldl.LdlFactor()),
    check=solves,
    onnx=NONE,
)


def is_solution(op: Any, inputs: Any, outputs: Any) -> None:
    (_, _, b), (x,) = inputs, outputs
    near(BLOCKS @ x, b, b)


FACTORED = ldl.LdlFactor().eager(np, BLOCKS)[:2]

LDL_SOLVE = OpSamples(
    ldl.LdlSolve,
    lambda op, a, p, b: b,
    [
        Sample(ldl.LdlSolve(), (*FACTORED, rand(3, 2, dtype=F64))),
        Sample(ldl.LdlSolve(), (*FACTORED, rand(2, 3, 2, dtype=F64))),
        Sample(ldl.LdlSolve(True), (*FACTORED, rand(3, 0, dtype=F64)), "nothing"),
    ],
    [
        Refused(
            ldl.LdlSolve(), (t("f32[2, 2]"), t("i32[3]"), t("f32[2, 1]")), match="pivot for each"
        ),
        Refused(ldl.LdlSolve(), (t("f32[2, 2]"), t("i64[2]"), t("f32[2, 1]")), DTypeError, "int32"),
    ],
    check=is_solution,
    onnx=NONE,
)

SAMPLES = [
    SOLVE_TRIANGULAR,
    CHOLESKY,
    CHOLESKY_SOLVE,
    LU_FACTOR,
    PIVOTS_TO_PERMUTATION,
    QR,
    GEQRF,
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
    LDL_FACTOR,
    LDL_SOLVE,
]
