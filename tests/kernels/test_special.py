"""Error and gamma functions against the C library, identities and tabulated values."""

from __future__ import annotations

import math
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from dualgraph_compiler.kernels import special

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
    error = np.abs(special.lgamma(np, x) - expected) / np.maximum(1, np.abs(expected))
    assert error.max() < 1e-14
    assert special.lgamma(np, np.array([1.0, 2.0])).tolist() == [0, 0]
    with np.errstate(divide="ignore"):
        step = special.digamma(np, x + 1) - special.digamma(np, x)
    close = np.abs(x) < 30
    np.testing.assert_allclose(step[close], 1 / x[close], atol=1e-12, rtol=1e-9)
    euler = 0.57721566490153286
    known = np.array([1.0, 0.5, 0.25])
    values = [-euler, -euler - 2 * math.log(2), -euler - math.pi / 2 - 3 * math.log(2)]
    np.testing.assert_allclose(special.digamma(np, known), values, rtol=1e-14)


def test_limits() -> None:
    x = np.array([np.inf, -np.inf, np.nan, 0.0, -0.0])
    for dtype in (np.float32, np.float64):
        v = x.astype(dtype)
        y = special.erf(np, v)
        np.testing.assert_array_equal(y, [1, -1, np.nan, 0, 0])
        assert np.signbit(y[4])
        np.testing.assert_array_equal(special.erfc(np, v), [0, 2, np.nan, 1, 1])
        inf, nan = np.inf, np.nan
        np.testing.assert_array_equal(special.lgamma(np, v), [inf, inf, nan, inf, inf])
        np.testing.assert_array_equal(special.digamma(np, v), [inf, nan, nan, -inf, inf])
    assert special.lgamma(np, np.array(-3.0)) == np.inf
    assert np.isnan(special.digamma(np, np.array(-3.0)))


@pytest.mark.parametrize("name", ["erf", "erfc", "erfinv", "lgamma", "digamma"])
@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", ml_dtypes.bfloat16])
def test_shapes_dtypes_and_inputs_kept(name: str, dtype: Any) -> None:
    f = getattr(special, name)
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


def test_against_torch() -> None:
    torch = pytest.importorskip("torch")
    x = torch.linspace(-5, 8, 3001, dtype=torch.float64)
    for name in ("erf", "erfc", "erfinv", "lgamma", "digamma"):
        expected = getattr(torch.special if name == "digamma" else torch, name)(x)
        got = getattr(special, name)(np, x.numpy())
        np.testing.assert_allclose(got, expected, rtol=1e-9, atol=1e-13)
