"""Random draws. Source: ONNX 28, each operator's own definition.

They are no part of a graph, which gives the same results whenever it is given the same operands.
A node with a `seed` draws the same numbers in every run, any other draws others each time.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ...dtypes import dtype_of
from ...errors import OnnxError
from .registry import Array, ValueContext, on_values
from .sequences import dtype_number


def _generator(ctx: ValueContext) -> np.random.RandomState:
    """NumPy's old generator, which ONNX's own examples draw from with the seed as an integer."""
    seed = ctx.attr("seed")
    return np.random.RandomState(None if seed is None else int(seed) % 2**32)


def _draw(ctx: ValueContext, shape: tuple[int, ...], dtype: Any) -> Array:
    generator = _generator(ctx)
    if ctx.node.op_type.startswith("RandomNormal"):
        drawn = generator.normal(ctx.attr("mean", 0.0), ctx.attr("scale", 1.0), shape)
    else:
        drawn = generator.uniform(ctx.attr("low", 0.0), ctx.attr("high", 1.0), shape)
    return np.asarray(drawn).astype(dtype)


@on_values("RandomNormal", "RandomUniform")
def _random(ctx: ValueContext) -> Array:
    return _draw(ctx, ctx.attr("shape"), dtype_number(ctx.attr("dtype", 1)))


@on_values("RandomNormalLike", "RandomUniformLike")
def _random_like(ctx: ValueContext, x: Array) -> Array:
    return _draw(ctx, x.shape, dtype_number(ctx.attr("dtype", dtype_of(x).onnx)))


@on_values("Bernoulli")
def _bernoulli(ctx: ValueContext, chance: Array) -> Array:
    dtype = dtype_number(ctx.attr("dtype", dtype_of(chance).onnx))
    return np.asarray(_generator(ctx).random_sample(chance.shape) < chance.astype(float)).astype(
        dtype
    )


@on_values("Multinomial")
def _multinomial(ctx: ValueContext, logits: Array) -> Array:
    """Log-probabilities [batch, classes], not normalised -> classes drawn [batch, samples]."""
    if logits.ndim != 2 or not logits.shape[1]:
        raise OnnxError(f"expected log-probabilities [batch, classes], got {list(logits.shape)}")
    count = ctx.attr("sample_size", 1)
    # The largest of Gumbel-distributed noise on each logit is distributed as wanted.
    noise = _generator(ctx).gumbel(size=(len(logits), count, logits.shape[1]))
    chosen = np.argmax(logits.astype(float)[:, None] + noise, axis=2)
    return np.asarray(chosen).astype(dtype_number(ctx.attr("dtype", 6)))


@on_values("Dropout")
def _dropout(
    ctx: ValueContext, x: Array, ratio: Array | None = None, training: Array | None = None
) -> Any:
    """Dropout while training, which the import rule refuses."""
    chance = 0.5 if ratio is None else float(np.asarray(ratio).reshape(()))
    if training is None or not np.asarray(training).any():
        chance = 0.0
    if not 0 <= chance < 1:
        raise OnnxError(f"expected a ratio of 0 or more, below 1, got {chance}")
    kept = np.asarray(_generator(ctx).random_sample(x.shape) >= chance)
    y = np.where(kept, x / np.asarray(1 - chance, x.dtype), np.zeros((), x.dtype))
    return y if ctx.n_outputs == 1 else (y, kept)
