"""Errors: the kind that eager code raises, state as it was, and graphs that still work after."""

from __future__ import annotations

from .harness import Cases, data, error_of, filled

cases = Cases()


@cases()
def shapes_that_do_not_fit(dg, compile):
    f = compile(lambda x, y: x @ y)
    yield error_of(lambda: f(data(dg, 2, 3), data(dg, 2, 3)))
    yield f(data(dg, 2, 3), data(dg, 3, 2))
    yield error_of(lambda: f(data(dg, 2, 3), data(dg, 4, 2)))
    yield f(data(dg, 2, 3), data(dg, 3, 4))


@cases()
def indices_out_of_range(dg, compile):
    f = compile(lambda x, i: x[i])
    x = data(dg, 3, 2)
    yield f(x, dg.tensor([0, 2]))
    yield error_of(lambda: f(x, dg.tensor([0, 3])))
    yield f(x, dg.tensor([1, 1]))
    yield error_of(lambda: f(x, 5)), f(x, -1)


@cases()
def errors_of_the_users_code(dg, compile):
    @compile
    def f(x, named, k):
        return x * named["scale"] / (1 // k)

    x = data(dg, 2)
    yield error_of(lambda: f(x, {}, 1)), error_of(lambda: f(x, {"scale": 2}, 0))
    yield error_of(lambda: f(x, None, 1)), error_of(lambda: f(None, {"scale": 2}, 1))
    yield f(x, {"scale": 2}, 1)


@cases()
def errors_in_the_backward_pass(dg, compile):
    class Failing(dg.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x * 2

        @staticmethod
        def backward(ctx, g):
            raise ValueError("no gradient")

    f = compile(lambda x: Failing.apply(x).sum())
    x = data(dg, 2, grad=True)
    yield f(x)
    yield error_of(lambda: f(x).backward()), x
    yield f(data(dg, 2))


@cases()
def errors_in_a_hook(dg, compile):
    def refuse(g):
        raise KeyError("hook")

    w = data(dg, 2, grad=True)
    hook = w.register_hook(refuse)
    f = compile(lambda x: (x * w).sum())
    yield error_of(lambda: f(data(dg, 2)).backward()), w
    hook.remove()
    f(data(dg, 2)).backward()
    yield w


@cases()
def dtypes_that_do_not_fit(dg, compile):
    f = compile(lambda x, w: dg.nn.functional.linear(x, w))
    try:
        f(data(dg, 2, 3), data(dg, 4, 3).double())
    except RuntimeError:
        yield "refused"
    yield f(data(dg, 2, 3), data(dg, 4, 3))
    g = compile(lambda x: x.add_(0.5))
    try:
        g(dg.tensor([1, 2]))
    except RuntimeError:
        yield "refused"
    yield g(data(dg, 2))


@cases()
def missing_attributes(dg, compile):
    f = compile(lambda x: x.no_such_thing)
    yield error_of(lambda: f(data(dg, 2)))
    model = filled(dg, dg.nn.Linear(2, 2))
    g = compile(lambda x: model(x) * model.scale)
    yield error_of(lambda: g(data(dg, 2)))
    model.scale = 2
    yield g(data(dg, 2))


@cases()
def classes_out_of_range(dg, compile):
    model = filled(dg, dg.nn.Linear(3, 2))

    @compile
    def f(x, y):
        return dg.nn.functional.nll_loss(model(x), y)

    yield f(data(dg, 2, 3), dg.tensor([0, 1]))
    yield error_of(lambda: f(data(dg, 2, 3), dg.tensor([0, 2]))), model


@cases()
def a_stop_iteration_inside(dg, compile):
    f = compile(lambda x, xs: x + next(iter(xs)))
    yield error_of(lambda: f(data(dg, 2), []))
    yield f(data(dg, 2), [1])


@cases()
def an_unbound_variable(dg, compile):
    @compile
    def f(x, flag):
        if flag:
            y = x * 2
        return y

    yield f(data(dg, 2), True)
    yield error_of(lambda: f(data(dg, 2), False))
    yield f(data(dg, 2), True)
