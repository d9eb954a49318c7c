"""Learning rate schedules against PyTorch's sequences, and their own contract."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from typing import Any

import pytest

import dualgraph as dg
from dualgraph import optim
from dualgraph.optim import lr_scheduler
from dualgraph_compiler.errors import ArgumentError

EPOCHS = 45

# Each builds a schedule from a scheduler module (ours or PyTorch's) and an optimizer.
Build = Callable[[Any, Any], Any]
SCHEDULES: dict[str, Build] = {
    "step": lambda s, o: s.StepLR(o, step_size=7, gamma=0.3),
    "multi_step": lambda s, o: s.MultiStepLR(o, milestones=[3, 9, 9, 20], gamma=0.5),
    "exponential": lambda s, o: s.ExponentialLR(o, gamma=0.93),
    "constant": lambda s, o: s.ConstantLR(o, factor=0.25, total_iters=6),
    "linear": lambda s, o: s.LinearLR(o, start_factor=0.2, end_factor=0.9, total_iters=8),
    "cosine": lambda s, o: s.CosineAnnealingLR(o, T_max=10, eta_min=0.01),
    "cosine_once": lambda s, o: s.CosineAnnealingLR(o, T_max=60),
    "lambda": lambda s, o: s.LambdaLR(o, lambda epoch: 0.95**epoch),
    "lambdas": lambda s, o: s.LambdaLR(o, [lambda e: 1 / (1 + e), lambda e: 0.9**e]),
    "multiplicative": lambda s, o: s.MultiplicativeLR(o, lambda epoch: 1 - 1 / (epoch + 3)),
    "polynomial": lambda s, o: s.PolynomialLR(o, total_iters=12, power=1.7),
    "cyclic": lambda s, o: s.CyclicLR(o, base_lr=0.01, max_lr=[0.5, 0.3], step_size_up=4),
    "cyclic_triangular2": lambda s, o: s.CyclicLR(
        o, 0.01, 0.5, 3, 5, mode="triangular2", base_momentum=0.7, max_momentum=0.95
    ),
    "cyclic_exp_range": lambda s, o: s.CyclicLR(o, 0.01, 0.5, 3, mode="exp_range", gamma=0.97),
    "cyclic_scaled": lambda s, o: s.CyclicLR(
        o, 0.01, 0.5, 3, scale_fn=lambda x: 1 / x, cycle_momentum=False
    ),
    "warm_restarts": lambda s, o: s.CosineAnnealingWarmRestarts(o, T_0=7),
    "warm_restarts_longer": lambda s, o: s.CosineAnnealingWarmRestarts(
        o, T_0=3, T_mult=2, eta_min=0.001
    ),
    "chained": lambda s, o: s.ChainedScheduler(
        [s.ConstantLR(o, 0.1, 5), s.ExponentialLR(o, 0.9), s.MultiplicativeLR(o, lambda e: 0.99)]
    ),
    "one_cycle": lambda s, o: s.OneCycleLR(o, max_lr=0.5, total_steps=50),
    "one_cycle_linear": lambda s, o: s.OneCycleLR(
        o, max_lr=[0.5, 0.2], epochs=5, steps_per_epoch=10, anneal_strategy="linear"
    ),
    "one_cycle_three": lambda s, o: s.OneCycleLR(
        o, max_lr=0.5, total_steps=60, three_phase=True, pct_start=0.25, base_momentum=0.7
    ),
    "one_cycle_still": lambda s, o: s.OneCycleLR(
        o, max_lr=0.5, total_steps=50, cycle_momentum=False, div_factor=5.0
    ),
    "sequential": lambda s, o: s.SequentialLR(
        o,
        [s.ConstantLR(o, 0.1, 5), s.ExponentialLR(o, 0.9), s.StepLR(o, 4, 0.5)],
        milestones=[6, 20],
    ),
    "warmup_cosine": lambda s, o: s.SequentialLR(
        o,
        [s.LinearLR(o, 0.1, 1.0, 10), s.CosineAnnealingLR(o, T_max=35)],
        milestones=[10],
    ),
    "sequential_more": lambda s, o: s.SequentialLR(
        o,
        [
            s.LambdaLR(o, lambda e: 0.5**e),
            s.MultiStepLR(o, [2, 4]),
            s.LinearLR(o, 0.5, total_iters=4),
            s.ConstantLR(o, 0.3, 4),
            s.LambdaLR(o, lambda e: 0.8**e),
        ],
        milestones=[5, 12, 18, 26],
    ),
}


def optimizer(name: str = "SGD") -> optim.Optimizer:
    groups = [{"params": [dg.tensor([1.0])]}, {"params": [dg.tensor([1.0])], "lr": 0.02}]
    return getattr(optim, name)(groups, lr=0.1)


def torch_optimizer(name: str = "SGD") -> Any:
    torch = pytest.importorskip("torch")
    groups = [{"params": [torch.ones(1)]}, {"params": [torch.ones(1)], "lr": 0.02}]
    return getattr(torch.optim, name)(groups, lr=0.1)


def schedule_values(opt: Any) -> list[dict[str, Any]]:
    """Every number of the groups that a schedule may have put there or moved."""
    groups = [dict(group) for group in opt.param_groups]
    for group in groups:
        group["beta1"], group["beta2"] = group.pop("betas", (0, 0))
    moved = ("lr", "momentum", "beta", "initial_", "max_", "min_", "base_")
    return [{k: v for k, v in g.items() if k.startswith(moved)} for g in groups]


@pytest.mark.parametrize("kind", ["SGD", "Adam"])
@pytest.mark.parametrize("name", SCHEDULES)
def test_matches_pytorch(name: str, kind: str) -> None:
    mine, other = optimizer(kind), torch_optimizer(kind)
    from torch.optim import lr_scheduler as torch_scheduler

    schedule = SCHEDULES[name](lr_scheduler, mine)
    expected = SCHEDULES[name](torch_scheduler, other)
    for _ in range(EPOCHS):
        assert schedule.get_last_lr() == pytest.approx(expected.get_last_lr(), rel=1e-12)
        for ours, theirs in zip(schedule_values(mine), schedule_values(other)):
            assert ours == pytest.approx(theirs, rel=1e-12)
        mine.step()
        other.step()
        schedule.step()
        expected.step()


@pytest.mark.parametrize("name", SCHEDULES)
def test_state_dicts_are_those_of_pytorch(name: str) -> None:
    other = torch_optimizer()
    from torch.optim import lr_scheduler as torch_scheduler

    opt = optimizer()
    schedule, expected = SCHEDULES[name](lr_scheduler, opt), SCHEDULES[name](torch_scheduler, other)
    opt.step()
    other.step()
    for _ in range(4):
        schedule.step()
        expected.step()
    compared = (schedule.state_dict(), expected.state_dict())
    assert_same_state(*compared)
    resumed = SCHEDULES[name](lr_scheduler, optimizer())
    resumed.load_state_dict(compared[1])  # PyTorch's, here
    schedule.step()
    resumed.optimizer.load_state_dict(opt.state_dict())


def assert_same_state(ours: dict[str, Any], theirs: dict[str, Any]) -> None:
    """The same entries, but for what only one of them keeps track of."""
    own = {"_get_lr_called_within_step", "_schedule_phases", "_scale_fn_ref", "_is_initial"}
    assert ours.keys() - own == theirs.keys() - own
    for key in ours.keys() - own:
        if key == "_schedulers":
            for a, b in zip(ours[key], theirs[key], strict=True):
                assert_same_state(a, b)
        elif key == "lr_lambdas":
            assert ours[key] == theirs[key]
        elif isinstance(ours[key], float | list):
            assert ours[key] == pytest.approx(theirs[key], rel=1e-12), key
        else:
            assert ours[key] == theirs[key], key


CLOSED = {
    "step": lambda s, o: s.StepLR(o, step_size=7, gamma=0.3),
    "multi_step": lambda s, o: s.MultiStepLR(o, milestones=[3, 9, 9, 20], gamma=0.5),
    "exponential": lambda s, o: s.ExponentialLR(o, gamma=0.93),
    "constant": lambda s, o: s.ConstantLR(o, factor=0.25, total_iters=6),
    "linear": lambda s, o: s.LinearLR(o, start_factor=0.2, end_factor=0.9, total_iters=8),
    "polynomial": lambda s, o: s.PolynomialLR(o, total_iters=12, power=1.7),
    "cosine": lambda s, o: s.CosineAnnealingLR(o, T_max=10, eta_min=0.01),
    "lambda": lambda s, o: s.LambdaLR(o, lambda e: 0.9**e),
    "warm_restarts": lambda s, o: s.CosineAnnealingWarmRestarts(o, T_0=3, T_mult=2),
}


@pytest.mark.parametrize("name", CLOSED)
def test_an_epoch_can_be_named(name: str) -> None:
    other = torch_optimizer()
    from torch.optim import lr_scheduler as torch_scheduler

    opt = optimizer()
    schedule, expected = CLOSED[name](lr_scheduler, opt), CLOSED[name](torch_scheduler, other)
    opt.step()
    other.step()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for epoch in (3, 9, 1, 25, 0, 2):
            schedule.step(epoch)
            expected.step(epoch)
            assert schedule.get_last_lr() == pytest.approx(expected.get_last_lr(), rel=1e-12)
            assert schedule.last_epoch == expected.last_epoch
    if name != "warm_restarts":
        with pytest.warns(UserWarning, match="epoch parameter"):
            schedule.step(4)


def test_chained_schedules_in_a_sequence() -> None:
    other = torch_optimizer()
    from torch.optim import lr_scheduler as torch_scheduler

    def build(s: Any, o: Any) -> Any:
        first = s.ChainedScheduler([s.LinearLR(o, 0.1, 1.0, 4), s.StepLR(o, 3, 0.9)])
        others = [s.CosineAnnealingWarmRestarts(o, 5), s.PolynomialLR(o, 20)]
        return s.SequentialLR(o, [first, *others], milestones=[6, 15])

    opt = optimizer()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch misses a step of the optimizer's
        schedule, expected = build(lr_scheduler, opt), build(torch_scheduler, other)
        opt.step()
        other.step()
        for _ in range(30):
            assert schedule.get_last_lr() == pytest.approx(expected.get_last_lr(), rel=1e-12)
            schedule.step()
            expected.step()


def test_warm_restarts_within_an_epoch() -> None:
    pytest.importorskip("torch")
    from torch.optim.lr_scheduler import CosineAnnealingWarmRestarts

    schedule = lr_scheduler.CosineAnnealingWarmRestarts(optimizer(), 2, 3)
    expected = CosineAnnealingWarmRestarts(torch_optimizer(), 2, 3)
    for batch in range(60):
        schedule.step(batch / 4)
        expected.step(batch / 4)
        assert schedule.get_last_lr() == pytest.approx(expected.get_last_lr(), rel=1e-12)


def test_chained_schedules_multiply() -> None:
    opt = optimizer()
    first, second = lr_scheduler.ExponentialLR(opt, 0.9), lr_scheduler.StepLR(opt, 2, 0.5)
    opt.step()
    for _ in range(4):
        first.step()
        second.step()
    assert second.get_last_lr() == pytest.approx([0.1 * 0.9**4 * 0.25, 0.02 * 0.9**4 * 0.25])


PLATEAUS: list[dict[str, Any]] = [
    {"patience": 2},
    {"patience": 1, "cooldown": 2, "factor": 0.5},
    {"mode": "max", "patience": 0, "min_lr": 0.01},
    {"threshold": 0.2, "threshold_mode": "abs", "patience": 1, "min_lr": [0.05, 0.001]},
    {"mode": "max", "threshold_mode": "abs", "threshold": 0.1, "patience": 1},
    {"patience": 0, "eps": 0.05},
]


@pytest.mark.parametrize("options", PLATEAUS, ids=str)
def test_plateau_matches_pytorch(options: dict[str, Any]) -> None:
    other = torch_optimizer()
    from torch.optim.lr_scheduler import ReduceLROnPlateau

    schedule = lr_scheduler.ReduceLROnPlateau(optimizer(), **options)
    expected = ReduceLROnPlateau(other, **options)
    metrics = [1.0, 0.9, 0.89, 0.9, 0.91, 0.5, 0.5, 0.5, 0.6, 0.7, 0.4, 0.8, 0.8, 0.8, 0.8, 0.1]
    for metric in [*metrics, float("nan"), *metrics]:
        schedule.step(metric)
        expected.step(metric)
        assert schedule.get_last_lr() == expected.get_last_lr()
    twin = lr_scheduler.ReduceLROnPlateau(optimizer())
    twin.load_state_dict(schedule.state_dict())
    assert twin.state_dict() == schedule.state_dict()


@pytest.mark.parametrize("name", SCHEDULES)
def test_state_dict_resumes(name: str) -> None:
    opt = optimizer()
    schedule = SCHEDULES[name](lr_scheduler, opt)
    opt.step()
    for _ in range(13):
        schedule.step()
    saved = copy.deepcopy((schedule.state_dict(), opt.state_dict()))
    other = optimizer()
    resumed = SCHEDULES[name](lr_scheduler, other)
    other.step()
    resumed.load_state_dict(saved[0])
    other.load_state_dict(saved[1])
    for _ in range(20):
        assert resumed.get_last_lr() == schedule.get_last_lr()
        schedule.step()
        resumed.step()


@pytest.mark.parametrize(
    "name", ["step", "multi_step", "exponential", "linear", "cosine", "lambda"]
)
def test_last_epoch_continues_a_run_as_pytorch_does(name: str) -> None:
    pytest.importorskip("torch")
    from torch.optim import lr_scheduler as torch_scheduler

    build = {
        "step": lambda s, o: s.StepLR(o, 3, last_epoch=4),
        "multi_step": lambda s, o: s.MultiStepLR(o, [2, 6], last_epoch=4),
        "exponential": lambda s, o: s.ExponentialLR(o, 0.9, last_epoch=4),
        "linear": lambda s, o: s.LinearLR(o, total_iters=8, last_epoch=4),
        "cosine": lambda s, o: s.CosineAnnealingLR(o, 9, last_epoch=4),
        "lambda": lambda s, o: s.LambdaLR(o, lambda e: 0.5**e, last_epoch=4),
    }[name]
    rates = []
    for opt, module in ((optimizer(), lr_scheduler), (torch_optimizer(), torch_scheduler)):
        for group in opt.param_groups:
            group["initial_lr"] = group["lr"]
        schedule = build(module, opt)
        opt.step()
        rates.append([schedule.get_last_lr()])
        for _ in range(8):
            schedule.step()
            rates[-1].append(schedule.get_last_lr())
    assert rates[0] == [pytest.approx(row) for row in rates[1]]


def test_resuming_needs_the_initial_rates() -> None:
    with pytest.raises(KeyError, match="'initial_lr' is not specified in param_groups"):
        lr_scheduler.StepLR(optimizer(), 3, last_epoch=2)


def test_a_schedule_of_ones_own() -> None:
    class Halving(lr_scheduler.LRScheduler):
        def get_lr(self) -> list[float]:
            return [base * 0.5**self.last_epoch for base in self.base_lrs]

    opt = optimizer()
    schedule = Halving(opt)
    opt.step()
    schedule.step()
    assert schedule.get_last_lr() == [0.05, 0.01]


def test_lambda_keeps_the_state_of_callable_objects() -> None:
    class Decay:
        def __init__(self, rate: float) -> None:
            self.rate = rate

        def __call__(self, epoch: int) -> float:
            return self.rate**epoch

    schedule = lr_scheduler.LambdaLR(optimizer(), [Decay(0.5), lambda e: 1.0])
    other = lr_scheduler.LambdaLR(optimizer(), [Decay(0.1), lambda e: 1.0])
    other.load_state_dict(schedule.state_dict())
    assert other.lr_lambdas[0].rate == 0.5


def test_learning_rate_tensors_keep_their_identity() -> None:
    rate = dg.tensor(0.5)
    opt = optim.SGD([dg.tensor([1.0])], lr=rate)
    schedule = lr_scheduler.ExponentialLR(opt, 0.5)
    opt.step()
    schedule.step()
    assert opt.param_groups[0]["lr"] is rate
    assert rate.item() == 0.25


def test_wrong_order_warns_once() -> None:
    opt = optimizer()
    schedule = lr_scheduler.StepLR(opt, 3)
    with pytest.warns(UserWarning, match="before `optimizer.step\\(\\)`"):
        schedule.step()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        schedule.step()


def test_bad_arguments() -> None:
    opt = optimizer()
    with pytest.raises(TypeError, match="int is not an Optimizer"):
        lr_scheduler.StepLR(3, 1)
    with pytest.raises(ArgumentError, match="between 0 and 1, got 2"):
        lr_scheduler.ConstantLR(opt, factor=2)
    with pytest.raises(ArgumentError, match="greater than 0"):
        lr_scheduler.LinearLR(opt, start_factor=0)
    with pytest.raises(ArgumentError, match="between 0 and 1, got -1"):
        lr_scheduler.LinearLR(opt, end_factor=-1)
    with pytest.raises(ArgumentError, match="expected 2 values for lr_lambda, got 1"):
        lr_scheduler.LambdaLR(opt, [lambda e: 1.0])
    with pytest.raises(ArgumentError, match="total_steps OR"):
        lr_scheduler.OneCycleLR(opt, 0.1, epochs=3)
    with pytest.raises(ArgumentError, match="positive integer epochs, but got 0"):
        lr_scheduler.OneCycleLR(opt, 0.1, epochs=0, steps_per_epoch=1)
    with pytest.raises(ArgumentError, match="pct_start, but got 2"):
        lr_scheduler.OneCycleLR(opt, 0.1, total_steps=3, pct_start=2.0)
    with pytest.raises(ArgumentError, match="one of 'cos' or 'linear'"):
        lr_scheduler.OneCycleLR(opt, 0.1, total_steps=3, anneal_strategy="x")
    with pytest.raises(ArgumentError, match="must support momentum"):
        lr_scheduler.OneCycleLR(optimizer("Adagrad"), 0.1, total_steps=3)
    cycle = lr_scheduler.OneCycleLR(opt, 0.1, total_steps=1, cycle_momentum=False, pct_start=0.0)
    opt.step()
    cycle.step()
    with pytest.raises(ArgumentError, match="Tried to step 2 times"):
        cycle.step()
    with pytest.raises(ArgumentError, match="Factor should be < 1.0"):
        lr_scheduler.ReduceLROnPlateau(opt, factor=1.0)
    with pytest.raises(ArgumentError, match="mode x is unknown"):
        lr_scheduler.ReduceLROnPlateau(opt, mode="x")
    with pytest.raises(ArgumentError, match="at least one scheduler"):
        lr_scheduler.SequentialLR(opt, [], [])
    plateau = lr_scheduler.ReduceLROnPlateau(opt)
    with pytest.raises(ArgumentError, match="takes a metric"):
        lr_scheduler.SequentialLR(opt, [plateau], [])
    step = lr_scheduler.StepLR(optimizer(), 1)
    with pytest.raises(ArgumentError, match="at least one scheduler to be chained"):
        lr_scheduler.ChainedScheduler([])
    with pytest.raises(ArgumentError, match="ChainedScheduler does not support"):
        lr_scheduler.ChainedScheduler([plateau])
    with pytest.raises(ArgumentError, match="mode is invalid"):
        lr_scheduler.CyclicLR(opt, 0.1, 0.2, mode="square")
    with pytest.raises(ArgumentError, match="must support momentum"):
        lr_scheduler.CyclicLR(optimizer("Adagrad"), 0.1, 0.2)
    with pytest.raises(ArgumentError, match="positive integer T_0"):
        lr_scheduler.CosineAnnealingWarmRestarts(opt, 0)
    with pytest.raises(ArgumentError, match="T_mult >= 1"):
        lr_scheduler.CosineAnnealingWarmRestarts(opt, 1, 0)
    with pytest.raises(ArgumentError, match="non-negative epoch"):
        lr_scheduler.CosineAnnealingWarmRestarts(opt, 1).step(-1)
    with pytest.raises(TypeError, match="should be a function"):
        lr_scheduler.MultiplicativeLR(opt, 0.9)
    with pytest.raises(ArgumentError, match="belongs to another"):
        lr_scheduler.SequentialLR(opt, [step], [])
    with pytest.raises(ArgumentError, match="1 schedulers and 1 milestones"):
        lr_scheduler.SequentialLR(step.optimizer, [step], [3])
