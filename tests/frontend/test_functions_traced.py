"""Functions under a trace with a symbolic first dimension: the graph gives what eager gives."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import dualgraph as dg
from dualgraph_compiler.graph import interpret

X = np.random.default_rng(0).uniform(0.2, 2, (6, 4))

CASES: dict[str, Callable[[Any], Any]] = {
    "arithmetic": lambda x: (x * 2 + 1) / x - x**2 + 3 // x,
    "unary": lambda x: x.exp().log().sqrt().sin().sigmoid().abs().neg(),
    "comparison": lambda x: dg.where(x > 1, x, 0.0) + (x <= 0.5).to(dg.float64),
    "clamp": lambda x: x.clamp(0.5, 1.5) + x.clamp_min(1),
    "masked_fill": lambda x: x.masked_fill(x > 1, -1.0),
    "reductions": lambda x: x.sum() + x.mean(1) + x.max(1).values + x.amin() + x.prod(1),
    "variance": lambda x: x.var(0) + x.std(1).sum() + x.norm(),
    "softmax": lambda x: x.softmax(1) + x.log_softmax(0) + x.logsumexp(1, True),
    "argmax": lambda x: x.argmax(1) + x.max(0)[1].sum(),
    "reshape to batch": lambda x: x.reshape((x.shape[0], -1)) * 1,
    "reshape to -1": lambda x: x.reshape(-1, 2),
    "view": lambda x: x.view(x.shape[0] * 2, 2),
    "flatten": lambda x: x.flatten() * 2,
    "unflatten": lambda x: x.unflatten(1, (2, -1)),
    "unsqueeze": lambda x: x.unsqueeze(0).squeeze(0).unsqueeze(-1),
    "permute": lambda x: x.T.permute(1, 0).transpose(0, 1),
    "expand": lambda x: x.unsqueeze(1).expand(-1, 3, -1) + x.unsqueeze(1).expand(x.shape[0], 3, 4),
    "repeat": lambda x: x.repeat(1, 2).tile((2, 1)),
    "cat": lambda x: dg.cat([x, x * 2], 1) + dg.cat([x, x])[: x.shape[0]].repeat(1, 2),
    "stack": lambda x: dg.stack([x, x], 1),
    "split": lambda x: x.split(2, 1)[1] + x.chunk(2, 1)[0],
    "columns": lambda x: x[:, 0] + x[:, -1] + x[..., 1],
    "rows": lambda x: x[0] + x[1:][0],
    "slices": lambda x: x[1:, ::2] * 2,
    "new axes": lambda x: x[:, None, :] + x[:, :, None],
    "index tensor": lambda x: x[:, dg.tensor([0, 2, 1])] + x[:, [3, 0, 0]],
    "setitem": lambda x: _set(x),
    "in place": lambda x: (x * 1).add_(2).mul_(x),
    "gather": lambda x: x.gather(1, x.argmax(1, True)),
    "sort": lambda x: x.sort(1).values + x.topk(4, 1)[0],
    "cumsum": lambda x: x.cumsum(1) + x.cumsum(0),
    "matmul": lambda x: x @ x.T @ x,
    "vectors": lambda x: x @ dg.ones(4, dtype=dg.float64),
    "einsum": lambda x: dg.einsum("bi,bj->ij", x, x) + dg.einsum("bi->i", x),
    "flip": lambda x: x.flip(1).roll(1, 1) + x.roll(1, 0),
    "triangles": lambda x: x.tril() + x.triu(1),
    "zeros": lambda x: dg.zeros(x.shape[0], 2, dtype=x.dtype) + dg.ones_like(x)[:, :2],
    "full": lambda x: dg.full((x.shape[0], 4), 2.5, dtype=dg.float64) + x.new_zeros(4),
    "arange": lambda x: dg.arange(x.shape[0]).unsqueeze(1) + x,
    "size as number": lambda x: x.sum(0) / x.shape[0] + x.size(0),
    "constants": lambda x: x + dg.tensor([1.0, 2.0, 3.0, 4.0]),
    "to": lambda x: x.to(dg.float32).double() + x.long(),
    "meshgrid": lambda x: dg.meshgrid(x[:, 0], x[0], indexing="ij")[1] + x,
    "clone": lambda x: x.clone().contiguous(),
}


def _set(x: Any) -> Any:
    y = x * 1
    y[:, 0] = 5.0
    y[1] = y[0] * 2
    y[y > 4] = 0.0
    return y


@pytest.mark.parametrize("name", CASES)
def test_same_as_eager(name: str) -> None:
    function = CASES[name]
    graph = dg.trace(function, dg.from_numpy(X[:3]), dynamic_shapes=[{0: "batch"}])
    for rows in (6, 4, 3):
        expected = function(dg.from_numpy(X[:rows].copy()))
        (got,) = interpret(graph, [X[:rows]])
        assert got.dtype == expected.numpy().dtype
        np.testing.assert_allclose(got, expected.numpy(), rtol=1e-12)


def test_gradients_in_a_trace() -> None:
    def step(x: Any) -> Any:
        x = x.detach().requires_grad_()
        y = (x[1:] * 3).exp().sum() + (x.mean(0) ** 2).sum() + x.var(0).sum()
        (g,) = dg.autograd.grad(y, x)
        return g

    graph = dg.trace(step, dg.from_numpy(X[:3]), dynamic_shapes=[{0: "batch"}])
    for rows in (6, 3):
        (got,) = interpret(graph, [X[:rows]])
        np.testing.assert_allclose(got, step(dg.from_numpy(X[:rows].copy())).numpy(), rtol=1e-12)


def test_draws_in_a_trace_advance_the_generator() -> None:
    g = dg.Generator().manual_seed(3)
    with pytest.raises(dg.DualGraphError, match="size of its result depends on data"):
        dg.trace(lambda x: x.nonzero(), dg.ones(3))
    graph = dg.trace(lambda x: x + dg.rand(3, generator=g), dg.zeros(3))
    (first,) = interpret(graph, [np.zeros(3, np.float32)])
    np.testing.assert_array_equal(
        first, dg.rand(3, generator=dg.Generator().manual_seed(3)).numpy()
    )
