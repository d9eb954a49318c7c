"""Activations against their formulas in float64, and at their limits."""

from __future__ import annotations

import math
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from dualgraph_compiler.kernels import activations

REFERENCES = {
    "sigmoid": lambda v: 1 / (1 + math.exp(-v)),
    "silu": lambda v: v / (1 + math.exp(-v)),
    "log_sigmoid": lambda v: -math.log1p(math.exp(-v)),
    "softplus": lambda v: math.log1p(math.exp(v)) if v <= 20 else v,
    "mish": lambda v: v * math.tanh(math.log1p(math.exp(v))),
    "gelu": lambda v: 0.5 * v * (1 + math.erf(v / math.sqrt(2))),
    "gelu_tanh": lambda v: (
        0.5 * v * (1 + math.tanh(math.sqrt(2 / math.pi) * (v + 0.044715 * v**3)))
    ),
}
# At inf, -inf and 1000: what PyTorch gives.
LIMITS = {
    "sigmoid": (1, 0, 1),
    "silu": (np.inf, np.nan, 1000),
    "log_sigmoid": (0, -np.inf, 0),
    "softplus": (np.inf, 0, 1000),
    "mish": (np.inf, np.nan, 1000),
    "gelu": (np.inf, np.nan, 1000),
    "gelu_tanh": (np.inf, np.nan, 1000),
}
TOLERANCE = {"f2": 2e-3, "f4": 2e-6, "f8": 1e-14, "bfloat16": 2e-2}


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", ml_dtypes.bfloat16], ids=str)
@pytest.mark.parametrize("name", REFERENCES)
def test_values(name: str, dtype: Any) -> None:
    f = getattr(activations, name)
    x = np.linspace(-12, 24, 721).astype(dtype)
    kept = x.copy()
    y = f(np, x)
    expected = np.array([REFERENCES[name](float(v)) for v in x])
    tolerance = TOLERANCE[np.dtype(dtype).str[1:] if x.dtype.kind == "f" else "bfloat16"]
    assert y.dtype == x.dtype
    np.testing.assert_allclose(y.astype("f8"), expected, rtol=tolerance, atol=tolerance)
    np.testing.assert_array_equal(x, kept)
    assert f(np, x[3].reshape(())).shape == ()
    assert f(np, x[:0]).shape == (0,)
    pairs = x[:720].reshape(2, 360)
    np.testing.assert_array_equal(f(np, pairs.T), f(np, pairs).T)


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8"])
@pytest.mark.parametrize("name", REFERENCES)
def test_limits(name: str, dtype: Any) -> None:
    x = np.array([np.inf, -np.inf, 1000, np.nan], dtype)
    y = getattr(activations, name)(np, x)
    np.testing.assert_array_equal(y, np.array([*LIMITS[name], np.nan], dtype))


def test_softplus_beta_and_threshold() -> None:
    x = np.array([-1.0, 0.5, 2.0, 3.0])
    expected = [math.log1p(math.exp(2 * v)) / 2 if 2 * v <= 3 else v for v in x]
    np.testing.assert_allclose(activations.softplus(np, x, 2.0, 3.0), expected, rtol=1e-14)


def test_logsumexp() -> None:
    x = np.array([[1000.0, 1000.0], [-np.inf, -np.inf], [np.inf, 0.0], [np.nan, 1.0]])
    expected = [1000 + math.log(2), -np.inf, np.inf, np.nan]
    np.testing.assert_array_equal(activations.logsumexp(np, x, (1,)), expected)
    assert activations.logsumexp(np, x, (0, 1), keepdims=True).shape == (1, 1)
    np.testing.assert_array_equal(activations.logsumexp(np, x[:, :0], (1,)), [-np.inf] * 4)
    assert activations.logsumexp(np, x[:0], (1,)).shape == (0,)
    small = np.array([0.0, 1.0], ml_dtypes.bfloat16)
    assert activations.logsumexp(np, small, (0,)).dtype == ml_dtypes.bfloat16


def test_softmax_and_log_softmax() -> None:
    x = np.random.default_rng(0).standard_normal((3, 5, 2))
    for axis in (0, 1, -1):
        y = activations.softmax(np, x, axis)
        np.testing.assert_allclose(y, np.exp(x) / np.exp(x).sum(axis, keepdims=True), rtol=1e-13)
        np.testing.assert_allclose(activations.log_softmax(np, x, axis), np.log(y), atol=1e-13)
    assert activations.log_softmax(np, np.array([0.0, -2000.0]), 0).tolist() == [0, -2000]
    rows = np.array([[-np.inf, -np.inf], [np.inf, 0.0], [-np.inf, 0.0]])
    expected = [[np.nan, np.nan], [np.nan, np.nan], [0, 1]]
    np.testing.assert_array_equal(activations.softmax(np, rows, 1)[::2], expected[::2])
    assert np.isnan(activations.softmax(np, rows, 1)[1]).any()
    assert activations.softmax(np, np.zeros((2, 0), "f4"), 1).shape == (2, 0)
    assert activations.softmax(np, np.asarray(3.0).reshape(1), 0).tolist() == [1]


@pytest.mark.parametrize("name", ["silu", "mish", "softplus", "logsigmoid", "gelu", "sigmoid"])
def test_against_torch(name: str) -> None:
    torch = pytest.importorskip("torch")
    ours = {"logsigmoid": "log_sigmoid"}.get(name, name)
    x = torch.tensor([np.inf, -np.inf, np.nan, -200.0, -3.0, 0.0, 1e-30, 2.5, 30.0, 1e30])
    got = getattr(activations, ours)(np, x.numpy())
    np.testing.assert_allclose(got, getattr(torch.nn.functional, name)(x), rtol=1e-6, atol=1e-6)
