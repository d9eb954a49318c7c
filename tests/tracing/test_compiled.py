"""``dg.compile``: the same results, gradients and writes as the eager call."""

from __future__ import annotations

import threading

import numpy as np
import pytest

import dualgraph as dg
from dualgraph import nn


def mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 2))


def test_results_and_gradients_are_the_eager_ones() -> None:
    model = mlp()
    fast = dg.compile(model, numerics="strict")
    x = dg.randn(3, 4, requires_grad=True)
    expected = model(x)
    expected.square().sum().backward()
    wanted = [p.grad.numpy().copy() for p in model.parameters()] + [x.grad.numpy().copy()]
    model.zero_grad()
    x.grad = None
    got = fast(x)
    np.testing.assert_array_equal(got.detach().numpy(), expected.detach().numpy())
    got.square().sum().backward()
    for p, w in zip([*model.parameters(), x], wanted, strict=True):
        np.testing.assert_allclose(p.grad.numpy(), w, rtol=1e-6, atol=1e-7)


def test_a_model_trains_through_its_compiled_call() -> None:
    model = mlp()
    fast = dg.compile(model)
    opt = dg.optim.SGD(model.parameters(), lr=0.1)
    x, y = dg.randn(16, 4), dg.randn(16, 2)
    losses = []
    for _ in range(20):
        opt.zero_grad()
        loss = (fast(x) - y).square().mean()
        loss.backward()
        opt.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    assert len(fast.graphs) == 1


def test_folded_weights_follow_in_place_changes() -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2)).eval()
    fast = dg.compile(model)
    x = dg.randn(1, 1, 5, 5)
    with dg.no_grad():
        np.testing.assert_allclose(fast(x).numpy(), model(x).numpy(), rtol=1e-5, atol=1e-6)
        model[0].weight.mul_(3.0)
        model[1].running_mean.add_(1.0)
        np.testing.assert_allclose(fast(x).numpy(), model(x).numpy(), rtol=1e-5, atol=1e-6)


def test_training_mode_writes_running_statistics() -> None:
    a, b = nn.BatchNorm1d(3), nn.BatchNorm1d(3)
    fast = dg.compile(b)
    for _ in range(3):
        x = dg.randn(8, 3)
        np.testing.assert_allclose(
            fast(x).detach().numpy(), a(x).detach().numpy(), rtol=1e-5, atol=1e-6
        )
    for p, q in zip(a.buffers(), b.buffers(), strict=True):
        np.testing.assert_allclose(p.numpy(), q.numpy(), rtol=1e-6)
    np.testing.assert_array_equal(fast.eval()(x).shape, x.shape)


def test_other_shapes_dtypes_and_values_get_their_own_graph() -> None:
    @dg.compile
    def f(x, scale=2):
        return x * scale

    assert f(dg.ones(2)).tolist() == [2, 2]
    assert f(dg.ones(3)).tolist() == [2, 2, 2]
    assert f(dg.ones(3), scale=5).tolist() == [5, 5, 5]
    assert f(dg.ones(3, dtype=dg.int64)).dtype is dg.int64
    assert len(f.graphs) == 4
    f(dg.ones(3), scale=5)
    assert len(f.graphs) == 4


def test_dynamic_shapes_serve_every_size_with_one_graph() -> None:
    fast = dg.compile(lambda x: (x * 2).sum(1), dynamic_shapes={"x": {0: "n"}})
    for n in (3, 1, 0, 7):
        assert fast(dg.ones(n, 2)).tolist() == [4.0] * n
    assert len(fast.graphs) == 1


def test_structures_and_non_tensors_come_back() -> None:
    @dg.compile
    def f(x):
        return {"a": x + 1, "b": [x, None, "text"]}

    out = f(dg.zeros(2))
    assert out["a"].tolist() == [1, 1]
    assert out["b"][1:] == [None, "text"]


def test_compiled_inside_compiled_is_inlined() -> None:
    inner = dg.compile(lambda x: x + 1)
    outer = dg.compile(lambda x: inner(x) * 2)
    assert outer(dg.zeros(2)).tolist() == [2, 2]
    assert inner.graphs == []


def test_calls_from_several_threads() -> None:
    fast = dg.compile(mlp().eval())
    x = dg.randn(3, 4)
    expected = fast(x).detach().numpy()
    wrong = []

    def call() -> None:
        for _ in range(20):
            if not np.array_equal(fast(x).detach().numpy(), expected):
                wrong.append(1)

    threads = [threading.Thread(target=call) for _ in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not wrong


@pytest.mark.parametrize("wrap", [lambda f: f, dg.compile])
def test_a_stale_operand_is_an_error(wrap) -> None:
    model = mlp()
    for layer in (0, 2):
        out = wrap(model)(dg.ones(1, 4)).sum()
        with dg.no_grad():
            model[layer].weight.mul_(2)
        if layer == 0:  # which no gradient needs
            out.backward()
            continue
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            out.backward()


def test_attributes_of_the_model_are_reached() -> None:
    fast = dg.compile(mlp())
    assert len(list(fast.parameters())) == 4
    assert "Linear" in repr(fast)
