"""Whatever is changed between two calls of a compiled function, the next call sees it.

Each change is made to an eager program and to the same one compiled, after both have run until the
compiled one is settled; then both go on and must agree: bit for bit for training steps.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import dualgraph as dg
import dualgraph.nn.functional as F
from dualgraph import nn, optim

GAIN = 1.0

pytestmark = pytest.mark.interpreted


class Scaled(nn.Module):
    """A layer of the user's, with an attribute, a buffer and a class attribute."""

    power = 1

    def __init__(self) -> None:
        super().__init__()
        self.scale = 1.5
        self.sizes = [1.0, 2.0]
        self.register_buffer("offset", dg.ones(4))

    def forward(self, x: Any) -> Any:
        return x**self.power * self.scale * self.sizes[1] + self.offset


class Patched(Scaled):
    def forward(self, x: Any) -> Any:
        return x - 1


class Program:
    """A model with all that a training step of it depends on."""

    def __init__(self, make: Callable[[Any], Any], compiled: bool) -> None:
        dg.manual_seed(0)
        layers = nn.Linear(3, 4), Scaled(), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 2)
        self.model = nn.Sequential(*layers)
        self.opt = make(self.model.parameters())
        self.options = {"clip": 1.0}
        self.rate = 1.0
        self.x, self.y = dg.randn(5, 3), dg.randint(0, 2, (5,))

        def step(x: Any, y: Any, weight: float = 1.0) -> Any:
            self.opt.zero_grad()
            loss = F.cross_entropy(self.model(x), y) * GAIN * self.rate * weight
            loss.backward()
            nn.utils.clip_grad_norm_(self.model.parameters(), self.options["clip"])
            self.opt.step()
            return loss

        def forward(x: Any) -> Any:
            with dg.no_grad():
                return self.model(x)

        self.step: Any = dg.compile(step, fullgraph=True) if compiled else step
        self.forward: Any = dg.compile(forward, fullgraph=True) if compiled else forward
        self.plain = step

    def state(self) -> list[Any]:
        """Everything a step may change, as arrays."""
        held = [*self.model.parameters(), *self.model.buffers()]
        held += [p.grad for p in self.model.parameters() if p.grad is not None]
        held += [t for entry in self.opt.state.values() for t in entry.values()]
        return [t.detach().numpy() for t in held if isinstance(t, dg.Tensor)]


def adam(parameters: Any) -> Any:
    return optim.Adam(parameters, lr=0.1)


def _replace_weight(p: Program) -> None:
    weight = nn.Parameter(dg.full((2, 4), 0.25))
    p.model[4].weight = weight
    p.opt.param_groups[0]["params"].append(weight)


def _halve_and_back(p: Program) -> None:
    p.model.half()
    p.model.float()


def _load(p: Program) -> None:
    state = p.opt.state_dict()
    other = copy.deepcopy(state)
    for entry in other["state"].values():
        entry["exp_avg"] = entry["exp_avg"] * 3
    p.opt.load_state_dict(other)
    p.model.load_state_dict({k: v + 1 for k, v in p.model.state_dict().items()})


def _new_state(p: Program) -> None:
    first = next(iter(p.opt.state))
    p.opt.state[first]["exp_avg"] = dg.ones_like(first).detach()


def _assign_grads(p: Program) -> None:
    for parameter in p.model.parameters():
        parameter.grad = dg.ones_like(parameter).detach()


CHANGES: dict[str, Callable[[Program], Any]] = {
    "nothing": lambda p: None,
    "attribute of a module": lambda p: setattr(p.model[1], "scale", 3.0),
    "element of a module's list": lambda p: p.model[1].sizes.__setitem__(1, 5.0),
    "class attribute": lambda p: setattr(type(p.model[1]), "power", 2),
    "class attribute hidden": lambda p: setattr(p.model[1], "power", 3),
    "class of a module": lambda p: setattr(p.model[1], "__class__", Patched),
    "submodule replaced": lambda p: p.model.__setitem__(3, nn.Tanh()),
    "submodule appended": lambda p: p.model.append(nn.Tanh()),
    "submodule deleted": lambda p: p.model.__delitem__(1),
    "parameter replaced": _replace_weight,
    "parameter overwritten": lambda p: p.model[0].weight.detach().mul_(2),
    "parameter's data": lambda p: setattr(p.model[0].weight, "data", dg.full((4, 3), 0.5)),
    "buffer replaced": lambda p: setattr(p.model[1], "offset", dg.full((4,), 2.0)),
    "buffer overwritten": lambda p: p.model[1].offset.fill_(3.0),
    "forward hook": lambda p: p.model[3].register_forward_hook(lambda m, a, out: out * 2),
    "forward pre-hook": lambda p: p.model[3].register_forward_pre_hook(lambda m, a: (a[0] + 1,)),
    "backward hook": lambda p: p.model[4].register_full_backward_hook(lambda m, gi, go: None),
    "training flag": lambda p: p.model.eval(),
    "training flag of one layer": lambda p: p.model[2].eval(),
    "requires_grad off": lambda p: p.model[0].requires_grad_(False),
    "forward of an instance": lambda p: setattr(p.model[3], "forward", lambda x: x * 0.5),
    "dtype there and back": _halve_and_back,
    "closed-over attribute": lambda p: setattr(p, "rate", 2.0),
    "element of a dict": lambda p: p.options.update(clip=0.01),
    "default argument": lambda p: setattr(p.plain, "__defaults__", (3.0,)),
    "state loaded": _load,
    "learning rate": lambda p: p.opt.param_groups[0].update(lr=0.5),
    "learning rate as a tensor": lambda p: p.opt.param_groups[0].update(lr=dg.tensor(0.5)),
    "betas": lambda p: p.opt.param_groups[0].__setitem__("betas", (0.5, 0.9)),
    "eps": lambda p: p.opt.param_groups[0].__setitem__("eps", 0.1),
    "weight decay": lambda p: (
        p.opt.param_groups[0].setdefault("weight_decay", 0)
        or p.opt.param_groups[0].__setitem__("weight_decay", 0.1)
    ),
    "options merged": lambda p: p.opt.param_groups[0].__ior__({"lr": 0.3, "maximize": True}),
    "group added": lambda p: p.opt.add_param_group({"params": [nn.Parameter(dg.ones(2))]}),
    "parameter taken out of a group": lambda p: p.opt.param_groups[0]["params"].pop(),
    "optimizer's state cleared": lambda p: p.opt.state.clear(),
    "optimizer's state assigned": lambda p: setattr(p.opt, "state", copy.copy(p.opt.state)),
    "an entry of the state": _new_state,
    "an entry's data": lambda p: [
        setattr(s["exp_avg"], "data", s["exp_avg"] * 0) for s in p.opt.state.values()
    ],
    "rule of the optimizer": lambda p: setattr(
        p.opt, "_rule", lambda options: type(p.opt)._rule(p.opt, {**options, "eps": 0.5})
    ),
    "numbers of the optimizer": lambda p: setattr(
        p.opt, "number", lambda options, name: 0.5 * type(p.opt).number(p.opt, options, name)
    ),
    "gradients cleared": lambda p: p.opt.zero_grad(),
    "gradients assigned": _assign_grads,
    "hook of a parameter": lambda p: p.model[0].weight.register_hook(lambda g: g * 2),
    "post-accumulate hook": lambda p: p.model[0].weight.register_post_accumulate_grad_hook(
        lambda t: t.grad.mul_(3)
    ),
    "another optimizer": lambda p: setattr(p, "opt", optim.SGD(p.model.parameters(), lr=0.5)),
}


@pytest.fixture(autouse=True)
def _class_attributes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Scaled, "power", 1)  # which puts it back


def _compare(eager: Program, fast: Program, *, exact: bool) -> None:
    for a, b in zip(eager.state(), fast.state(), strict=True):
        if exact:
            np.testing.assert_array_equal(a, b)
        else:
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", CHANGES)
def test_training_steps(name: str) -> None:
    eager, fast = Program(adam, False), Program(adam, True)
    losses: list[list[float]] = [[], []]

    def run(times: int) -> None:
        for _ in range(times):
            for program, kept in zip((eager, fast), losses, strict=True):
                kept.append(program.step(program.x, program.y).item())

    run(3)
    _compare(eager, fast, exact=True)
    CHANGES[name](eager)
    CHANGES[name](fast)
    run(3)
    assert losses[0] == losses[1]
    _compare(eager, fast, exact=True)
    count = len(fast.step.graphs)
    run(1)
    assert losses[0] == losses[1]
    assert len(fast.step.graphs) == count <= 2


# Of the changes, those that a forward pass under no_grad can be made to see.
FORWARD = [name for name in CHANGES if "optimizer" not in name and "grad" not in name]


@pytest.mark.parametrize("name", FORWARD)
def test_forward_passes(name: str) -> None:
    eager, fast = Program(adam, False), Program(adam, True)
    for program in (eager, fast):
        program.step(program.x, program.y)
        program.model.eval()
        for _ in range(3):
            program.forward(program.x)
    for program in (eager, fast):
        CHANGES[name](program)
    for _ in range(2):
        a, b = (p.forward(p.x).numpy() for p in (eager, fast))
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
    assert len(fast.forward.graphs) <= 2


def test_a_global(monkeypatch: pytest.MonkeyPatch) -> None:
    eager, fast = Program(adam, False), Program(adam, True)
    for gain in (1.0, 1.0, 2.0, 2.0):
        monkeypatch.setattr(f"{__name__}.GAIN", gain)
        a, b = (p.step(p.x, p.y).item() for p in (eager, fast))
        assert a == b


def test_the_forward_of_a_layer_of_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    fast = Program(adam, True)
    before = fast.forward(fast.x).numpy().copy()
    monkeypatch.setattr(nn.Linear, "forward", lambda self, x: F.linear(x, self.weight) * 0)
    after = fast.forward(fast.x).numpy()
    assert not np.allclose(before, after)
    np.testing.assert_allclose(after, fast.model(fast.x).detach().numpy(), rtol=1e-5, atol=1e-6)


def test_a_hook_on_all_modules() -> None:
    model = nn.Sequential(nn.Linear(3, 3))
    fast = dg.compile(model)
    x = dg.randn(2, 3)
    fast(x)
    handle = nn.modules.module.register_module_forward_hook(lambda m, a, out: out + 1)
    try:
        np.testing.assert_allclose(
            fast(x).detach().numpy(), model(x).detach().numpy(), rtol=1e-5, atol=1e-6
        )
    finally:
        handle.remove()
    np.testing.assert_allclose(
        fast(x).detach().numpy(), model(x).detach().numpy(), rtol=1e-5, atol=1e-6
    )


def test_a_closed_over_variable_and_a_container_argument() -> None:
    factor, items = 2.0, SimpleNamespace(values=[1.0])

    def f(x: Any) -> Any:
        return x * factor + items.values[0]

    def change() -> None:
        nonlocal factor
        factor = 5.0

    fast = dg.compile(f)
    x = dg.ones(2)
    assert fast(x).tolist() == [3.0, 3.0]
    change()
    assert fast(x).tolist() == [6.0, 6.0]
    items.values[0] = 0.0
    assert fast(x).tolist() == [5.0, 5.0]
    items.values = [7.0]
    assert fast(x).tolist() == [12.0, 12.0]


@pytest.mark.parametrize("inside", [True, False])
def test_a_schedule_that_changes_the_rate_at_every_step(inside: bool) -> None:
    def run(compiled: bool) -> list[Any]:
        p = Program(adam, False)
        schedule = optim.lr_scheduler.StepLR(p.opt, 2, 0.5)

        def step() -> Any:
            loss = p.plain(p.x, p.y)
            if inside:
                schedule.step()
            return loss

        run = dg.compile(step, fullgraph=True) if compiled else step
        losses = []
        for i in range(7):
            losses.append(run().item())
            if not inside:
                schedule.step()
            if i == 4:
                p.opt.param_groups[0]["eps"] = 0.1
        if compiled:
            assert len(run.graphs) == 2
        return [losses, *(a.tolist() for a in p.state())]

    assert run(True) == run(False)
