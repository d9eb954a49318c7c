"""Whole training steps: losses, gradients, accumulation, averages, carried state."""

from __future__ import annotations

import copy

from .harness import Cases, data, filled
from .optimizers import batches, mlp, trained

cases = Cases()


@cases()
def gradients_accumulate_over_calls(dg, compile):
    model = mlp(dg)
    opt = dg.optim.AdamW(model.parameters(), lr=0.1)

    @compile
    def accumulate(x, y):
        loss = dg.nn.functional.cross_entropy(model(x), y) / 2
        loss.backward()
        return loss.detach()

    @compile
    def update():
        dg.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        opt.step()
        opt.zero_grad()

    for i, (x, y) in enumerate(batches(dg, 5)):
        yield accumulate(x, y), model
        if i % 2:
            update()
            yield model, opt


@cases()
def accumulation_that_counts_in_python(dg, compile):
    model = mlp(dg)
    opt = dg.optim.SGD(model.parameters(), lr=0.1)
    state = {"calls": 0}

    @compile
    def step(x, y):
        loss = dg.nn.functional.cross_entropy(model(x), y)
        loss.backward()
        state["calls"] += 1
        if state["calls"] % 2 == 0:
            opt.step()
            opt.zero_grad()
        return loss.detach()

    for x, y in batches(dg, 5):
        yield step(x, y), model, state


@cases()
def gradients_set_to_zero_or_to_none(dg, compile):
    for set_to_none in (True, False):
        model = mlp(dg)
        opt = dg.optim.SGD(model.parameters(), lr=0.1, momentum=0.5)

        @compile
        def step(x, y, model=model, opt=opt, set_to_none=set_to_none):
            loss = dg.nn.functional.cross_entropy(model(x), y)
            loss.backward()
            opt.step()
            opt.zero_grad(set_to_none=set_to_none)
            return loss.detach()

        for x, y in batches(dg):
            yield step(x, y), model


@cases()
def gradients_kept_and_cleared_outside(dg, compile):
    model = mlp(dg)

    @compile
    def backward(x, y):
        dg.nn.functional.cross_entropy(model(x), y).backward()

    for i, (x, y) in enumerate(batches(dg, 6)):
        backward(x, y)
        yield model
        if i == 2:
            model.zero_grad()
        if i == 3:
            model[0].weight.grad = None
        if i == 4:
            model[2].bias.grad = dg.ones(2)


@cases()
def several_losses_and_backwards(dg, compile):
    model = mlp(dg)
    opt = dg.optim.SGD(model.parameters(), lr=0.1)

    @compile
    def step(x, y):
        opt.zero_grad()
        hidden = model[0](x)
        loss = dg.nn.functional.cross_entropy(model[2](hidden.tanh()), y)
        loss.backward(retain_graph=True)
        extra = hidden.square().mean()
        extra.backward()
        opt.step()
        return loss.detach(), extra.detach()

    for x, y in batches(dg):
        yield step(x, y), model


@cases()
def a_gradient_penalty_inside(dg, compile):
    model = mlp(dg)
    opt = dg.optim.Adam(model.parameters(), lr=0.05)

    @compile
    def step(x):
        opt.zero_grad()
        x = x.detach().clone().requires_grad_()
        (g,) = dg.autograd.grad(model(x).sum(), [x], create_graph=True)
        loss = (g.norm(dim=1) - 1).square().mean()
        loss.backward()
        opt.step()
        return loss.detach()

    for x, _ in batches(dg):
        yield step(x), model


@cases()
def two_optimizers_in_turn(dg, compile):
    g, d = filled(dg, dg.nn.Linear(2, 3)), mlp(dg)
    g_opt = dg.optim.Adam(g.parameters(), lr=0.05)
    d_opt = dg.optim.SGD(d.parameters(), lr=0.1)

    @compile
    def step(x, z):
        d_opt.zero_grad()
        fake = g(z)
        d_loss = d(x).mean() - d(fake.detach()).mean()
        d_loss.backward()
        d_opt.step()
        g_opt.zero_grad()
        g_loss = d(fake).mean()
        g_loss.backward()
        g_opt.step()
        return d_loss.detach(), g_loss.detach()

    for x, _ in batches(dg):
        yield step(x, data(dg, 6, 2)), g, d


@cases()
def the_loss_as_a_number(dg, compile):
    model = mlp(dg)
    opt = dg.optim.SGD(model.parameters(), lr=0.1)

    @compile
    def step(x, y):
        opt.zero_grad()
        loss = dg.nn.functional.cross_entropy(model(x), y)
        loss.backward()
        opt.step()
        return loss.item()

    for x, y in batches(dg):
        yield step(x, y), model


@cases()
def a_moving_average_of_the_weights(dg, compile):
    model = mlp(dg)
    average = copy.deepcopy(model)
    opt = dg.optim.SGD(model.parameters(), lr=0.1)

    @compile
    def step(x, y):
        opt.zero_grad()
        loss = dg.nn.functional.cross_entropy(model(x), y)
        loss.backward()
        opt.step()
        with dg.no_grad():
            for p, q in zip(average.parameters(), model.parameters(), strict=True):
                p.mul_(0.9).add_(q, alpha=0.1)
        return loss.detach()

    for x, y in batches(dg):
        yield step(x, y), model, average


@cases()
def weights_updated_by_hand(dg, compile):
    w = data(dg, 3, 2, grad=True)

    @compile
    def step(x, y, lr):
        loss = dg.nn.functional.cross_entropy(x @ w, y)
        loss.backward()
        with dg.no_grad():
            w.sub_(w.grad, alpha=lr)
            w.grad.zero_()
        return loss.detach()

    for i, (x, y) in enumerate(batches(dg)):
        yield step(x, y, 0.1 / (i + 1)), w


@cases()
def weights_updated_through_data(dg, compile):
    w = data(dg, 3, 2, grad=True)

    @compile
    def step(x, y):
        loss = dg.nn.functional.cross_entropy(x @ w, y)
        loss.backward()
        w.data = w.data - 0.1 * w.grad
        w.grad = None
        return loss.detach()

    for x, y in batches(dg):
        yield step(x, y), w


@cases()
def tied_weights(dg, compile):
    embed, head = filled(dg, dg.nn.Embedding(5, 4)), filled(dg, dg.nn.Linear(4, 5, bias=False))
    head.weight = embed.weight
    opt = dg.optim.Adam(embed.parameters(), lr=0.1)

    @compile
    def step(tokens):
        opt.zero_grad()
        logits = head(embed(tokens[:, :-1]))
        loss = dg.nn.functional.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())
        loss.backward()
        opt.step()
        return loss.detach()

    for i in range(3):
        yield step((dg.arange(8).reshape(2, 4) + i) % 5), embed, head.weight is embed.weight


@cases()
def batch_norm_that_averages_over_everything(dg, compile):
    model = filled(
        dg, dg.nn.Sequential(dg.nn.Linear(3, 4), dg.nn.BatchNorm1d(4, momentum=None))
    )  # fmt: skip
    opt = dg.optim.SGD(model.parameters(), lr=0.1)

    @compile
    def step(x):
        opt.zero_grad()
        loss = model(x).square().mean() + model(x).sin().sum()
        loss.backward()
        opt.step()
        return loss.detach()

    for x, _ in batches(dg):
        yield step(x), model
    model.eval()
    yield model(data(dg, 2, 3))


@cases()
def the_state_of_an_lstm_is_carried(dg, compile):
    model, head = filled(dg, dg.nn.LSTM(3, 4)), filled(dg, dg.nn.Linear(4, 2))
    opt = dg.optim.SGD([*model.parameters(), *head.parameters()], lr=0.1)

    @compile
    def step(x, y, state):
        opt.zero_grad()
        out, state = model(x, state)
        loss = dg.nn.functional.cross_entropy(head(out).flatten(0, 1), y)
        loss.backward()
        opt.step()
        return loss.detach(), tuple(s.detach() for s in state)

    state = None
    for i in range(4):
        loss, state = step(data(dg, 3, 2, 3) + i, (dg.arange(6) + i) % 2, state)
        yield loss, state, model, head


@cases()
def a_closure_for_the_optimizer(dg, compile):
    model = mlp(dg)
    opt = dg.optim.SGD(model.parameters(), lr=0.1)

    @compile
    def step(x, y):
        def closure():
            opt.zero_grad()
            loss = dg.nn.functional.cross_entropy(model(x), y)
            loss.backward()
            return loss

        return opt.step(closure).detach()

    for x, y in batches(dg):
        yield step(x, y), model


@cases()
def several_steps_in_one_call(dg, compile):
    model = mlp(dg)
    opt = dg.optim.Adam(model.parameters(), lr=0.1)

    @compile
    def epoch(pairs):
        total = 0.0
        for x, y in pairs:
            opt.zero_grad()
            loss = dg.nn.functional.cross_entropy(model(x), y)
            loss.backward()
            opt.step()
            total = total + loss.detach()
        return total / len(pairs)

    for _ in range(2):
        yield epoch(list(batches(dg))), model
    yield epoch(list(batches(dg, 2))), model


@cases()
def hooks_of_parameters_in_a_step(dg, compile):
    model = mlp(dg)
    model[0].weight.register_hook(lambda g: g.clamp(-0.01, 0.01))
    norms = []
    model[2].weight.register_hook(lambda g: norms.append(1))
    yield from trained(dg, compile, dg.optim.SGD(model.parameters(), lr=0.1), model)
    yield len(norms)


@cases()
def the_step_as_a_method(dg, compile):
    class Trainer:
        def __init__(self):
            self.model = mlp(dg)
            self.opt = dg.optim.SGD(self.model.parameters(), lr=0.1)
            self.steps, self.best, self.scale = 0, None, 1.0

        def step(self, x, y):
            self.opt.zero_grad()
            loss = dg.nn.functional.cross_entropy(self.model(x), y) * self.scale
            loss.backward()
            self.opt.step()
            self.steps += 1
            self.best = loss.detach() if self.best is None else self.best.minimum(loss.detach())
            return self.steps

    trainer = Trainer()
    step = compile(trainer.step)
    for i, (x, y) in enumerate(batches(dg, 5)):
        yield step(x, y), trainer.model, trainer.best, trainer.steps
        if i == 2:
            trainer.scale = 0.5


@cases()
def only_some_parameters_have_gradients(dg, compile):
    a, b = filled(dg, dg.nn.Linear(3, 2)), filled(dg, dg.nn.Linear(3, 2))
    opt = dg.optim.Adam([*a.parameters(), *b.parameters()], lr=0.1)

    @compile
    def step(x, which):
        opt.zero_grad()
        (a if which else b)(x).square().sum().backward()
        opt.step()

    for which in (True, True, False, True, False):
        step(data(dg, 2, 3), which)
        yield a, b, opt


@cases()
def label_smoothing_and_weights_change(dg, compile):
    model = mlp(dg)
    loss_of = dg.nn.CrossEntropyLoss()
    opt = dg.optim.SGD(model.parameters(), lr=0.1)

    @compile
    def step(x, y):
        opt.zero_grad()
        loss = loss_of(model(x), y)
        loss.backward()
        opt.step()
        return loss.detach()

    for i, (x, y) in enumerate(batches(dg)):
        yield step(x, y), model
        if i == 1:
            loss_of.label_smoothing = 0.2
        if i == 2:
            loss_of.reduction = "sum"
