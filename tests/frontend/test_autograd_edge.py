"""Corners of the tape: leaves, hooks, saved values, as in PyTorch; and where we differ from it."""

from __future__ import annotations

import threading

import numpy as np
import pytest

import dualgraph as dg

from .both import Cases, leaf

case = Cases()


# -- leaves ---------------------------------------------------------------------------------------


@case
def freezing_keeps_the_gradient(lib):
    x = leaf(lib, 1, 2)
    (x * x).sum().backward()
    x.requires_grad_(False)
    frozen = x.grad
    return frozen, x.requires_grad_(True).grad


@case
def what_was_recorded_reaches_a_leaf_frozen_in_between(lib):
    x = leaf(lib, 1, 2)
    y = (x * x).sum()
    x.requires_grad_(False)
    x.requires_grad_(True)
    y.backward()
    return x.grad


@case
def a_frozen_leaf_takes_no_gradient(lib):
    x = leaf(lib, 1, 2)
    y = (x * x).sum()
    x.requires_grad_(False)
    y.backward()
    return x.grad, x.requires_grad


@case
def a_view_may_become_a_leaf(lib):
    base = lib.zeros(3)
    v = base[:2]
    v.requires_grad_()
    base.add_(1)
    (v * 3).sum().backward()
    return v, v.requires_grad, v.is_leaf, base.requires_grad, v.grad


@case
def a_view_that_is_a_leaf_is_protected(lib):
    v = lib.zeros(3)[:2]
    v.requires_grad_()
    v.add_(1)


@case
def a_gradient_given_before_it_is_asked_for(lib):
    x = lib.zeros(2)
    x.grad = lib.ones(2)
    x.requires_grad_()
    x.sum().backward()
    return x.grad


@case
def gradients_accumulate_in_the_same_tensor(lib):
    x = leaf(lib, 1, 2)
    (x * 2).sum().backward()
    g = x.grad
    (x * 2).sum().backward()
    same = g is x.grad
    (x * 2).sum().backward(create_graph=True)
    return same, g is x.grad, g, x.grad


@case
def assigning_to_data(lib):
    x = leaf(lib, 1, 2)
    x.data = lib.tensor([5.0, 6.0], dtype=lib.float64)
    (x * x).sum().backward()
    return x, x.grad, x.is_leaf, x.requires_grad


@case
def wrong_gradients_are_refused(lib):
    x = leaf(lib, 1, 2)
    x.grad = 5


@case
def a_tensor_is_not_its_own_gradient(lib):
    x = leaf(lib, 1, 2)
    x.grad = x


# -- hooks ----------------------------------------------------------------------------------------


@case
def hooks_run_in_order_and_replace(lib):
    x = leaf(lib, 1)
    seen = []
    x.register_hook(lambda g: seen.append(("a", g.item())))
    handle = x.register_hook(lambda g: g * 100)
    x.register_hook(lambda g: g * 2)
    x.register_hook(lambda g: seen.append(("b", g.item())))
    handle.remove()
    (x * 3).sum().backward()
    return seen, x.grad


@case
def a_hook_stays_with_the_value_it_was_put_on(lib):
    x = leaf(lib, 1, 2)
    y = x * 1
    seen = []
    y.register_hook(lambda g: seen.append(g.tolist()))
    y.mul_(3)
    (y * 2).sum().backward()
    return seen, x.grad


@case
def a_kept_gradient_goes_with_the_tensor(lib):
    x = leaf(lib, 1, 2)
    y = x * 1
    y.retain_grad()
    y.mul_(3)
    (y * 2).sum().backward()
    return y.grad, x.grad, y.retains_grad, x.retains_grad


@case
def hooks_on_views(lib):
    x = leaf(lib, 1, 2, 3)
    v = (x * 1)[1:]
    v.register_hook(lambda g: g * 10)
    v.sum().backward()
    return x.grad


@case
def hooks_on_one_of_several_outputs(lib):
    x = leaf(lib, 1, 3, 2)
    values, _ = x.sort()
    values.register_hook(lambda g: g * 10)
    (values * values).sum().backward()
    return x.grad


@case
def hooks_while_gradients_are_recorded(lib):
    x = leaf(lib, 2)
    y = x * x
    y.register_hook(lambda g: g * x)
    (g,) = lib.autograd.grad((y * y).sum(), [x], create_graph=True)
    g.sum().backward()
    return g, x.grad


@case
def a_hook_must_keep_the_shape(lib):
    x = leaf(lib, 1, 2)
    x.register_hook(lambda g: g[:1])
    (x * 2).sum().backward()


@case
def a_hook_must_give_a_tensor(lib):
    x = leaf(lib, 1, 2)
    x.register_hook(lambda g: 3.0)
    (x * 2).sum().backward()


@case
def a_hook_that_raises_leaves_grad_mode_intact(lib):
    x = leaf(lib, 1, 2)
    handle = x.register_hook(lambda g: 1 / 0)
    try:
        (x * 2).sum().backward()
    except ZeroDivisionError:
        handle.remove()
    (x * 3).sum().backward()
    return lib.is_grad_enabled(), x.grad


# -- saved values ---------------------------------------------------------------------------------


@case
def second_derivatives_notice_writes(lib):
    x = leaf(lib, 1, 2)
    y = x.exp()
    (g,) = lib.autograd.grad((y * y).sum(), [x], create_graph=True)
    loss = (g * g).sum()
    with lib.no_grad():
        y.mul_(2)
    loss.backward()


@case
def an_operand_written_between_the_derivatives(lib):
    x, w = leaf(lib, 1, 2), leaf(lib, 3, 4)
    y = w * 1
    (g,) = lib.autograd.grad((x * x * y).sum(), [x], create_graph=True)
    with lib.no_grad():
        y.zero_()
    g.sum().backward()


@case
def in_place_operations_on_what_is_not_needed(lib):
    x = leaf(lib, 1, 2)
    y = x * 1
    z = y + 1
    y.mul_(5)
    w = y.sigmoid()
    y.add_(1)
    (z + w + y).sum().backward()
    return x.grad


@case
def overwriting_leaves_a_zero_gradient(lib):
    x = leaf(lib, 1, 2)
    found = []
    for write in ("y.zero_()", "y.fill_(3)", "y[:] = 5", "y.reshape(2, 1).fill_(1)"):
        y = x * 1
        exec(write, {"y": y})
        found.append((y.requires_grad, y.is_leaf))
        y.sum().backward()
    return found, x.grad


@case
def rows_of_an_expanded_tensor_can_be_written(lib):
    x = lib.tensor([1.0, 2.0])
    x.expand(3, 2)[0].add_(1)
    x.expand(2).mul_(2)
    x.expand(1, 2).diagonal().zero_()
    return x


@case
def expanded_tensors_cannot(lib):
    lib.tensor([1.0, 2.0]).expand(3, 2).add_(1)


@case
def views_made_without_recording_are_protected(lib):
    x = leaf(lib, 1, 2)
    y = x * 1
    with lib.no_grad():
        v = y[:1]
    v.mul_(2)


@case
def views_refreshed_without_recording_stay_on_the_tape(lib):
    x = leaf(lib, 1, 2)
    v = x.view(2, 1)
    with lib.no_grad():
        x.mul_(2)
        v.requires_grad  # noqa: B018
        (v * 1).sum()
    v.sum().backward()
    return x.grad


@pytest.mark.parametrize("name", case)
def test_as_in_pytorch(name: str) -> None:
    case.check(name)


# -- what PyTorch has nothing to compare with -----------------------------------------------------


def test_results_of_grad_have_memory_of_their_own() -> None:
    x, y = leaf(dg, 1, 2), leaf(dg, 3, 4)
    a, b, c = dg.autograd.grad((x + y).sum(), [x, y, x])
    a.add_(1)
    assert (a.tolist(), b.tolist(), c.tolist()) == ([2, 2], [1, 1], [1, 1])


def test_gradients_of_0d_tensors_are_arrays() -> None:
    x = leaf(dg, 1, 2)
    y = x.sum() * 2
    seen = []
    y.register_hook(seen.append)
    y.retain_grad()
    (y * y * 3 + y).backward()
    assert all(type(t.numpy()) is np.ndarray for t in (y.grad, seen[0], x.grad))


def test_an_operand_of_its_own_in_place_operation() -> None:
    # PyTorch keeps the tensor itself and raises; here what it held before is kept.
    x = leaf(dg, 3, 4)
    y = x * 1
    y.mul_(y)
    y.sum().backward()
    assert x.grad.tolist() == [6, 8]


def test_parts_of_split_may_be_written() -> None:
    # PyTorch refuses: its views of one function know nothing of each other.
    x = leaf(dg, 1, 2, 3, 4)
    y = x * 1
    a, b = y.chunk(2)
    a.mul_(b)
    y.sum().backward()
    assert x.grad.tolist() == [3, 4, 2, 3]


def test_messages_name_what_was_expected_and_what_came() -> None:
    x = leaf(dg, 1, 2)
    with pytest.raises(TypeError, match="Tensor or None, got int"):
        x.grad = 5
    with pytest.raises(ValueError, match=r"shape \[3\]; expected the tensor's \[2\]"):
        x.grad = dg.zeros(3, dtype=dg.float64)
    with pytest.raises(ValueError, match="1 tensors and 2 gradients"):
        dg.autograd.backward([x], [dg.ones(2), dg.ones(2)])
    with pytest.raises(ValueError, match="`inputs` is empty"):
        x.sum().backward(inputs=[])
    with pytest.raises(RuntimeError, match="index 1 appears to not have been used.*allow_unused"):
        dg.autograd.grad(x.sum(), [x, leaf(dg, 1)])
    handle = x.register_hook(lambda g: g.float())
    with pytest.raises(TypeError, match=r"changed the type.*float64, got dualgraph\.float32"):
        (x * 2).sum().backward()
    handle.remove()
    y = x * 1
    z = (y * y).sum()
    y.add_(1)
    with pytest.raises(RuntimeError, match=r"MulBackward0 are at version \d+; expected version"):
        z.backward()


def test_threads_accumulate_in_one_leaf() -> None:
    x = dg.ones(200, 200, requires_grad=True)

    def work() -> None:
        for _ in range(50):
            (x * 1).sum().backward()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    np.testing.assert_array_equal(x.grad.numpy(), 200)


def test_new_data_does_not_change_what_was_recorded() -> None:
    # PyTorch computes with the new data here, and gives [10, 12].
    x = leaf(dg, 1, 2)
    y = (x * x).sum()
    x.data = dg.tensor([5.0, 6.0], dtype=dg.float64)
    y.backward()
    assert x.grad.tolist() == [2, 4]
