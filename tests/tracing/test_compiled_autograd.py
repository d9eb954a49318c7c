"""Gradients, state and aliasing through ``dg.compile``: what the eager call would have done."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import dualgraph as dg
from dualgraph import nn
from dualgraph.autograd import Function
from dualgraph.tracing.failure import CaptureFailure, EagerFallbackWarning


def gradients(f: Callable[..., Any], *values: list[float]) -> list[Any]:
    leaves = [dg.tensor(v, requires_grad=True) for v in values]
    f(*leaves).sum().backward()
    return [None if t.grad is None else t.grad.tolist() for t in leaves]


class StraightThrough(Function):
    @staticmethod
    def forward(ctx, x):
        return x.round()

    @staticmethod
    def backward(ctx, g):
        return g * 5


def with_no_grad(x):
    with dg.no_grad():
        scale = x * 2
    return x * scale


def with_hook(x):
    y = x * 2
    y.register_hook(lambda g: g * 10)
    return y * 1


@pytest.mark.parametrize(
    "f",
    [
        lambda x: x * x.detach(),
        with_no_grad,
        with_hook,
        lambda x: StraightThrough.apply(x) * x,
        lambda x: dg.autograd.grad((x * x).sum(), [x], create_graph=True)[0] * x,
        lambda x: dg.autograd.grad((x * x).sum(), [x])[0] * x,
        lambda x: x.clone().mul_(x),
    ],
    ids=["detach", "no_grad", "hook", "Function", "create_graph", "grad", "in place"],
)
def test_what_the_tape_says_holds_for_compiled_calls(f) -> None:
    assert gradients(dg.compile(f), [2.2, 3.0]) == gradients(f, [2.2, 3.0])


def test_outputs_that_need_no_gradient_say_so() -> None:
    f = dg.compile(lambda x: (x * 2, x.detach() + 1, x > 0))
    assert [t.requires_grad for t in f(dg.ones(2, requires_grad=True))] == [True, False, False]


def test_some_outputs_may_be_left_unused() -> None:
    f = dg.compile(lambda x: (x * 2, x * 3, x * 5))
    x = dg.ones(2, requires_grad=True)
    _, b, _ = f(x)
    b.sum().backward()
    assert x.grad.tolist() == [3, 3]


def test_a_second_backward_needs_retain_graph() -> None:
    f = dg.compile(lambda x: (x * x).sum())
    x = dg.ones(2, requires_grad=True)
    y = f(x)
    y.backward(retain_graph=True)
    y.backward()
    assert x.grad.tolist() == [4, 4]
    with pytest.raises(RuntimeError, match="second time.*retain_graph=True"):
        y.backward()


def test_training_with_running_statistics_and_dropout() -> None:
    a, b = nn.BatchNorm1d(3), nn.BatchNorm1d(3)
    fast = dg.compile(b)
    for _ in range(3):
        x = dg.randn(8, 3)
        for module, call in ((a, a), (b, fast)):
            module.zero_grad()
            call(x).square().sum().backward()
        np.testing.assert_allclose(a.weight.grad.numpy(), b.weight.grad.numpy(), rtol=1e-4)
        np.testing.assert_allclose(a.running_var.numpy(), b.running_var.numpy(), rtol=1e-6)

    drop = dg.compile(lambda x: nn.functional.dropout(x, 0.5, training=True))
    x = dg.ones(50, requires_grad=True)
    y = drop(x)
    y.sum().backward()
    assert x.grad.tolist() == y.tolist()  # the mask of the forward pass


def test_state_read_after_being_written() -> None:
    count = dg.zeros(2)

    @dg.compile
    def f(x):
        count.add_(1)
        return (x * count).sum()

    x = dg.ones(2, requires_grad=True)
    for i in (1.0, 2.0, 3.0):
        x.grad = None
        f(x).backward()
        assert x.grad.tolist() == count.tolist() == [i, i]


def test_state_through_views_and_detached_tensors() -> None:
    buffer = dg.zeros(3)
    part = buffer[:2]

    @dg.compile
    def f(x):
        part.add_(x)
        buffer.detach().mul_(2)
        return buffer * 1

    assert f(dg.ones(2)).tolist() == buffer.tolist() == [2, 2, 0]
    assert part.tolist() == [2, 2]


def test_unrelated_tensors_that_share_memory_are_refused_once_written() -> None:
    memory = np.zeros(4, np.float32)
    a, b = dg.from_numpy(memory), dg.from_numpy(memory[1:])

    def f(x):
        a.add_(x)
        return b * 2

    with pytest.raises(CaptureFailure, match="shares its memory"):
        dg.compile(f, fullgraph=True)(dg.ones(4))
    assert memory.tolist() == [0, 0, 0, 0]
    with pytest.warns(EagerFallbackWarning, match="shares its memory"):
        assert dg.compile(f)(dg.ones(4)).tolist() == [2, 2, 2]


def test_arguments_are_written_as_in_the_eager_call() -> None:
    w = dg.tensor([3.0, 4.0], requires_grad=True)

    def f(x, v):
        x.mul_(w)
        v[0] = 7.0
        return x

    for call in (f, dg.compile(f)):
        w.grad = None
        x, base = dg.ones(2), dg.zeros(3)
        out = call(x, base[1:])
        assert out is x
        assert x.requires_grad
        assert base.tolist() == [0, 7, 0]
        x.sum().backward()
        assert w.grad.tolist() == [1, 1]
    with pytest.raises(RuntimeError, match="leaf Variable that requires grad"):
        dg.compile(f)(dg.ones(2, requires_grad=True), dg.zeros(1))


def test_results_that_are_views_stay_views() -> None:
    f = dg.compile(lambda x: (x, x.T, x * 1))
    x = dg.zeros(2, 3)
    same, turned, fresh = f(x)
    assert same is x
    turned[0, 0] = 1.0
    fresh[0, 0] = 9.0
    assert x[0, 0].item() == 1
    leaf = dg.ones(2, 2, requires_grad=True)
    y = (leaf * 1).requires_grad_()
    z = (y * y).sum()
    f(y)[1].mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace"):
        z.backward()


def test_a_tensor_from_outside_that_is_no_leaf() -> None:
    w = dg.ones(2, requires_grad=True)
    scaled = w * 3
    dg.compile(lambda x: x * scaled * w)(dg.ones(2)).sum().backward()
    assert w.grad.tolist() == [6, 6]


def test_hooks_of_parameters_run_once() -> None:
    layer = nn.Linear(2, 1, bias=False)
    seen = []
    layer.weight.register_hook(lambda g: seen.append(g.tolist()))
    dg.compile(layer)(dg.ones(1, 2)).sum().backward()
    assert seen == [[[1.0, 1.0]]]


def test_backward_inside_accumulates() -> None:
    layer = nn.Linear(2, 1, bias=False)

    @dg.compile
    def step(x):
        loss = layer(x).sum()
        loss.backward()
        return loss

    for i in (1.0, 2.0, 3.0):
        step(dg.ones(1, 2))
        assert layer.weight.grad.tolist() == [[i, i]]
    layer.zero_grad()
    step(dg.ones(1, 2))
    assert layer.weight.grad.tolist() == [[1, 1]]


# -- what a trace took for granted ----------------------------------------------------------------


def test_modes_of_modules_in_a_closure_are_noticed() -> None:
    drop = nn.Dropout(0.5)
    f = dg.compile(lambda x: drop(x))
    assert 0.0 in f(dg.ones(100)).tolist()
    drop.eval()
    assert f(dg.ones(100)).tolist() == [1.0] * 100
    drop.train()
    assert 0.0 in f(dg.ones(100)).tolist()
    assert len(f.graphs) == 2


def test_parameters_that_are_replaced_frozen_or_converted() -> None:
    layer = nn.Linear(2, 2, bias=False)
    layer.weight.requires_grad_(False)
    f = dg.compile(layer)
    assert not f(dg.ones(1, 2)).requires_grad
    layer.weight.requires_grad_(True)
    f(dg.ones(1, 2)).sum().backward()
    assert layer.weight.grad is not None
    layer.weight = nn.Parameter(dg.zeros(2, 2))
    assert f(dg.ones(1, 2)).tolist() == [[0, 0]]
    layer.double()
    assert f(dg.ones(1, 2, dtype=dg.float64)).dtype is dg.float64


def test_arguments_that_cannot_be_looked_up_run_eagerly() -> None:
    f = dg.compile(lambda x, a: x + float(next(a)))
    numbers = iter(range(3))
    with pytest.warns(UserWarning, match="runs eagerly: an argument is a range_iterator"):
        assert f(dg.ones(2), numbers).tolist() == [1, 1]
    assert f(dg.ones(2), numbers).tolist() == [2, 2]


def test_arrays_are_told_apart_by_their_elements() -> None:
    f = dg.compile(lambda x, a: x + float(a.sum()))
    assert f(dg.ones(2), np.ones(3)).tolist() == [4, 4]
    assert f(dg.ones(2), np.zeros(3)).tolist() == [1, 1]
    assert f(dg.ones(2), np.ones(3)).tolist() == [4, 4]
    assert len(f.graphs) == 2


def test_a_failed_trace_leaves_state_as_it_was() -> None:
    buffer = dg.zeros(2)

    def f(x):
        buffer.add_(x * dg.ones(2, requires_grad=True))
        raise KeyError("mine")

    version = buffer._version
    with pytest.raises(KeyError):
        dg.compile(f)(dg.ones(2))
    assert (buffer.tolist(), buffer._version, buffer.requires_grad) == ([0, 0], version, False)
