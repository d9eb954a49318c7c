"""Compiled calls on the native engine: what eager code gives, within rounding."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import dualgraph as dg
import dualgraph.nn.functional as F
import dualgraph_runtime.native.executable as executable
from dualgraph import nn, optim
from dualgraph_compiler.errors import ArgumentError

pytestmark = pytest.mark.compiler


def native(function: Any, **options: Any) -> Any:
    return dg.compile(function, execution="native", fullgraph=True, **options)


def close(a: Any, b: Any) -> None:
    np.testing.assert_allclose(a.detach().numpy(), b.detach().numpy(), rtol=1e-4, atol=1e-6)


def is_native(fast: Any) -> bool:
    """Whether everything that has run is native code."""
    return bool(fast.wait())


class Net(nn.Module):
    """Something of everything: a convolution, batch norm, dropout, a softmax."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 4, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(4)
        self.drop = nn.Dropout(0.3)
        self.linear = nn.Linear(4 * 9, 5)

    def forward(self, x: Any) -> Any:
        y = F.max_pool2d(F.relu(self.norm(self.conv(x))), 2)
        return F.log_softmax(self.linear(self.drop(y).flatten(1)), 1)


def test_forward() -> None:
    model = Net().eval()
    fast = native(model)
    with dg.no_grad():
        for n in (3, 1):
            x = dg.randn(n, 2, 6, 6)
            close(fast(x), model(x))
    assert is_native(fast)


def test_gradients_from_outside() -> None:
    model, x = Net().eval(), dg.randn(3, 2, 6, 6, requires_grad=True)
    fast = native(model)
    for _ in range(2):
        found = dg.autograd.grad(fast(x).square().mean(), [x, *model.parameters()])
        wanted = dg.autograd.grad(model(x).square().mean(), [x, *model.parameters()])
        for a, b in zip(found, wanted, strict=True):
            close(a, b)
    assert is_native(fast)


def test_second_derivatives() -> None:
    def f(x: Any) -> Any:
        return (x.exp() * x.sin()).sum()

    x = dg.randn(5, requires_grad=True)
    found, wanted = (
        dg.autograd.grad(dg.autograd.grad(g(x), x, create_graph=True)[0].square().sum(), x)[0]
        for g in (native(f), f)
    )
    close(found, wanted)


OPTIMIZERS: dict[str, Callable[[Any], optim.Optimizer]] = {
    "sgd": lambda p: optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=0.01),
    "adam": lambda p: optim.Adam(p, lr=0.01),
    "adamw": lambda p: optim.AdamW(p, lr=0.01, amsgrad=True),
}


def train(
    optimizer: Callable[[Any], optim.Optimizer], compiled: Callable[[Any], Any], steps: int = 5
) -> list[Any]:
    """Losses and all state of a few training steps."""
    dg.manual_seed(0)
    model = Net()
    opt = optimizer(model.parameters())
    schedule = optim.lr_scheduler.StepLR(opt, 2)
    x, y = dg.randn(4, 2, 6, 6), dg.randint(0, 5, (4,))

    def step(x: Any, y: Any) -> Any:
        opt.zero_grad()
        loss = F.nll_loss(model(x), y)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        opt.step()
        schedule.step()
        return loss

    fast = compiled(step)
    found = [fast(x, y) for _ in range(steps)]
    if compiled is native:
        assert is_native(fast)
    found += model.state_dict().values()
    for entries in opt.state_dict()["state"].values():
        found += [v for v in entries.values() if isinstance(v, dg.Tensor)]
    return found


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_training_steps(name: str) -> None:
    found, wanted = (train(OPTIMIZERS[name], c) for c in (native, lambda f: f))
    for a, b in zip(found, wanted, strict=True):
        close(a, b)


def test_results_that_show_arguments() -> None:
    """Views come back as views, and other results are nobody else's memory."""

    def f(x: Any) -> Any:
        y = x * 2
        return x[1:], y, y.reshape(6), x.T

    fast = native(f)
    for _ in range(2):
        x = dg.randn(2, 3)
        tail, y, flat, turned = fast(x)
        x[1] = 7.0
        assert tail.tolist() == [[7.0] * 3]
        assert turned[:, 1].tolist() == [7.0] * 3
        y[0] = 5.0
        assert flat.tolist()[:3] == [5.0] * 3


def test_a_failing_step_leaves_everything_as_it_was() -> None:
    weight, n = dg.ones(3), dg.tensor([6, 6, 6])

    def step(by: Any) -> Any:
        weight.mul_(2)
        n.copy_(n // by)
        return n.sum()

    fast = native(step)
    by = dg.tensor([1, 2, 3])
    assert fast(by).item() == 11
    with pytest.raises(ArgumentError, match="division by zero"):
        fast(dg.tensor([1, 0, 1]))
    assert weight.tolist() == [2.0] * 3
    assert n.tolist() == [6, 3, 2]


def test_any_size_of_batch() -> None:
    model = Net().eval()
    fast = native(model, dynamic_shapes={"x": {0: "n"}})
    with dg.no_grad():
        for n in (3, 1, 7, 2, 16):
            x = dg.randn(n, 2, 6, 6)
            close(fast(x), model(x))
    assert len(fast.graphs) == 1


def test_what_execution_may_be(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ArgumentError, match="execution must be one of"):
        dg.compile(execution="fast")
    monkeypatch.setenv("DUALGRAPH_EXECUTION", "native")
    fast = dg.compile(lambda x: x + 1)
    fast(dg.ones(2))
    assert is_native(fast)
    monkeypatch.setenv("DUALGRAPH_EXECUTION", "interpreter")
    fast = dg.compile(lambda x: x + 1)
    fast(dg.ones(2))
    assert not is_native(fast)


def test_without_a_compiler_graphs_are_interpreted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dualgraph_runtime.native.executable.find_compiler", lambda: None)
    fast = native(lambda x: x * 2)
    assert fast(dg.ones(2)).tolist() == [2.0, 2.0]
    assert not is_native(fast)
    assert "no C compiler" in str(fast.report())


def test_auto_begins_interpreted() -> None:
    model, x = Net().eval(), dg.randn(3, 2, 6, 6)
    fast = dg.compile(model, execution="auto")
    with dg.no_grad():
        wanted = model(x)
        close(fast(x), wanted)
        assert "not ready yet" in str(fast.report())
        assert is_native(fast)
        close(fast(x), wanted)
        assert "kernels" in str(fast.report())


def test_auto_trains_natively_from_the_second_step_on() -> None:
    x = dg.randn(3, 2, 6, 6)

    def trained() -> list[Any]:
        dg.manual_seed(1)
        model = Net()
        opt = dg.optim.Adam(model.parameters(), lr=0.01)

        @dg.compile(execution="auto")
        def step(x):
            opt.zero_grad()
            loss = model(x).square().mean()
            loss.backward()
            opt.step()
            return loss

        step(x)
        assert "kernels" not in str(step.report())
        losses = [step(x).item() for _ in range(3)]
        assert "kernels" in str(step.report())
        return losses + [p.detach().numpy().tobytes() for p in model.parameters()]

    assert trained() == trained()


def test_report() -> None:
    fast = native(lambda x: ((x * 2).exp() + x.cumsum(0)).sum())
    fast(dg.ones(3, requires_grad=True)).backward()
    text = str(fast.report())
    assert "native       forward: " in text
    assert "backward: " in text
    assert "cumsum" in text


def test_results_that_somebody_holds_stay() -> None:
    """Also where only a view, or the tape, holds them."""
    w = nn.Parameter(dg.ones(3))
    fast = native(lambda x: (x * w).exp())
    held, views, losses = [], [], []
    for i in range(6):
        y = fast(dg.full((3,), float(i)))
        held.append(y)
        views.append(y.detach()[1:])
        losses.append((fast(dg.full((3,), i / 4)) ** 2).sum())
    for i, (y, view) in enumerate(zip(held, views, strict=True)):
        close(y, dg.full((3,), float(i)).exp())
        close(view, dg.full((2,), float(i)).exp())
    for i, loss in enumerate(losses):
        w.grad = None
        loss.backward()
        close(w.grad, dg.full((3,), i / 2 * np.exp(i / 2)))


@pytest.mark.parametrize("launcher", [True, False])
def test_kinds_of_results(launcher: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not launcher:
        monkeypatch.setattr(executable, "frame_type", lambda compiler: None)
    x = nn.Parameter(dg.tensor([1.0, 2.0]))
    functions = [
        lambda x: x * 2,
        lambda x: (x * 2, x + 1),
        lambda x: [x * 2],
        lambda x: {"a": (x * 2, 3)},
        lambda x: (x * 2).sum().item(),
        lambda x: (x * 2).detach(),
    ]
    for f in functions:
        fast = native(f)
        for _ in range(3):
            assert repr(fast(x)).replace("CompiledBackward", "") == repr(f(x)).replace(
                "MulBackward0", ""
            ).replace("AddBackward0", "")


@pytest.mark.interpreted
def test_strict_numerics_keep_every_bit() -> None:
    """Gradients and training steps as well; the report says what is interpreted for it, and why."""

    def strict(function: Any) -> Any:
        return native(function, numerics="strict")

    for name in OPTIMIZERS:
        found, wanted = (train(OPTIMIZERS[name], c) for c in (strict, lambda f: f))
        for a, b in zip(found, wanted, strict=True):
            assert a.detach().numpy().tobytes() == b.detach().numpy().tobytes()
    model = Net().eval()
    fast = strict(model)
    x = dg.randn(3, 2, 6, 6, requires_grad=True)
    for _ in range(3):
        gradients = [dg.autograd.grad(f(x).exp().sum(), x)[0] for f in (fast, model)]
        assert gradients[0].numpy().tobytes() == gradients[1].numpy().tobytes()
    assert is_native(fast)
    assert "strict: it adds in another order than NumPy" in str(fast.report())


def test_kernels_are_timed_on_request() -> None:
    w = dg.randn(4, 4, requires_grad=True)

    def step(x: dg.Tensor) -> dg.Tensor:
        loss = (x @ w).tanh().sum()
        loss.backward()
        return loss

    plain, timed = native(step), native(step, profile=True)
    for n in (3, 3, 3, 5):
        x = dg.randn(n, 4)
        w.grad = None
        expected = plain(x)
        grad = w.grad
        w.grad = None
        close(timed(x), expected)
        close(w.grad, grad)
    assert is_native(timed)
    assert "GFLOP/s" not in str(plain.report())
    report = str(timed.report())
    assert "GFLOP/s" in report
    assert "runs, " in report
