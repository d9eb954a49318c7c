"""Who does a piece of work: ours and the peers', for a model's inference and for training steps."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable
from typing import Any

import numpy as np

import dualgraph as dg
from dualgraph import nn
from dualgraph_models.with_torch import with_torch
from dualgraph_runtime import InferenceSession, SessionOptions

from . import peers
from .harness import Row, Work

RNG = np.random.default_rng(0)
EAGER = "dualgraph eager"
INTERPRETED = "dualgraph compiled, interpreted"
NATIVE = "dualgraph compiled, native"
RUNTIME = "dualgraph runtime, native"
# Compiling for torch takes up to a minute a row.
WITH_TORCH_COMPILE = not os.environ.get("BENCHMARKS_QUICK")


def normal(*shape: int) -> Any:
    """Standard normal float32 numbers."""
    return RNG.standard_normal(shape).astype(np.float32)


def sessions(proto: bytes, feed: peers.Feed, threads: int) -> dict[str, Work]:
    """One ONNX file run by our runtime and by everyone who runs ONNX files."""
    options = SessionOptions()
    options.execution = "native"
    options.intra_op_num_threads = threads
    session = InferenceSession(proto, options)
    work: dict[str, Work] = {RUNTIME: lambda: session.run(None, feed)}
    for name, made in (
        ("onnxruntime", peers.onnxruntime(proto, feed, threads)),
        ("openvino", peers.openvino(proto, feed, threads)),
    ):
        if made is not None:
            work[name] = made
    return work


def inference(
    title: str,
    model: nn.Module,
    inputs: tuple[Any, ...],
    threads: int,
    *,
    twin: Callable[[Any], Any] | None = None,
    target: float = 1.0,
) -> Row:
    """A model's answer: eager, compiled, and as an ONNX file; under PyTorch as `twin` builds it.

    `twin` gets the module ``torch`` and gives the untrained model; it is given our weights.
    """
    model.eval()
    interpreted = dg.compile(model, execution="interpreter")
    native = dg.compile(model, execution="native")
    proto = dg.onnx.export(model, inputs).SerializeToString()
    names = [i.name for i in InferenceSession(proto).get_inputs()]
    feed = dict(zip(names, (x.numpy() for x in inputs), strict=True))
    work: dict[str, Work] = {
        EAGER: quiet(model, inputs),
        INTERPRETED: quiet(interpreted, inputs),
        NATIVE: quiet(native, inputs),
        **sessions(proto, feed, threads),
    }
    torch = peers.torch(threads)
    if torch is not None and twin is not None:
        work |= _torch_inference(torch, twin(torch), model, inputs)
    return Row(title, work, claim=RUNTIME, target=target)


def quiet(call: Callable[..., Any], inputs: tuple[Any, ...]) -> Work:
    """A call without gradients."""

    def run() -> Any:
        with dg.no_grad():
            return call(*inputs)

    return run


def state_for_torch(torch: Any, model: nn.Module) -> dict[str, Any]:
    """A model's state as PyTorch's tensors.

    Of copies: what `numpy()` has handed out may be written to at any time, so a compiled function
    would look its weights up at every call.
    """
    return {k: torch.tensor(v.detach().clone().numpy()) for k, v in model.state_dict().items()}


def _torch_inference(torch: Any, twin: Any, model: nn.Module, inputs: Any) -> dict[str, Work]:
    """The same network in PyTorch, with our weights, checked to give our answer."""
    twin.eval()
    twin.load_state_dict(state_for_torch(torch, model))
    given = [torch.tensor(x.numpy()) for x in inputs]
    with torch.no_grad(), dg.no_grad():
        np.testing.assert_allclose(
            twin(*given).numpy(), model(*inputs).numpy(), rtol=1e-3, atol=1e-3
        )

    def under_no_grad(call: Callable[..., Any]) -> Work:
        def run() -> None:
            with torch.no_grad():
                call(*given)

        return run

    work = {"torch eager": under_no_grad(twin)}
    if WITH_TORCH_COMPILE:
        work["torch.compile"] = under_no_grad(torch.compile(twin))
    return work


StepFactory = Callable[[Any, Callable[..., Any], Callable[[Any], Any]], Work]


def training(
    title: str,
    name: str,
    step: StepFactory,
    threads: int,
    *,
    target: float = 1.0,
    twins: dict[str, Work] | None = None,
) -> Row:
    """A training step of the module `name` of our models, and of its code under PyTorch.

    Args:
        title: of the row.
        name: the file in ``dualgraph_models``.
        step: from the module, what makes its tensors of arrays, and what to wrap its model in, a
            call without arguments that does one step.
        threads: for everyone.
        target: see `Row`.
        twins: further peers.
    """
    ours = importlib.import_module(f"dualgraph_models.{name}")

    def same(model: Any) -> Any:
        return model

    work: dict[str, Work] = {
        EAGER: step(ours, dg.tensor, same),
        INTERPRETED: dg.compile(step(ours, dg.tensor, same), execution="interpreter"),
        NATIVE: dg.compile(step(ours, dg.tensor, same), execution="native"),
    }
    torch = peers.torch(threads)
    if torch is not None:
        work["torch eager"] = step(with_torch(name), torch.tensor, same)
        if WITH_TORCH_COMPILE:
            work["torch.compile"] = step(with_torch(name), torch.tensor, torch.compile)
    return Row(title, work | (twins or {}), claim=NATIVE, target=target)
