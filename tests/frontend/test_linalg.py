"""dualgraph.linalg: gradients to second order, compiled functions, results, what is refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import dualgraph as dg
from dualgraph_compiler.errors import ArgumentError, AutogradError, DTypeError, ShapeError

la = dg.linalg
RNG = np.random.default_rng(3)
REAL = RNG.normal(size=(2, 3, 3)) + 3 * np.eye(3)
COMPLEX = REAL + 1j * RNG.normal(size=REAL.shape)
RIGHT = RNG.normal(size=(3, 2))
TALL = RNG.normal(size=(4, 3))
WEIGHTS = RNG.normal(size=(3, 3))


def hermitian(x: Any) -> Any:
    return x @ x.mH + dg.eye(3, dtype=x.dtype) * dg.arange(3).to(x.dtype)


def beside(x: Any, array: Any) -> Any:
    return dg.tensor(array).to(x.dtype)


def pieces(*found: Any) -> Any:
    """A real number that depends on every part of results, unevenly."""
    total = 0
    for y in found:
        y = dg.view_as_real(y) if y.is_complex() else y
        weights = np.cos(np.arange(y.numel())).reshape(tuple(y.shape)) + 1.5
        total = total + (y * dg.tensor(weights)).sum()
    return total


def eig(x: Any) -> Any:
    """By projections on eigenvectors, which do not depend on their lengths and phases."""
    w, v = la.eig(x)
    return pieces((v * (w * w).unsqueeze(-2)) @ la.inv(v))


def eigh(x: Any, uplo: str = "L") -> Any:
    w, v = la.eigh(hermitian(x), uplo)
    return pieces((v * w.exp().unsqueeze(-2)) @ v.mH, w)


def svd(x: Any, full: bool = False) -> Any:
    u, s, vh = la.svd(x, full)
    k = s.shape[-1]
    return pieces((u[..., :k] * s.sin().unsqueeze(-2).to(u.dtype)) @ vh[..., :k, :], s)


FUNCTIONS: dict[str, Callable[[Any], Any]] = {
    "cholesky": lambda x: pieces(la.cholesky(hermitian(x))),
    "cholesky upper": lambda x: pieces(la.cholesky(hermitian(x), upper=True)),
    "cholesky_inverse": lambda x: pieces(dg.cholesky_inverse(x.tril())),
    "cholesky_solve": lambda x: pieces(dg.cholesky_solve(beside(x, RIGHT), x.triu(), True)),
    "cond": lambda x: pieces(la.cond(x), la.cond(x, "fro")),
    "det": lambda x: pieces(la.det(x)),
    "eig": eig,
    "eigh": eigh,
    "eigh upper": lambda x: eigh(x, "U"),
    "eigvals": lambda x: pieces((la.eigvals(x) ** 3).sum(-1)),
    "eigvalsh": lambda x: pieces(la.eigvalsh(hermitian(x))),
    "householder_product": lambda x: pieces(la.householder_product(x.tril(-1), x[..., 0, :])),
    "inv": lambda x: pieces(la.inv(x)),
    "logdet": lambda x: pieces(dg.logdet(hermitian(x))),
    "lstsq": lambda x: pieces(la.lstsq(x, beside(x, RIGHT))[0]),
    "lu": lambda x: pieces(*la.lu(x)[1:]),
    "lu_solve": lambda x: pieces(
        la.lu_solve(*la.lu_factor(x), beside(x, RIGHT)),
        la.lu_solve(*la.lu_factor(x), beside(x, RIGHT).mT, left=False, adjoint=True),
    ),
    "matrix_exp": lambda x: pieces(la.matrix_exp(x / 3)),
    "matrix_norm": lambda x: pieces(*(la.matrix_norm(x, p) for p in ("fro", "nuc", 2, -2))),
    "matrix_power": lambda x: pieces(la.matrix_power(x, 3), la.matrix_power(x, -2)),
    "multi_dot": lambda x: pieces(
        la.multi_dot([x[0], beside(x, RIGHT), beside(x, RIGHT).mT, x[1]])
    ),
    "ormqr": lambda x: pieces(dg.ormqr(x.tril(-1), x[..., 0, :], beside(x, WEIGHTS) + 0 * x)),
    "pinv": lambda x: pieces(la.pinv(x[..., :2])),
    "qr": lambda x: pieces(*la.qr(x)),
    "qr wide": lambda x: pieces(*la.qr(x[..., :2, :], "complete")),
    "slogdet": lambda x: pieces(la.slogdet(x).logabsdet),
    "solve": lambda x: pieces(la.solve(x, beside(x, RIGHT)), la.solve(x, x.mT, left=False)),
    "solve_triangular": lambda x: pieces(
        la.solve_triangular(x, beside(x, RIGHT), upper=True),
        la.solve_triangular(x, beside(x, RIGHT).mT, upper=False, left=False),
    ),
    "svd": svd,
    "svd full": lambda x: svd(x[..., :2], True),
    "svdvals": lambda x: pieces(la.svdvals(x)),
    "tensorinv": lambda x: pieces(la.tensorinv(x[0].unsqueeze(-1), 1)),
    "tensorsolve": lambda x: pieces(la.tensorsolve(x[0], x[1, 0])),
    "vander": lambda x: pieces(la.vander(x[0, 0], 4)),
}

# Not differentiated twice: what has no second derivative at these points, or a rule that is the
# gradient of what a function means and not of what it reads.
ONCE = {"cholesky_inverse", "cholesky_solve"}


@pytest.mark.parametrize("start", [REAL, COMPLEX], ids=["real", "complex"])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_gradients(name: str, start: Any) -> None:
    function = FUNCTIONS[name]
    step = np.random.default_rng(4).normal(size=start.shape)
    if np.iscomplexobj(start):
        step = step + 1j * np.random.default_rng(5).normal(size=start.shape)

    def slope(f: Callable[[Any], Any]) -> float:
        ends = [f(dg.tensor(start + s * step)).item() for s in (1e-5, -1e-5)]
        return (ends[0] - ends[1]) / 2e-5

    def along(g: Any) -> float:
        return float((g.conj() * dg.tensor(step)).real.sum().item())

    x = dg.tensor(start, requires_grad=True)
    (g,) = dg.autograd.grad(function(x), x, create_graph=True)
    assert along(g) == pytest.approx(slope(function), rel=1e-5, abs=1e-6)
    if name in ONCE:
        return

    def squares(v: Any) -> Any:
        v.requires_grad_()
        (first,) = dg.autograd.grad(function(v), v, create_graph=True)
        return (first.abs() ** 2).sum()

    (second,) = dg.autograd.grad((g.abs() ** 2).sum(), x)
    assert along(second) == pytest.approx(slope(squares), rel=1e-4, abs=1e-5)


@pytest.mark.parametrize("name", ["eigh", "svd", "lu", "qr", "solve", "pinv", "lstsq", "det"])
def test_compiled(name: str) -> None:
    """The same values and gradients; matrices of any number and size are one trace."""
    function = FUNCTIONS[name]
    fast = dg.compile(function)
    for dtype in (np.float64, np.complex128):
        x = dg.tensor(COMPLEX.astype(dtype) if dtype is np.complex128 else REAL, requires_grad=True)
        want = function(x)
        got = fast(x)
        assert got.item() == pytest.approx(want.item(), rel=1e-9)
        a, b = (dg.autograd.grad(y, x)[0].numpy() for y in (got, want))
        np.testing.assert_allclose(a, b, rtol=1e-7, atol=1e-9)


def test_symbolic_sizes() -> None:
    def whitened(x: Any) -> Any:
        low = la.cholesky(x @ x.mT + dg.eye(x.shape[-1]))
        return la.solve_triangular(low, x, upper=False), la.qr(x)[1], la.det(x @ x.mT)

    graph = dg.trace(whitened, dg.randn(3, 3), dynamic_shapes={"x": {0: "n", 1: "n"}})
    from dualgraph_compiler.graph import interpret

    for n in (2, 5):
        x = RNG.normal(size=(n, n)).astype(np.float32)
        for a, b in zip(interpret(graph, [x]), whitened(dg.tensor(x))):
            np.testing.assert_allclose(a, b.numpy(), rtol=1e-4, atol=1e-4)


def test_batched_and_differentiated_forward() -> None:
    x = dg.tensor(REAL)
    for function in (la.inv, la.det, lambda v: la.solve(v, v.mT), lambda v: la.cholesky(v @ v.mT)):
        want = dg.stack([function(v) for v in x]).numpy()
        np.testing.assert_allclose(dg.func.vmap(function)(x).numpy(), want, rtol=1e-10)
        _, slope = dg.func.jvp(function, (x,), (x * 0.1,))
        change = (function(x * (1 + 1e-7)) - function(x * (1 - 1e-7))) / 2e-6
        np.testing.assert_allclose(slope.numpy(), change.numpy(), rtol=1e-5, atol=1e-5)


def test_errors_name_what_is_wrong() -> None:
    singular = dg.zeros(2, 2)
    for call in (la.inv, la.lu_factor, la.cholesky, lambda x: la.solve(x, x), dg.inverse):
        with pytest.raises(la.LinAlgError):
            call(singular)
    with pytest.raises(RuntimeError, match="Batch element 1"):
        la.inv(dg.stack([dg.eye(2), singular]))
    with pytest.raises(ShapeError, match="square"):
        la.det(dg.ones(2, 3))
    with pytest.raises(ShapeError, match="at least 2"):
        la.svd(dg.ones(3))
    with pytest.raises(DTypeError, match="floating"):
        la.qr(dg.ones(2, 2, dtype=dg.int64))
    with pytest.raises(ArgumentError, match="mode"):
        la.qr(dg.ones(2, 2), "other")
    with pytest.raises(ArgumentError, match="UPLO"):
        la.eigh(dg.eye(2), "X")
    x = dg.tensor(TALL, requires_grad=True)
    q, _ = la.qr(x, "complete")
    with pytest.raises(AutogradError, match="complete"):
        q.sum().backward()
    found, info = la.inv_ex(singular)
    assert info.item() == 1
    assert info.dtype is dg.int32
    assert not found.isfinite().all()


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_numbers_that_are_not_finite(bad: float) -> None:
    """Are results where LAPACK gives some, and errors where its iterations do not end."""
    x = dg.tensor(np.diag([1.0, bad, 2.0]))
    assert not la.det(x).isfinite()
    assert not la.matrix_exp(x).isfinite().all()
    assert not la.lu_factor(x).LU.isfinite().all()
    for call in (la.eig, la.eigvalsh, *([la.svd, la.svdvals, la.pinv] if bad != bad else [])):
        with pytest.raises(la.LinAlgError):
            call(x)


def test_named_results_and_out() -> None:
    x = dg.tensor(REAL[0])
    assert la.svd(x)._fields == ("U", "S", "Vh")
    assert dg.svd(x)._fields == ("U", "S", "V")
    assert la.eigh(x)._fields == ("eigenvalues", "eigenvectors")
    assert la.lstsq(x, x)._fields == ("solution", "residuals", "rank", "singular_values")
    assert dg.slogdet(x).sign.item() == np.linalg.slogdet(REAL[0])[0]
    out = dg.empty(3, 3, dtype=dg.float64)
    assert la.inv(x, out=out) is out
    np.testing.assert_allclose(out.numpy(), np.linalg.inv(REAL[0]))
    q, r = dg.empty(3, 3, dtype=dg.float64), dg.empty(3, 3, dtype=dg.float64)
    la.qr(x, out=(q, r))
    np.testing.assert_allclose((q @ r).numpy(), REAL[0])


def test_least_squares_of_low_rank() -> None:
    """Of all solutions the shortest, and the rank that it was taken for."""
    a = TALL[:, :2] @ RNG.normal(size=(2, 3))
    b = RNG.normal(size=(4, 2))
    for driver in ("gelsd", "gelss", "gelsy", "gels", None):
        found = la.lstsq(dg.tensor(a), dg.tensor(b), driver=driver)
        want = np.linalg.lstsq(a, b, rcond=None)
        np.testing.assert_allclose(found.solution.numpy(), want[0], atol=1e-10)
        if driver != "gels":
            assert found.rank.item() == 2
        if driver == "gelsd":
            np.testing.assert_allclose(found.singular_values.numpy(), want[3], atol=1e-10)
    assert la.matrix_rank(dg.tensor(a)).item() == 2
    assert la.matrix_rank(dg.tensor(a @ a.T), hermitian=True).item() == 2


def test_low_rank_approximations() -> None:
    dg.manual_seed(0)
    a = RNG.normal(size=(20, 3)) @ RNG.normal(size=(3, 12))
    u, s, v = dg.svd_lowrank(dg.tensor(a), 4)
    np.testing.assert_allclose(((u * s) @ v.mT).numpy(), a, atol=1e-9)
    u, s, v = dg.pca_lowrank(dg.tensor(a + 5), 3)
    np.testing.assert_allclose(((u * s) @ v.mT).numpy(), a - a.mean(0), atol=1e-9)


def test_singular_matrices_have_determinants_with_gradients() -> None:
    x = dg.tensor(np.diag([1.0, 2.0, 0.0]), requires_grad=True)
    x.det().backward()
    np.testing.assert_allclose(x.grad.numpy(), np.diag([0.0, 0.0, 2.0]), atol=1e-12)
