"""The pieces of work that are timed. Each function builds one row."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np

import dualgraph as dg
from dualgraph import nn, optim
from dualgraph.nn import functional as F
from dualgraph_models import char_lstm, gpt
from dualgraph_models.digits_cnn import DigitsCNN
from dualgraph_models.mlp import MLP
from dualgraph_models.with_torch import with_torch
from dualgraph_runtime import InferenceSession, SessionOptions

from . import peers
from .harness import Row, Work

_RNG = np.random.default_rng(0)


def _normal(*shape: int) -> Any:
    return _RNG.standard_normal(shape).astype(np.float32)


def demo_gradients(threads: int) -> Row:
    """C = sum(x*y + z) on 3x4 and its three gradients."""
    arrays = [_normal(3, 4) for _ in range(3)]
    x, y, z = (dg.tensor(a, requires_grad=True) for a in arrays)

    def eager() -> None:
        x.grad = y.grad = z.grad = None
        (x * y + z).sum().backward()

    @dg.compile
    def traced(x: Any, y: Any, z: Any) -> Any:
        c = (x * y + z).sum()
        return c, *dg.autograd.grad(c, [x, y, z])

    work: dict[str, Work] = {"dualgraph eager": eager, "dualgraph traced": lambda: traced(x, y, z)}
    torch = peers.torch(threads)
    if torch is not None:
        work["torch eager"] = _torch_demo(torch, arrays)
    jax = peers.jax()
    if jax is not None:
        f = jax.jit(jax.value_and_grad(lambda x, y, z: (x * y + z).sum(), argnums=(0, 1, 2)))
        on_device = [jax.device_put(a) for a in arrays]
        work["jax.jit"] = lambda: jax.block_until_ready(f(*on_device))
    return Row(
        "c = sum(x*y + z) on 3x4 with its gradients",
        work,
        ours=("dualgraph eager", "dualgraph traced"),
    )


def _torch_demo(torch: Any, arrays: list[Any]) -> Work:
    x, y, z = (torch.tensor(a, requires_grad=True) for a in arrays)

    def run() -> None:
        x.grad = y.grad = z.grad = None
        (x * y + z).sum().backward()

    return run


def mlp_training_step(threads: int) -> Row:
    """Forward, backward and Adam of an MLP 784-512-512-10, batch 64."""
    sizes = [784, 512, 512, 10]
    images, labels = _normal(64, 784), _RNG.integers(0, 10, 64)
    ours = dg.tensor(images), dg.tensor(labels)
    work = {
        "dualgraph eager": _step(_mlp(), F.cross_entropy, optim.Adam, *ours),
        "dualgraph traced": dg.compile(_step(_mlp(), F.cross_entropy, optim.Adam, *ours)),
    }
    torch = peers.torch(threads)
    if torch is not None:
        work["torch eager"] = _step(
            _torch_mlp(torch, sizes),
            torch.nn.functional.cross_entropy,
            torch.optim.Adam,
            torch.tensor(images),
            torch.tensor(labels),
        )
    return Row(
        "MLP 784-512-512-10, batch 64, Adam: a training step",
        work,
        ours=("dualgraph eager", "dualgraph traced"),
    )


def _mlp() -> nn.Module:
    return MLP(784, (512, 512), 10)


def _step(
    model: Any, loss: Callable[..., Any], optimizer: Callable[..., Any], x: Any, y: Any
) -> Work:
    opt = optimizer(model.parameters(), lr=1e-3)

    def run() -> None:
        opt.zero_grad()
        loss(model(x), y).backward()
        opt.step()

    return run


def _torch_mlp(torch: Any, sizes: list[int]) -> Any:
    layers = []
    for n, m in itertools.pairwise(sizes):
        layers += [torch.nn.Linear(n, m), torch.nn.ReLU()]
    return torch.nn.Sequential(*layers[:-1])


def gpt_training_step(threads: int) -> Row:
    """Forward, backward, clipping, AdamW and schedule of a GPT of 818,000 parameters."""
    tokens = _RNG.integers(0, 128, (8, 65))

    def step(module: Any, tensor: Callable[..., Any]) -> Work:
        model = module.GPT()
        optimizer = module.optimizer_for(model)
        schedule = module.schedule_for(optimizer, steps=1_000_000, warmup=100)
        run, batch = module.training_step(model, optimizer, schedule), tensor(tokens)
        return lambda: run(batch)

    title = "GPT, 4 layers of 128, batch 8 x 64, AdamW: a training step"
    return _whole_steps(title, gpt, step, threads)


def char_lstm_training_step(threads: int) -> Row:
    """Forward, backward, clipping and Adam of two LSTM layers on lines of different lengths."""
    lines = [bytes(_RNG.integers(32, 127, n).tolist()).decode() for n in range(17, 49)]
    tokens, lengths = (x.numpy() for x in char_lstm.encode(lines))

    def step(module: Any, tensor: Callable[..., Any]) -> Work:
        model = module.CharLSTM()
        optimizer = module.optim.Adam(model.parameters(), lr=1e-3)
        run, batch = module.training_step(model, optimizer), (tensor(tokens), tensor(lengths))
        return lambda: run(*batch)

    title = "character LSTM, 2 layers of 128, batch 32, 17 to 48 long, Adam: a training step"
    return _whole_steps(title, char_lstm, step, threads)


def _whole_steps(
    title: str, module: Any, step: Callable[[Any, Callable[..., Any]], Work], threads: int
) -> Row:
    """A training step of a model of ours: eager, compiled, and the model's code under PyTorch."""
    work: dict[str, Work] = {
        "dualgraph eager": step(module, dg.tensor),
        "dualgraph traced": dg.compile(step(module, dg.tensor)),
    }
    torch = peers.torch(threads)
    if torch is not None:
        name = module.__name__.rpartition(".")[2]
        work["torch eager"] = step(with_torch(name), torch.tensor)
    return Row(title, work, ours=("dualgraph eager", "dualgraph traced"))


def digits_inference(threads: int) -> Row:
    """The demo's convolutional network on a batch of 32, the same weights everywhere."""
    title = "digits CNN (LeNet-like), batch 32: inference"
    return _inference(title, DigitsCNN(), (32, 1, 8, 8), threads)


def _inference(title: str, model: nn.Module, shape: tuple[int, ...], threads: int) -> Row:
    """Eager, compiled, our runtime interpreted and native, and the peers', on one model."""
    model.eval()
    x = dg.tensor(_normal(*shape))
    proto = dg.onnx.export(model, (x,)).SerializeToString()
    session = InferenceSession(proto)
    options = SessionOptions()
    options.execution = "native"
    native = InferenceSession(proto, options)
    name = session.get_inputs()[0].name
    feed = {name: x.numpy()}
    fast = dg.compile(model)

    @dg.no_grad()
    def eager() -> Any:
        return model(x)

    @dg.no_grad()
    def compiled() -> Any:
        return fast(x)

    work: dict[str, Work] = {
        "dualgraph eager": eager,
        "dualgraph traced": compiled,
        "dualgraph runtime": lambda: session.run(None, feed),
        "dualgraph runtime, native": lambda: native.run(None, feed),
    }
    other = peers.onnxruntime_session(proto, threads)
    if other is not None:
        work["onnxruntime"] = lambda: other.run(None, feed)
    torch = peers.torch(threads)
    if torch is not None and isinstance(model, DigitsCNN):
        work["torch eager"] = _torch_digits(torch, model, x.numpy())
    ours = tuple(who for who in work if who.startswith("dualgraph"))
    return Row(title, work, ours=ours)


def _torch_digits(torch: Any, model: nn.Module, x: Any) -> Work:
    """The same network in PyTorch, with our weights, checked to give our answer."""
    twin = torch_twin(torch, model).eval()
    image = torch.tensor(x)
    with torch.no_grad(), dg.no_grad():
        np.testing.assert_allclose(
            twin(image).numpy(), model(dg.tensor(x)).numpy(), rtol=1e-3, atol=1e-4
        )

    def run() -> None:
        with torch.no_grad():
            twin(image)

    return run


def torch_twin(torch: Any, model: nn.Module) -> Any:
    """A PyTorch copy of a model made of Sequentials and standard layers, weights included."""
    if isinstance(model, nn.Sequential):
        return torch.nn.Sequential(*(torch_twin(torch, child) for child in model))
    children = list(model.children())
    if type(model).__module__.startswith("dualgraph.nn"):
        twin = eval(f"torch.nn.{model!r}", {"torch": torch})  # print(layer) is its constructor
        state = {k: torch.tensor(v.detach().numpy()) for k, v in model.state_dict().items()}
        twin.load_state_dict(state)
        return twin
    return torch.nn.Sequential(*(torch_twin(torch, child) for child in children))


ROWS: dict[str, Callable[[int], Row]] = {
    "demo": demo_gradients,
    "mlp": mlp_training_step,
    "gpt": gpt_training_step,
    "lstm": char_lstm_training_step,
    "digits": digits_inference,
}
