"""Training, eagerly and compiled, compared in everything that a step may change.

Bit for bit, unless DUALGRAPH_EXECUTION has graphs run as native code: then within rounding, which
many steps make larger.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import numpy as np

import dualgraph as dg
import dualgraph.nn.functional as F
from dualgraph import nn, optim
from dualgraph.optim import lr_scheduler

STEPS = 50
EXACT = os.environ.get("DUALGRAPH_EXECUTION", "interpreter") == "interpreter"


class Run:
    """A model, an optimizer and a step, the same at every construction."""

    def __init__(
        self,
        optimizer: Callable[[Any], optim.Optimizer] = lambda ps: optim.SGD(ps, lr=0.1),
        model: Callable[[], nn.Module] | None = None,
        schedule: Callable[[Any], Any] | None = None,
        clip: Callable[[Any], Any] | None = None,
        set_to_none: bool = True,
        zero_first: bool = False,
    ) -> None:
        dg.manual_seed(3)
        self.model = (
            model() if model else nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 3))
        )
        self.opt = optimizer(self.model.parameters())
        self.schedule = schedule(self.opt) if schedule else None
        self.clip = clip
        self.set_to_none = set_to_none
        self.zero_first = zero_first

    def step(self, x: Any, y: Any) -> Any:
        if self.zero_first:
            self.opt.zero_grad(self.set_to_none)
        loss = F.cross_entropy(self.model(x), y)
        loss.backward()
        norm = self.clip(self.model.parameters()) if self.clip else None
        self.opt.step()
        if self.schedule is not None:
            self.schedule.step()
        if not self.zero_first:
            self.opt.zero_grad(self.set_to_none)
        return loss, norm

    def state(self) -> dict[str, Any]:
        """Everything that a step may change, by name."""
        found: dict[str, Any] = {"rng": dg.get_rng_state()}
        found |= dict(self.model.state_dict())
        for name, p in self.model.named_parameters():
            found[f"{name}.grad"] = p.grad
        for key, entries in self.opt.state_dict()["state"].items():
            found |= {f"{key}.{name}": value for name, value in entries.items()}
        options = [{k: v for k, v in g.items() if k != "params"} for g in self.opt.param_groups]
        found["options"] = options
        if self.schedule is not None:
            found["schedule"] = {
                k: v for k, v in self.schedule.state_dict().items() if not k.startswith("_sched")
            }
        return found


def equal(a: Any, b: Any, exact: bool = EXACT) -> None:
    """The two are the same."""
    assert a.keys() == b.keys()
    for key, x in a.items():
        y = b[key]
        assert type(x) is type(y), key
        if isinstance(x, dg.Tensor):
            p, q = x.detach().numpy(), y.detach().numpy()
            assert (p.dtype, p.shape) == (q.dtype, q.shape), key
            same(p, q, key, exact)
        else:
            assert x == y, key


def same(a: Any, b: Any, what: str = "", exact: bool = EXACT) -> None:
    """The two arrays, or lists of numbers, are the same."""
    a, b = np.asarray(a, float), np.asarray(b, float)
    if exact:
        assert a.tobytes() == b.tobytes(), what
    else:
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4, err_msg=what)


def batches(shape: tuple[int, ...] = (6, 4), classes: int = 3) -> list[Any]:
    rng = np.random.default_rng(0)
    return [
        (
            dg.tensor(rng.standard_normal(shape).astype(np.float32)),
            dg.tensor(rng.integers(0, classes, shape[0])),
        )
        for _ in range(5)
    ]


def both(
    steps: int = STEPS, data: Any = None, numerics: Any = "standard", **options: Any
) -> tuple[Run, Any]:
    """Run eagerly and compiled, compare everything; the compiled run and its function."""
    exact = EXACT or numerics == "strict"
    data = data or batches()
    eager, losses = Run(**options), []
    for i in range(steps):
        loss, norm = eager.step(*data[i % len(data)])
        losses.append((loss.item(), None if norm is None else norm.item()))
    wanted = eager.state()
    run, found = Run(**options), []
    fast = dg.compile(run.step, numerics=numerics)
    for i in range(steps):
        loss, norm = fast(*data[i % len(data)])
        found.append((loss.item(), None if norm is None else norm.item()))
    same(found, losses, exact=exact)
    equal(run.state(), wanted, exact)
    return run, fast


OPTIMIZERS: dict[str, Callable[[Any], optim.Optimizer]] = {
    "sgd": lambda p: optim.SGD(p, lr=0.1),
    "sgd momentum": lambda p: optim.SGD(p, lr=0.1, momentum=0.9),
    "sgd dampening": lambda p: optim.SGD(p, lr=0.1, momentum=0.9, dampening=0.3),
    "sgd nesterov": lambda p: optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True),
    "sgd decay": lambda p: optim.SGD(p, lr=0.1, momentum=0.5, weight_decay=0.01),
    "sgd maximize": lambda p: optim.SGD(p, lr=0.01, maximize=True, weight_decay=0.1),
    "sgd tensor lr": lambda p: optim.SGD(p, lr=dg.tensor(0.1)),
    "adam": lambda p: optim.Adam(p, lr=0.01),
    "adam amsgrad": lambda p: optim.Adam(p, lr=0.01, amsgrad=True, weight_decay=0.1),
    "adam betas": lambda p: optim.Adam(p, lr=0.01, betas=(0.5, 0.9), eps=1e-3, maximize=True),
    "adamw": lambda p: optim.AdamW(p, lr=0.01, weight_decay=0.1),
    "adamw amsgrad": lambda p: optim.AdamW(p, lr=0.01, amsgrad=True, maximize=True),
    "rmsprop": lambda p: optim.RMSprop(p, lr=0.01),
    "rmsprop centered": lambda p: optim.RMSprop(p, lr=0.01, centered=True, weight_decay=0.1),
    "rmsprop momentum": lambda p: optim.RMSprop(p, lr=0.01, momentum=0.9, maximize=True),
    "rmsprop both": lambda p: optim.RMSprop(p, lr=0.01, momentum=0.9, centered=True, alpha=0.5),
    "adagrad": lambda p: optim.Adagrad(p, lr=0.1),
    "adagrad options": lambda p: optim.Adagrad(
        p, lr=0.1, lr_decay=0.1, weight_decay=0.1, initial_accumulator_value=0.5, maximize=True
    ),
    "adadelta": lambda p: optim.Adadelta(p),
    "adamax": lambda p: optim.Adamax(p, lr=0.01, weight_decay=0.1),
    "nadam": lambda p: optim.NAdam(p, lr=0.01, weight_decay=0.1, decoupled_weight_decay=True),
    "radam": lambda p: optim.RAdam(p, lr=0.01, maximize=True),
    "asgd": lambda p: optim.ASGD(p, lr=0.1, t0=3),
    "rprop": lambda p: optim.Rprop(p),
    "adafactor": lambda p: optim.Adafactor(p, weight_decay=0.1),
    "muon": lambda p: optim.Muon([q for q in p if q.ndim == 2], lr=0.01),
}


SCHEDULES: dict[str, Callable[[Any], Any]] = {
    "step": lambda o: lr_scheduler.StepLR(o, 7, gamma=0.5),
    "cosine": lambda o: lr_scheduler.CosineAnnealingLR(o, T_max=20),
    "one cycle": lambda o: lr_scheduler.OneCycleLR(o, max_lr=0.2, total_steps=STEPS + 1),
    "lambda": lambda o: lr_scheduler.LambdaLR(o, lambda epoch: 0.9**epoch),
    "sequential": lambda o: lr_scheduler.SequentialLR(
        o, [lr_scheduler.ConstantLR(o, 0.5, 5), lr_scheduler.ExponentialLR(o, 0.9)], [10]
    ),
}


CLIPS: dict[str, Callable[[Any], Any]] = {
    "norm": lambda ps: nn.utils.clip_grad_norm_(ps, 0.1),
    "norm large": lambda ps: nn.utils.clip_grad_norm_(ps, 1e6),
    "norm 1": lambda ps: nn.utils.clip_grad_norm_(ps, 0.1, norm_type=1.0),
    "norm 3": lambda ps: nn.utils.clip_grad_norm_(ps, 0.1, norm_type=3.0),
    "norm inf": lambda ps: nn.utils.clip_grad_norm_(ps, 0.1, norm_type=float("inf")),
    "value": lambda ps: nn.utils.clip_grad_value_(ps, 0.01),
}


def with_dropout() -> nn.Module:
    return nn.Sequential(
        nn.Linear(4, 8), nn.Dropout(0.5), nn.ReLU(), nn.BatchNorm1d(8), nn.AlphaDropout(0.2),
        nn.Linear(8, 3),
    )  # fmt: skip
