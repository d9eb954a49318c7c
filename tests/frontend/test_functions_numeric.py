"""Divisors, float parts, running extremes, modes, histograms, differences: against PyTorch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from .parity import Side, array, check, compare, dg, refuses, torch


@pytest.mark.parametrize("name", ["cummax", "cummin", "logcumsumexp"])
def test_running(name: str) -> None:
    for dim in (0, 1, -1):
        check(name, array(3, 4, 2), dim)
    check(name, array(), 0)
    check(name, array(0, 3), 1)
    x = np.array([1.0, np.nan, 2.0, np.nan, -np.inf])
    check(name, x, 0, grad=False)
    if name != "logcumsumexp":
        check(name, np.array([2, 1, 1, 3, 3, 0]), 0)
        check(name, np.array([True, False, True]), 0)
    refuses(name, IndexError, array(3), 1)


def test_logcumsumexp_of_nothing() -> None:
    check("logcumsumexp", np.array([-np.inf, -np.inf, 0.0, 800.0]), 0, grad=False)
    check("logcumsumexp", array(4, dtype=np.complex128), 0)


def test_mode() -> None:
    x = np.array([[3, 3, 1, 1, 2], [5, 4, 4, 4, 5]])
    for dim in (0, 1):
        check("mode", x, dim)
        check("mode", x.astype(np.float64), dim, True)
    check("mode", array(), -1)


def test_whole_numbers() -> None:
    a, b = np.array([0, 12, -18, 7]), np.array([[0, 8, 27, -7], [4, 0, 6, 3]])
    for name in ("gcd", "lcm"):
        check(name, a, b)
        check(name, a.astype(np.uint8), np.uint8([3, 4, 9, 14]))


def test_float_parts() -> None:
    x = np.array([0.0, -3.0, 0.3, np.inf, np.nan, 1e-40])
    check("frexp", x, grad=False)
    check("frexp", np.array([5.0, -0.3]))
    result = dg.frexp(dg.tensor([6.0]))
    assert (result.mantissa.item(), result.exponent.item()) == (0.75, 3)
    check("nextafter", np.array([1.0, 2.0, 0.0]), np.array([2.0, 2.0, -1.0]))


def test_hash_tensor() -> None:
    for x in (array(3, 4), array(3, 4, dtype=np.float32), array(5, dtype=np.int8)):
        check("hash_tensor", x, grad=False)
    check("hash_tensor", array(3, 4), 1, keepdim=True, grad=False)
    refuses("hash_tensor", RuntimeError, array(3), mode=1)


@pytest.mark.parametrize(
    "options",
    [{}, {"bins": 4}, {"bins": 5, "min": -1.0, "max": 1.0}, {"bins": 3, "min": 2.0, "max": 9.0}],
)
def test_histc(options: Any) -> None:
    check("histc", array(40), grad=False, **options)
    check("histc", array(6, 7, dtype=np.float32), grad=False, **options)


def test_histc_at_its_limits() -> None:
    check("histc", np.array([2.0, 2.0]), bins=2, grad=False)
    check("histc", np.array([np.nan, 1.0, 3.0]), bins=3, min=0, max=3, grad=False)
    check("histc", np.zeros(0), bins=3, grad=False)
    refuses("histc", RuntimeError, np.array([np.nan, 1.0]))
    refuses("histc", RuntimeError, np.array([1.0]), bins=0)


@pytest.mark.parametrize("density", [False, True])
def test_histogram(density: bool) -> None:
    x, w = array(50), np.abs(array(50, seed=1))
    check("histogram", x, 6, density=density, grad=False)
    check("histogram", x, 6, range=(-1.0, 1.5), weight=w, density=density, grad=False)
    check("histogram", x, np.array([-2.0, -1.0, 0.5, 0.6]), density=density, grad=False)
    points = array(30, 2)

    def run(side: Side) -> Any:
        return side.module.histogramdd(
            side.tensor(points), [3, 4], range=[-1.0, 1.0, -2.0, 2.0], density=density
        )

    compare(run, "histogramdd", grad=False)


@pytest.mark.parametrize("order", [1, 2])
def test_gradient(order: int) -> None:
    x = array(4, 5)
    coordinates = [np.cumsum(np.abs(array(n)) + 0.1) for n in (4, 5)]
    for options in (
        {},
        {"dim": 1},
        {"dim": [1, 0], "spacing": [2.0, 0.5]},
        {"spacing": 3.0},
        {"spacing": coordinates},
    ):
        check("gradient", x, edge_order=order, **options)
    check("gradient", np.array([1, 4, 9, 16]), edge_order=order)
    refuses("gradient", RuntimeError, array(1), edge_order=order)
    refuses("gradient", RuntimeError, array(3, 3), spacing=[1.0])


def test_fill_and_zero() -> None:
    check("fill", array(2, 3), 7)
    check("fill", array(2, 3, dtype=np.int64), True)
    x = dg.ones(3)
    assert dg.zero_(x) is x
    assert dg.fill_(x, 2).tolist() == [2, 2, 2]


def test_ranges_of_integers() -> None:
    for side in (dg, torch):
        int64 = side.int64
        assert side.arange(0.0, -8.000001, -4.0, dtype=int64).tolist() == [0, -4]
        assert side.linspace(4.3, -3, 5, dtype=int64).tolist() == [4, 2, 0, -1, -3]
        assert side.logspace(0.5, 3.7, 5, dtype=int64).tolist() == [1, 5, 31, 177, 1000]


def test_compiled() -> None:
    def f(x: Any) -> Any:
        return x.cummax(1)[0] + x.logcumsumexp(1) + x.mode(1, True)[0] + x.histc(3, -1, 1).sum()

    x = dg.from_numpy(array(3, 4))
    np.testing.assert_allclose(dg.compile(f)(x).numpy(), f(x).numpy(), rtol=1e-12)
