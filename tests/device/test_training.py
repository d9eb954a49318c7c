"""Training on the device: the same losses as on the CPU, and nothing read back inside a step."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest

import dualgraph as dg
import dualgraph.nn.functional as F
from dualgraph import nn, optim
from dualgraph_models.char_lstm import CharLSTM
from dualgraph_models.digits_cnn import DigitsCNN, random_shift
from tests.conftest import cuda_is_available
from tests.fake_cupy import count_transfers


@contextmanager
def nothing_read_back() -> Iterator[None]:
    """Fails if the host reads from the device inside (which only the stand-in can tell)."""
    with count_transfers() as log:
        yield
    assert not log


def train(device: str, shift: bool) -> list[float]:
    """Losses of a few steps, which are a whole step of the demo each."""
    dg.manual_seed(0)
    model = DigitsCNN(channels=(4, 8, 8)).double().to(device)
    optimizer = optim.Adam(model.parameters(), lr=1e-2)
    scheduler = optim.lr_scheduler.OneCycleLR(optimizer, 0.01, total_steps=4)
    numbers = np.random.default_rng(0)
    losses = []
    for _ in range(4):
        x = dg.tensor(numbers.random((16, 1, 8, 8))).to(device)
        y = dg.tensor(numbers.integers(0, 10, 16)).to(device)
        with nothing_read_back():
            optimizer.zero_grad()
            loss = F.cross_entropy(model(random_shift(x) if shift else x), y, label_smoothing=0.1)
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            scheduler.step()
        losses.append(loss)
    assert all(p.device == losses[0].device for p in model.parameters())
    return [loss.item() for loss in losses]


@pytest.mark.parametrize("shift", [False, True])
def test_digits_cnn(cupy: Any, shift: bool) -> None:
    np.testing.assert_allclose(train("cuda", shift), train("cpu", shift), rtol=1e-7)


def step_of(
    device: str, make: Any, model: nn.Module, run: Any, options: dict[str, Any]
) -> list[np.ndarray]:
    """The parameters after three steps."""
    model = model.to(device)
    optimizer = make(model.parameters(), **options)
    for _ in range(3):
        with nothing_read_back():
            optimizer.zero_grad()
            run(model).backward()
            optimizer.step()
    return [p.detach().cpu().numpy() for p in model.parameters()]


OPTIMIZERS = [
    (optim.SGD, {"lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 0.01}),
    (optim.Adam, {"lr": 0.1, "amsgrad": True}),
    (optim.AdamW, {"lr": 0.1}),
    (optim.RMSprop, {"lr": 0.1, "centered": True, "momentum": 0.5}),
    (optim.Adagrad, {"lr": 0.1}),
]


@pytest.mark.parametrize(("make", "options"), OPTIMIZERS, ids=[m.__name__ for m, _ in OPTIMIZERS])
def test_optimizers(cupy: Any, make: Any, options: dict[str, Any]) -> None:
    def after(device: str) -> list[np.ndarray]:
        dg.manual_seed(0)
        x = dg.randn(8, 3, dtype=dg.float64).to(device)
        model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1)).double()
        return step_of(device, make, model, lambda m: (m(x) ** 2).mean(), options)

    for a, b in zip(after("cuda"), after("cpu"), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12)


def test_recurrent(cupy: Any) -> None:
    """A batch of sequences of different lengths; the lengths stay on the CPU, as in PyTorch."""

    def after(device: str) -> list[np.ndarray]:
        dg.manual_seed(0)
        model = CharLSTM(11, embedding_dim=4, hidden_size=5, num_layers=2).double()
        at = dg.randint(0, 11, (3, 7)).to(device)
        lengths = dg.tensor([7, 5, 2])

        def loss(m: nn.Module) -> dg.Tensor:
            scores = m(at, lengths)
            return F.cross_entropy(scores.reshape(-1, scores.shape[-1]), at.reshape(-1))

        return step_of(device, optim.SGD, model, loss, {"lr": 0.1})

    for a, b in zip(after("cuda"), after("cpu"), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12)


def test_compiled_training(cupy: Any) -> None:
    """Traced once, with dropout whose seed stays on the host."""

    def grads(device: str, compiled: bool) -> list[np.ndarray]:
        dg.manual_seed(0)
        model = DigitsCNN(channels=(4, 4, 4)).double().to(device)
        call = dg.compile(model) if compiled else model
        x = dg.randn(4, 1, 8, 8, dtype=dg.float64).to(device)
        y = dg.tensor([1, 2, 3, 4]).to(device)
        for _ in range(2):
            with nothing_read_back():
                F.cross_entropy(call(x), y).backward()
        return [p.grad.cpu().numpy() for p in model.parameters() if p.grad is not None]

    for a, b in zip(grads("cuda", True), grads("cpu", False), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-7, atol=1e-10)


def test_the_count_sees_what_it_should(cupy: Any) -> None:
    if cuda_is_available():
        pytest.skip("only the stand-in counts")
    x = dg.ones(3, device="cuda")
    with count_transfers() as log:
        x.sum().item()
        x[x > 0]
        bool(x[0] > 0)
    assert [line.split(" at ")[0] for line in log] == [
        "get()",
        "a boolean mask in a key",
        "get()",
    ]
