"""What the models' tests share: one run made eagerly and compiled, and runtimes on one file."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import pytest

import dualgraph as dg
from dualgraph import nn, optim
from dualgraph_runtime import InferenceSession
from dualgraph_runtime.native import find_compiler


class Run(NamedTuple):
    """A model in training. `step` takes a batch and returns a loss, or several."""

    model: nn.Module
    optimizer: optim.Optimizer
    step: Callable[..., Any]


def same_training(
    build: Callable[[], Run], batches: Iterable[Sequence[Any]], **compile_options: Any
) -> tuple[Any, list[Any]]:
    """Train from one seed eagerly and compiled; everything must be the same bit for bit.

    Compared are the losses of every step, and at the end parameters, buffers, gradients, the
    optimizer's state and the place in the stream of random numbers. Returns the compiled function
    and the losses.
    """
    data = list(batches)
    assert len(data) >= 20

    def train(compiled: bool) -> tuple[Any, list[Any], dict[str, Any]]:
        dg.manual_seed(1)
        run = build()
        options = {"numerics": "strict", "execution": "native", **compile_options}
        step = dg.compile(run.step, **options) if compiled else run.step
        losses = [numbers(step(*batch)) for batch in data]
        return step, losses, state(run)

    for kernels in (True, False):  # of eager code
        with dg.backends.native.flags(enabled=kernels):
            _, wanted, end = train(False)
            step, losses, found = train(True)
        assert step.wait() or find_compiler() is None  # for code that is compiled
        assert losses == wanted
        assert found.keys() == end.keys()
        for name, array in end.items():
            assert array.dtype == found[name].dtype, name
            np.testing.assert_array_equal(found[name], array, err_msg=name)
    return step, losses


def numbers(result: Any) -> Any:
    """Losses as Python numbers."""
    return [x.item() for x in result] if isinstance(result, tuple) else result.item()


def state(run: Run) -> dict[str, Any]:
    """Everything that training changes, as arrays by name."""
    found = {"random numbers": dg.get_rng_state(), **run.model.state_dict()}
    for name, p in run.model.named_parameters():
        if p.grad is not None:
            found[f"{name}.grad"] = p.grad
    for key, entries in run.optimizer.state_dict()["state"].items():
        found |= {f"{key}.{name}": value for name, value in entries.items()}
    return {k: np.array(v.detach().numpy()) for k, v in found.items()}


def run_file(path: Any, feeds: Sequence[Any]) -> list[list[Any]]:
    """The outputs of an ONNX file for these inputs, by onnxruntime and by our own runtime."""
    ort = pytest.importorskip("onnxruntime")
    theirs = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
    ours = InferenceSession(str(path))
    names = [i.name for i in theirs.get_inputs()]
    assert names == [i.name for i in ours.get_inputs()]
    feed = {n: x.numpy() if isinstance(x, dg.Tensor) else x for n, x in zip(names, feeds)}
    return [theirs.run(None, feed), ours.run(None, feed)]


def agree(path: Any, feeds: Sequence[Any], wanted: Any, tolerance: float = 1e-5) -> None:
    """Both runtimes' outputs are `wanted` (one tensor, or several), to `tolerance`."""
    wanted = [wanted] if isinstance(wanted, dg.Tensor) else list(wanted)
    for outputs in run_file(path, feeds):
        for got, want in zip(outputs, wanted, strict=True):
            want = want.detach().numpy()
            assert got.dtype == want.dtype
            np.testing.assert_allclose(got, want, rtol=tolerance, atol=tolerance)
