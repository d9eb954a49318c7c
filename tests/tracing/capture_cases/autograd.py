"""Gradients through compiled calls and inside them, hooks, custom functions, higher derivatives."""

from __future__ import annotations

from .harness import Cases, data, error_of, filled

cases = Cases()

# -- gradients from outside -----------------------------------------------------------------------


@cases()
def gradients_of_arguments_and_state(dg, compile):
    w = data(dg, 3, low=2, grad=True)
    f = compile(lambda x: (x * w).tanh() + x)
    for low in (-1.0, 0.5):
        x = data(dg, 2, 3, low=low, grad=True)
        f(x).sum().backward()
        yield x, w


@cases()
def gradients_of_some_results(dg, compile):
    f = compile(lambda x: (x * 2, x.square(), x.detach() * 3, (x * x).sum()))
    for i in (0, 1, 3):
        x = data(dg, 3, grad=True)
        f(x)[i].sum().backward()
        yield x
    x = data(dg, 3, grad=True)
    a, b, c, d = f(x)
    (a.sum() + b.sum() * 2 + c.sum() + d).backward()
    yield x, [t.requires_grad for t in (a, b, c, d)]


@cases()
def gradients_with_weights(dg, compile):
    f = compile(lambda x: x.square())
    x = data(dg, 3, grad=True)
    f(x).backward(data(dg, 3, low=5))
    yield x
    (g,) = dg.autograd.grad(f(x), [x], grad_outputs=data(dg, 3, low=2))
    yield g
    yield error_of(lambda: f(x).backward())


@cases()
def gradients_that_are_not_wanted(dg, compile):
    w, v = data(dg, 3, grad=True), data(dg, 3, grad=True)
    f = compile(lambda x: x * w + v)
    x = data(dg, 3, grad=True)
    yield dg.autograd.grad(f(x).sum(), [w])
    yield x, w, v
    yield dg.autograd.grad(f(x).sum(), [w, data(dg, 2, grad=True)], allow_unused=True)


@cases()
def gradients_accumulate(dg, compile):
    model = filled(dg, dg.nn.Linear(3, 2))
    f = compile(model)
    for i in range(3):
        f(data(dg, 2, 3) + i).sum().backward()
        yield model
    model.zero_grad(set_to_none=False)
    f(data(dg, 2, 3)).sum().backward()
    yield model


@cases()
def backward_twice(dg, compile):
    f = compile(lambda x: (x * x).sum())
    x = data(dg, 3, grad=True)
    y = f(x)
    y.backward(retain_graph=True)
    y.backward()
    yield x, error_of(lambda: y.backward())


@cases()
def two_calls_before_backward(dg, compile):
    model = filled(dg, dg.nn.Linear(3, 3))
    f = compile(model)
    x = data(dg, 2, 3, grad=True)
    (f(x).sum() * f(f(x)).sum()).backward()
    yield x, model


@cases()
def calls_in_between_do_not_disturb(dg, compile):
    w = data(dg, 3, grad=True)
    f = compile(lambda x: (x * w).exp())
    x, z = data(dg, 3, grad=True), data(dg, 3, low=-3, grad=True)
    y = f(x)
    f(z).sum().backward()
    y.sum().backward()
    yield x, z, w


@cases()
def an_operand_overwritten_before_backward(dg, compile):
    w = data(dg, 3, grad=True)
    f = compile(lambda x: x * w)
    x = data(dg, 3, grad=True)
    y = f(x).sum()
    with dg.no_grad():
        w.add_(1)
    yield error_of(lambda: y.backward())


@cases()
def an_operand_that_is_not_needed_is_overwritten_before_backward(dg, compile):
    w = data(dg, 3, grad=True)
    f = compile(lambda x: x + w)
    x = data(dg, 3, grad=True)
    y = f(x).sum()
    with dg.no_grad():
        w.add_(1)
    yield error_of(lambda: y.backward()), w


@cases()
def in_place_on_results(dg, compile):
    f = compile(lambda x: x + 1)
    x = data(dg, 3, grad=True)
    y = f(x)
    y.mul_(3)
    y[0] = 7
    y.sum().backward()
    yield x, y


@cases()
def eager_before_and_after(dg, compile):
    a, b = filled(dg, dg.nn.Linear(3, 4)), filled(dg, dg.nn.Linear(4, 2))
    f = compile(lambda h: h.tanh() * 2)
    x = data(dg, 2, 3, grad=True)
    b(f(a(x))).sum().backward()
    yield x, a, b


@cases()
def results_detached_and_gradients_kept(dg, compile):
    f = compile(lambda x: x * 2)
    x = data(dg, 3, grad=True)
    y = f(x)
    y.retain_grad()
    (y * y).sum().backward()
    yield x, y.grad, y.detach()


@cases()
def requires_grad_set_inside(dg, compile):
    @compile
    def f(x):
        y = x.detach().clone().requires_grad_()
        z = (y * y).sum()
        (g,) = dg.autograd.grad(z, [y])
        return z.detach(), g

    for low in (-1.0, 2.0):
        yield f(data(dg, 3, low=low)), f(data(dg, 3, low=low, grad=True))


@cases()
def integer_and_bool_results(dg, compile):
    f = compile(lambda x: (x > 0, x.argmax(), x.long(), x.sign(), x * 2))
    x = data(dg, 3, grad=True)
    *_, y = out = f(x)
    yield out
    y.sum().backward()
    yield x


@cases()
def gradients_through_views_of_arguments(dg, compile):
    f = compile(lambda x: (x[0], x.T, x.view(-1)[2:]))
    x = data(dg, 2, 3, grad=True)
    a, b, c = f(x * 1)
    (a.sum() + (b * b).sum() + c.exp().sum()).backward()
    yield x, a, b, c


@cases()
def gradients_into_a_view_of_a_leaf(dg, compile):
    w = data(dg, 4, 3, grad=True)
    f = compile(lambda x, rows: (x * rows).sum())
    f(data(dg, 3), w[1:3]).backward()
    f(data(dg, 3), w.T[0, :3]).backward()
    yield w


@cases()
def expanded_arguments(dg, compile):
    f = compile(lambda x: (x * x).sum())
    x = data(dg, 3, grad=True)
    f(x.expand(4, 3)).backward()
    f(x[:, None].expand(3, 2)).backward()
    yield x


# -- higher derivatives ---------------------------------------------------------------------------


@cases()
def double_backward_from_outside(dg, compile):
    w = data(dg, 3, low=2, grad=True)
    f = compile(lambda x: (x * x * w).sin())
    x = data(dg, 3, grad=True)
    (g,) = dg.autograd.grad(f(x).sum(), [x], create_graph=True)
    yield g
    (g * g).sum().backward()
    yield x, w


@cases()
def a_gradient_penalty_from_outside(dg, compile):
    model = filled(dg, dg.nn.Sequential(dg.nn.Linear(3, 4), dg.nn.Tanh(), dg.nn.Linear(4, 1)))
    f = compile(model)
    for n in (4, 2):
        x = data(dg, n, 3, grad=True)
        (g,) = dg.autograd.grad(f(x).sum(), [x], create_graph=True)
        (g.norm(dim=1) - 1).square().mean().backward()
        yield model


@cases()
def third_derivatives_from_outside(dg, compile):
    f = compile(lambda x: x**4)
    x = data(dg, 3, low=1, grad=True)
    g = f(x).sum()
    for _ in range(3):
        (g,) = dg.autograd.grad(g.sum(), [x], create_graph=True)
        yield g


@cases()
def derivatives_inside(dg, compile):
    @compile
    def f(x):
        y = x**4
        (g,) = dg.autograd.grad(y.sum(), [x], create_graph=True)
        (h,) = dg.autograd.grad(g.sum(), [x], create_graph=True)
        return g, h

    x = data(dg, 3, low=1, grad=True)
    g, h = f(x)
    yield g, h
    (g.sum() + h.sum()).backward()
    yield x


@cases()
def a_jacobian_row_by_row(dg, compile):
    f = compile(lambda x: (x * x.sum()).sin())
    x = data(dg, 3, grad=True)
    y = f(x)
    rows = [dg.autograd.grad(y[i], [x], retain_graph=True)[0] for i in range(3)]
    yield dg.stack(rows)


# -- what the tape is told inside -----------------------------------------------------------------


@cases()
def detach_and_no_grad_inside(dg, compile):
    @compile
    def f(x):
        with dg.no_grad():
            scale = x.abs().max()
        target = x.detach() * 2
        return ((x / scale - target) ** 2).sum()

    x = data(dg, 3, grad=True)
    f(x).backward()
    yield x


@cases()
def straight_through_by_detach(dg, compile):
    f = compile(lambda x: x + (x.round() - x).detach())
    x = data(dg, 5, low=-3, grad=True)
    y = f(x)
    (y * y).sum().backward()
    yield y, x


@cases()
def hooks_on_tensors_inside(dg, compile):
    @compile
    def f(x):
        y = x * 2
        y.register_hook(lambda g: g * 10)
        return (y * y).sum()

    x = data(dg, 3, grad=True)
    f(x).backward()
    yield x


@cases(may_warn=True)
def hooks_that_have_effects(dg, compile):
    seen = []

    @compile
    def f(x):
        y = x * 2
        y.register_hook(lambda g: seen.append("hook"))
        return (y * y).sum()

    for _ in range(3):
        x = data(dg, 3, grad=True)
        f(x).backward()
        yield x, seen


@cases()
def hooks_on_arguments_and_parameters(dg, compile):
    w = data(dg, 3, low=2, grad=True)
    seen = []
    w.register_hook(lambda g: seen.append(g.sum().item()))
    x = data(dg, 3, grad=True)
    x.register_hook(lambda g: g.clamp(max=1.0))
    f = compile(lambda x: (x * w * w).sum())
    for _ in range(2):
        f(x).backward()
        yield x, w, seen


@cases()
def hooks_on_results(dg, compile):
    f = compile(lambda x: x * 2)
    x = data(dg, 3, grad=True)
    y = f(x)
    y.register_hook(lambda g: g * 5)
    y.sum().backward()
    yield x


@cases()
def custom_functions(dg, compile):
    class Clipped(dg.autograd.Function):
        @staticmethod
        def forward(ctx, x, limit):
            ctx.save_for_backward(x)
            ctx.limit = limit
            return x.clamp(-limit, limit)

        @staticmethod
        def backward(ctx, g):
            (x,) = ctx.saved_tensors
            return g * (x.abs() <= ctx.limit) + 0.1 * g, None

    f = compile(lambda x, limit: Clipped.apply(x * 2, limit).sum())
    for limit in (1.0, 0.5, 1.0):
        x = data(dg, 5, grad=True)
        f(x, limit).backward()
        yield x


@cases()
def custom_functions_with_several_results(dg, compile):
    class SinCos(dg.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            s, c = x.sin(), x.cos()
            ctx.save_for_backward(s, c)
            return s, c

        @staticmethod
        def backward(ctx, gs, gc):
            s, c = ctx.saved_tensors
            return gs * c - gc * s

    @compile
    def f(x):
        s, c = SinCos.apply(x)
        return (s * 2).sum(), c

    x = data(dg, 4, grad=True)
    a, b = f(x)
    (a + (b * b).sum()).backward()
    yield a, b, x


@cases()
def gradients_of_integers_as_indices(dg, compile):
    table = data(dg, 5, 2, grad=True)
    f = compile(lambda i: table[i].sum(0) * 2)
    for i in ([0, 1, 1], [4, 4, 2]):
        f(dg.tensor(i)).sum().backward()
        yield table


@cases()
def a_parameter_used_twice(dg, compile):
    w = data(dg, 3, 3, grad=True)
    f = compile(lambda x: x @ w @ w.T + w.sum())
    f(data(dg, 2, 3)).square().sum().backward()
    yield w


@cases()
def no_path_to_a_parameter(dg, compile):
    model = filled(dg, dg.nn.ModuleList([dg.nn.Linear(3, 2), dg.nn.Linear(3, 2)]))
    f = compile(lambda x, which: model[which](x))
    for which in (0, 1):
        f(data(dg, 2, 3), which).sum().backward()
        yield model


@cases()
def the_graph_of_the_last_call_is_carried(dg, compile):
    cell = filled(dg, dg.nn.LSTMCell(2, 3))
    f = compile(lambda x, h, c: cell(x, (h, c)))
    h = c = dg.zeros(2, 3)
    for i in range(3):
        h, c = f(data(dg, 2, 2) + i, h, c)
    h.sum().backward()
    yield h, c, cell


@cases()
def truncated_backpropagation(dg, compile):
    cell = filled(dg, dg.nn.GRUCell(2, 3))
    f = compile(lambda x, h: cell(x, h))
    h = dg.zeros(2, 3)
    for i in range(3):
        h = f(data(dg, 2, 2) + i, h.detach())
        h.sum().backward()
        yield h, cell


@cases()
def nan_and_infinity_in_gradients(dg, compile):
    f = compile(lambda x: (x.sqrt() * dg.where(x > 0, x.log(), 0.0)).sum())
    x = dg.tensor([0.0, 1.0, 4.0], requires_grad=True)
    f(x).backward()
    yield x


@cases()
def double_and_half_precision(dg, compile):
    f = compile(lambda x: (x.softmax(-1) * x).sum())
    for dtype in (dg.float64, dg.float32):
        x = data(dg, 4).to(dtype).requires_grad_()
        f(x).backward()
        yield x
