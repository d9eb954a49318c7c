"""Import rules of operators that draw random numbers.

Numbers come from the framework's own generator, other ones at each run. Nodes with a seed of their
own are for the functions on values, which draw what ONNX's examples do.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ..dims import DimLike
from ..dtypes import BY_ONNX, DType, bool_, float32, float64, int32, int64
from ..errors import OnnxError
from ..graph import Value
from ..ops import f
from ..ops.comparison import LogicalNot
from ..ops.cumulative import Cumsum
from ..ops.onnx_rules import from_onnx
from ..ops.random import FreshSeed, RandomNormal, RandomUniform

if TYPE_CHECKING:
    from .importer import Importer


def _seed(ctx: Importer) -> tuple[Any, Any]:
    """Seed and offset of a node's stream."""
    if ctx.attr("seed") is not None:
        raise OnnxError("draws with a seed of their own are no part of a graph")
    return ctx.graph.call(FreshSeed(), ()), ctx.constant(np.uint64(0))


def _uniform(ctx: Importer, shape: tuple[DimLike, ...], dtype: DType) -> Value:
    """Numbers in [0, 1)."""
    return RandomUniform(shape, dtype)(*_seed(ctx))  # type: ignore[no-any-return]


def _between(ctx: Importer, shape: tuple[DimLike, ...], dtype: DType) -> Value:
    low, high = ctx.attr("low", 0.0), ctx.attr("high", 1.0)
    x = _uniform(ctx, shape, dtype)
    return x * f.like(x, high - low) + f.like(x, low)  # type: ignore[no-any-return]


def _normal(ctx: Importer, shape: tuple[DimLike, ...], dtype: DType) -> Value:
    x = RandomNormal(shape, dtype)(*_seed(ctx))
    return x * f.like(x, ctx.attr("scale", 1.0)) + f.like(x, ctx.attr("mean", 0.0))  # type: ignore[no-any-return]


def _dtype(ctx: Importer, otherwise: DType) -> DType:
    number = ctx.attr("dtype")
    return BY_ONNX[number] if number else otherwise


@from_onnx("RandomUniform")
def _random_uniform(ctx: Importer) -> Value:
    return _between(ctx, tuple(ctx.attr("shape")), _dtype(ctx, float32))


@from_onnx("RandomNormal")
def _random_normal(ctx: Importer) -> Value:
    return _normal(ctx, tuple(ctx.attr("shape")), _dtype(ctx, float32))


@from_onnx("RandomUniformLike")
def _random_uniform_like(ctx: Importer, x: Value) -> Value:
    return _between(ctx, x.shape, _dtype(ctx, x.dtype))


@from_onnx("RandomNormalLike")
def _random_normal_like(ctx: Importer, x: Value) -> Value:
    return _normal(ctx, x.shape, _dtype(ctx, x.dtype))


@from_onnx("Bernoulli")
def _bernoulli(ctx: Importer, p: Value) -> Value:
    wide = float64 if p.dtype is float64 else float32
    hit = f.less(_uniform(ctx, p.shape, wide), f.cast(p, wide))
    return f.cast(hit, _dtype(ctx, p.dtype))  # type: ignore[no-any-return]


@from_onnx("Multinomial")
def _multinomial(ctx: Importer, x: Value) -> Value:
    rows, classes = x.shape
    draws = ctx.attr("sample_size", 1)
    # The class whose share of [0, 1) a number falls into, counted by the shares that end before.
    ends = f.reshape(Cumsum(1)(f.softmax(f.cast(x, float64), 1)), (rows, 1, classes))
    u = f.reshape(_uniform(ctx, (rows, draws), float64), (rows, draws, 1))
    before = f.sum(f.cast(f.less_equal(ends, u), int64), (2,))
    last = ctx.constant(np.int64(ctx.size(classes, "the number of classes of Multinomial") - 1))
    found = f.where(f.greater(before, last), last, before)  # the last end may be rounded below 1
    return f.cast(found, _dtype(ctx, int32))  # type: ignore[no-any-return]


@from_onnx("Dropout")
def _dropout(
    ctx: Importer, x: Value, ratio: Value | None = None, training: Value | None = None
) -> Any:
    active = ctx.array(training) if training is not None else np.False_
    chance = ctx.array(ratio) if ratio is not None else np.float32(0.5)
    if (active is not None and not active.any()) or (chance is not None and not chance.any()):
        return (x, f.expand(ctx.constant(np.True_), x.shape))[: ctx.n_outputs]
    p = ctx.constant(np.float32(0.5)) if ratio is None else f.cast(f.reshape(ratio, ()), float32)
    kept = f.greater_equal(_uniform(ctx, x.shape, float32), p)
    scale = f.cast(f.like(p, 1) / (f.like(p, 1) - p), x.dtype)
    y = f.where(kept, x * scale, 0)
    if active is None:  # whether there is anything to drop, a run tells
        assert training is not None
        on = f.cast(f.reshape(training, ()), bool_)
        y = f.where(on, y, x)
        kept = f.logical_or(kept, LogicalNot()(on))
    return (y, kept)[: ctx.n_outputs]
