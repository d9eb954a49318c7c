"""The models in training on the native engine: what eager code computes, within rounding."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import dualgraph as dg
import dualgraph_runtime.native.executable as executable
from dualgraph import optim

from ..native.test_ops import quick_compiler
from .test_forward_and_resume import CASES, Case

pytestmark = pytest.mark.compiler


@pytest.fixture(autouse=True)
def quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    """The C compiler optimises little: this is a lot of text that runs a few times."""
    monkeypatch.setattr(executable, "find_compiler", quick_compiler)


def native(function: Any, dynamic: Any) -> Any:
    return dg.compile(function, execution="native", fullgraph=True, dynamic_shapes=dynamic)


def train(case: Case, wrap: Callable[[Any], Any], whole: bool) -> tuple[list[Any], Any]:
    """Losses and all state of a few steps; `wrap` is given the model, or with `whole` the step."""
    dg.manual_seed(0)
    model = case.build()
    optimizer = optim.SGD(model.parameters(), lr=1e-2, momentum=0.5)
    run = model if whole else wrap(model)

    def step(*batch: Any) -> Any:
        optimizer.zero_grad()
        loss = case.loss(run, *batch)
        loss.backward()
        optimizer.step()
        return loss

    made = wrap(step) if whole else step
    losses = [made(*batch) for batch in case.data()[-3:]]
    gradients = [p.grad for p in model.parameters()]
    return [*losses, *gradients, *model.state_dict().values()], made if whole else run


def agree(found: list[Any], wanted: list[Any]) -> None:
    """By norm: batch norm over a few images makes single elements out of rounding."""
    for a, b in zip(found, wanted, strict=True):
        a, b = (x.detach().numpy().astype(np.float64) for x in (a, b))
        assert a.shape == b.shape
        assert np.linalg.norm(a - b) <= 3e-3 * np.linalg.norm(b) + 1e-6


@pytest.mark.parametrize("name", CASES)
def test_forward_and_backward(name: str) -> None:
    case = CASES[name]
    wanted, _ = train(case, lambda model: model, whole=False)
    found, fast = train(case, lambda model: native(model, case.dynamic), whole=False)
    agree(found, wanted)
    assert fast.wait()
    assert len(fast.graphs) == 1


@pytest.mark.parametrize("name", CASES)
def test_whole_steps(name: str) -> None:
    case = CASES[name]
    wanted, _ = train(case, lambda step: step, whole=True)
    found, fast = train(case, lambda step: native(step, None), whole=True)
    agree(found, wanted)
    assert fast.wait()
