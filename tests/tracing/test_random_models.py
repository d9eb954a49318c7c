"""Random modules with Python state: compiled and changed in between, they do what eager ones do."""

from __future__ import annotations

import warnings
from random import Random
from typing import Any

import numpy as np
import pytest

import dualgraph as dg
from tests.tracing.capture_cases.harness import Alternating, different, plain
from tests.tracing.random_models import ModelWriter, executed


def outcome(source: str, script: list[str], wrap: Any) -> list[Any]:
    """What can be seen of the script's calls and of the state after each."""
    dg.manual_seed(0)
    space = executed(source, "<random module>", {"dg": dg, "__name__": "random_module"})
    model = space["Model"]()
    function = wrap(model)
    seen: list[Any] = []

    def call(batch: int, n: float, grad: bool, backward: bool) -> None:
        x = dg.tensor(np.sin(np.arange(batch * 3, dtype=np.float32)).reshape(batch, 3))
        x.requires_grad_(grad)
        try:
            with dg.set_grad_enabled(backward):
                results = function(x, n)
            seen.append(plain(results))
            loss = sum((t * t).sum() for t in results)
            if loss.requires_grad:
                loss.backward()
        except (RuntimeError, TypeError, ValueError, IndexError, KeyError, AttributeError) as error:
            seen.append(type(error).__name__)
        seen.append([plain(x), plain(model), plain(dg.get_rng_state()), plain(model.vectors)])

    space |= {"model": model, "call": call}
    for line in script:
        try:
            exec(line, space)
        except (IndexError, RuntimeError) as error:
            if "call(" in line:
                raise
            seen.append(type(error).__name__)
    return seen


@pytest.mark.parametrize("seed", range(60))
def test_compiled_modules_follow_their_state(seed: int) -> None:
    writer = ModelWriter(Random(seed), values=False)
    source, script = writer.source(), writer.script()
    shown = "\n".join([source[source.index("    def forward") :], *script, ""])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of calls that run eagerly
        expected = outcome(source, script, lambda f: f)
        for wrap in (dg.compile, lambda f: Alternating(f, dg.compile(f))):
            found = outcome(source, script, wrap)
            lines = list(different(expected, found, "", 1e-4))
            assert not lines, shown + "\n".join(lines)
