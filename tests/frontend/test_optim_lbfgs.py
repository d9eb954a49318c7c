"""L-BFGS: the same steps as PyTorch's, and minima that are known."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import dualgraph as dg
from dualgraph import optim
from dualgraph_compiler.errors import ArgumentError

OPTIONS: list[dict[str, Any]] = [
    {},
    {"lr": 0.3, "max_iter": 7},
    {"history_size": 3, "max_iter": 9},
    {"line_search_fn": "strong_wolfe"},
    {"line_search_fn": "strong_wolfe", "max_eval": 6, "history_size": 2},
    {"tolerance_change": 1e-2},
    {"tolerance_grad": 10.0},
]


def rosenbrock(x: Any) -> Any:
    """Least, and 0, where every element is 1."""
    return (100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2).sum()


def descend(framework: Any, x: Any, options: dict[str, Any], steps: int) -> tuple[Any, list[float]]:
    optimizer = framework.optim.LBFGS([x], **options)
    losses = []

    def closure() -> Any:
        optimizer.zero_grad()
        loss = rosenbrock(x)
        loss.backward()
        return loss

    for _ in range(steps):
        losses.append(optimizer.step(closure).item())
    return optimizer, losses


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_takes_the_steps_of_pytorch(options: dict[str, Any]) -> None:
    torch = pytest.importorskip("torch")
    start = np.array([-1.2, 1.0, 0.4, 0.7])
    ours = dg.tensor(start, requires_grad=True)
    theirs = torch.tensor(start, requires_grad=True)
    optimizer, losses = descend(dg, ours, options, 4)
    other, expected = descend(torch, theirs, options, 4)
    np.testing.assert_allclose(losses, expected, rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(ours.detach().numpy(), theirs.detach().numpy(), rtol=1e-5)
    state, known = optimizer.state_dict()["state"][0], other.state_dict()["state"][0]
    assert state.keys() == known.keys()
    assert (state["func_evals"], state["n_iter"]) == (known["func_evals"], known["n_iter"])


def test_finds_the_minimum() -> None:
    x = dg.tensor([-1.2, 1.0, 0.3], dtype=dg.float64, requires_grad=True)
    _, losses = descend(dg, x, {"line_search_fn": "strong_wolfe"}, 10)
    assert losses[-1] < 1e-10
    np.testing.assert_allclose(x.detach().numpy(), 1.0, atol=1e-4)


def test_goes_on_from_its_saved_state() -> None:
    whole = dg.tensor([-1.2, 1.0], dtype=dg.float64, requires_grad=True)
    _, expected = descend(dg, whole, {"max_iter": 3}, 6)
    x = dg.tensor([-1.2, 1.0], dtype=dg.float64, requires_grad=True)
    first, _ = descend(dg, x, {"max_iter": 3}, 3)
    again = optim.LBFGS([x], max_iter=3)
    again.load_state_dict(first.state_dict())

    def closure() -> Any:
        again.zero_grad()
        loss = rosenbrock(x)
        loss.backward()
        return loss

    assert [again.step(closure).item() for _ in range(3)] == expected[3:]


def test_what_it_does_not_take() -> None:
    p, q = dg.ones(2, requires_grad=True), dg.ones(2, requires_grad=True)
    with pytest.raises(ArgumentError, match="parameter groups"):
        optim.LBFGS([{"params": [p]}, {"params": [q]}])
    with pytest.raises(ArgumentError, match="strong_wolfe"):
        optim.LBFGS([p], line_search_fn="armijo")
    with pytest.raises(ArgumentError, match="closure"):
        optim.LBFGS([p]).step()
