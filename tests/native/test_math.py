"""The vector functions against float64, over all of float32: their stated errors hold."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest

from dualgraph_compiler.graph import interpret, parse_graph
from dualgraph_compiler.kernels import bessel, gamma, special
from dualgraph_compiler.native import build
from dualgraph_runtime.native import compile_graph

pytestmark = pytest.mark.compiler

Function = Callable[[Any], Any]

# Of each function: float64's own, and the error stated beside it in dualgraph_compiler/native.
FUNCTIONS: dict[str, tuple[Function, float]] = {
    "exp": (np.exp, 1.1),
    "exp2": (np.exp2, 1.5),
    "expm1": (np.expm1, 2.0),
    "log": (np.log, 1.0),
    "log2": (np.log2, 2.0),
    "log10": (np.log10, 2.0),
    "log1p": (np.log1p, 2.0),
    "tanh": (np.tanh, 6.0),
    "sigmoid": (lambda x: np.where(x < -88.376, 0, 1 / (1 + np.exp(-x))), 3.0),
    "erf": (np.vectorize(math.erf, otypes=[np.float64]), 5.1),
    "sin": (np.sin, 2.5),
    "cos": (np.cos, 2.5),
    "tan": (np.tan, 4.0),
    "asin": (np.arcsin, 3.0),
    "acos": (np.arccos, 2.5),
    "atan": (np.arctan, 3.5),
    "sinh": (np.sinh, 3.0),
    "cosh": (np.cosh, 3.0),
    "asinh": (np.arcsinh, 4.0),
    "acosh": (np.arccosh, 3.0),
    "atanh": (np.arctanh, 3.0),
    "erfc": (np.vectorize(math.erfc, otypes=[np.float64]), 1.0),
    **{name: (partial(getattr(special, name), np), 1.0) for name in ("erfcx", "log_ndtr")},
    "ndtri": (partial(special.ndtri, np), 5.0),
    "erfinv": (partial(special.erfinv, np), 4.0),
    "lgamma": (partial(gamma.lgamma, np), 1.0),
    **{name: (partial(getattr(bessel, name), np), 1.0) for name in ("i0", "i0e", "i1", "i1e")},
}

SPECIAL = [0.0, -0.0, 1.0, -1.0, math.inf, -math.inf, math.nan, 1e-45, -1e-45, 1.17549435e-38]
SPECIAL += [
    1.0000001,
    0.99999994,
    12800.0,
    12801.5,
    88.72284,
    88.8,
    -87.4,
    -103.9,
    -104.1,
    128.0,
    -126.5,
    -149.5,
    3.4028235e38,
    0.625,
    3.92,
]


def samples() -> np.ndarray[Any, Any]:
    """Float32 numbers of every size and sign, and those where something happens."""
    bits = np.arange(0, 2**32, 6521, dtype=np.uint64).astype(np.uint32)
    near = np.linspace(-20, 20, 60_001, dtype=np.float32)
    return np.concatenate([bits.view(np.float32), near, np.array(SPECIAL, np.float32)])


def ulps(got: np.ndarray[Any, Any], want: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The error in units in the last place of float32; 0 where both overflow alike."""
    rounded = want.astype(np.float32)
    size = np.maximum(np.spacing(np.abs(rounded)), np.float32(1e-45)).astype(np.float64)
    size[~np.isfinite(size)] = 2.0**104
    error = np.abs(got.astype(np.float64) - want) / size
    same = (got == rounded) | (np.isnan(got) & np.isnan(want))
    return np.where(same, 0.0, error)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_stated_errors_hold(name: str) -> None:
    reference, bound = FUNCTIONS[name]
    graph = parse_graph(f"""
graph g(%x: f32[n]):
  %1: f32[n] = {name}(%x)
  return %1 as output
""")
    x = samples()
    (y,) = compile_graph(graph).run([x])
    with np.errstate(all="ignore"):
        want = reference(x.astype(np.float64))
        error = ulps(y, want)
    worst = int(np.argmax(np.where(np.isnan(error), np.inf, error)))
    assert error[worst] <= bound, (
        f"{error[worst]} ulp at {x[worst]!r}: {y[worst]!r}, {want[worst]!r}"
    )


@pytest.mark.parametrize("name", FUNCTIONS)
def test_an_element_is_the_same_wherever_it_stands(name: str) -> None:
    """In a whole vector, in what is left over, alone."""
    graph = parse_graph(f"""
graph g(%x: f32[n], %y: f32[]):
  %1: f32[n] = {name}(%x)
  %2: f32[] = {name}(%y)
  return %1 as output, %2 as alone
""")
    run = compile_graph(graph)
    x = np.array([0.3, -1.7, 5.0, 0.01, 2.5, -30.0, 1e-3, 11.0, 0.7], np.float32)
    with np.errstate(all="ignore"):
        whole, _ = run.run([np.tile(x, 8), x[0]])
        for i in range(len(x)):
            short, alone = run.run([x[: i + 1], x[i]])
            np.testing.assert_array_equal(short, whole[: i + 1])
            np.testing.assert_array_equal(alone, whole[i])


def test_softmax_has_its_exponentials() -> None:
    """Of numbers that are not positive: within 5 ulp, 0 below the normal range."""
    graph = parse_graph("""
graph g(%x: f32[n, 2]):
  %1: f32[n, 1] = max(%x, axes=(1,), keepdims=True)
  %2: f32[n, 2] = sub(%x, %1)
  %3: f32[n, 2] = exp(%2)
  return %3 as output
""")
    assert "exp_nonpositive" in build(graph).text
    x_ = -np.abs(samples())
    x_ = x_[~np.isnan(x_)]
    (pairs,) = compile_graph(graph).run([np.stack([np.zeros_like(x_), x_], 1)])
    y = pairs[:, 1]
    with np.errstate(all="ignore"):
        want = np.exp(x_.astype(np.float64))
    normal = ~(x_ < -87.3)
    assert ulps(y[normal], want[normal]).max() <= 5.0
    assert not y[~normal].any()


@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
def test_softmax_of_what_is_not_finite(name: str) -> None:
    graph = parse_graph(f"""
graph g(%x: f32[n, 19]):
  %1: f32[n, 19] = {name}(%x, axis=1)
  return %1 as output
""")
    assert "exp_nonpositive" in build(graph).text
    x = np.random.default_rng(0).normal(size=(9, 19)).astype(np.float32) * 30
    x[0, 3], x[1, 4], x[2, 5] = -math.inf, math.inf, math.nan
    x[3], x[4], x[5, 2:], x[6] = -math.inf, math.inf, -math.inf, -3e38
    (y,) = compile_graph(graph).run([x])
    with np.errstate(all="ignore"):
        (want,) = interpret(graph, [x])
    np.testing.assert_allclose(y, want, rtol=2e-6, atol=1e-37)
