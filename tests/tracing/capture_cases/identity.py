"""Who is who among arguments and results, and kinds of tensors."""

from __future__ import annotations

from .harness import Cases, data, filled

cases = Cases()

# -- who is who ------------------------------------------------------------------------------------


@cases()
def an_argument_returned_as_it_is(dg, compile):
    f = compile(lambda x, y: (y, x, x + y))
    x, y = data(dg, 2), data(dg, 2, low=3, grad=True)
    a, b, c = f(x, y)
    yield a is y, b is x, c


@cases()
def a_parameter_returned_as_it_is(dg, compile):
    model = filled(dg, dg.nn.Linear(2, 2))
    f = compile(lambda x: (model(x), model.weight))
    _, w = f(data(dg, 2))
    yield w is model.weight


@cases()
def one_result_returned_twice(dg, compile):
    @compile
    def f(x):
        y = x * 2
        return y, [y], y.view(-1)

    a, (b,), c = f(data(dg, 2, 2))
    a[0, 0] = 9
    yield a, b, c


@cases()
def results_that_are_views_of_each_other(dg, compile):
    @compile
    def f(x):
        y = x + 1
        return y, y[0], y.T

    a, b, c = f(data(dg, 2, 3))
    b.fill_(7)
    yield a, b, c
    c.mul_(2)
    yield a, b, c


@cases()
def a_view_of_an_argument(dg, compile):
    f = compile(lambda x: (x.view(-1), x[0], x.T))
    x = data(dg, 2, 3)
    a, b, c = f(x)
    a[5] = 50.0
    b.fill_(3)
    yield x, a, b, c
    c[0, 0] = -1
    yield x, a, b, c


@cases()
def the_same_tensor_for_two_parameters(dg, compile):
    f = compile(lambda x, y: (x * y, x is y))
    x, y = data(dg, 3), data(dg, 3, low=2)
    yield f(x, y)
    yield f(x, x)
    yield f(y, x)


@cases()
def the_same_tensor_for_two_parameters_and_gradients(dg, compile):
    f = compile(lambda x, y: (x * y.sin()).sum())
    x = data(dg, 3, grad=True)
    f(x, x).backward()
    yield x
    y = data(dg, 3, grad=True)
    f(x, y).backward()
    yield x, y


@cases(may_warn=True)
def the_same_list_twice(dg, compile):
    @compile
    def f(xs, ys):
        xs.append(xs[0] * 2)
        return len(ys), ys[-1], xs is ys

    for _ in range(2):
        xs = [data(dg, 2)]
        yield f(xs, xs), xs
        yield f([data(dg, 2)], [data(dg, 2, low=4)])


@cases(may_warn=True)
def objects_that_hold_results(dg, compile):
    class Box:
        def __init__(self, value):
            self.value = value

    @compile
    def f(x):
        return Box(x * 2)

    one, two = f(data(dg, 2)), f(data(dg, 2, low=3))
    yield one.value, two.value, one is two


@cases(may_warn=True)
def generators_as_results(dg, compile):
    @compile
    def f(x):
        return (x * i for i in range(3))

    yield list(f(data(dg, 2)))
    yield list(f(data(dg, 2, low=3)))


@cases(may_warn=True)
def functions_as_results(dg, compile):
    @compile
    def f(x):
        y = x * 2
        return lambda z: y + z

    yield f(data(dg, 2))(1)
    yield f(data(dg, 2, low=3))(data(dg, 2))


@cases()
def results_are_not_shared_between_calls(dg, compile):
    @compile
    def f(x):
        return {"y": x + 1, "notes": [], "seen": set()}

    one = f(data(dg, 2))
    one["notes"].append("mine")
    one["seen"].add(1)
    one["y"].zero_()
    two = f(data(dg, 2))
    yield two["y"], two["notes"], len(two["seen"])


@cases()
def constants_of_the_function_as_results(dg, compile):
    @compile
    def f(x):
        return dg.zeros(2), dg.tensor([1.0, 2.0]), x.new_ones(2)

    for y in f(data(dg, 2)):
        y.add_(5)
    yield f(data(dg, 2))


@cases()
def an_outside_tensor_as_a_result(dg, compile):
    w = data(dg, 2)
    f = compile(lambda x: (w, w * 1, w[:1]))
    a, b, c = f(data(dg, 2))
    b.zero_()
    c.fill_(6)
    yield a is w, w, b
    w.add_(1)
    yield f(data(dg, 2)), c


# -- kinds of tensors ------------------------------------------------------------------------------


@cases()
def tensors_of_size_zero_and_of_no_dimension(dg, compile):
    f = compile(lambda x: (x.sum(), x * 2, x.reshape(-1)))
    for shape in ((0,), (0, 3), (3, 0), (), (1,)):
        yield f(data(dg, *shape))


@cases(may_warn=True)
def tensors_that_are_not_contiguous(dg, compile):
    f = compile(lambda x: (x.is_contiguous(), x * 2, x.contiguous().view(-1), x.stride()))
    x = data(dg, 3, 4)
    for y in (x, x.T, x[:, ::2], x[1:], x.expand(2, 3, 4), x[0].expand(3, 4)):
        yield f(y)


@cases()
def every_dtype(dg, compile):
    f = compile(lambda x, y: (x + y, x * 2, x / 2, x.sum()))
    x = data(dg, 4, low=0, high=9)
    kinds = [dg.float32, dg.float64, dg.int64, dg.int32, dg.uint8, dg.int8, dg.bool]
    for a in kinds:
        yield f(x.to(a), x.to(dg.int64))


@cases()
def numbers_keep_their_python_kind_in_promotion(dg, compile):
    f = compile(lambda x, k: (x + k, x * k, k - x))
    for dtype in (dg.int64, dg.float32, dg.float64, dg.uint8):
        for k in (2, 2.5, 3):
            yield f(data(dg, 2, low=1, high=4).to(dtype), k)


@cases()
def requires_grad_of_arguments_changes(dg, compile):
    f = compile(lambda x: x * 2)
    x = data(dg, 2)
    yield f(x)
    x.requires_grad_()
    yield f(x)
    yield f(x.detach()), f(x * 1)
