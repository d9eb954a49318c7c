"""Per-channel affine maps fold into the weights before them."""

from __future__ import annotations

import numpy as np
import pytest

from dualgraph_compiler import Dim, Graph, TensorType
from dualgraph_compiler.compile import optimize
from dualgraph_compiler.dtypes import float32
from dualgraph_compiler.ops.batch_norm import BatchNorm
from dualgraph_compiler.ops.conv import Conv
from dualgraph_compiler.ops.conv_transpose import ConvTranspose
from dualgraph_compiler.ops.linalg import Linear
from dualgraph_compiler.ops.pointwise import Add, Div, Mul, Neg, Sub
from dualgraph_compiler.passes import FoldBatchNorm

from .helpers import assert_same_results, random_inputs, run_pass

RNG = np.random.default_rng(0)
N = Dim("n")
PAD = ((1, 1), (1, 1))


def normal(*shape: int) -> np.ndarray:
    return RNG.normal(size=shape).astype(np.float32)


def statistics(channels: int) -> list[np.ndarray]:
    var = RNG.uniform(0.2, 3, channels).astype(np.float32)
    return [normal(channels), normal(channels), normal(channels), var]


LINEAR = {
    "conv": (Conv((1, 1), PAD, (1, 1)), (N, 4, 7, 6), (6, 4, 3, 3), 6),
    "strided, dilated conv": (Conv((2, 1), PAD, (1, 2)), (N, 4, 9, 8), (6, 4, 3, 3), 6),
    "grouped conv": (Conv((1, 1), PAD, (1, 1), 2), (N, 4, 7, 6), (6, 2, 3, 3), 6),
    "depthwise conv": (Conv((1,), ((0, 0),), (1,), 4), (N, 4, 9), (4, 1, 3), 4),
    "transposed conv": (
        ConvTranspose((2, 2), PAD, (1, 1), (1, 1)),
        (N, 4, 5, 5),
        (4, 6, 3, 3),
        6,
    ),
    "grouped transposed conv": (
        ConvTranspose((2, 2), PAD, (0, 0), (1, 1), 2),
        (N, 4, 5, 5),
        (4, 3, 3, 3),
        6,
    ),
    "linear": (Linear(), (N, 4), (6, 4), 6),
}


def build(name: str, bias: bool, *, params: bool = False):
    """A graph with one linear op, and its result."""
    op, x_shape, w_shape, channels = LINEAR[name]
    graph = Graph("g")
    x = graph.add_input(TensorType(float32, x_shape), "x")
    store = graph.add_param if params else graph.constant
    operands = [store(normal(*w_shape), "weight")]
    operands += [store(normal(channels), "bias")] if bias else []
    return graph, op(x, *operands), channels


def assert_folds(graph: Graph, left: int = 1) -> Graph:
    out, changed = run_pass(FoldBatchNorm(), graph)
    assert changed
    assert len(out) == left
    assert_same_results(graph, out, tol=2e-5)
    return out


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("name", LINEAR)
def test_batch_norm_disappears(name, bias):
    graph, y, channels = build(name, bias)
    weight, shift, mean, var = (graph.constant(a) for a in statistics(channels))
    graph.set_outputs([BatchNorm(1e-3)(y, weight, shift, mean, var)])
    out = assert_folds(graph)
    assert next(out.nodes).inputs[1].name == "weight_folded"


def test_batch_norm_without_weight_and_bias():
    graph, y, channels = build("conv", True)
    graph.set_outputs([BatchNorm()(y, *map(graph.constant, statistics(channels)[2:]))])
    assert_folds(graph)


@pytest.mark.parametrize("name", LINEAR)
@pytest.mark.parametrize("op", [Add(), Sub(), Mul(), Div()], ids=str)
@pytest.mark.parametrize("scalar", [False, True])
def test_per_channel_arithmetic_disappears(name, op, scalar):
    graph, y, channels = build(name, True)
    shape = () if scalar else (channels, *(1,) * (y.ndim - 2))
    graph.set_outputs([op(y, graph.constant(np.abs(normal(*shape)) + np.float32(0.5)))])
    assert_folds(graph)


def test_a_chain_folds_whole():
    graph, y, channels = build("conv", False)
    y = Add()(graph.constant(normal(1, channels, 1, 1)), y)
    y = BatchNorm()(y, *map(graph.constant, statistics(channels)))
    y = Mul()(y, graph.constant(np.float32(0.5)))
    graph.set_outputs([Neg()(y)])
    assert_folds(graph, left=2)


def test_in_the_pipeline_only_frozen_weights_fold():
    graph, y, channels = build("conv", True, params=True)
    names = ["weight2", "bias2", "mean", "var"]
    stats = [graph.add_param(a, n) for a, n in zip(statistics(channels), names, strict=True)]
    graph.set_outputs([BatchNorm()(y, *stats)])
    assert len(optimize(graph, verify=True)) == 2
    assert len(optimize(graph, freeze=True, numerics="strict", verify=True)) == 2
    frozen = optimize(graph, freeze=True, verify=True)
    assert len(frozen) == 1
    assert frozen.params == []
    assert len(graph.params) == 6
    assert_same_results(graph, frozen, tol=2e-5)


def test_frozen_graphs_do_not_follow_the_model():
    graph, y, _ = build("conv", True, params=True)
    graph.set_outputs([y])
    frozen = optimize(graph, freeze=True)
    inputs = random_inputs(graph)
    copy = graph.copy()
    copy.freeze({v.name: v.data.copy() for v in copy.params})
    for v in graph.params:
        v.data[...] = 0
    assert_same_results(copy, frozen, inputs)


def unfoldable(name):
    graph, y, channels = build("linear" if name == "last axis" else "conv", True)
    constant = graph.constant(np.ones((channels, 1, 1), np.float32))
    if name == "another reader":
        graph.set_outputs([Mul()(y, constant), Neg()(y)])
    elif name == "an output":
        graph.set_outputs([Mul()(y, constant), y])
    elif name == "varies along a row":
        graph.set_outputs([Mul()(y, graph.constant(normal(6)))])
    elif name == "broadcasts the result":
        graph.set_outputs([Mul()(y, graph.constant(normal(2, 1, 1, 1, 1)))])
    elif name == "an input":
        graph.set_outputs([Mul()(y, graph.add_input(TensorType(float32, (channels, 1, 1)), "s"))])
    elif name == "division by zero":
        graph.set_outputs([Div()(y, graph.constant(np.float32(0)))])
    elif name == "constant minus":
        graph.set_outputs([Sub()(constant, y)])
    elif name == "last axis":
        x = graph.add_input(TensorType(float32, (N, 6, 4)), "z")
        weight = graph.constant(normal(6, 4))
        graph.set_outputs([Mul()(Linear()(x, weight), graph.constant(normal(6, 1)))])
    return graph


@pytest.mark.parametrize(
    "name",
    [
        "another reader",
        "an output",
        "varies along a row",
        "broadcasts the result",
        "an input",
        "division by zero",
        "constant minus",
        "last axis",
    ],
)
def test_left_alone(name):
    assert run_pass(FoldBatchNorm(), unfoldable(name))[1] is False
