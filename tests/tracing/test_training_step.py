"""Whole training steps as one graph: compiled steps equal eager steps."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest

import dualgraph as dg
import dualgraph.nn.functional as F
from dualgraph import nn, optim
from dualgraph.optim import lr_scheduler
from dualgraph.tracing.failure import CaptureFailure, EagerFallbackWarning
from dualgraph_compiler.graph import verify

from .training_run import (
    CLIPS,
    OPTIMIZERS,
    SCHEDULES,
    STEPS,
    Run,
    batches,
    both,
    equal,
    same,
    with_dropout,
)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer(name: str) -> None:
    _, fast = both(optimizer=OPTIMIZERS[name])
    # Nothing clears the gradients of parameters that the optimizer does not hold.
    assert len(fast.graphs) == (2 if name == "muon" else 1)


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("optimizer", ["sgd momentum", "adamw", "sgd tensor lr"])
def test_schedules(name: str, optimizer: str) -> None:
    _, fast = both(optimizer=OPTIMIZERS[optimizer], schedule=SCHEDULES[name])
    assert len(fast.graphs) == 1


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_momentum_that_a_schedule_takes_to_zero_and_back(momentum: float) -> None:
    """Without momentum there is no buffer: the rule is another one, and so is the graph."""

    def schedule(o: Any) -> Any:
        return lr_scheduler.OneCycleLR(
            o, 0.2, total_steps=STEPS + 2, pct_start=0.5, anneal_strategy="linear",
            base_momentum=0.0, max_momentum=momentum,
        )  # fmt: skip

    run, fast = both(optimizer=lambda p: optim.SGD(p, lr=0.1, momentum=0.5), schedule=schedule)
    assert len(fast.graphs) == (2 if momentum else 1)
    assert len(run.opt.state) == (4 if momentum else 0)


def test_an_optimizer_without_a_rule() -> None:
    class Plain(optim.Optimizer):
        def __init__(self, params: Any) -> None:
            super().__init__(params, {"lr": 0.1})

        def step(self, closure: Any = None) -> Any:
            loss = closure()
            for p in self.param_groups[0]["params"]:
                p.data -= 0.1 * p.grad * float(loss.detach())
            return loss

    def train(wrap: Any) -> Any:
        run = Run(optimizer=Plain)

        def step(x: Any, y: Any) -> Any:
            def closure() -> Any:
                run.opt.zero_grad()
                loss = F.cross_entropy(run.model(x), y)
                loss.backward()
                return loss

            return run.opt.step(closure)

        fast = wrap(step)
        return [fast(x, y).item() for x, y in batches()], run

    losses, eager = train(lambda f: f)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", EagerFallbackWarning)
        found, run = train(dg.compile)
    same(found, losses)
    equal(run.state(), eager.state())


def test_plateau_is_stepped_outside() -> None:
    def train(compiled: bool) -> Run:
        run = Run(optimizer=OPTIMIZERS["adam"])
        plateau = lr_scheduler.ReduceLROnPlateau(run.opt, patience=1, factor=0.5)
        step = dg.compile(run.step) if compiled else run.step
        for x, y in batches() * 4:
            loss, _ = step(x, y)
            plateau.step(loss.item())
        return run

    eager, fast = train(False), train(True)
    equal(fast.state(), eager.state())
    assert fast.opt.param_groups[0]["lr"] < 0.01


def test_plateau_inside_runs_eagerly() -> None:
    def plateau(o: Any) -> Any:
        return lr_scheduler.ReduceLROnPlateau(o, patience=1, threshold=10.0)

    def step_of(run: Any) -> Any:
        def step(x, y):
            loss = F.cross_entropy(run.model(x), y)
            loss.backward()
            run.opt.step()
            run.schedule.step(loss)
            return run.opt.param_groups[0]["lr"]

        return step

    run, other = Run(schedule=plateau), Run(schedule=plateau)
    before = run.state()
    with pytest.raises(CaptureFailure, match="Call it outside"):
        dg.compile(step_of(run), fullgraph=True)(*batches()[0])
    equal(run.state(), before)
    step, eager = dg.compile(step_of(run)), step_of(other)
    with pytest.warns(EagerFallbackWarning, match="Call it outside"):
        rates = [step(*b) for b in batches()]
    assert rates == [eager(*b) for b in batches()]
    assert rates[-1] < rates[0]
    equal(run.state(), other.state())


@pytest.mark.parametrize("name", CLIPS)
def test_clipping(name: str) -> None:
    both(20, optimizer=OPTIMIZERS["adam"], clip=CLIPS[name])


@pytest.mark.parametrize("set_to_none", [True, False])
@pytest.mark.parametrize("zero_first", [True, False])
def test_dropout_batch_norm_and_zeroed_gradients(set_to_none: bool, zero_first: bool) -> None:
    _, fast = both(
        optimizer=OPTIMIZERS["adamw"],
        model=with_dropout,
        set_to_none=set_to_none,
        zero_first=zero_first,
    )
    # Where gradients are zeroed in place, whether there are any at the start is another graph.
    assert len(fast.graphs) == (1 if set_to_none else 2)


def test_half_precision_and_double() -> None:
    for dtype in (dg.float16, dg.bfloat16, dg.float64):
        data = [(x.to(dtype), y) for x, y in batches()]
        model = lambda d=dtype: nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 3)).to(d)  # noqa: E731
        clip = CLIPS["norm"]
        both(10, data, "strict", model=model, optimizer=OPTIMIZERS["adamw"], clip=clip)


def test_parameter_groups() -> None:
    def groups(params: Any) -> optim.Optimizer:
        a, b, c, d = params
        return optim.AdamW(
            [
                {"params": [a, b], "lr": 0.1, "weight_decay": 0.2},
                {"params": [c], "betas": (0.5, 0.6)},
                {"params": [d], "lr": 0.01, "amsgrad": True},
            ],
            lr=0.05,
        )

    _, fast = both(optimizer=groups, schedule=lambda o: lr_scheduler.StepLR(o, 3))
    assert len(fast.graphs) == 1


def test_accumulation_over_micro_batches() -> None:
    """Two compiled functions share the gradients: one adds to them, one uses them up."""

    def train(wrap: Any) -> Run:
        run = Run(optimizer=OPTIMIZERS["adam"])

        def accumulate(x: Any, y: Any) -> Any:
            loss = F.cross_entropy(run.model(x), y) / 3
            loss.backward()
            return loss

        def update() -> None:
            nn.utils.clip_grad_norm_(run.model.parameters(), 0.1)
            run.opt.step()
            run.opt.zero_grad()

        accumulate, update = wrap(accumulate), wrap(update)
        for i in range(15):
            accumulate(*batches()[i % 5])
            if i % 3 == 2:
                update()
        accumulate(*batches()[0])
        return run

    equal(train(dg.compile).state(), train(lambda f: f).state())


def test_gradients_stay_the_same_tensors() -> None:
    run = Run()
    fast = dg.compile(lambda x, y: F.cross_entropy(run.model(x), y).backward())
    fast(*batches()[0])
    held = [p.grad for p in run.model.parameters()]
    first = [g.clone() for g in held]
    fast(*batches()[0])
    for p, g, f in zip(run.model.parameters(), held, first, strict=True):
        assert p.grad is g
        np.testing.assert_array_equal(g.numpy(), 2 * f.numpy())


def test_several_steps_in_one_call() -> None:
    def train(wrap: Any) -> Run:
        run = Run(optimizer=OPTIMIZERS["sgd dampening"], schedule=SCHEDULES["cosine"])

        def two(x: Any, y: Any) -> Any:
            run.step(x, y)
            return run.step(x, y)[0]

        fast = wrap(two)
        for x, y in batches() * 2:
            fast(x, y)
        return run

    equal(train(dg.compile).state(), train(lambda f: f).state())


def test_closure() -> None:
    def train(wrap: Any) -> Run:
        run = Run(optimizer=OPTIMIZERS["adam"])

        def step(x: Any, y: Any) -> Any:
            def closure() -> Any:
                run.opt.zero_grad()
                loss = F.cross_entropy(run.model(x), y)
                loss.backward()
                return loss

            return run.opt.step(closure)

        fast = wrap(step)
        for x, y in batches():
            fast(x, y)
        return run

    equal(train(dg.compile).state(), train(lambda f: f).state())


# -- arguments ------------------------------------------------------------------------------------


def test_gradients_of_arguments() -> None:
    f = dg.compile(lambda x, w: (x * w).sum().backward())
    x, w = dg.ones(2, requires_grad=True), dg.full((2,), 3.0, requires_grad=True)
    f(x, w)
    f(x, w)
    assert x.grad.tolist() == [6, 6]
    assert w.grad.tolist() == [2, 2]
    f(x, x)
    assert x.grad.tolist() == [8, 8]


def test_arguments_written_in_place() -> None:
    @dg.compile
    def f(x, y):
        x.add_(1)
        y[0] = 7
        return x * y

    x, y = dg.zeros(2), dg.ones(2)
    assert f(x, y).tolist() == [7, 1]
    assert (x.tolist(), y.tolist()) == ([1, 1], [7, 1])


def test_an_argument_that_is_state_too() -> None:
    w = dg.ones(2)

    @dg.compile
    def f(x):
        w.mul_(2)
        return x + w

    assert f(dg.zeros(2)).tolist() == [2, 2]
    assert f(w).tolist() == [8, 8]
    assert f(dg.zeros(2)).tolist() == [8, 8]
    assert f(w).tolist() == [32, 32]


# -- the graph ------------------------------------------------------------------------------------


def test_graph_holds_forward_backward_and_update() -> None:
    run, fast = both(
        2,
        optimizer=OPTIMIZERS["sgd momentum"],
        model=lambda: nn.Sequential(nn.Linear(4, 3), nn.Dropout(0.5)),
        clip=CLIPS["norm"],
        schedule=SCHEDULES["step"],
    )
    (graph,) = fast.graphs
    verify(graph)
    names = [node.op.name for node in graph.nodes]
    for name in ("linear", "cross_entropy", "nll_loss_grad", "vector_norm", "random_bernoulli"):
        assert name in names, name
    assert names.count("sgd_update") == 2
    params = {v.name for v in graph.params}
    assert {"0.weight", "0.bias", "random_seed", "random_offset", "lr", "momentum"} <= params
    assert {"0.weight.momentum_buffer", "0.bias.momentum_buffer"} <= params
    assert {"0.weight.new", "0.weight.momentum_buffer.new", "random_offset.new"} <= set(
        graph.output_names
    )
    # Constants are the literals of the code: nothing of the model, the data or the optimizer.
    assert all(v.shape == () for v in graph.constants)
    rate = run.opt.param_groups[0]["lr"]
    assert all(float(v.data) != rate for v in graph.constants)
    update = next(node for node in graph.nodes if node.op.name == "sgd_update")
    assert "training_run.py" in str(update.loc)
    backward = next(node for node in graph.nodes if node.op.name == "nll_loss_grad")
    assert "training_run.py" in str(backward.loc)


def test_forward_only_graphs_have_no_gradients_as_params() -> None:
    run = Run()
    run.step(*batches()[0])
    F.cross_entropy(run.model(batches()[0][0]), batches()[0][1]).backward()
    graph = dg.trace(run.model, batches()[0][0])
    assert [v.name for v in graph.params] == ["0.weight", "0.bias", "2.weight", "2.bias"]


@pytest.mark.interpreted
def test_digits_network() -> None:
    from dualgraph_models.digits_cnn import DigitsCNN

    both(
        20,
        data=batches((16, 1, 8, 8), 10),
        numerics="strict",  # gradients of biases before batch norm are rounding, no more
        model=lambda: DigitsCNN((4, 8, 8)),
        optimizer=OPTIMIZERS["adamw"],
        schedule=SCHEDULES["one cycle"],
        clip=CLIPS["norm"],
    )
