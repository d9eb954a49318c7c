"""Python data that a function changes: counters, lists, attributes, tensors kept for later."""

from __future__ import annotations

from .harness import Cases, data, filled

cases = Cases()


@cases()
def a_counter_on_the_module(dg, compile):
    class Counting(dg.nn.Module):
        def __init__(self):
            super().__init__()
            self.calls = 0

        def forward(self, x):
            self.calls += 1
            return x * self.calls

    model = Counting()
    f = compile(model)
    for _ in range(4):
        yield f(data(dg, 2)), model.calls
    model.calls = 10
    yield f(data(dg, 2)), model.calls


@cases()
def a_counter_in_the_closure(dg, compile):
    calls = 0

    @compile
    def f(x):
        nonlocal calls
        calls += 1
        return x + 1

    for _ in range(3):
        yield f(data(dg, 2)), calls


TOTAL = 0


@cases()
def a_global_counter(dg, compile):
    global TOTAL
    TOTAL = 0

    @compile
    def f(x):
        global TOTAL
        TOTAL += 2
        return x + TOTAL

    for _ in range(3):
        yield f(data(dg, 2)), TOTAL


@cases()
def a_list_outside_grows(dg, compile):
    log = []

    @compile
    def f(x):
        y = x * 2
        log.append("called")
        return y

    for _ in range(3):
        yield f(data(dg, 2)), log


@cases()
def tensors_are_appended_to_a_list_outside(dg, compile):
    log = []

    @compile
    def f(x):
        y = x * 2
        log.append(y)
        return y + 1

    for i in range(3):
        yield f(data(dg, 2) + i), log


@cases()
def a_cache_in_a_dict(dg, compile):
    cache = {}

    @compile
    def f(x, key):
        if key not in cache:
            cache[key] = x * 2
        return x + cache[key]

    for key in ("a", "b", "a", "c", "b"):
        yield f(data(dg, 2), key), sorted(cache)


@cases()
def tensor_attributes_assigned_in_forward(dg, compile):
    class Remembers(dg.nn.Module):
        def __init__(self):
            super().__init__()
            self.last = None

        def forward(self, x):
            y = x if self.last is None else x + self.last
            self.last = y * 2
            return y

    model = Remembers()
    f = compile(model)
    for i in range(4):
        yield f(data(dg, 3) + i), model.last
    model.last = None
    yield f(data(dg, 3)), model.last


@cases()
def a_buffer_reassigned_in_forward(dg, compile):
    class Running(dg.nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("mean", dg.zeros(3))
            self.register_buffer("count", dg.zeros(()))

        def forward(self, x):
            self.mean = self.mean * 0.9 + x.mean(0) * 0.1
            self.count += 1
            return x - self.mean

    model = Running()
    f = compile(model)
    for i in range(3):
        yield f(data(dg, 4, 3) + i), model


@cases()
def an_attribute_of_a_plain_object_is_assigned(dg, compile):
    class State:
        h = None
        steps = 0

    state = State()

    @compile
    def f(x):
        state.h = x * 0 if state.h is None else state.h
        state.h = state.h * 0.5 + x
        state.steps += 1
        return state.h * 2

    for i in range(4):
        yield f(data(dg, 3) + i), state.h, state.steps


@cases()
def activations_kept_by_a_hook(dg, compile):
    model = filled(dg, dg.nn.Sequential(dg.nn.Linear(3, 4), dg.nn.ReLU(), dg.nn.Linear(4, 2)))
    kept = {}
    model[0].register_forward_hook(lambda m, args, out: kept.__setitem__("hidden", out.detach()))
    f = compile(model)
    for i in range(3):
        yield f(data(dg, 2, 3) + i), kept["hidden"]


@cases()
def the_last_element_of_a_list_that_grows(dg, compile):
    items = [data(dg, 2), data(dg, 2, low=3)]

    @compile
    def f(x):
        items[-1] = x + 1
        return x * 2

    for _ in range(2):
        yield f(data(dg, 2)), items
    items.append(data(dg, 2, low=7))
    for _ in range(2):
        yield f(data(dg, 2)), items
