"""Convolutions: geometry, groups, what is fused behind them, sizes known only at a call."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from dualgraph_compiler import Dim, Graph, TensorType
from dualgraph_compiler.dtypes import float32
from dualgraph_compiler.graph import interpret
from dualgraph_compiler.native import build
from dualgraph_compiler.ops import f
from dualgraph_compiler.ops.conv import Conv
from dualgraph_compiler.ops.pool import MaxPool
from dualgraph_runtime.native import compile_graph

pytestmark = pytest.mark.compiler


def rand(*shape: int, seed: int = 0) -> np.ndarray[Any, Any]:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def check(graph: Graph, arrays: list[Any]) -> None:
    for got, want in zip(compile_graph(graph).run(arrays), interpret(graph, arrays), strict=True):
        assert got.shape == want.shape
        np.testing.assert_allclose(got, want, atol=1e-5 * max(1, np.abs(want).max(initial=0)))


@pytest.mark.parametrize(
    ("image", "weight", "op"),
    [
        ((2, 3, 9, 11), (7, 3, 3, 3), Conv((1, 1), ((1, 1), (1, 1)), (1, 1))),
        ((1, 4, 20, 21), (13, 4, 5, 3), Conv((2, 3), ((0, 2), (1, 0)), (1, 2))),
        ((2, 16, 7, 40), (64, 16, 1, 1), Conv((1, 1), ((0, 0), (0, 0)), (1, 1))),
        ((1, 6, 8, 8), (12, 2, 3, 3), Conv((1, 1), ((1, 1), (1, 1)), (1, 1), 3)),
        ((2, 5, 33), (5, 1, 4), Conv((2,), ((3, 3),), (1,), 5)),
        ((1, 2, 5, 6, 7), (3, 2, 2, 3, 2), Conv((1, 1, 2), ((1, 0),) * 3, (1, 1, 1))),
        ((0, 2, 5), (3, 2, 2), Conv((1,), ((0, 0),), (1,))),
    ],
)
def test_geometry(image: tuple[int, ...], weight: tuple[int, ...], op: Conv) -> None:
    graph = Graph()
    x = graph.add_input(TensorType(float32, image), "x")
    w = graph.add_input(TensorType(float32, weight), "w")
    bias = graph.add_input(TensorType(float32, weight[:1]), "bias")
    y = op(x, w, bias)
    graph.set_outputs([f.tanh(y) + y])
    kernel = next(k for k in build(graph).kernels if "conv(" in k)
    assert kernel.count("add(") == 2
    assert "tanh(" in kernel
    check(graph, [rand(*image), rand(*weight, seed=1), rand(weight[0], seed=2)])


def test_any_size() -> None:
    n, h = Dim("n", min=1), Dim("h", min=4, max=100)
    graph = Graph()
    x = graph.add_input(TensorType(float32, (n, 3, h, h)), "x")
    y = Conv((1, 1), ((1, 1), (1, 1)), (1, 1))(x, graph.constant(rand(8, 3, 3, 3)))
    y = MaxPool((2, 2), (2, 2), ((0, 0), (0, 0)), (1, 1))(f.abs(y))
    y = Conv((2, 2), ((1, 1), (1, 1)), (1, 1))(y, graph.constant(rand(4, 8, 3, 3)))
    graph.set_outputs([y])
    for sizes in ((1, 4), (2, 13), (3, 40)):
        check(graph, [rand(sizes[0], 3, sizes[1], sizes[1])])


def test_an_image_that_is_a_view() -> None:
    graph = Graph()
    x = graph.add_input(TensorType(float32, (2, 9, 10, 4)), "x")  # channels last
    w = graph.add_input(TensorType(float32, (3, 3, 4, 6)), "w")
    image, weight = f.permute(x, (0, 3, 1, 2)), f.permute(w, (3, 2, 0, 1))
    graph.set_outputs([Conv((1, 1), ((1, 1), (1, 1)), (1, 1))(image, weight)])
    check(graph, [rand(2, 9, 10, 4), rand(3, 3, 4, 6)])
