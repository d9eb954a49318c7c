"""Random numbers: compiled and eager calls draw the same ones, in any mixture."""

from __future__ import annotations

import random

import numpy as np

from .harness import Cases, data, filled

cases = Cases()

OTHER_NUMBERS = "draws other numbers"


@cases(torch=OTHER_NUMBERS, graphs=1)
def every_call_draws_new_numbers(dg, compile):
    f = compile(lambda x: x + dg.randn_like(x))
    for _ in range(4):
        yield f(dg.zeros(3))


@cases(torch=OTHER_NUMBERS)
def every_way_to_draw(dg, compile):
    @compile
    def f(x):
        return (
            dg.rand(2), dg.randn(2, 2), dg.randint(0, 10, (3,)), dg.randperm(4), dg.bernoulli(x),
            dg.rand_like(x), x.clone().uniform_(), x.clone().normal_(2, 3), dg.normal(x, 2.0),
            dg.multinomial(x, 2), x.clone().bernoulli_(0.3), dg.normal(0.0, 1.0, (2,)),
        )  # fmt: skip

    for _ in range(3):
        yield f(dg.full((4,), 0.5))


@cases(torch=OTHER_NUMBERS)
def eager_and_compiled_draws_continue_each_other(dg, compile):
    f = compile(lambda n: dg.rand(n))
    for n in (2, 3, 2, 5):
        yield f(n), dg.rand(2), f(n), dg.randn(1)


@cases(torch=OTHER_NUMBERS)
def dropout_in_training_and_evaluation(dg, compile):
    model = filled(dg, dg.nn.Sequential(dg.nn.Linear(3, 8), dg.nn.Dropout(0.5), dg.nn.Linear(8, 2)))
    f = compile(model)
    x = data(dg, 4, 3)
    for training in (True, False, True):
        model.train(training)
        f(x).sum().backward()
        yield f(x), f(x), model


@cases(torch=OTHER_NUMBERS)
def the_probability_of_a_dropout_changes(dg, compile):
    model = dg.nn.Dropout(0.5)
    f = compile(model)
    x = dg.ones(20)
    yield f(x)
    model.p = 0.1
    yield f(x)
    model.p = 0.0
    yield f(x)
    model.p = 1.0
    yield f(x)


@cases(torch=OTHER_NUMBERS)
def the_probability_of_functional_dropout_changes(dg, compile):
    f = compile(lambda x, p: dg.nn.functional.dropout(x, p))
    for p in (0.5, 0.1, 0.9, 0.0):
        yield f(dg.ones(20), p)


@cases(torch=OTHER_NUMBERS)
def seeds_set_between_calls(dg, compile):
    f = compile(lambda x: dg.randn_like(x))
    for seed in (1, 2, 1):
        dg.manual_seed(seed)
        yield f(dg.zeros(3)), f(dg.zeros(3))


@cases(torch=OTHER_NUMBERS)
def a_seed_set_inside(dg, compile):
    @compile
    def f(x, seed):
        a = dg.rand(2)
        dg.manual_seed(seed)
        return a, dg.rand(2)

    for seed in (7, 8, 7):
        yield f(dg.zeros(3), seed), dg.rand(1)


@cases(torch=OTHER_NUMBERS)
def random_state_saved_and_set_again(dg, compile):
    f = compile(lambda x: dg.randn_like(x))
    f(dg.zeros(2))
    state = dg.get_rng_state()
    yield f(dg.zeros(2))
    dg.set_rng_state(state)
    yield f(dg.zeros(2))


@cases(torch=OTHER_NUMBERS, may_warn=True)
def random_state_saved_and_set_again_inside(dg, compile):
    @compile
    def f(x):
        state = dg.get_rng_state()
        a = dg.randn_like(x)
        dg.set_rng_state(state)
        return a, dg.randn_like(x)

    for _ in range(3):
        yield f(dg.zeros(2))


@cases(torch=OTHER_NUMBERS)
def a_captured_generator(dg, compile):
    generator = dg.Generator()
    generator.manual_seed(3)
    f = compile(lambda x: x + dg.rand(2, generator=generator))
    for _ in range(3):
        yield f(dg.zeros(2)), dg.rand(1), dg.rand(1, generator=generator)
    generator.manual_seed(3)
    yield f(dg.zeros(2))
    generator = dg.Generator()
    generator.manual_seed(4)
    yield f(dg.zeros(2)), f(dg.zeros(2))


@cases(torch=OTHER_NUMBERS)
def generators_as_arguments(dg, compile):
    f = compile(lambda x, generator: x + dg.rand(2, generator=generator))
    one, two = dg.Generator(), dg.Generator()
    one.manual_seed(3)
    two.manual_seed(4)
    for generator in (one, two, one, None, two):
        yield f(dg.zeros(2), generator)


@cases(torch=OTHER_NUMBERS)
def random_numbers_in_branches(dg, compile):
    @compile
    def f(x, flag):
        y = x + dg.rand(2) if flag else x
        return y + dg.rand(2)

    for flag in (True, False, True):
        yield f(dg.zeros(2), flag)


@cases(torch=OTHER_NUMBERS)
def random_numbers_for_other_sizes(dg, compile):
    f = compile(lambda x: x + dg.randn_like(x) + dg.rand(x.shape[0]))
    for n in (3, 5, 4, 7, 1, 0):
        yield f(dg.zeros(n)), dg.rand(1)


@cases(torch=OTHER_NUMBERS)
def gradients_see_the_mask_of_the_forward_pass(dg, compile):
    f = compile(lambda x: dg.nn.functional.dropout(x, 0.5) * x)
    for _ in range(3):
        x = data(dg, 20, grad=True)
        y = f(x)
        dg.rand(3)
        y.sum().backward()
        yield y, x, dg.rand(1)


@cases(torch=OTHER_NUMBERS)
def noise_on_the_weights_in_a_whole_step(dg, compile):
    model = filled(dg, dg.nn.Linear(3, 2))
    opt = dg.optim.SGD(model.parameters(), lr=0.1)

    @compile
    def step(x):
        opt.zero_grad()
        loss = dg.nn.functional.linear(x, model.weight + 0.1 * dg.randn(2, 3)).square().sum()
        loss.backward()
        opt.step()
        with dg.no_grad():
            model.bias.normal_()
        return loss.detach()

    for _ in range(4):
        yield step(data(dg, 2, 3)), model


@cases(may_warn=True)
def random_of_python(dg, compile):
    f = compile(lambda x: x * random.random() + random.randint(0, 9))
    for _ in range(3):
        yield f(data(dg, 2))


@cases(may_warn=True)
def random_choice_of_a_layer(dg, compile):
    layers = [dg.nn.Identity(), dg.nn.Tanh(), dg.nn.ReLU()]
    f = compile(lambda x: random.choice(layers)(x))
    for _ in range(6):
        yield f(data(dg, 4))


@cases(may_warn=True)
def random_of_numpy(dg, compile):
    f = compile(lambda x: x * float(np.random.rand()) + int(np.random.randint(9)))  # noqa: NPY002
    for _ in range(3):
        yield f(data(dg, 2))


@cases(may_warn=True)
def a_captured_generator_of_numpy_and_python(dg, compile):
    theirs, own = np.random.default_rng(0), random.Random(0)
    f = compile(lambda x: x * float(theirs.random()) + own.random())
    for _ in range(3):
        yield f(data(dg, 2))


@cases(may_warn=True)
def layers_that_are_skipped_at_random(dg, compile):
    layers = dg.nn.ModuleList([filled(dg, dg.nn.Linear(3, 3)) for _ in range(3)])

    @compile
    def f(x):
        for layer in layers:
            if random.random() < 0.5:
                continue
            x = layer(x)
        return x

    for _ in range(4):
        yield f(data(dg, 2, 3))


@cases(torch=OTHER_NUMBERS)
def modules_initialised_inside(dg, compile):
    @compile
    def f(x):
        layer = dg.nn.Linear(3, 2)
        return layer(x), layer.weight

    for _ in range(3):
        y, w = f(data(dg, 2, 3))
        yield y.detach(), w.detach()


@cases(torch=OTHER_NUMBERS)
def weights_reset_between_calls(dg, compile):
    model = dg.nn.Linear(3, 2)
    f = compile(model)
    yield f(data(dg, 2, 3))
    model.reset_parameters()
    yield f(data(dg, 2, 3))
    with dg.no_grad():
        dg.nn.init.xavier_uniform_(model.weight)
        yield f(data(dg, 2, 3))
