"""Whole training steps are native: which of their nodes are interpreted is listed here."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import dualgraph as dg
import dualgraph.nn.functional as F
from dualgraph import nn, optim
from dualgraph_compiler.compile import optimize
from dualgraph_compiler.native import Interpreted, build
from dualgraph_models import char_lstm, gpt
from dualgraph_models.digits_cnn import DigitsCNN
from dualgraph_models.mlp import MLP
from dualgraph_models.resnet import ResNet


def _classifier(model: nn.Module, optimizer: Any, *shape: int) -> tuple[Callable[..., Any], Any]:
    labels = dg.tensor(np.arange(shape[0]) % 10)
    opt = optimizer(model.parameters(), lr=1e-3)

    def step(x: Any, y: Any) -> Any:
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        opt.step()
        opt.zero_grad()
        return loss.detach()

    return step, (dg.rand(*shape), labels)


class _Sequence(nn.Module):
    """A GRU that reads both ways, and the mean of what it says."""

    def __init__(self) -> None:
        super().__init__()
        self.gru = nn.GRU(6, 8, 2, batch_first=True, bidirectional=True)
        self.head = nn.Linear(16, 10)

    def forward(self, x: dg.Tensor) -> dg.Tensor:
        return self.head(self.gru(x)[0].mean(1))


def _gpt() -> tuple[Callable[..., Any], Any]:
    model = gpt.GPT(gpt.Config(layers=2, width=32, context=8))
    optimizer = gpt.optimizer_for(model)
    schedule = gpt.schedule_for(optimizer, 100, 10)
    return gpt.training_step(model, optimizer, schedule), (dg.randint(0, 128, (2, 9)),)


def _char_lstm() -> tuple[Callable[..., Any], Any]:
    model = char_lstm.CharLSTM(hidden_size=16)
    step = char_lstm.training_step(model, optim.Adam(model.parameters(), lr=1e-3))
    return step, char_lstm.encode(["abcdef", "gh", "ijkl"])


def _momentum(parameters: Any, lr: float) -> optim.Optimizer:
    return optim.SGD(parameters, lr=lr, momentum=0.9, weight_decay=1e-4)


STEPS: dict[str, Callable[[], tuple[Callable[..., Any], Any]]] = {
    "mlp": lambda: _classifier(MLP(20, (16,), 10), optim.Adam, 4, 20),
    "digits": lambda: _classifier(DigitsCNN(), optim.AdamW, 4, 1, 8, 8),
    "resnet": lambda: _classifier(ResNet((1, 1, 1, 1), 10, 8), _momentum, 2, 3, 32, 32),
    "gru": lambda: _classifier(_Sequence(), optim.RMSprop, 4, 5, 6),
    "gpt": _gpt,
    "char_lstm": _char_lstm,
}


@pytest.mark.parametrize("name", STEPS)
def test_training_step_is_native(name: str) -> None:
    step, operands = STEPS[name]()
    compiled = dg.compile(step)
    compiled(*operands)
    (graph,) = compiled.graphs
    program = build(optimize(graph))
    interpreted = {s.op.name for s in program.steps if isinstance(s, Interpreted)}
    assert not interpreted, program.report()
