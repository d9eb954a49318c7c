"""Triangles, Cholesky, LU, QR and LDL.

Where a factorization is not unique, what is checked is what makes it one.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from dualgraph_compiler.errors import DTypeError
from dualgraph_compiler.ops import ldl, lu, orthogonal, triangular

from . import OpSamples, Refused, Sample, rand, strided, t
from ._matrices import C128, F64, NONE, adjoint, near, positive, regular, square

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
    LDL_FACTOR,
    LDL_SOLVE,
]
