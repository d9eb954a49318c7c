"""GradientTape and apply_gradients: what TensorFlow documents of them."""

from __future__ import annotations

from typing import Any

import pytest

import dualgraph as dg
import dualgraph.nn.functional as F
from dualgraph import nn, optim
from dualgraph_compiler.errors import ArgumentError, AutogradError


def test_the_gradient_by_a_watched_tensor() -> None:
    x = dg.tensor(3.0)
    with dg.GradientTape() as tape:
        tape.watch(x)
        y = x * x
    assert tape.gradient(y, x).item() == 6.0
    assert not x.requires_grad
    assert x.grad is None
    with pytest.raises(AutogradError, match="non-persistent"):
        tape.gradient(y, x)


def test_a_persistent_tape_is_asked_again() -> None:
    x = dg.tensor(3.0)
    with dg.GradientTape(persistent=True) as tape:
        tape.watch(x)
        y = x * x
        z = y * y
    assert tape.gradient(z, x).item() == 108.0
    assert tape.gradient(y, x).item() == 6.0
    assert tape.gradient(z, y).item() == 18.0


def test_variables_are_watched_unless_told_otherwise() -> None:
    a, b = (dg.tensor(v, requires_grad=True) for v in (2.0, 3.0))
    with dg.GradientTape() as tape:
        y = a * a * b
    assert [g.item() for g in tape.gradient(y, [a, b])] == [12.0, 4.0]
    with dg.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(a)
        y = a * a * b
    grads = tape.gradient(y, (a, b))
    assert (grads[0].item(), grads[1]) == (12.0, None)
    assert tape.watched_variables() == (a,)


def test_structures_targets_and_weights() -> None:
    x, y, other = (dg.tensor(v, requires_grad=True) for v in ([1.0, 2.0], [3.0, 4.0], [0.0]))
    with dg.GradientTape(persistent=True) as tape:
        u, v = x * y, x * x
    grads = tape.gradient({"u": u, "v": v}, {"x": x, "more": [y, other]})
    assert grads["x"].tolist() == [5.0, 8.0]
    assert grads["more"][0].tolist() == [1.0, 2.0]
    assert grads["more"][1] is None
    zero = tape.gradient(u, [other], unconnected_gradients="zero")
    assert zero[0].tolist() == [0.0]
    weights = [dg.tensor([1.0, 0.0]), dg.tensor([0.0, 1.0])]
    assert tape.gradient([u, v], x, output_gradients=weights).tolist() == [3.0, 4.0]
    with pytest.raises(ArgumentError, match="2 targets and 1"):
        tape.gradient([u, v], x, output_gradients=[weights[0]])
    assert tape.gradient(dg.ones(2), x) is None


@pytest.mark.parametrize("outer_persistent", [False, True])
def test_nested_tapes_give_second_derivatives(outer_persistent: bool) -> None:
    x = dg.tensor(2.0)
    with dg.GradientTape(persistent=outer_persistent) as outer:
        outer.watch(x)
        with dg.GradientTape() as inner:
            inner.watch(x)
            y = x**3
        dy = inner.gradient(y, x)
    assert dy.item() == 12.0
    assert outer.gradient(dy, x).item() == 12.0
    if outer_persistent:
        assert outer.gradient(y, x).item() == 12.0
    assert not x.requires_grad


def test_a_gradient_penalty_trains() -> None:
    """Gradients of a loss that has the gradient of another in it."""
    w = dg.tensor(1.5, requires_grad=True)
    x = dg.tensor([1.0, -2.0])
    with dg.GradientTape() as outer:
        with dg.GradientTape() as inner:
            inner.watch(x)
            out = (w * w * x * x).sum()
        penalty = (inner.gradient(out, x) ** 2).sum()  # sum((2 w^2 x)^2)
    assert outer.gradient(penalty, w).item() == pytest.approx(16 * 1.5**3 * 5)


def test_two_tapes_over_one_computation() -> None:
    """As a GAN's two optimizers ask: each tape once, of what both have recorded."""
    g, d = dg.tensor(2.0, requires_grad=True), dg.tensor(3.0, requires_grad=True)
    with dg.GradientTape() as first, dg.GradientTape() as second:
        fake = g * g
        score = d * fake
        gen_loss, disc_loss = -score, score * score
    assert first.gradient(gen_loss, g).item() == -12.0
    assert second.gradient(disc_loss, d).item() == 2 * 12.0 * 4.0


def test_recording_can_be_stopped_and_is_forced_in_no_grad() -> None:
    x = dg.tensor(2.0, requires_grad=True)
    with dg.GradientTape() as tape:
        y = x * x
        with tape.stop_recording():
            assert not (x * x).requires_grad
    assert tape.gradient(y, x).item() == 4.0
    with dg.no_grad(), dg.GradientTape() as tape:
        y = x * x
    assert tape.gradient(y, x).item() == 4.0
    tape.reset()
    assert tape.watched_variables() == ()


def test_jacobians() -> None:
    x = dg.tensor([1.0, 2.0])
    with dg.GradientTape() as tape:
        tape.watch(x)
        y = dg.stack([x * x, x.flip(0), x * 0 + x.sum()])
    jacobian = tape.jacobian(y, x)
    assert jacobian.shape == (3, 2, 2)
    expected = dg.stack([dg.diag(2 * x), dg.tensor([[0.0, 1.0], [1.0, 0.0]]), dg.ones(2, 2)])
    assert dg.equal(jacobian, expected)
    with pytest.raises(AutogradError, match="non-persistent"):
        tape.jacobian(y, x)


def test_what_cannot_be_watched() -> None:
    tape = dg.GradientTape()
    with pytest.raises(AutogradError, match="belongs in the tape's block"):
        tape.watch(dg.ones(1))
    with tape:
        with pytest.raises(TypeError, match="int64"):
            tape.watch(dg.tensor(1))
        with pytest.raises(TypeError, match="expects tensors"):
            tape.watch(3.0)
        with pytest.raises(AutogradError, match="recording already"):
            tape.__enter__()
    with pytest.raises(TypeError, match="iterator"):
        tape.gradient(dg.ones(1), iter([dg.ones(1)]))


def net() -> nn.Module:
    dg.manual_seed(5)
    return nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 2))


@pytest.mark.parametrize("kind", ["SGD", "Adam"])
@pytest.mark.parametrize("compiled", [False, True])
def test_both_dialects_train_alike(kind: str, compiled: bool) -> None:
    x, y = dg.randn(16, 3), dg.randint(0, 2, (16,))
    losses: list[list[float]] = []

    model = net()
    optimizer = getattr(optim, kind)(model.parameters(), lr=0.1)

    def pytorch(x: dg.Tensor, y: dg.Tensor) -> dg.Tensor:
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        return loss

    step: Any = dg.compile(pytorch, fullgraph=True) if compiled else pytorch
    losses.append([step(x, y).item() for _ in range(5)])

    other = net()
    second = getattr(optim, kind)(other.parameters(), lr=0.1)
    variables = list(other.parameters())

    def tensorflow(x: dg.Tensor, y: dg.Tensor) -> dg.Tensor:
        with dg.GradientTape() as tape:
            loss = F.cross_entropy(other(x), y)
        grads = tape.gradient(loss, variables)
        second.apply_gradients(zip(grads, variables))
        return loss

    step = dg.compile(tensorflow, fullgraph=True) if compiled else tensorflow
    losses.append([step(x, y).item() for _ in range(5)])
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)
    assert losses[0][0] > losses[0][-1]
    assert all(v.grad is None for v in variables)


def test_apply_gradients_moves_only_what_it_is_given() -> None:
    a, b = dg.ones(1, requires_grad=True), dg.ones(1, requires_grad=True)
    (a + b).sum().backward()
    opt = optim.SGD([a, b], lr=0.5)
    opt.apply_gradients([(dg.tensor([2.0]), a), (None, b)])
    assert (a.item(), b.item()) == (0.0, 1.0)
    assert a.grad is not None
    assert a.grad.item() == 1.0
    with pytest.raises(ArgumentError, match="no gradients"):
        opt.apply_gradients([(None, a)])
    with pytest.raises(ArgumentError, match="not this optimizer's"):
        opt.apply_gradients([(dg.ones(1), dg.ones(1))])


def test_variables_of_old() -> None:
    x = dg.ones(2)
    v = dg.autograd.Variable(x, requires_grad=True)
    assert isinstance(x, dg.autograd.Variable)
    assert not isinstance(3, dg.autograd.Variable)
    assert v.requires_grad
    assert not x.requires_grad
    assert v.data_ptr() == x.data_ptr()
    assert not dg.autograd.Variable(v, volatile=True).requires_grad
