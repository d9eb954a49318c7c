"""Every entry of PyTorch's database of optimizers: `optim_db`."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import torch
from torch.testing._internal.common_optimizers import optim_db

import dualgraph as dg

from .compare import Different, same
from .ops import SECONDS, Outcome, alarm
from .translate import Missing, lookup, translate

STEPS = 6
SHAPES = ((3, 4), (4,), (2, 3))
MATRICES = ((3, 4), (2, 3))  # what Muon takes


def entries() -> list[Any]:
    """All that take dense gradients."""
    return [info for info in optim_db if not info.only_supports_sparse_grads]


def title(info: Any) -> str:
    return str(info.optim_cls.__name__)


def run(info: Any, limit: int | None = None) -> Outcome:
    """An optimizer with each set of options: the parameters after some steps, and its state."""
    outcome = Outcome(title(info))
    try:
        ours = lookup(dg.optim, title(info))
    except Missing as missing:
        outcome.missing = f"optim.{missing}"
        return outcome
    with warnings.catch_warnings(), alarm(SECONDS, outcome):
        warnings.simplefilter("ignore")
        for i, sample in enumerate(info.optim_inputs_func(device="cpu")[:limit]):
            outcome.samples += 1
            try:
                _run_sample(info, ours, sample)
            except TimeoutError:
                raise
            except Exception as error:
                text = str(error).strip().split("\n")[0]
                kind = "" if isinstance(error, Different) else f"{type(error).__name__}: "
                outcome.problems.append(f"sample {i} {sample.desc}: {kind}{text}")
    return outcome


def _run_sample(info: Any, ours: Any, sample: Any) -> None:
    rng = np.random.default_rng(0)
    shapes = MATRICES if title(info) == "Muon" else SHAPES
    start = [rng.standard_normal(s) for s in shapes]
    theirs = [torch.nn.Parameter(torch.from_numpy(a.copy())) for a in start]
    own = [dg.nn.Parameter(dg.from_numpy(a.copy())) for a in start]
    kwargs = dict(sample.kwargs)
    their_optimizer = info.optim_cls(theirs, **kwargs)
    own_optimizer = ours(own, **translate(kwargs))
    for _ in range(STEPS):
        _step(their_optimizer, theirs)
        _step(own_optimizer, own)
    same(own, theirs, "parameters")
    state, own_state = their_optimizer.state_dict(), own_optimizer.state_dict()
    if state["state"].keys() != own_state["state"].keys():
        raise Different(f"state: {list(own_state['state'])}, not {list(state['state'])}")
    for key, entry in state["state"].items():
        if isinstance(entry, dict) and set(entry) != set(own_state["state"][key]):
            raise Different(f"state {key}: {set(own_state['state'][key])}, not {set(entry)}")


def _step(optimizer: Any, params: list[Any]) -> None:
    """One step down sum((p - 1)**4), through a closure, which all optimizers take."""

    def closure() -> Any:
        optimizer.zero_grad()
        loss = sum(((p - 1) ** 4).sum() for p in params)
        loss.backward()
        return loss

    optimizer.step(closure)
