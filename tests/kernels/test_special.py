"""Error functions, gamma functions: the C library, identities and tabulated values."""

from __future__ import annotations

import math
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from dualgraph_compiler.kernels import gamma, incomplete_gamma, special

X = np.concatenate(
    [
        np.linspace(-6, 6, 4001),
        10.0 ** np.linspace(-300, 1, 500),
        -(10.0 ** np.linspace(-30, 1, 500)),
        [0.46875, 4.0, 5.99, 6.0, -0.46875, -4.0],
    ]
)


def ulps(got: Any, expected: Any, dtype: Any = np.float64) -> float:
    expected = np.asarray(expected, np.float64)
    spacing = np.spacing(np.abs(expected).astype(dtype)).astype(np.float64)
    return float(np.max(np.abs(np.asarray(got, np.float64) - expected) / spacing))


def by_element(f: Any, x: Any) -> Any:
    return np.array([f(float(v)) for v in x])


def test_erf_and_erfc_in_float64() -> None:
    assert ulps(special.erf(np, X), by_element(math.erf, X)) <= 4
    x = np.linspace(-6, 26, 4001)
    assert ulps(special.erfc(np, x), by_element(math.erfc, x)) <= 7


def test_erf_in_float32_rounds_once() -> None:
    x = X.astype(np.float32)
    assert ulps(special.erf(np, x), by_element(math.erf, x), np.float32) <= 1
    assert ulps(special.erfc(np, x), by_element(math.erfc, x), np.float32) <= 1


def test_erfinv_inverts_erf() -> None:
    # erf is flat in its tails: there its inverse is checked where erf does not saturate.
    y = np.linspace(-2, 2, 2001)
    np.testing.assert_allclose(special.erfinv(np, by_element(math.erf, y)), y, atol=2e-14)
    q = 10.0 ** np.linspace(-15, -1, 200)
    tail = special.erfinv(np, 1 - q)
    np.testing.assert_allclose(by_element(math.erfc, tail), 1 - (1 - q), rtol=1e-13)
    x = np.float32([-1, 1, 1.5, 0.25])
    expected = np.float32([-np.inf, np.inf, np.nan, 0.22531205501217808])
    np.testing.assert_array_equal(special.erfinv(np, x), expected)


def test_lgamma_and_digamma() -> None:
    x = np.concatenate([np.linspace(-9.99, 20, 997), 10.0 ** np.linspace(-8, 100, 100)])
    expected = by_element(math.lgamma, x)
    error = np.abs(gamma.lgamma(np, x) - expected) / np.maximum(1, np.abs(expected))
    assert error.max() < 1e-14
    assert gamma.lgamma(np, np.array([1.0, 2.0])).tolist() == [0, 0]
    with np.errstate(divide="ignore"):
        step = gamma.digamma(np, x + 1) - gamma.digamma(np, x)
    close = np.abs(x) < 30
    np.testing.assert_allclose(step[close], 1 / x[close], atol=1e-12, rtol=1e-9)
    euler = 0.57721566490153286
    known = np.array([1.0, 0.5, 0.25])
    values = [-euler, -euler - 2 * math.log(2), -euler - math.pi / 2 - 3 * math.log(2)]
    np.testing.assert_allclose(gamma.digamma(np, known), values, rtol=1e-14)


def test_limits() -> None:
    x = np.array([np.inf, -np.inf, np.nan, 0.0, -0.0])
    for dtype in (np.float32, np.float64):
        v = x.astype(dtype)
        y = special.erf(np, v)
        np.testing.assert_array_equal(y, [1, -1, np.nan, 0, 0])
        assert np.signbit(y[4])
        np.testing.assert_array_equal(special.erfc(np, v), [0, 2, np.nan, 1, 1])
        inf, nan = np.inf, np.nan
        np.testing.assert_array_equal(gamma.lgamma(np, v), [inf, inf, nan, inf, inf])
        np.testing.assert_array_equal(gamma.digamma(np, v), [inf, nan, nan, -inf, inf])
    assert gamma.lgamma(np, np.array(-3.0)) == np.inf
    assert np.isnan(gamma.digamma(np, np.array(-3.0)))


NAMES = ["erf", "erfc", "erfcx", "erfinv", "log_ndtr", "ndtri", "lgamma", "digamma"]


def kernel(name: str) -> Any:
    return getattr(gamma if name in ("lgamma", "digamma") else special, name)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", ml_dtypes.bfloat16])
def test_shapes_dtypes_and_inputs_kept(name: str, dtype: Any) -> None:
    f = kernel(name)
    x = np.linspace(0.01, 0.9, 60).reshape(3, 4, 5).astype(dtype)
    kept = x.copy()
    y = f(np, x)
    assert y.dtype == x.dtype
    assert y.shape == x.shape
    np.testing.assert_array_equal(x, kept)
    np.testing.assert_array_equal(f(np, x.transpose(2, 0, 1)), y.transpose(2, 0, 1))
    np.testing.assert_array_equal(f(np, x[::-1, 1]), y[::-1, 1])
    assert f(np, x[:0]).shape == (0, 4, 5)
    scalar = f(np, np.asarray(x[0, 0, 0]))
    assert scalar.shape == ()
    assert scalar == y[0, 0, 0]


def test_blocks_join() -> None:
    x = np.linspace(-3, 3, 100_001)
    y = special.erf(np, x)
    np.testing.assert_array_equal(y[40_000:50_000], special.erf(np, x[40_000:50_000]))


def test_scaled_and_logarithmic_tails() -> None:
    x = np.array([30.0, 1e3, 1e150, np.inf, -27.5, -np.inf])
    y = special.erfcx(np, x)
    # The asymptotic series 1 - 1/(2x^2) + 3/(4x^4), DLMF 7.12.1.
    series = (1 - 0.5 / x[:3] / x[:3] + 0.75 / x[:3] ** 2 / x[:3] ** 2) / (
        x[:3] * math.sqrt(math.pi)
    )
    np.testing.assert_allclose(y[:3], series, rtol=3e-9)
    assert y[3:].tolist() == [0.0, np.inf, np.inf]
    far = special.log_ndtr(np, np.array([-40.0, -1e200, 40.0, -np.inf]))
    assert far[0] == pytest.approx(-804.608442013754)  # R's pnorm(-40, log.p = TRUE)
    assert far[1:].tolist() == [-np.inf, 0.0, -np.inf]


def test_quantiles_of_the_normal_distribution() -> None:
    # Tabulated by A. Rukhin (NIST) and Wichura, AS 241.
    p = np.array([0.25, 0.001, 1e-20, 0.5, 0.975])
    z = [-0.6744897501960817, -3.090232306167813, -9.262340089798408, 0.0, 1.959963984540054]
    np.testing.assert_allclose(special.ndtri(np, p), z, rtol=1e-14)
    assert special.ndtri(np, np.array([0.0, 1.0])).tolist() == [-np.inf, np.inf]
    assert np.isnan(special.ndtri(np, np.array([-0.1, 1.1, np.nan]))).all()


def test_zeta_and_polygamma_have_their_known_values() -> None:
    s = np.array([2.0, 4.0, 2.0, 3.0])
    q = np.array([1.0, 1.0, 0.5, 1.0])
    known = [math.pi**2 / 6, math.pi**4 / 90, math.pi**2 / 2, 1.2020569031595943]
    np.testing.assert_allclose(gamma.zeta(np, s, q), known, rtol=1e-15)
    x = np.array([1.0, 0.25])
    catalan = 0.91596559417721902
    expected = [math.pi**2 / 6, math.pi**2 + 8 * catalan]
    np.testing.assert_allclose(gamma.polygamma(np, 1, x), expected, rtol=1e-15)
    # psi_n(x + 1) - psi_n(x) = (-1)^n n! x^(-n-1), on both sides of zero.
    x = np.linspace(-4.3, 6.1, 40)
    for n in (1, 2, 3):
        step = gamma.polygamma(np, n, x + 1) - gamma.polygamma(np, n, x)
        wanted = (-1) ** n * math.factorial(n) * x ** (-n - 1.0)
        np.testing.assert_allclose(step, wanted, rtol=1e-9, atol=1e-9)


def test_zeta_at_its_limits() -> None:
    inf, nan = math.inf, math.nan
    s = np.array([1.0, 0.5, 2.0, 2.0, 2.5, 2.0, nan, inf, inf, 2.0])
    q = np.array([3.0, 3.0, -1.0, -0.5, -0.5, inf, 1.0, 1.0, 2.0, 0.0])
    known = [inf, nan, inf, math.pi**2 / 2 + 4, nan, 0.0, nan, 1.0, 0.0, inf]
    np.testing.assert_allclose(gamma.zeta(np, s, q), known, rtol=1e-14)


def test_incomplete_gamma_functions_of_whole_and_half_numbers() -> None:
    x = np.concatenate([10.0 ** np.linspace(-8, 0, 30), np.linspace(0.1, 60, 200)])
    for a in (1, 2, 5, 15, 30):
        # Q(n, x) = exp(-x) sum of x^k / k! over k < n (DLMF 8.4.10).
        q = [math.exp(-v) * math.fsum(v**k / math.factorial(k) for k in range(a)) for v in x]
        got = incomplete_gamma.upper(np, np.full_like(x, a), x)
        np.testing.assert_allclose(got, q, rtol=2e-13)
    half = incomplete_gamma.lower(np, np.full_like(x, 0.5), x)
    np.testing.assert_allclose(half, by_element(math.erf, np.sqrt(x)), rtol=1e-14)


def test_incomplete_gamma_functions_join() -> None:
    a = np.geomspace(1e-3, 1e4, 120)
    x = a * np.linspace(0.3, 2.0, 35)[:, None]
    p, q = (
        f(np, np.broadcast_to(a, x.shape), x)
        for f in (incomplete_gamma.lower, incomplete_gamma.upper)
    )
    np.testing.assert_allclose(p + q, 1, atol=1e-14)
    # P(a, x) = P(a + 1, x) + x^a exp(-x) / gamma(a + 1), across the borders of the methods.
    later = incomplete_gamma.lower(np, np.broadcast_to(a + 1, x.shape), x)
    term = np.exp(a * np.log(x) - x - gamma.lgamma(np, a + 1))
    np.testing.assert_allclose(p, later + term, atol=2e-12)


def test_incomplete_gamma_functions_at_their_limits() -> None:
    inf, nan = math.inf, math.nan
    a = np.array([0.0, 2.0, 2.0, inf, 0.0, inf, -1.0, 1.0, nan])
    x = np.array([1.0, 0.0, inf, 1.0, 0.0, inf, 1.0, -1.0, 1.0])
    lower = [1.0, 0.0, 1.0, 0.0, nan, nan, nan, nan, nan]
    np.testing.assert_array_equal(incomplete_gamma.lower(np, a, x), lower)
    np.testing.assert_array_equal(incomplete_gamma.upper(np, a, x), 1 - np.array(lower))


def test_against_torch() -> None:
    torch = pytest.importorskip("torch")
    x = torch.linspace(-5, 8, 3001, dtype=torch.float64)
    for name in NAMES:
        expected = getattr(torch.special, {"lgamma": "gammaln"}.get(name, name))(x)
        got = kernel(name)(np, x.numpy())
        np.testing.assert_allclose(got, expected, rtol=1e-9, atol=1e-13)
