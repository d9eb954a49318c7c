"""Gradients from outside through compiled calls: what is kept, of any order, of steps inside."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import dualgraph as dg
import dualgraph.nn.functional as F
from dualgraph import nn
from dualgraph.autograd import Function
from dualgraph.tracing.failure import CaptureFailure, EagerFallbackWarning
from dualgraph_compiler.errors import AutogradError
from dualgraph_compiler.graph import verify

BOTH = pytest.mark.parametrize("wrap", [lambda f: f, dg.compile], ids=["eager", "compiled"])


def mlp() -> nn.Module:
    dg.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 3))


def programs(fast: Any) -> Any:
    """Forward and backward of the only call compiled so far."""
    (entry,) = fast._entries
    return entry.taped.plan()


def ops(graph: Any) -> list[str]:
    verify(graph)
    return [node.op.name for node in graph.nodes]


# -- values kept for the backward -------------------------------------------------------------


def test_the_backward_does_not_run_the_forward_again() -> None:
    model = nn.Sequential(
        nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.ReLU(), nn.Dropout(0.5), nn.Flatten(),
        nn.Linear(32, 5), nn.GELU(), nn.Linear(5, 3),
    )  # fmt: skip
    fast = dg.compile(lambda x, y: F.cross_entropy(model(x), y))
    loss = fast(dg.randn(4, 1, 6, 6), dg.tensor([0, 1, 2, 0]))
    loss.backward()
    plan = programs(fast)
    forward, backward = ops(plan.forward.graph), ops(plan.backward.program.graph)
    for name in ("conv", "linear", "random_bernoulli", "cross_entropy", "gelu"):
        assert name in forward
    for name in ("conv", "random_bernoulli", "cross_entropy", "gelu", "batch_norm"):
        assert name not in backward
    assert any(name.endswith("grad") or "conv" in name for name in backward)


def test_nothing_is_kept_without_a_tape() -> None:
    model = mlp()
    fast = dg.compile(model)
    with dg.no_grad():
        fast(dg.ones(2, 4))
    (entry,) = fast._entries
    assert entry.taped is None


def test_a_result_that_the_backward_needs_is_not_copied_but_watched() -> None:
    fast = dg.compile(lambda x: x.exp())
    for wrap in (lambda f: f, fast):
        x = dg.ones(3, requires_grad=True)
        y = wrap(lambda x: x.exp())(x) if wrap is not fast else fast(x)
        with dg.no_grad():
            x.mul_(2)  # which exp does not need
        y.sum().backward()
        assert x.grad.tolist() == y.tolist()
        x = dg.ones(3, requires_grad=True)
        y = x.exp() if wrap is not fast else fast(x)
        y.detach().mul_(2)
        with pytest.raises(AutogradError, match="modified by an inplace operation"):
            y.sum().backward()
    assert len(programs(fast).forward.graph.outputs) == 1


@BOTH
def test_results_may_be_overwritten_that_no_gradient_needs(wrap: Any) -> None:
    f = wrap(lambda x, w: x * w)
    x, w = dg.full((2,), 3.0, requires_grad=True), dg.ones(2, requires_grad=True)
    y = f(x, w)
    y.mul_(2)
    y.sum().backward()
    assert x.grad.tolist() == [2, 2]
    assert w.grad.tolist() == [6, 6]


@BOTH
def test_arguments_and_state_that_were_overwritten_are_noticed(wrap: Any) -> None:
    scale = dg.ones(2)
    f = wrap(lambda x: x * scale * x.sin())
    for change in (lambda x: scale.add_(1), lambda x: x.detach().zero_()):
        x = dg.ones(2, requires_grad=True)
        y = f(x)
        change(x)
        with pytest.raises(AutogradError, match="modified by an inplace operation"):
            y.sum().backward()


def test_kept_values_do_not_share_memory_with_what_the_caller_sees() -> None:
    def f(x):
        h = x.tanh()
        return h.T, h.exp().sum()

    x = dg.tensor([[0.1, 0.2, 0.3], [0.4, 0.5, 0.6]], requires_grad=True)
    f(x)[1].backward()
    expected, x.grad = x.grad, None
    shown, y = dg.compile(f)(x)
    shown.detach().zero_()
    y.backward()
    np.testing.assert_allclose(x.grad.numpy(), expected.numpy(), rtol=1e-6)


def test_outputs_without_gradient_take_no_part() -> None:
    """Zeros in their place would turn into NaN where a slope is infinite."""
    f = dg.compile(lambda x: (x.sqrt().sum(), (x * 3).sum()))
    for _ in range(3):
        x = dg.zeros(2, requires_grad=True)
        _, b = f(x)
        b.backward()
        assert x.grad.tolist() == [3, 3]
    assert "sqrt" in ops(programs(f).forward.graph)
    assert ops(programs(f).backward.program.graph) == ["mul", "expand"]


def test_only_gradients_that_are_wanted_are_computed() -> None:
    model = mlp()
    fast = dg.compile(model)
    x = dg.ones(2, 4, requires_grad=True)
    (g,) = dg.autograd.grad(fast(x).sum(), x)
    (expected,) = dg.autograd.grad(model(x).sum(), x)
    np.testing.assert_allclose(g.numpy(), expected.numpy(), rtol=1e-6)
    plan = programs(fast)
    (part,) = plan.backward._parts.values()
    assert len(part.program.graph.outputs) == 1
    assert len(part.program.graph) < len(plan.backward.program.graph)


def test_symbolic_sizes() -> None:
    model = mlp()
    fast = dg.compile(
        lambda x: model(x).reshape(-1).exp().sum(),
        dynamic_shapes={"x": {0: "n"}},
        numerics="strict",
    )
    for n in (2, 5, 1):
        model.zero_grad()
        fast(dg.ones(n, 4)).backward()
        found = [p.grad.clone() for p in model.parameters()]
        model.zero_grad()
        model(dg.ones(n, 4)).reshape(-1).exp().sum().backward()
        for a, p in zip(found, model.parameters(), strict=True):
            np.testing.assert_array_equal(a.numpy(), p.grad.numpy())
    assert len(fast.graphs) == 1


def test_state_read_and_written_in_the_backward_is_that_of_its_time() -> None:
    count = dg.zeros(1)

    def hook(g):
        count.add_(1)
        return g * count

    def f(x):
        y = x * 2
        y.register_hook(hook)
        return y.sum()

    for call in (f, dg.compile(f)):
        count.zero_()
        for i in range(1, 4):
            x = dg.ones(1, requires_grad=True)
            call(x).backward()
            assert x.grad.tolist() == [2 * i]
            assert count.tolist() == [i]


def test_calls_whose_backward_cannot_be_captured_run_eagerly() -> None:
    leaf = dg.ones(2, requires_grad=True)
    leaf.grad = dg.ones(2)

    class Odd(Function):
        @staticmethod
        def forward(ctx, x):
            return x * 1

        @staticmethod
        def backward(ctx, g):
            return g * leaf.grad

    x = dg.ones(2, requires_grad=True)
    with pytest.warns(EagerFallbackWarning, match="reads gradients"):
        y = dg.compile(lambda x: Odd.apply(x))(x)
    y.sum().backward()
    assert x.grad.tolist() == [1, 1]
    assert leaf.grad.tolist() == [1, 1]


def test_hooks_that_change_python_data_run_eagerly() -> None:
    seen = []

    def f(x):
        y = x * 2
        y.register_hook(lambda g: seen.append(g.tolist()))
        return y * 3

    fast = dg.compile(f)
    x = dg.ones(1, requires_grad=True)
    with pytest.warns(EagerFallbackWarning, match="changes Python data|tolist"):
        y = fast(x)
    assert seen == []
    y.sum().backward()
    fast(x).sum().backward()
    assert seen == [[3.0], [3.0]]


def test_gradients_inside_do_not_stop_at_what_was_computed_outside() -> None:
    w = dg.ones(2, requires_grad=True)
    y = dg.compile(lambda w: w * 3)(w)

    @dg.compile
    def of_y(x):
        return dg.autograd.grad((y * x * w).sum(), [y])[0]

    @dg.compile
    def of_w(x):
        return dg.autograd.grad((y * x * w).sum(), [w])[0]

    def of_arguments(x, y):
        return dg.autograd.grad((y * x).sum(), [x])[0]

    assert of_y(dg.ones(2)).tolist() == [1, 1]
    with pytest.warns(EagerFallbackWarning, match="computed outside"):
        assert of_w(dg.ones(2)).tolist() == [6, 6]
    assert dg.compile(of_arguments)(dg.ones(2, requires_grad=True), y).tolist() == [3, 3]
    with pytest.raises(CaptureFailure, match="computed outside"):
        dg.compile(of_arguments, fullgraph=True)(w, y)


# -- higher derivatives --------------------------------------------------------------------------


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "product": lambda x, w: x * x * w.sin() * x,
    "detach": lambda x, w: x * x.detach() * (w + x).exp(),
    "division": lambda x, w: (x / (1 + w * w)).tanh() * x,
    "matmul": lambda x, w: ((x[:, None] * w[None, :]) @ (x * w)).sigmoid(),
    "softmax": lambda x, w: (x * w).softmax(0) * x,
    "grad inside": lambda x, w: dg.autograd.grad((x**3 * w).sum(), [x], create_graph=True)[0],
    "linear": lambda x, w: x * 3 + w,
}


def derivatives(f: Callable[..., Any], order: int) -> list[Any]:
    """Of a weighted sum, by x and w in turn, to some order."""
    x = dg.tensor([0.3, -0.7, 1.1], dtype=dg.float64, requires_grad=True)
    w = dg.tensor([0.5, 0.2, -0.4], dtype=dg.float64, requires_grad=True)
    weights = dg.tensor([1.0, 2.0, -0.5], dtype=dg.float64)
    g, found = f(x, w), []
    for i in range(order):
        gx, gw = dg.autograd.grad(
            (g * weights).sum(), [x, w], create_graph=True, materialize_grads=True
        )
        found += [gx.tolist(), gw.tolist()]
        g = gx if i % 2 else gw
        if not g.requires_grad:
            break
    return found


@pytest.mark.parametrize("name", FUNCTIONS)
def test_derivatives_to_fourth_order(name: str) -> None:
    f = FUNCTIONS[name]
    fast = dg.compile(f)
    expected = derivatives(f, 4)
    for _ in range(2):
        for a, b in zip(derivatives(fast, 4), expected, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-14)


def test_second_derivatives_numerically() -> None:
    f = dg.compile(lambda x: (x.tanh() * x.exp()).sum())

    def slope(v: list[float]) -> Any:
        x = dg.tensor(v, dtype=dg.float64, requires_grad=True)
        return dg.autograd.grad(f(x), x)[0].numpy()

    x = dg.tensor([0.3, -0.2], dtype=dg.float64, requires_grad=True)
    (g,) = dg.autograd.grad(f(x), x, create_graph=True)
    (h,) = dg.autograd.grad(g.sum(), x)
    e = 1e-6
    for i in range(2):
        d = [e if j == i else 0.0 for j in range(2)]
        up, down = slope([0.3 + d[0], -0.2 + d[1]]), slope([0.3 - d[0], -0.2 - d[1]])
        assert h[i].item() == pytest.approx(((up - down) / (2 * e)).sum(), abs=1e-7)


def test_gradient_penalty() -> None:
    outcomes = []
    for wrap in (lambda f: f, dg.compile):
        model = mlp()
        fast = wrap(model)
        for _ in range(2):
            x = dg.linspace(-1, 1, 20).reshape(5, 4).requires_grad_()
            out = fast(x)
            (g,) = dg.autograd.grad(out.sum(), x, create_graph=True)
            (out.mean() + ((g.norm(dim=1) - 1) ** 2).mean()).backward()
        outcomes.append([*(p.grad for p in model.parameters()), x.grad])
    for a, b in zip(*outcomes, strict=True):
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-6, atol=1e-7)


def test_higher_derivatives_with_draws_state_and_written_operands() -> None:
    count = dg.zeros(())

    def f(x):
        count.add_(1)
        return (F.dropout(x * x, 0.5) * count).exp()

    outcomes = []
    for call in (f, dg.compile(f)):
        dg.manual_seed(3)
        count.zero_()
        x = dg.full((8,), 0.5, dtype=dg.float64, requires_grad=True)
        call(x)
        (g,) = dg.autograd.grad(call(x).sum(), x, create_graph=True)
        (h,) = dg.autograd.grad(g.sum(), x)
        outcomes.append((g.tolist(), h.tolist(), count.item()))
    assert outcomes[0] == outcomes[1]


def test_create_graph_in_backward_and_stale_operands() -> None:
    fast = dg.compile(lambda x: (x**3).sum())
    x = dg.ones(2, requires_grad=True)
    with dg.no_grad():
        y = fast(x)
    assert not y.requires_grad
    y = fast(x)
    y.backward(create_graph=True)
    assert x.grad.requires_grad
    g = x.grad
    x.grad = None
    g.sum().backward()
    assert x.grad.tolist() == [6, 6]
    y = fast(x)
    (g,) = dg.autograd.grad(y, x, create_graph=True)
    with dg.no_grad():
        x.mul_(2)
    with pytest.raises(AutogradError, match="modified by an inplace operation"):
        dg.autograd.grad(g.sum(), x)


# -- calls that ran a backward inside -------------------------------------------------------------


@BOTH
def test_results_differentiated_inside_are_used_up(wrap: Any) -> None:
    model = mlp()

    @wrap
    def step(x):
        loss = model(x).square().sum()
        loss.backward()
        return loss

    for _ in range(2):
        loss = step(dg.ones(2, 4))
        assert loss.requires_grad
        assert not loss.is_leaf
        with pytest.raises(RuntimeError, match="backward through the graph a second time"):
            loss.backward()


@BOTH
def test_results_not_involved_stay_differentiable(wrap: Any) -> None:
    model = mlp()

    @wrap
    def step(x):
        loss = model(x).square().sum()
        loss.backward()
        return loss, (model[0].weight * x[0]).exp().sum()

    _, other = step(dg.ones(2, 4))
    model.zero_grad()
    other.backward()
    np.testing.assert_allclose(
        model[0].weight.grad.numpy(), model[0].weight.detach().exp().numpy(), rtol=1e-6
    )
    assert model[2].weight.grad is None


@BOTH
def test_retain_graph_inside_lets_another_backward_follow(wrap: Any) -> None:
    model = mlp()

    @wrap
    def step(x):
        loss = model(x).square().sum()
        loss.backward(retain_graph=True)
        return loss

    loss = step(dg.ones(2, 4))
    first = [p.grad.clone() for p in model.parameters()]
    loss.backward()
    for p, g in zip(model.parameters(), first, strict=True):
        np.testing.assert_array_equal(p.grad.numpy(), 2 * g.numpy())


@BOTH
def test_gradients_computed_inside_and_differentiated_outside(wrap: Any) -> None:
    @wrap
    def slopes(x, w):
        y = (x**3 * w).sum()
        gx, gw = dg.autograd.grad(y, [x, w], create_graph=True)
        (plain,) = dg.autograd.grad((x * x).sum(), [x])
        return gx, gw, plain

    x = dg.full((2,), 2.0, requires_grad=True)
    w = dg.full((2,), 3.0, requires_grad=True)
    gx, gw, plain = slopes(x, w)
    assert not plain.requires_grad
    (gx.sum() + gw.sum()).backward()
    assert x.grad.tolist() == [6 * 2 * 3 + 3 * 4] * 2
    assert w.grad.tolist() == [3 * 4] * 2


@BOTH
def test_create_graph_inside_gives_gradients_on_the_tape(wrap: Any) -> None:
    x = dg.full((2,), 2.0, requires_grad=True)

    @wrap
    def f():
        (x**3).sum().backward(create_graph=True)

    f()
    g = x.grad
    assert g.requires_grad
    x.grad = None
    g.sum().backward()
    assert x.grad.tolist() == [12, 12]
