"""Gradient clipping against PyTorch's."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

import dualgraph as dg
from dualgraph.nn.utils import clip_grad
from dualgraph_compiler.errors import DualGraphError

SHAPES = [(), (3,), (4, 5), (0, 2)]


def params_with_grads(dtype: Any, scale: float = 1.0) -> list[dg.Tensor]:
    rng = np.random.default_rng(0)
    params = []
    for shape in SHAPES:
        values = np.asarray(rng.normal(size=shape) * scale)
        if np.dtype(dtype).kind == "c":
            values = values * (1 + 0.5j)
        params.append(dg.from_numpy(np.zeros(shape, dtype)))
        params[-1].grad = dg.from_numpy(np.asarray(values).astype(dtype))
    return [*params, dg.from_numpy(np.zeros(2, dtype))]


def torch_twins(params: list[dg.Tensor]) -> list[Any]:
    torch = pytest.importorskip("torch")
    twins = []
    for p in params:
        twins.append(torch.from_numpy(p.numpy().copy()))
        if p.grad is not None:
            twins[-1].grad = torch.from_numpy(p.grad.numpy().copy())
    return twins


def assert_same_grads(mine: list[dg.Tensor], other: list[Any], rtol: float) -> None:
    for p, q in zip(mine, other, strict=True):
        assert (p.grad is None) == (q.grad is None)
        if p.grad is not None:
            assert p.grad.numpy().dtype == q.grad.numpy().dtype
            np.testing.assert_allclose(p.grad.numpy(), q.grad.numpy(), rtol=rtol)


@pytest.mark.parametrize("order", [2.0, 1.0, 3.5, math.inf])
@pytest.mark.parametrize("limit", [0.1, 1e6])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.complex64, np.float16])
def test_norm_matches_pytorch(dtype: Any, limit: float, order: float) -> None:
    mine = params_with_grads(dtype)
    other = torch_twins(mine)
    from torch.nn.utils import clip_grad_norm_

    rtol = 5e-3 if dtype is np.float16 else 2e-6
    mine_total = clip_grad.clip_grad_norm_(mine, limit, order)
    # PyTorch has no infinity norm of nothing.
    kept = [p for p in other if p.numel()]
    other_total = clip_grad_norm_(kept if math.isinf(order) else other, limit, order)
    assert mine_total.numpy().dtype == other_total.numpy().dtype
    assert mine_total.item() == pytest.approx(other_total.item(), rel=rtol)
    assert_same_grads(mine, other, rtol)


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_value_matches_pytorch(dtype: Any) -> None:
    mine = params_with_grads(dtype)
    other = torch_twins(mine)
    from torch.nn.utils import clip_grad_value_

    clip_grad.clip_grad_value_(mine, 0.5)
    clip_grad_value_(other, 0.5)
    assert_same_grads(mine, other, 0)


def test_bfloat16() -> None:
    p = dg.from_numpy(np.zeros(2, dg.bfloat16.np))
    p.grad = dg.from_numpy(np.array([3, 4], dg.bfloat16.np))
    assert clip_grad.clip_grad_norm_(p, 1.0).item() == 5.0
    assert p.grad.dtype is dg.bfloat16
    np.testing.assert_allclose(p.grad.numpy().astype(float), [0.6, 0.8], rtol=1e-2)
    clip_grad.clip_grad_value_(p, 0.25)
    assert p.grad.tolist() == [0.25, 0.25]


def test_non_finite_norms() -> None:
    p = dg.from_numpy(np.zeros(2, np.float32))
    p.grad = dg.from_numpy(np.array([np.inf, 1.0], np.float32))
    with pytest.raises(DualGraphError, match="total norm of order 2.0 .* is non-finite"):
        clip_grad.clip_grad_norm_([p], 1.0, error_if_nonfinite=True)
    assert clip_grad.clip_grad_norm_([p], 1.0).item() == math.inf
    np.testing.assert_array_equal(p.grad.numpy(), [np.nan, 0.0])


def test_change_is_in_place_and_counted() -> None:
    p = params_with_grads(np.float32)[2]
    storage, version = p.grad._data, p.grad._version
    clip_grad.clip_grad_norm_(iter([p]), 1e-3)
    assert p.grad._data is storage
    assert p.grad._version > version


def test_nothing_to_clip() -> None:
    assert clip_grad.clip_grad_norm_([], 1.0).item() == 0.0
    assert clip_grad.clip_grad_norm_(dg.from_numpy(np.zeros(2)), 1.0).item() == 0.0
