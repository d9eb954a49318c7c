"""Averages of weights over training, and hooks of optimizers, against PyTorch's."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import dualgraph as dg
from dualgraph import nn, optim
from dualgraph.optim import swa_utils
from dualgraph.optim.optimizer import (
    register_optimizer_step_post_hook,
    register_optimizer_step_pre_hook,
)
from dualgraph_compiler.errors import ArgumentError

AVERAGES: dict[str, Callable[[Any], dict[str, Any]]] = {
    "mean": lambda s: {},
    "mean_of_buffers": lambda s: {"use_buffers": True},
    "ema": lambda s: {"multi_avg_fn": s.get_ema_multi_avg_fn(0.9)},
    "ema_one_by_one": lambda s: {"avg_fn": s.get_ema_avg_fn(0.8), "use_buffers": True},
    "swa": lambda s: {"multi_avg_fn": s.get_swa_multi_avg_fn()},
    "swa_one_by_one": lambda s: {"avg_fn": s.get_swa_avg_fn()},
    "own": lambda s: {"avg_fn": lambda old, new, n: old * 0.5 + new * n},
}


def model(lib: Any) -> Any:
    """A linear layer and a batch norm, with the same weights in both."""
    made = lib.nn.Sequential(lib.nn.Linear(3, 2), lib.nn.BatchNorm1d(2)).double()
    rng = np.random.default_rng(0)
    with lib.no_grad():
        for p in made.parameters():
            p.copy_(lib.from_numpy(rng.standard_normal(p.shape)))
    return made


def numbers(state: dict[str, Any]) -> dict[str, Any]:
    return {k: v.detach().numpy() for k, v in state.items()}


@pytest.mark.parametrize("name", AVERAGES)
def test_averages_are_those_of_pytorch(name: str) -> None:
    torch = pytest.importorskip("torch")
    states = []
    for lib, module in ((dg, swa_utils), (torch, torch.optim.swa_utils)):
        net = model(lib)
        averaged = module.AveragedModel(net, **AVERAGES[name](module))
        rng = np.random.default_rng(1)
        for step in range(4):
            net(lib.from_numpy(rng.standard_normal((5, 3))))
            with lib.no_grad():
                for p in net.parameters():
                    p += step + 1
            averaged.update_parameters(net)
        batches = [lib.from_numpy(rng.standard_normal((4, 3))) for _ in range(3)]
        module.update_bn([(b, 0) for b in batches[:2]], averaged)
        states.append(numbers(averaged.state_dict()))
        states[-1]["output"] = averaged.eval()(batches[2]).detach().numpy()
    assert list(states[0]) == list(states[1])
    for key, value in states[0].items():
        # PyTorch takes the share of a value in lists of them in float32.
        np.testing.assert_allclose(value, states[1][key], rtol=1e-7, err_msg=key)


def test_update_bn_puts_momentum_and_mode_back() -> None:
    net = model(dg).eval()
    net[1].momentum = 0.3
    swa_utils.update_bn([dg.randn(4, 3, dtype=dg.float64)], net)
    assert net[1].momentum == 0.3
    assert not net.training
    linear = nn.Linear(1, 1)
    swa_utils.update_bn(iter(()), linear)  # nothing to do, and nothing is read


@pytest.mark.parametrize(
    "options",
    [
        {"swa_lr": 0.05},
        {"swa_lr": [0.05, 0.2], "anneal_epochs": 4, "anneal_strategy": "linear"},
        {"swa_lr": 0.5, "anneal_epochs": 0},
    ],
    ids=str,
)
def test_swa_rates_are_those_of_pytorch(options: dict[str, Any]) -> None:
    torch = pytest.importorskip("torch")
    found = []
    for lib, module in ((dg, swa_utils), (torch, torch.optim.swa_utils)):
        groups = [{"params": [lib.ones(1)]}, {"params": [lib.ones(1)], "lr": 0.02}]
        opt = lib.optim.SGD(groups, lr=0.1)
        schedule = module.SWALR(opt, **options)
        opt.step()
        rates = [schedule.get_last_lr()]
        for _ in range(14):
            schedule.step()
            rates.append(schedule.get_last_lr())
        found.append((rates, schedule.state_dict().keys() - {"_get_lr_called_within_step"}))
    assert found[0][1] == found[1][1]
    assert found[0][0] == [pytest.approx(row, rel=1e-12) for row in found[1][0]]


def test_bad_arguments() -> None:
    opt = optim.SGD([dg.ones(1)], lr=0.1)
    with pytest.raises(ArgumentError, match="one of 'cos' or 'linear'"):
        swa_utils.SWALR(opt, 0.1, anneal_strategy="x")
    with pytest.raises(ArgumentError, match="anneal_epochs"):
        swa_utils.SWALR(opt, 0.1, anneal_epochs=-1)
    with pytest.raises(ArgumentError, match="Invalid decay value 2"):
        swa_utils.get_ema_avg_fn(2.0)
    fn, multi = swa_utils.get_swa_avg_fn(), swa_utils.get_swa_multi_avg_fn()
    with pytest.raises(ArgumentError, match="Only one"):
        swa_utils.AveragedModel(nn.Linear(1, 1), avg_fn=fn, multi_avg_fn=multi)


# -- hooks of optimizers ---------------------------------------------------------------------------


def hooked(lib: Any, register: Any) -> list[Any]:
    """What all kinds of hooks are called with, in order."""
    x = lib.ones(2, requires_grad=True)
    opt = lib.optim.SGD([x], lr=0.5)
    said: list[Any] = []
    say = said.append
    opt.register_step_pre_hook(lambda o, args, kwargs: say(("before", len(args), o is opt)))
    opt.register_step_post_hook(lambda o, args, kwargs: say(("after", x.tolist(), kwargs)))
    opt.register_state_dict_pre_hook(lambda o: say("saving"))
    opt.register_state_dict_post_hook(lambda o, state: {**state, "more": 1})
    opt.register_state_dict_post_hook(lambda o, state: say(sorted(state)), prepend=True)
    opt.register_load_state_dict_pre_hook(
        lambda o, state: {**state, "param_groups": [{**g, "lr": 7} for g in state["param_groups"]]}
    )
    opt.register_load_state_dict_post_hook(lambda o: say(("loaded", o.param_groups[0]["lr"])))
    every = [
        register[0](lambda o, args, kwargs: say("before all")),
        register[1](lambda o, args, kwargs: say("after all")),
    ]
    (x * x).sum().backward()
    opt.step()
    for handle in every:
        handle.remove()
    opt.step()
    said.append(sorted(opt.state_dict()))
    opt.load_state_dict({k: v for k, v in opt.state_dict().items() if k != "more"})
    return said


def test_hooks_are_called_as_by_pytorch() -> None:
    torch = pytest.importorskip("torch")
    from torch.optim import optimizer as theirs

    registers = (
        (register_optimizer_step_pre_hook, register_optimizer_step_post_hook),
        (theirs.register_optimizer_step_pre_hook, theirs.register_optimizer_step_post_hook),
    )
    assert hooked(dg, registers[0]) == hooked(torch, registers[1])


def test_a_pre_hook_may_change_the_arguments() -> None:
    x = dg.ones(1, requires_grad=True)
    opt = optim.SGD([x], lr=1.0)
    opt.register_step_pre_hook(lambda o, args, kwargs: ((o, lambda: 5), {}))
    assert opt.step() == 5
    wrong = optim.SGD([x], lr=1.0)
    wrong.register_step_pre_hook(lambda o, args, kwargs: 3)
    with pytest.raises(ArgumentError, match="pre hook must return"):
        wrong.step()


def test_hooks_of_a_step_that_calls_another_run_once() -> None:
    class Twice(optim.SGD):
        def step(self, closure: Any = None) -> Any:
            super().step(closure)
            return super().step(closure)

    x = dg.ones(1, requires_grad=True)
    opt = Twice([x], lr=1.0)
    calls: list[int] = []
    opt.register_step_post_hook(lambda o, args, kwargs: calls.append(1))
    x.sum().backward()
    opt.step()
    assert calls == [1]
    assert x.item() == -1.0


def test_hooks_are_not_copied() -> None:
    opt = optim.SGD([dg.ones(1)], lr=1.0)
    opt.register_step_post_hook(lambda o, args, kwargs: None)
    for twin in (copy.deepcopy(opt), pickle.loads(pickle.dumps(opt))):
        assert not twin._optimizer_step_post_hooks
        twin.step()


def test_hooks_of_compiled_steps() -> None:
    x = dg.ones(2, requires_grad=True)
    opt = optim.SGD([x], lr=0.5)

    @dg.compile
    def step(t: dg.Tensor) -> dg.Tensor:
        opt.zero_grad()
        loss = (x * t).sum()
        loss.backward()
        opt.step()
        return loss

    step(dg.ones(2))
    doubled = opt.register_step_pre_hook(lambda o, args, kwargs: _double(x))
    step(dg.ones(2))
    assert x.tolist() == [-0.5, -0.5]
    doubled.remove()
    step(dg.ones(2))
    assert x.tolist() == [-1.0, -1.0]


def _double(x: dg.Tensor) -> None:
    assert x.grad is not None
    x.grad.mul_(2.0)
