"""Whole training steps: forward, backward, update."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np

from .. import peers
from ..contenders import RNG, normal, training
from ..harness import Row, Work


def mlp(threads: int) -> Row:
    """Matrix products and Adam."""
    sizes = (784, 512, 512, 10)
    images, labels = normal(64, 784), RNG.integers(0, 10, 64)

    def step(module: Any, tensor: Callable[..., Any], wrap: Callable[[Any], Any]) -> Work:
        model = module.MLP(sizes[0], sizes[1:-1], sizes[-1])
        return classifier_step(module, model, wrap, tensor(images), tensor(labels))

    others = {}
    torch = peers.torch(threads)
    if torch is not None:
        others["torch eager, fused Adam"] = _torch_fused(torch, images, labels)
    jax = peers.jax(threads)
    if jax is not None:
        others["jax.jit"] = _jax_mlp(jax, sizes, images, labels)
    title = "MLP 784-512-512-10, batch 64, Adam: a training step"
    return training(title, "mlp", step, threads, target=1.8, twins=others)


def lenet(threads: int) -> Row:
    """Small convolutions and Adam."""
    images, labels = normal(64, 1, 28, 28), RNG.integers(0, 10, 64)

    def step(module: Any, tensor: Callable[..., Any], wrap: Callable[[Any], Any]) -> Work:
        return classifier_step(module, module.LeNet(), wrap, tensor(images), tensor(labels))

    title = "LeNet, batch 64 of 28 x 28, Adam: a training step"
    return training(title, "lenet", step, threads, target=1.5)


def resnet18(threads: int) -> Row:
    """Convolutions, batch norm in training, and Adam."""
    images, labels = normal(16, 3, 64, 64), RNG.integers(0, 10, 16)

    def step(module: Any, tensor: Callable[..., Any], wrap: Callable[[Any], Any]) -> Work:
        model = module.resnet18(10)
        return classifier_step(module, model, wrap, tensor(images), tensor(labels))

    title = "ResNet-18, batch 16 of 64 x 64, Adam: a training step"
    return training(title, "resnet", step, threads, target=1.5)


def gpt(threads: int) -> Row:
    """Attention, dropout, clipping, AdamW and a schedule."""
    tokens = RNG.integers(0, 128, (8, 129))

    def step(module: Any, tensor: Callable[..., Any], wrap: Callable[[Any], Any]) -> Work:
        model = module.GPT(module.Config(context=128, width=256))
        optimizer = module.optimizer_for(model)
        schedule = module.schedule_for(optimizer, steps=1_000_000, warmup=100)
        run, batch = module.training_step(wrap(model), optimizer, schedule), tensor(tokens)
        return lambda: run(batch)

    title = "GPT, 4 layers of 256, batch 8 x 128, AdamW: a training step"
    return training(title, "gpt", step, threads, target=1.3)


def char_lstm(threads: int) -> Row:
    """Two LSTM layers on lines of different lengths, clipping and Adam."""
    from dualgraph_models.char_lstm import encode

    lines = [bytes(RNG.integers(32, 127, n).tolist()).decode() for n in range(17, 49)]
    tokens, lengths = (x.numpy() for x in encode(lines))

    def step(module: Any, tensor: Callable[..., Any], wrap: Callable[[Any], Any]) -> Work:
        model = module.CharLSTM()
        optimizer = module.optim.Adam(model.parameters(), lr=1e-3)
        run = module.training_step(wrap(model), optimizer)
        batch = tensor(tokens), tensor(lengths)
        return lambda: run(*batch)

    title = "character LSTM, 2 layers of 128, batch 32, 17 to 48 long, Adam: a training step"
    return training(title, "char_lstm", step, threads, target=1.3)


def classifier_step(
    module: Any, model: Any, wrap: Callable[[Any], Any], x: Any, y: Any, **options: Any
) -> Work:
    """Cross entropy and Adam; `module` is one of our models' or its PyTorch twin."""
    library = __import__("torch" if type(x).__module__.startswith("torch") else "dualgraph")
    optimizer = library.optim.Adam(model.parameters(), lr=1e-3, **options)
    loss, model = library.nn.functional.cross_entropy, wrap(model)

    def run() -> None:
        optimizer.zero_grad()
        loss(model(x), y).backward()
        optimizer.step()

    return run


def _torch_fused(torch: Any, images: Any, labels: Any) -> Work:
    from dualgraph_models.with_torch import with_torch

    module = with_torch("mlp")
    model = module.MLP(784, (512, 512), 10)
    given = torch.tensor(images), torch.tensor(labels)
    return classifier_step(module, model, lambda m: m, *given, fused=True)


def _jax_mlp(jax: Any, sizes: tuple[int, ...], images: Any, labels: Any) -> Work:
    """The same step as a pure function, jitted with its state donated."""
    jnp = jax.numpy
    weights = [
        (normal(n, m) / np.sqrt(n).astype(np.float32), np.zeros(m, np.float32))
        for n, m in itertools.pairwise(sizes)
    ]
    zeros = jax.tree.map(np.zeros_like, weights)

    def loss(weights: Any, x: Any, y: Any) -> Any:
        for i, (w, b) in enumerate(weights):
            x = x @ w + b
            x = jax.nn.relu(x) if i + 1 < len(weights) else x
        return -jax.nn.log_softmax(x)[jnp.arange(len(y)), y].mean()

    def step(state: Any, x: Any, y: Any) -> Any:
        p, m, v, count = state
        g = jax.grad(loss)(p, x, y)
        count = count + 1
        m = jax.tree.map(lambda a, b: 0.9 * a + 0.1 * b, m, g)
        v = jax.tree.map(lambda a, b: 0.999 * a + 0.001 * b * b, v, g)
        m_scale, v_scale = 1 / (1 - 0.9**count), 1 / (1 - 0.999**count)
        p = jax.tree.map(
            lambda p, m, v: p - 1e-3 * m * m_scale / (jnp.sqrt(v * v_scale) + 1e-8), p, m, v
        )
        return p, m, v, count

    run = jax.jit(step, donate_argnums=0)
    x, y = jax.device_put(images), jax.device_put(labels.astype(np.int32))
    state = jax.device_put((weights, zeros, jax.tree.map(np.zeros_like, zeros), np.float32(0)))

    def once() -> None:
        nonlocal state
        state = jax.block_until_ready(run(state, x, y))

    return once
