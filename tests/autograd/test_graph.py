"""Anomaly mode, hooks on what is saved and on entries of the tape, modes."""

from __future__ import annotations

import threading
import warnings
from typing import Any

import numpy as np
import pytest

import dualgraph as dg
from dualgraph.autograd import graph
from dualgraph.utils.checkpoint import checkpoint

X = np.random.default_rng(0).normal(size=(2, 3))


def leaf() -> Any:
    return dg.tensor(X, requires_grad=True)


# -- anomaly mode ---------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:Anomaly Detection")
def test_anomaly_names_the_line() -> None:
    with dg.autograd.detect_anomaly():
        loss = (leaf() * 0).sqrt().sum() * 0
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            with pytest.raises(RuntimeError, match=r"SqrtBackward0.*nan.*test_graph\.py:\d+") as e:
                loss.backward()
    assert "sqrt().sum() * 0" in str(e.value)
    assert any("Traceback of forward call" in str(w.message) for w in caught)


@pytest.mark.filterwarnings("ignore:Anomaly Detection")
def test_anomaly_without_a_recorded_forward() -> None:
    loss = (leaf() * 0).sqrt().sum() * 0
    with (
        dg.autograd.detect_anomaly(),
        pytest.warns(UserWarning, match="No forward pass"),
        pytest.raises(RuntimeError, match="returned nan values in its 0th output"),
    ):
        loss.backward()
    loss = (leaf() * 0).sqrt().sum() * 0
    loss.backward()  # off: nobody minds
    with dg.autograd.set_detect_anomaly(True, check_nan=False):
        ((leaf() * 0).sqrt().sum() * 0).backward()


@pytest.mark.filterwarnings("ignore:Anomaly Detection")
def test_anomaly_changes_no_gradient() -> None:
    x, y = leaf(), leaf()
    with dg.autograd.detect_anomaly():
        (x.sin() * x.exp()).sum().backward()
    (y.sin() * y.exp()).sum().backward()
    np.testing.assert_array_equal(x.grad, y.grad)
    assert not dg.autograd.anomaly_mode.is_anomaly_enabled()


# -- saved tensors --------------------------------------------------------------------------------


class Doubled(dg.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Any) -> Any:
        y = x * x
        ctx.save_for_backward(x, y)
        return y

    @staticmethod
    def backward(ctx: Any, g: Any) -> Any:
        x, y = ctx.saved_tensors
        return g * 2 * x + 0 * y


def program(x: Any) -> Any:
    return (dg.softmax(x, 1) * x.exp() + Doubled.apply(x).sigmoid()).sum()


def test_saved_values_go_through_hooks() -> None:
    packed: list[Any] = []
    unpacked: list[Any] = []

    def pack(t: Any) -> Any:
        packed.append(tuple(t.shape))
        return t.numpy().copy()

    def unpack(a: Any) -> Any:
        unpacked.append(a.shape)
        return dg.tensor(a)

    x, y = leaf(), leaf()
    with graph.saved_tensors_hooks(pack, unpack):
        loss = program(x)
    assert packed
    assert not unpacked
    loss.backward()
    assert len(unpacked) > 3
    program(y).backward()
    np.testing.assert_allclose(x.grad, y.grad, rtol=1e-12)


def test_second_derivatives_through_hooks() -> None:
    def twice(hooks: bool) -> Any:
        x = leaf()
        with graph.saved_tensors_hooks(lambda t: t * 1, lambda t: t) if hooks else dg.enable_grad():
            y = (x.sin() * x.exp()).sum()
            (g,) = dg.autograd.grad(y, x, create_graph=True)
        (g**2).sum().backward()
        return x.grad

    np.testing.assert_allclose(twice(True), twice(False), rtol=1e-12)


def test_hooks_see_writes_to_what_was_saved() -> None:
    x = leaf()
    y = x * 1
    with graph.saved_tensors_hooks(lambda t: t, lambda t: t):
        z = y.exp() * y
    y.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace"):
        z.sum().backward()
    with graph.saved_tensors_hooks(lambda t: t, lambda t: 3):
        z = x.exp()
    with pytest.raises(TypeError, match="unpack_hook expected to be a Tensor"):
        z.sum().backward()


def test_used_up_entries_say_so() -> None:
    x = leaf()
    with graph.saved_tensors_hooks(lambda t: t, lambda t: t):
        z = x.exp().sum()
    z.backward(retain_graph=True)
    z.backward()
    with pytest.raises(RuntimeError, match="second time"):
        z.backward()


def test_save_on_cpu_and_disabling() -> None:
    x, y = leaf(), leaf()
    with graph.save_on_cpu(pin_memory=True):
        program(x).backward()
    program(y).backward()
    np.testing.assert_allclose(x.grad, y.grad)
    with (
        graph.disable_saved_tensors_hooks("not here"),
        pytest.raises(RuntimeError, match="not her"),
        graph.save_on_cpu(),
    ):
        pass


def test_saved_tensors_may_be_overwritten() -> None:
    x = leaf()
    y = x * 1
    with graph.allow_mutation_on_saved_tensors() as kept:
        z = y.exp() * Doubled.apply(y)
        y.add_(1)
    z.sum().backward()
    np.testing.assert_allclose(x.grad, np.exp(X) * (X**2 + 2 * X))
    kept.clear()


def test_hooks_and_checkpoints() -> None:
    seen: list[Any] = []
    x, y = leaf(), leaf()
    with graph.saved_tensors_hooks(lambda t: seen.append(1) or t, lambda t: t):
        checkpoint(lambda x: x.sin().exp(), x, use_reentrant=False).sum().backward()
    y.sin().exp().sum().backward()
    np.testing.assert_allclose(x.grad, y.grad)


# -- entries --------------------------------------------------------------------------------------


def test_entries() -> None:
    x = leaf()
    y = x.exp()
    z = (y * 2).sum()
    assert isinstance(z.grad_fn, graph.Node)
    assert z.grad_fn.name() == "SumBackward0"
    ((product, _),) = z.grad_fn.next_functions
    assert product.name() == "MulBackward0"
    accumulate = y.grad_fn.next_functions[0][0]
    assert accumulate.name() == "AccumulateGrad"
    assert accumulate.next_functions == ()


def test_hooks_on_entries() -> None:
    x = leaf()
    y = x.exp()
    seen: list[Any] = []

    def double(ins: Any, outs: Any) -> Any:
        seen.append((ins[0].clone(), outs[0].clone()))
        return (ins[0] * 2,)

    handle = y.grad_fn.register_hook(double)
    before = y.grad_fn.register_prehook(lambda outs: (outs[0] * 10,))
    y.sum().backward(retain_graph=True)
    np.testing.assert_allclose(x.grad, 20 * np.exp(X))
    np.testing.assert_allclose(seen[0][0], 10 * np.exp(X))
    handle.remove()
    before.remove()
    x.grad = None
    y.sum().backward()
    np.testing.assert_allclose(x.grad, np.exp(X))


def test_hooks_on_entries_with_several_outputs_and_custom_ones() -> None:
    x = leaf()
    values, _ = x.sort(dim=1)
    values.grad_fn.register_hook(lambda ins, outs: (ins[0] * 3,))
    values.sum().backward()
    np.testing.assert_allclose(x.grad, np.full_like(X, 3))
    y = leaf()
    out = Doubled.apply(y)
    out.grad_fn.register_hook(lambda ins, outs: (ins[0] * 0 + 7,))
    out.sum().backward()
    np.testing.assert_allclose(y.grad, np.full_like(X, 7))


def test_hooks_where_gradients_accumulate() -> None:
    x = leaf()
    seen: list[Any] = []
    end = (x * 1).grad_fn.next_functions[0][0]
    end.register_hook(lambda ins, outs: seen.append(("after", outs[0].shape)))
    end.register_prehook(lambda outs: (outs[0] * 5,))
    x.register_post_accumulate_grad_hook(lambda t: seen.append(t.grad.clone()))
    (x * 1).sum().backward()
    assert seen[0] == ("after", x.shape)
    np.testing.assert_allclose(seen[1], np.full_like(X, 5))


def test_hooks_on_several_tensors() -> None:
    x, y = leaf(), leaf()
    every: list[Any] = []
    first: list[Any] = []
    a, b = x * 2, y * 3
    graph.register_multi_grad_hook((a, b), every.append)
    graph.register_multi_grad_hook((a, b), first.append, mode="any")
    (a * b).sum().backward()
    assert len(every) == 1
    assert len(every[0]) == 2
    assert len(first) == 1
    with pytest.raises(ValueError, match="mode"):
        graph.register_multi_grad_hook((a,), print, mode="some")


def test_gradient_edges() -> None:
    x = leaf()
    y = x.exp()
    values, _ = y.sort(dim=1)
    z = (y * values).sum()
    edges = [graph.get_gradient_edge(t) for t in (x, y, values)]
    by_edge = dg.autograd.grad(z, edges, retain_graph=True)
    by_tensor = dg.autograd.grad(z, (x, y, values))
    for a, b in zip(by_edge, by_tensor, strict=True):
        np.testing.assert_array_equal(a, b)
    with pytest.raises(RuntimeError, match="does not require grad"):
        graph.get_gradient_edge(dg.ones(2))


def test_batches_of_weights() -> None:
    x = leaf()
    y = x.sin() * x.sum()
    rows = dg.tensor(np.random.default_rng(3).normal(size=(4, 2, 3)))
    (whole,) = dg.autograd.grad(y, x, rows, is_grads_batched=True, retain_graph=True)
    for row, g in zip(rows, whole, strict=True):
        (one,) = dg.autograd.grad(y, x, row, retain_graph=True)
        np.testing.assert_allclose(g, one, rtol=1e-12)
    unused = leaf()
    found = dg.autograd.grad(
        y, (x, unused), rows, is_grads_batched=True, retain_graph=True, allow_unused=True
    )
    assert found[0].shape == (4, 2, 3)
    assert found[1] is None


# -- modes ----------------------------------------------------------------------------------------


def test_modes_as_decorators() -> None:
    x = leaf()

    @dg.no_grad
    def off() -> Any:
        return x * 2

    @dg.enable_grad
    def on() -> Any:
        return x * 2

    @dg.inference_mode()
    def infer() -> Any:
        assert dg.autograd.is_inference_mode_enabled()
        with dg.inference_mode(False):
            assert not dg.autograd.is_inference_mode_enabled()
            assert (x * 2).requires_grad
        return x * 2

    @dg.set_grad_enabled(False)
    def unset() -> Any:
        return x * 2

    assert not off().requires_grad
    assert not infer().requires_grad
    assert not unset().requires_grad
    with dg.no_grad():
        assert on().requires_grad
    assert not dg.autograd.is_inference_mode_enabled()
    found: list[bool] = []
    with dg.inference_mode():
        thread = threading.Thread(target=lambda: found.append(dg.is_grad_enabled()))
        thread.start()
        thread.join()
    assert found == [True]
