"""Normalisation kernels against their formulas in float64, numeric gradients and PyTorch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from dualgraph_compiler.kernels import norm

EPS = 1e-5


def formula(x: Any, axes: Any, w: Any, b: Any) -> Any:
    mean, var = x.mean(axes, keepdims=True), x.var(axes, keepdims=True)
    return (x - mean) / np.sqrt(var + EPS) * w + b


def numeric_grad(f: Callable[[Any], Any], x: Any, g: Any) -> Any:
    grad = np.zeros(x.shape)
    for at in np.ndindex(*x.shape):
        step = np.zeros(x.shape)
        step[at] = 1e-5
        grad[at] = np.sum(g * (f(x + step) - f(x - step))) / 2e-5
    return grad


@pytest.fixture(params=[1 << 16, 1], ids=["one block", "many blocks"])
def _blocks(request: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(norm, "_BLOCK", request.param)


def data(shape: Any, channels: Any) -> Any:
    rng = np.random.default_rng(0)
    x, g = rng.standard_normal(shape) * 2 + 3, rng.standard_normal(shape)
    return x, g, rng.standard_normal(channels), rng.standard_normal(channels)


@pytest.mark.usefixtures("_blocks")
@pytest.mark.parametrize("shape", [(5, 3), (2, 3, 4), (2, 3, 2, 3)], ids=str)
def test_batch_norm(shape: Any) -> None:
    x, g, w, b = data(shape, 3)
    axes = (0, *range(2, len(shape)))
    column = (3, *(1,) * (len(shape) - 2))

    def f(x: Any, w: Any = w, b: Any = b) -> Any:
        return formula(x, axes, w.reshape(column), b.reshape(column))

    y, mean, var, invstd = norm.batch_norm_forward(np, x, w, b, EPS)
    np.testing.assert_allclose(y, f(x), atol=1e-12)
    np.testing.assert_allclose(mean, x.mean(axes), atol=1e-12)
    np.testing.assert_allclose(var, x.var(axes), atol=1e-12)
    gx, gw, gb = norm.batch_norm_backward(np, g, x, w, mean, invstd)
    np.testing.assert_allclose(gx, numeric_grad(f, x, g), atol=1e-7)
    np.testing.assert_allclose(gw, numeric_grad(lambda w: f(x, w), w, g), atol=1e-7)
    np.testing.assert_allclose(gb, numeric_grad(lambda b: f(x, w, b), b, g), atol=1e-7)
    plain = norm.batch_norm_forward(np, x, None, None, EPS)[0]
    np.testing.assert_allclose(plain, formula(x, axes, 1, 0), atol=1e-12)
    gx = norm.batch_norm_backward(np, g, x, None, mean, invstd)[0]
    expected = numeric_grad(lambda x: formula(x, axes, 1, 0), x, g)
    np.testing.assert_allclose(gx, expected, atol=1e-7)


@pytest.mark.usefixtures("_blocks")
@pytest.mark.parametrize("dims", [1, 2, 3])
def test_layer_norm(dims: int) -> None:
    shape = (2, 3, 4)
    x, g, w, b = data(shape, shape[3 - dims :])
    axes = tuple(range(3 - dims, 3))

    def f(x: Any, w: Any = w, b: Any = b) -> Any:
        return formula(x, axes, w, b)

    y, mean, invstd = norm.layer_norm_forward(np, x, dims, w, b, EPS)
    np.testing.assert_allclose(y, f(x), atol=1e-12)
    np.testing.assert_allclose(mean, x.mean(axes, keepdims=True), atol=1e-12)
    gx, gw, gb = norm.layer_norm_backward(np, g, x, dims, w, mean, invstd)
    np.testing.assert_allclose(gx, numeric_grad(f, x, g), atol=1e-7)
    np.testing.assert_allclose(gw, numeric_grad(lambda w: f(x, w), w, g), atol=1e-7)
    np.testing.assert_allclose(gb, numeric_grad(lambda b: f(x, w, b), b, g), atol=1e-7)
    gx = norm.layer_norm_backward(np, g, x, dims, None, mean, invstd)[0]
    expected = numeric_grad(lambda x: formula(x, axes, 1, 0), x, g)
    np.testing.assert_allclose(gx, expected, atol=1e-7)


@pytest.mark.usefixtures("_blocks")
@pytest.mark.parametrize("groups", [1, 2, 4])
def test_group_norm(groups: int) -> None:
    x, g, w, b = data((2, 4, 3), 4)

    def f(x: Any, w: Any = w, b: Any = b) -> Any:
        y = formula(x.reshape(2, groups, -1), (2,), 1, 0).reshape(x.shape)
        return y * w[:, None] + b[:, None]

    y, mean, invstd = norm.group_norm_forward(np, x, groups, w, b, EPS)
    np.testing.assert_allclose(y, f(x), atol=1e-12)
    assert mean.shape == invstd.shape == (2, groups)
    gx, gw, gb = norm.group_norm_backward(np, g, x, groups, w, mean, invstd)
    np.testing.assert_allclose(gx, numeric_grad(f, x, g), atol=1e-7)
    np.testing.assert_allclose(gw, numeric_grad(lambda w: f(x, w), w, g), atol=1e-7)
    np.testing.assert_allclose(gb, numeric_grad(lambda b: f(x, w, b), b, g), atol=1e-7)


def test_large_mean_does_not_cancel() -> None:
    x = (np.random.default_rng(1).standard_normal((64, 2, 8)) + 1e4).astype("f4")
    exact = x.astype("f8").var((0, 2))
    var = norm.batch_norm_forward(np, x, None, None, EPS)[2]
    np.testing.assert_allclose(var, exact, rtol=1e-3)


@pytest.mark.parametrize("dtype", ["f2", "f4", ml_dtypes.bfloat16])
def test_dtypes_views_and_inputs_kept(dtype: Any) -> None:
    x = np.random.default_rng(2).standard_normal((5, 4, 3)).astype(dtype).transpose(2, 1, 0)
    w = np.ones(4, dtype)
    kept = x.copy()
    y, mean, _, _ = norm.batch_norm_forward(np, x, w, w, EPS)
    assert (y.dtype, mean.dtype) == (x.dtype, np.float32)
    gx, gw, _ = norm.batch_norm_backward(np, y, x, w, mean, mean)
    assert (gx.dtype, gw.dtype) == (x.dtype, np.float32)
    y, mean, invstd = norm.layer_norm_forward(np, x, 1, np.ones(5, dtype), None, EPS)
    assert (y.dtype, mean.dtype) == (x.dtype, np.float32)
    assert norm.layer_norm_backward(np, y, x, 1, None, mean, invstd)[0].dtype == x.dtype
    assert norm.group_norm_forward(np, x, 2, w, None, EPS)[0].dtype == x.dtype
    np.testing.assert_array_equal(x.astype("f4"), kept.astype("f4"))


def test_empty_and_nan() -> None:
    x = np.zeros((0, 3, 4), "f4")
    y, mean, _, invstd = norm.batch_norm_forward(np, x, None, None, EPS)
    assert y.shape == x.shape
    gx, gw, _ = norm.batch_norm_backward(np, y, x, None, mean, invstd)
    assert (gx.shape, gw.tolist()) == (x.shape, [0, 0, 0])
    y, mean, invstd = norm.layer_norm_forward(np, x, 1, None, None, EPS)
    gx, gw, _ = norm.layer_norm_backward(np, y, x, 1, None, mean, invstd)
    assert (gx.shape, gw.tolist()) == (x.shape, [0, 0, 0, 0])
    assert norm.group_norm_forward(np, x, 3, None, None, EPS)[0].shape == x.shape
    bad = np.ones((2, 2, 2))
    bad[0, 0, 0] = np.inf
    y = norm.batch_norm_forward(np, bad, None, None, EPS)[0]
    assert np.isnan(y[:, 0]).any()
    assert (y[:, 1] == 0).all()


def test_against_torch() -> None:
    torch = pytest.importorskip("torch")
    x, g, w, b = (a.astype("f4") for a in data((8, 6, 5, 5), 6))
    tx, tw, tb = (torch.tensor(a, requires_grad=True) for a in (x, w, b))
    tg = torch.tensor(g)
    ty = torch.nn.functional.batch_norm(tx, None, None, tw, tb, training=True, eps=EPS)
    y, mean, _, invstd = norm.batch_norm_forward(np, x, w, b, EPS)
    np.testing.assert_allclose(y, ty.detach(), atol=2e-5)
    for got, expected in zip(
        norm.batch_norm_backward(np, g, x, w, mean, invstd),
        torch.autograd.grad(ty, (tx, tw, tb), tg),
    ):
        np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-4)
    ty = torch.nn.functional.group_norm(tx, 3, tw, tb, EPS)
    y, mean, invstd = norm.group_norm_forward(np, x, 3, w, b, EPS)
    np.testing.assert_allclose(y, ty.detach(), atol=2e-5)
    for got, expected in zip(
        norm.group_norm_backward(np, g, x, 3, w, mean, invstd),
        torch.autograd.grad(ty, (tx, tw, tb), tg),
    ):
        np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-4)
