"""State of compiled training steps: changes between calls count, failures change nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import dualgraph as dg
from dualgraph.tracing.failure import CaptureFailure, EagerFallbackWarning
from dualgraph_compiler.errors import TraceError

from .training_run import (
    OPTIMIZERS,
    SCHEDULES,
    Run,
    batches,
    equal,
    with_dropout,
)

# -- nothing goes stale ---------------------------------------------------------------------------


def pair(change: Callable[[Run], None], steps: int = 6, **options: Any) -> Any:
    """Train, `change` the run in Python, train on, eagerly and compiled; the compiled function."""

    def train(compiled: bool) -> tuple[Run, Any]:
        run = Run(**options)
        step = dg.compile(run.step) if compiled else run.step
        for i in range(2 * steps):
            if i == steps:
                change(run)
            step(*batches()[i % 5])
        return run, step

    eager, _ = train(False)
    run, fast = train(True)
    equal(run.state(), eager.state())
    return fast


def test_options_changed_by_hand() -> None:
    def change(run: Run) -> None:
        run.opt.param_groups[0]["lr"] = 0.5
        run.opt.param_groups[0]["betas"] = (0.5, 0.5)

    assert len(pair(change, optimizer=OPTIMIZERS["adam"]).graphs) == 1

    def flags(run: Run) -> None:
        run.opt.param_groups[0]["weight_decay"] = 0.5
        run.opt.param_groups[0]["maximize"] = True

    assert len(pair(flags, optimizer=OPTIMIZERS["adam"]).graphs) == 2


def test_loaded_optimizer_state() -> None:
    def change(run: Run) -> None:
        run.opt.load_state_dict(run.opt.state_dict())
        for entries in run.opt.state.values():
            entries["exp_avg"].mul_(2)

    assert len(pair(change, optimizer=OPTIMIZERS["adam"]).graphs) == 1


def test_frozen_and_thawed_parameters() -> None:
    def freeze(run: Run) -> None:
        run.model[0].requires_grad_(False)

    assert len(pair(freeze, optimizer=OPTIMIZERS["adam"]).graphs) == 2


def test_training_flags() -> None:
    assert len(pair(lambda run: run.model.eval(), model=with_dropout).graphs) == 2


def test_new_parameter_group() -> None:
    extra = dg.ones(3, requires_grad=True)

    def change(run: Run) -> None:
        run.opt.add_param_group({"params": [extra], "lr": 0.3})

    pair(change, optimizer=OPTIMIZERS["adam"])


def test_random_state_set_between_calls() -> None:
    pair(lambda run: dg.manual_seed(9), model=with_dropout)


def test_options_read_and_written_inside() -> None:
    def train(wrap: Any) -> tuple[list[float], Run]:
        run = Run(schedule=SCHEDULES["step"])

        def step(x: Any, y: Any) -> Any:
            for group in run.opt.param_groups:
                group["weight_decay"] = 0.25
            loss, _ = run.step(x, y)
            return loss * 0 + run.schedule.get_last_lr()[0] + run.opt.param_groups[0]["lr"]

        fast = wrap(step)
        return [fast(x, y).item() for x, y in batches() * 4], run

    (rates, run), (wanted, eager) = train(dg.compile), train(lambda f: f)
    assert rates == wanted
    equal(run.state(), eager.state())


def test_seeding_inside() -> None:
    @dg.compile
    def draw():
        dg.manual_seed(5)
        return dg.rand(3)

    first = draw()
    dg.manual_seed(0)
    assert draw().tolist() == first.tolist()
    dg.manual_seed(5)
    assert dg.rand(3).tolist() == first.tolist()
    with pytest.raises(TraceError, match="call it outside"):
        dg.compile(lambda x: x + dg.initial_seed(), fullgraph=True)(dg.ones(1))


def test_data_of_state_seen_by_python() -> None:
    count = dg.tensor(0)

    @dg.compile
    def f(x):
        return x * 2 if count.item() > 1 else x

    assert f(dg.ones(1)).item() == 1
    count.fill_(3)
    assert f(dg.ones(1)).item() == 2


# -- failures leave everything as it was ----------------------------------------------------------


def failing(run: Run, kind: str) -> Any:
    def step(x: Any, y: Any) -> Any:
        loss, _ = run.step(x, y)
        if kind == "python":
            raise RuntimeError("after everything")
        return loss

    return dg.compile(step)


@pytest.mark.parametrize("steps_before", [0, 3])
@pytest.mark.parametrize("kind", ["python", "kernel"])
def test_failures_change_nothing(kind: str, steps_before: int) -> None:
    run = Run(optimizer=OPTIMIZERS["adamw"], model=with_dropout, schedule=SCHEDULES["one cycle"])
    fast = failing(run, kind)
    if kind == "kernel":
        for i in range(steps_before):
            fast(*batches()[i])
    else:
        for i in range(steps_before):
            run.step(*batches()[i])
    before = {k: v.clone() if isinstance(v, dg.Tensor) else v for k, v in run.state().items()}
    x, y = batches()[0]
    with pytest.raises((RuntimeError, IndexError)):
        fast(x, dg.full((6,), 99) if kind == "kernel" else y)  # there is no class 99
    equal(run.state(), before)
    assert len(run.opt.state) == (6 if steps_before else 0)


def test_backward_into_the_outside_runs_eagerly() -> None:
    w = dg.ones(2, requires_grad=True)
    y = w * 2

    def f(x):
        (x * y).sum().backward()

    with pytest.raises(CaptureFailure, match="computed outside"):
        dg.compile(f, fullgraph=True)(dg.ones(2))
    assert w.grad is None
    with pytest.warns(EagerFallbackWarning, match="computed outside"):
        dg.compile(f)(dg.ones(2))
    assert w.grad.tolist() == [2, 2]

    g = dg.compile(lambda x: (x * x).sum().backward(), fullgraph=True)
    with pytest.raises(CaptureFailure, match="computed outside"):
        g(w * 3)
    assert w.grad.tolist() == [2, 2]


def test_step_needs_a_call() -> None:
    run = Run()
    with dg.Graph(), pytest.raises(TraceError, match=r"dg\.compile"):
        run.opt.step()
