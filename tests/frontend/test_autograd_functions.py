"""Corners of `grad`, of custom functions, grad mode and copies, as in PyTorch."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import pytest

import dualgraph as dg
from dualgraph import nn

from .both import Cases, leaf, torch

case = Cases()


# -- grad and backward ----------------------------------------------------------------------------


@case
def only_what_is_asked_for_is_walked(lib):
    x = leaf(lib, 1, 2)
    y = (x * x).sum()
    z = y * y
    y.backward()  # frees what y needs; the way from z to y is free
    return lib.autograd.grad(z, [y])


@case
def inputs_limit_accumulation(lib):
    x, y = leaf(lib, 1, 2), leaf(lib, 3, 4)
    seen = []
    x.register_post_accumulate_grad_hook(lambda t: seen.append(t.grad.tolist()))
    (x * y).sum().backward(inputs=[x])
    return x.grad, y.grad, seen


@case
def non_leaves_as_inputs(lib):
    x = leaf(lib, 1, 2)
    z = x * 2
    (z * z).sum().backward(inputs=[z])
    return x.grad, z.grad


@case
def outputs_and_inputs_more_than_once(lib):
    x = leaf(lib, 1, 2)
    y = (x * 2).sum()
    return lib.autograd.grad([y, y], [x, x, y])


@case
def grad_outputs_may_be_none(lib):
    x = leaf(lib, 1, 2)
    y = x * 2
    return lib.autograd.grad([y, y.sum()], [x], [lib.ones(2, dtype=lib.float64), None])


@case
def results_of_several_outputs_differentiate_twice(lib):
    x = leaf(lib, 1, 3, 2)
    v, _ = x.topk(2)
    (g,) = lib.autograd.grad((v * v * v).sum(), [v], create_graph=True)
    (g * v).sum().backward()
    return x.grad


@case
def complex_gradients_follow_the_convention(lib):
    z = lib.tensor([1 + 2j, 3 - 1j], requires_grad=True)
    x = leaf(lib, 1, 2, dtype="float32")
    ((z * x) ** 2).abs().sum().backward()
    return [round(v.real, 3) for v in z.grad.tolist()], [round(v, 3) for v in x.grad.tolist()]


# -- functions ------------------------------------------------------------------------------------


def exp_of(lib):
    class Exp(lib.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            y = x.exp()
            ctx.save_for_backward(y)
            return y

        @staticmethod
        def backward(ctx, g):
            (y,) = ctx.saved_tensors
            return g * y

    return Exp.apply


@case
def a_saved_output_differentiates_twice(lib):
    x = leaf(lib, 1, 2)
    (g,) = lib.autograd.grad(exp_of(lib)(x).sum(), [x], create_graph=True)
    g.sum().backward()
    return x.grad


@case
def saved_tensors_are_freed(lib):
    x = leaf(lib, 1, 2)
    y = exp_of(lib)(x).sum()
    y.backward()
    y.backward()


@case
def a_context_set_up_apart(lib):
    class Scale(lib.autograd.Function):
        @staticmethod
        def forward(x, k):
            return x * k

        @staticmethod
        def setup_context(ctx, inputs, output):
            ctx.k = inputs[1]

        @staticmethod
        def backward(ctx, g):
            return g * ctx.k, None

    x = leaf(lib, 1, 2)
    Scale.apply(x, 3.0).sum().backward()
    return x.grad


def doubling(lib, *, gradients: Callable[[Any], Any], dirty: bool = False):
    class Double(lib.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            if not dirty:
                return x * 2
            x.mul_(2)
            ctx.mark_dirty(x)
            return x

        @staticmethod
        def backward(ctx, g):
            return gradients(g)

    return Double.apply


@case
def gradients_of_a_function_are_counted(lib):
    doubling(lib, gradients=lambda g: (g, g))(leaf(lib, 1)).sum().backward()


@case
def gradients_of_a_function_must_fit(lib):
    doubling(lib, gradients=lambda g: g[:1].expand(3))(leaf(lib, 1, 2)).sum().backward()


@case
def broadcast_gradients_of_a_function_are_summed(lib):
    x = leaf(lib, 1, 2)
    doubling(lib, gradients=lambda g: g.expand(3, 2))(x).sum().backward()
    return x.grad


@case
def functions_that_write(lib):
    x = leaf(lib, 1, 2)
    y = x * 1
    z = doubling(lib, gradients=lambda g: g * 2, dirty=True)(y)
    z.sum().backward()
    return x.grad, z is y


@case
def functions_must_not_write_to_leaves(lib):
    doubling(lib, gradients=lambda g: g * 2, dirty=True)(leaf(lib, 1, 2))


@case
def once_differentiable(lib):
    if lib is torch:
        from torch.autograd.function import once_differentiable
    else:
        from dualgraph.autograd.function import once_differentiable

    class Square(lib.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return x * x

        @staticmethod
        @once_differentiable
        def backward(ctx, g):
            return g * 2 * ctx.saved_tensors[0]

    x = leaf(lib, 1, 2)
    (g,) = lib.autograd.grad(Square.apply(x).sum(), [x], create_graph=True)
    g.sum().backward()


# -- grad mode ------------------------------------------------------------------------------------


@case
def generators_keep_their_own_mode(lib):
    seen = []

    @lib.no_grad()
    def steps():
        seen.append(lib.is_grad_enabled())
        got = yield 1
        seen.append((got, lib.is_grad_enabled()))
        try:
            yield 2
        except KeyError:
            seen.append(lib.is_grad_enabled())
        yield 3
        return "end"

    generator = steps()
    seen.append((next(generator), lib.is_grad_enabled()))
    seen.append((generator.send("sent"), lib.is_grad_enabled()))
    seen.append((generator.throw(KeyError()), lib.is_grad_enabled()))
    try:
        next(generator)
    except StopIteration as stop:
        seen.append(stop.value)
    return seen


@case
def modes_as_decorators_contexts_and_calls(lib):
    @lib.no_grad()
    def off():
        return lib.is_grad_enabled()

    @lib.inference_mode()
    def inferring():
        return lib.is_grad_enabled()

    @lib.set_grad_enabled(False)
    def set_off():
        return lib.is_grad_enabled()

    seen = [off(), inferring(), set_off(), lib.is_grad_enabled()]
    lib.set_grad_enabled(False)
    with lib.enable_grad():
        seen.append(lib.is_grad_enabled())
    seen.append(lib.is_grad_enabled())
    lib.set_grad_enabled(True)
    return seen, lib.is_grad_enabled()


@case
def results_that_lie_in_rows_whatever_their_operands(lib):
    x = lib.arange(12.0).reshape(3, 4).T
    results = (lib.cat([x, x], 1), x.softmax(0), x.log_softmax(1), x.cumsum(0), x[:, [0, 2]])
    return [r.view(-1).shape[0] for r in results]


# -- copies ---------------------------------------------------------------------------------------


@case
def copied_parameters(lib):
    p = lib.nn.Parameter(lib.zeros(2))
    (p * 2).sum().backward()
    p.note = ["mine"]
    c = copy.deepcopy(p)
    back = pickle.loads(pickle.dumps(lib.nn.Parameter(lib.ones(2), requires_grad=False)))
    return type(c).__name__, c.grad, c.requires_grad, type(back).__name__, back, back.requires_grad


@case
def non_leaves_are_not_copied(lib):
    copy.deepcopy(leaf(lib, 1, 2) * 2)


@pytest.mark.parametrize("name", case)
def test_as_in_pytorch(name: str) -> None:
    case.check(name)


def test_copied_buffers_keep_what_they_are() -> None:
    buffer = nn.Buffer(dg.zeros(2), persistent=False)
    for same in (copy.deepcopy(buffer), pickle.loads(pickle.dumps(buffer))):
        assert isinstance(same, nn.Buffer)
        assert same.persistent is False
