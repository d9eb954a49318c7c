"""Convolutions of several small images: each tap only where it lies in the image."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from dualgraph_compiler import Graph, TensorType
from dualgraph_compiler.dtypes import float32
from dualgraph_compiler.native import Target, build
from dualgraph_compiler.ops import f
from dualgraph_compiler.ops.conv import Conv
from dualgraph_runtime.native import compile_graph

from .test_blocked import WIDTHS, compiler, reference

pytestmark = pytest.mark.compiler

ONES = (1, 1)
CASES = [
    # image, output channels, window, convolution
    ((16, 40, 2, 2), 40, (3, 3), Conv(ONES, ((1, 1), (1, 1)), ONES)),
    ((5, 33, 4, 4), 35, (3, 3), Conv((2, 2), ((1, 1), (1, 1)), ONES)),
    ((7, 32, 3, 5), 16, (3, 2), Conv((1, 2), ((2, 0), (0, 3)), (2, 1))),
    ((4, 32, 2, 2), 16, (2, 2), Conv(ONES, ((0, 1), (0, 1)), ONES)),
    ((11, 256, 5, 5), 16, (3, 3), Conv((2, 2), ((2, 2), (1, 1)), ONES)),
    ((4, 32, 6), 24, (5,), Conv((1,), ((2, 2),), (1,))),
    ((4, 41, 2, 3, 2), 24, (3, 3, 3), Conv((1, 1, 1), ((1, 1),) * 3, (1, 1, 1))),
    ((4, 32, 2, 2), 8, (1, 1), Conv(ONES, ((3, 0), (0, 3)), ONES)),
]


@pytest.mark.parametrize("vector_bytes", WIDTHS)
@pytest.mark.parametrize(("shape", "outs", "window", "op"), CASES)
def test_small_images(vector_bytes: int, shape: Any, outs: int, window: Any, op: Conv) -> None:
    """Constant weights, weights that change, and their transposed view."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=shape).astype(np.float32)
    w = rng.normal(size=(outs, shape[1], *window)).astype(np.float32)
    turned = np.ascontiguousarray(np.swapaxes(np.flip(w, range(2, w.ndim)), 0, 1))
    graph = Graph()
    image, weight, other = (graph.add_input(TensorType(float32, a.shape)) for a in (x, w, turned))
    back = f.permute(f.flip(other, tuple(range(2, w.ndim))), (1, 0, *range(2, w.ndim)))
    y = op(image, weight)
    fixed = op(image, graph.constant(w))
    graph.set_outputs([f.clip(y, -1.0, None) + fixed, op(image, back)])
    assert "pack_taps" in build(graph, Target(vector_bytes)).text
    want = reference(x, w, op)
    executable = compile_graph(graph, compiler(vector_bytes), num_threads=2)
    first, second = executable.run([x, w, turned])
    bound = 1e-5 * max(1.0, np.abs(want).max())
    assert np.abs(first - (np.maximum(want, -1) + want)).max() <= bound
    assert np.abs(second - want).max() <= bound


def test_large_images_are_not_taken_apart() -> None:
    """Where there is little border, or are few samples, there is nothing to gain."""
    for shape in ((8, 16, 40, 40), (2, 16, 2, 2)):
        graph = Graph()
        x = graph.add_input(TensorType(float32, shape))
        w = graph.add_input(TensorType(float32, (16, 16, 3, 3)))
        graph.set_outputs([Conv((1, 1), ((1, 1), (1, 1)), (1, 1))(x, w)])
        assert "pack_taps" not in build(graph, Target(32)).text
