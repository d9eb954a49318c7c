"""Bessel and Airy functions: tabulated values, Wronskians, PyTorch."""

from __future__ import annotations

import math
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from dualgraph_compiler.kernels import bessel

NAMES = ["j0", "j1", "y0", "y1", "i0", "i1", "i0e", "i1e", "k0", "k1", "k0e", "k1e", "airy_ai"]
X = np.concatenate([np.geomspace(1e-8, 1e3, 400), [2.0, 5.0, 8.0, np.nextafter(8, 9)]])


def test_tabulated_values() -> None:
    """Abramowitz & Stegun, tables 9.1, 9.8 and 10.11."""
    x = np.array([1.0, 2.0, 10.0])
    table = {
        "j0": [0.765197686557967, 0.223890779141236, -0.245935764451348],
        "j1": [0.440050585744934, 0.576724807756873, 0.043472746168861],
        "y0": [0.088256964215677, 0.510375672649745, 0.055671167283599],
        "y1": [-0.781212821300289, -0.107032431540938, 0.249015424206954],
        "i0": [1.266065877752008, 2.279585302336067, 2815.716628466254],
        "i1": [0.565159103992485, 1.590636854637329, 2670.988303701255],
        "k0": [0.421024438240708, 0.113893872749533, 1.778006231616765e-5],
        "k1": [0.601907230197235, 0.139865881816522, 1.864877345382558e-5],
        "airy_ai": [0.135292416312881, 0.034924130423274, 1.104753255289869e-10],
    }
    for name, values in table.items():
        np.testing.assert_allclose(getattr(bessel, name)(np, x), values, atol=1e-15, rtol=2e-13)
    below = bessel.airy_ai(np, np.array([-1.0, -2.0, -10.0]))
    np.testing.assert_allclose(
        below, [0.535560883292352, 0.227407428201686, 0.040241234486444], atol=2e-15
    )


def test_wronskians() -> None:
    j0, j1, y0, y1 = (f(np, X) for f in (bessel.j0, bessel.j1, bessel.y0, bessel.y1))
    np.testing.assert_allclose((j1 * y0 - j0 * y1) * X * math.pi / 2, 1, rtol=5e-14)
    i0, i1, k0, k1 = (f(np, X) for f in (bessel.i0e, bessel.i1e, bessel.k0e, bessel.k1e))
    np.testing.assert_allclose((i0 * k1 + i1 * k0) * X, 1, rtol=1e-14)


def test_scaled_and_unscaled() -> None:
    x = X[X < 700]
    for plain, scaled, sign in (
        ("i0", "i0e", 1),
        ("i1", "i1e", 1),
        ("k0", "k0e", -1),
        ("k1", "k1e", -1),
    ):
        wanted = getattr(bessel, scaled)(np, x) * np.exp(sign * x)
        np.testing.assert_allclose(getattr(bessel, plain)(np, x), wanted, rtol=1e-14)


def test_airy_is_a_bessel_function_of_order_a_third() -> None:
    # Ai(x) = sqrt(x/3) K_1/3(zeta) / pi, K_1/3 by its integral (DLMF 9.6.2, 10.32.9).
    t, step = np.linspace(0, 9, 6001, retstep=True)
    for x in (0.5, 1.9, 2.1, 6.0, 20.0):
        zeta = 2 / 3 * x**1.5
        f = np.exp(-zeta * (np.cosh(t) - 1)) * np.cosh(t / 3)
        k = (f.sum() - f[0] / 2) * step * math.exp(-zeta)
        assert bessel.airy_ai(np, np.array(x)) == pytest.approx(
            math.sqrt(x / 3) * k / math.pi, rel=1e-12
        )


def test_limits() -> None:
    inf, nan = math.inf, math.nan
    x = np.array([0.0, -0.0, inf, -inf, nan, -1.0])
    limits = {
        "j0": [1, 1, nan, nan, nan, 0.7651976865579665],
        "y0": [-inf, -inf, nan, nan, nan, nan],
        "y1": [-inf, -inf, nan, nan, nan, nan],
        "i0": [1, 1, inf, inf, nan, 1.2660658777520084],
        "i1": [0, 0, inf, -inf, nan, -0.565159103992485],
        "i0e": [1, 1, 0, 0, nan, 0.46575960759364043],
        "k0": [inf, inf, 0, nan, nan, nan],
        "k1e": [inf, inf, 0, nan, nan, nan],
        "airy_ai": [0.3550280538878172, 0.3550280538878172, 0, nan, nan, 0.5355608832923522],
    }
    for name, values in limits.items():
        for dtype in (np.float32, np.float64):
            got = getattr(bessel, name)(np, x.astype(dtype))
            np.testing.assert_allclose(
                got, np.array(values, dtype), rtol=1e-15 if dtype is np.float64 else 1e-7
            )
    # I_0 is finite a little further than exp.
    assert np.isfinite(bessel.i0(np, np.array(712.0)))
    assert bessel.i0(np, np.array(720.0)) == inf


@pytest.mark.parametrize("name", NAMES)
def test_float32_rounds_once(name: str) -> None:
    x = np.linspace(0.1, 20, 2001).astype(np.float32)
    f = getattr(bessel, name)
    np.testing.assert_array_equal(f(np, x), f(np, x.astype(np.float64)).astype(np.float32))
    assert f(np, x.astype(ml_dtypes.bfloat16)).dtype == ml_dtypes.bfloat16


@pytest.mark.parametrize("name", NAMES)
def test_against_torch(name: str) -> None:
    torch = pytest.importorskip("torch")
    theirs: dict[str, Any] = {
        **{n: f"bessel_{n}" for n in ("j0", "j1", "y0", "y1")},
        **{n: f"modified_bessel_{n}" for n in ("k0", "k1")},
        **{f"{n}e": f"scaled_modified_bessel_{n}" for n in ("k0", "k1")},
    }
    x = np.linspace(0.01, 30, 3001)
    x = np.concatenate([-x, x]) if name[0] in "jia" else x
    expected = getattr(torch.special, theirs.get(name, name))(torch.from_numpy(x)).numpy()
    # PyTorch's own J, Y and Ai are off by up to 3e-6 in places; Wronskians and tables are not.
    loose = name[0] in "jya"
    tol = {"rtol": 1e-5, "atol": 3e-6} if loose else {"rtol": 3e-13, "atol": 0}
    np.testing.assert_allclose(getattr(bessel, name)(np, x), expected, **tol)
