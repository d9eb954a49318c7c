"""Eager training of the digits CNN: a loop as one writes it in PyTorch."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

import dualgraph as dg
import dualgraph.nn.functional as F
from dualgraph import optim
from dualgraph.utils.data import DataLoader, Dataset
from dualgraph_models.datasets import Split
from dualgraph_models.digits_cnn import DigitsCNN

# Chosen by holding out some of the training forms in turn, never by the test images.
BATCH = 64
PEAK_LEARNING_RATE = 1e-2
LABEL_SMOOTHING = 0.1


@dataclass(frozen=True, slots=True)
class Epoch:
    """Mean training loss of one pass over the data, then loss and accuracy on held-out images."""

    train_loss: float
    test_loss: float
    accuracy: float


@dataclass(frozen=True, slots=True)
class Training:
    """What came of it. `scores` are the trained model's on the held-out images, [n, 10]."""

    model: DigitsCNN
    epochs: list[Epoch]
    scores: npt.NDArray[np.float32]
    seconds: float

    @property
    def predictions(self) -> npt.NDArray[np.int64]:
        """The digit read in each held-out image, [n]."""
        found: npt.NDArray[np.int64] = self.scores.argmax(1)
        return found

    @property
    def n_parameters(self) -> int:
        return sum(p.numel() for p in self.model.parameters())


class Shifted(Dataset[Any]):
    """Images moved by up to one pixel each way, afresh every time: more data for nothing."""

    def __init__(self, images: npt.NDArray[Any], labels: npt.NDArray[Any], seed: int) -> None:
        self.padded = np.pad(images, ((0, 0), (0, 0), (1, 1), (1, 1)))
        self.labels = labels
        self.rng = np.random.default_rng(seed)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[npt.NDArray[Any], Any]:
        top, left = self.rng.integers(0, 3, 2)
        return self.padded[index, :, top : top + 8, left : left + 8], self.labels[index]


def train(
    split: Split, epochs: int, seed: int, on_batch: Callable[[list[Epoch]], None]
) -> Training:
    """Train with Adam and a one-cycle learning rate; `on_batch` is told the epochs done so far."""
    start = time.perf_counter()
    dg.manual_seed(seed)
    model = DigitsCNN()
    data = Shifted(split.train_images, split.train_labels, seed)
    loader = DataLoader(data, batch_size=BATCH, shuffle=True, drop_last=True)
    optimizer = optim.Adam(model.parameters(), lr=PEAK_LEARNING_RATE)
    schedule = optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=PEAK_LEARNING_RATE, epochs=epochs, steps_per_epoch=len(loader)
    )
    history: list[Epoch] = []
    scores = dg.zeros(0)
    for _ in range(epochs):
        losses = []
        model.train()
        for images, labels in loader:
            loss = F.cross_entropy(model(images), labels, label_smoothing=LABEL_SMOOTHING)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            losses.append(loss.item())
            on_batch(history)
        model.eval()
        scores = predict(model, split.test_images)
        history.append(_held_out(scores, dg.tensor(split.test_labels), float(np.mean(losses))))
    return Training(model, history, scores.numpy(), time.perf_counter() - start)


@dg.no_grad()
def predict(model: Callable[..., Any], images: npt.NDArray[Any]) -> dg.Tensor:
    """The model's scores of images [n, 1, 8, 8], eagerly."""
    scores: dg.Tensor = model(dg.tensor(images))
    return scores


def _held_out(scores: dg.Tensor, labels: dg.Tensor, train_loss: float) -> Epoch:
    accuracy = (scores.argmax(1) == labels).float().mean().item()
    return Epoch(train_loss, F.cross_entropy(scores, labels).item(), accuracy)
