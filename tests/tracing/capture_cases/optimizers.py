"""Whole training steps: optimizers, schedules, clipping, changed options and state."""

from __future__ import annotations

import copy

from .harness import Cases, data, filled

cases = Cases()


def mlp(dg):
    """A small classifier."""
    return filled(
        dg, dg.nn.Sequential(dg.nn.Linear(3, 5), dg.nn.Tanh(), dg.nn.Linear(5, 2))
    )  # fmt: skip


def batches(dg, count=4):
    """Inputs and classes."""
    for i in range(count):
        yield data(dg, 6, 3).sin() + 0.1 * i, (dg.arange(6) + i) % 2


def trained(dg, compile, opt, model, schedule=None, clip=None, count=4):
    """What is seen of some steps."""

    @compile
    def step(x, y):
        opt.zero_grad()
        loss = dg.nn.functional.cross_entropy(model(x), y)
        loss.backward()
        norm = None if clip is None else clip(model.parameters())
        opt.step()
        if schedule is not None:
            schedule.step()
        return loss.detach(), norm

    for x, y in batches(dg, count):
        yield step(x, y), model, opt


OPTIMIZERS = {
    "sgd": lambda o, p: o.SGD(p, lr=0.1),
    "sgd_with_momentum": lambda o, p: o.SGD(p, lr=0.1, momentum=0.9, weight_decay=0.01),
    "sgd_with_nesterov": lambda o, p: o.SGD(p, lr=0.1, momentum=0.9, nesterov=True),
    "adam": lambda o, p: o.Adam(p, lr=0.01),
    "adam_with_amsgrad": lambda o, p: o.Adam(p, lr=0.01, amsgrad=True, weight_decay=0.1),
    "adamw": lambda o, p: o.AdamW(p, lr=0.01),
    "rmsprop": lambda o, p: o.RMSprop(p, lr=0.01, momentum=0.5, centered=True),
    "adagrad": lambda o, p: o.Adagrad(p, lr=0.1, lr_decay=0.1),
}

SCHEDULES = {
    "step": lambda s, o: s.StepLR(o, 2, 0.5),
    "multi_step": lambda s, o: s.MultiStepLR(o, [1, 3]),
    "constant": lambda s, o: s.ConstantLR(o, 0.5, 2),
    "linear": lambda s, o: s.LinearLR(o, 0.3, total_iters=3),
    "exponential": lambda s, o: s.ExponentialLR(o, 0.7),
    "cosine": lambda s, o: s.CosineAnnealingLR(o, 3),
    "one_cycle": lambda s, o: s.OneCycleLR(o, 0.3, 10),
    "lambda": lambda s, o: s.LambdaLR(o, lambda epoch: 0.5**epoch),
}


def _optimizer(make):
    def run(dg, compile):
        model = mlp(dg)
        yield from trained(dg, compile, make(dg.optim, model.parameters()), model)

    return run


def _schedule(make):
    def run(dg, compile):
        model = mlp(dg)
        opt = dg.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
        schedule = make(dg.optim.lr_scheduler, opt)
        yield from trained(dg, compile, opt, model, schedule)
        yield schedule.get_last_lr(), schedule.last_epoch

    return run


for _name, _make in OPTIMIZERS.items():
    _run = _optimizer(_make)
    _run.__name__ = _name
    cases()(_run)
for _name, _make in SCHEDULES.items():
    _run = _schedule(_make)
    _run.__name__ = f"schedule_{_name}"
    cases()(_run)


@cases()
def clipping(dg, compile):
    utils = dg.nn.utils
    for clip in (
        lambda ps: utils.clip_grad_norm_(ps, 0.1),
        lambda ps: utils.clip_grad_norm_(ps, 0.2, norm_type=float("inf")),
        lambda ps: utils.clip_grad_value_(ps, 0.05),
    ):
        model = mlp(dg)
        opt = dg.optim.SGD(model.parameters(), lr=0.1)
        yield from trained(dg, compile, opt, model, clip=clip)


@cases()
def options_of_the_optimizer_change(dg, compile):
    model = mlp(dg)
    opt = dg.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    step = iter(trained(dg, compile, opt, model, count=8))
    yield next(step)
    opt.param_groups[0]["lr"] = 0.5
    yield next(step)
    opt.param_groups[0]["momentum"] = 0.0
    yield next(step)
    opt.param_groups[0]["weight_decay"] = 0.3
    yield next(step)
    opt.param_groups[0]["nesterov"] = True
    opt.param_groups[0]["momentum"] = 0.5
    yield next(step)
    opt.param_groups[0]["maximize"] = True
    yield next(step)


@cases()
def parameter_groups_come_later(dg, compile):
    model = mlp(dg)
    opt = dg.optim.SGD(model[0].parameters(), lr=0.1)
    step = iter(trained(dg, compile, opt, model, count=4))
    yield next(step)
    opt.add_param_group({"params": list(model[2].parameters()), "lr": 0.01})
    yield next(step)
    opt.param_groups[1]["lr"] = 0.5
    yield next(step)


@cases()
def layers_are_frozen_and_thawed(dg, compile):
    model = mlp(dg)
    opt = dg.optim.Adam(model.parameters(), lr=0.1)
    step = iter(trained(dg, compile, opt, model, count=6))
    yield next(step)
    model[0].requires_grad_(False)
    yield next(step)
    yield next(step)
    model[0].requires_grad_(True)
    yield next(step)


@cases()
def states_are_loaded_in_the_middle(dg, compile):
    model = mlp(dg)
    opt = dg.optim.Adam(model.parameters(), lr=0.1)
    step = iter(trained(dg, compile, opt, model, count=6))
    yield next(step)
    saved = copy.deepcopy((model.state_dict(), opt.state_dict()))
    yield next(step)
    model.load_state_dict(saved[0])
    opt.load_state_dict(saved[1])
    yield next(step)
    opt.state.clear()
    yield next(step)
