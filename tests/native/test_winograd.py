"""Winograd's algorithm: the error that `standard` numerics states, borders, what is fused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from dualgraph_compiler import Dim, Graph, TensorType
from dualgraph_compiler.dtypes import float32
from dualgraph_compiler.native import Target, build
from dualgraph_compiler.ops import f
from dualgraph_compiler.ops.conv import Conv
from dualgraph_runtime.native import compile_graph

from .test_blocked import WIDTHS, compiler, reference

pytestmark = pytest.mark.compiler

BOUND = 1e-4  # of the largest output, against float64


def built(channels: tuple[int, int, int], padding: Any, batch: Any, rng: Any) -> tuple[Any, ...]:
    """A chain of two convolutions with an activation between, a residual and its weights."""
    graph = Graph()
    x = graph.add_input(TensorType(float32, (batch, channels[0], 17, 23)), "x")
    shapes = [(channels[1], channels[0], 1, 1), (channels[2], channels[1], 3, 3)]
    w0, w1 = (rng.normal(size=s).astype(np.float32) for s in shapes)
    bias = rng.normal(size=channels[2]).astype(np.float32)
    point, square = Conv((1, 1), ((0, 0),) * 2, (1, 1)), Conv((1, 1), padding, (1, 1))
    y = f.clip(point(x, graph.constant(w0)), 0.0, None)
    z = square(y, graph.constant(w1), graph.constant(bias))
    graph.set_outputs([f.clip(z, -1.0, None) + z])
    return graph, (point, square), (w0, w1, bias)


@pytest.mark.parametrize("vector_bytes", WIDTHS)
@pytest.mark.parametrize(
    ("channels", "padding", "samples"),
    [
        ((8, 64, 64), ((1, 1), (1, 1)), 2),
        ((8, 52, 72), ((0, 2), (3, 0)), 1),
        ((8, 48, 50), ((0, 0), (-1, 1)), 3),
    ],
)
def test_error(vector_bytes: int, channels: Any, padding: Any, samples: int) -> None:
    rng = np.random.default_rng(0)
    graph, (point, square), (w0, w1, bias) = built(channels, padding, Dim("n", min=1), rng)
    assert "winograd_gather" in build(graph, Target(vector_bytes)).text
    x = rng.normal(size=(samples, channels[0], 17, 23)).astype(np.float32)
    z = reference(np.maximum(reference(x, w0, point), 0), w1, square) + bias.reshape(-1, 1, 1)
    want = np.maximum(z, -1) + z
    (got,) = compile_graph(graph, compiler(vector_bytes)).run([x])
    assert got.shape == want.shape
    assert np.abs(got - want).max() <= BOUND * np.abs(want).max()


@pytest.mark.parametrize("vector_bytes", WIDTHS)
def test_weights_that_change(vector_bytes: int) -> None:
    """Many samples share weights that are spread at each call; so do those of a gradient."""
    rng = np.random.default_rng(1)
    op = Conv((1, 1), ((1, 1),) * 2, (1, 1))
    x, g = rng.normal(size=(12, 32, 14, 13)), rng.normal(size=(12, 48, 14, 13))
    w = rng.normal(size=(48, 32, 3, 3))
    graph = Graph()
    values = [graph.add_input(TensorType(float32, a.shape)) for a in (x, w, g)]
    turned = f.permute(f.flip(values[1], (2, 3)), (1, 0, 2, 3))
    graph.set_outputs([op(values[0], values[1]), op(values[2], turned)])
    program = build(graph, Target(vector_bytes))
    assert "winograd_gather" in program.text
    assert not any("flip" in kernel for kernel in program.kernels)
    x, w, g = (a.astype(np.float32) for a in (x, w, g))
    around = np.ascontiguousarray(w[:, :, ::-1, ::-1].transpose(1, 0, 2, 3))
    for got, want in zip(
        compile_graph(graph, compiler(vector_bytes)).run([x, w, g]),
        (reference(x, w, op), reference(g, around, op)),
        strict=True,
    ):
        assert np.abs(got - want).max() <= BOUND * np.abs(want).max()


@pytest.mark.parametrize(
    ("shape", "outs", "known"),
    [
        ((17, 24, 4, 4), 40, True),
        ((16, 16, 4, 4), 24, True),
        ((21, 17, 7, 5), 19, True),
        ((21, 17, 7, 5), 19, False),
    ],
)
def test_small_images_are_taken_together(shape: Any, outs: int, known: bool) -> None:
    """Tiles of several samples share weights, constant ones and those that change."""
    rng = np.random.default_rng(2)
    op = Conv((1, 1), ((1, 1),) * 2, (1, 1))
    x = rng.normal(size=shape).astype(np.float32)
    w = rng.normal(size=(outs, shape[1], 3, 3)).astype(np.float32)
    graph = Graph()
    batch = shape[0] if known else Dim("n", min=1)
    image = graph.add_input(TensorType(float32, (batch, *shape[1:])))
    weight = graph.add_input(TensorType(float32, w.shape)) if known else graph.constant(w)
    graph.set_outputs([f.clip(op(image, graph.constant(w)), -1.0, None), op(image, weight)])
    text = build(graph, Target(32)).text
    assert "winograd_gather" in text
    arrays = [x, w] if known else [x]
    want = reference(x, w, op)
    first, second = compile_graph(graph, num_threads=2).run(arrays)
    assert np.abs(first - np.maximum(want, -1)).max() <= BOUND * np.abs(want).max()
    assert np.abs(second - want).max() <= BOUND * np.abs(want).max()
