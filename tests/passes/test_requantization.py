"""Quantised again: scaled once, with integer biases, as ONNX Runtime's integer operators do."""

from __future__ import annotations

import numpy as np
import pytest

from dualgraph_compiler.compile import optimize
from dualgraph_compiler.dtypes import float32, int8, uint8
from dualgraph_compiler.graph import Graph, interpret
from dualgraph_compiler.ops.activation import Relu
from dualgraph_compiler.ops.conv import Conv
from dualgraph_compiler.ops.quantize import DequantizeLinear, QuantizeLinear
from dualgraph_compiler.types import TensorType

X_SCALE, STEP = np.float32(0.021), np.float32(0.37)


def layer(*, biased: bool, bias_scale: float = 1.0, relu: bool = False) -> tuple[Graph, list]:
    """A quantised 1x1 convolution; its constants (w, scales, bias)."""
    rng = np.random.default_rng(0)
    graph = Graph("layer")
    x = graph.add_input(TensorType(uint8, (1, 6, 5, 5)), "x")
    w = rng.integers(-128, 128, (9, 6, 1, 1)).astype(np.int8)
    scales = (rng.random(9) * 0.01 + 0.001).astype(np.float32)
    bias = rng.integers(-9000, 9000, 9).astype(np.int32)
    real = DequantizeLinear(float32)(x, graph.constant(X_SCALE), graph.constant(np.uint8(131)))
    operands = [real, DequantizeLinear(float32, 0)(graph.constant(w), graph.constant(scales))]
    if biased:
        own = (X_SCALE * scales * np.float32(bias_scale)).astype(np.float32)
        operands.append(DequantizeLinear(float32, 0)(graph.constant(bias), graph.constant(own)))
    y = Conv((1, 1), ((0, 0), (0, 0)), (1, 1))(*operands)
    y = Relu()(y) if relu else y
    y = QuantizeLinear(int8)(y, graph.constant(STEP), graph.constant(np.int8(-7)))
    graph.set_outputs([y])
    return graph, [w, scales, bias if biased else np.zeros(9, np.int32)]


@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("biased", [False, True])
def test_sums_are_scaled_once(biased: bool, relu: bool) -> None:
    """The very numbers of QLinearConv: sums and bias in int32, one float32 product, rounded."""
    graph, (w, scales, bias) = layer(biased=biased, relu=relu)
    better = optimize(graph)
    assert not any(n.op.name == "div" for n in optimize(graph, decompose=True).nodes)
    x = np.random.default_rng(1).integers(0, 256, (1, 6, 5, 5)).astype(np.uint8)
    sums = np.einsum("oc,nchw->nohw", w[:, :, 0, 0].astype(int), x.astype(int) - 131)
    sums = sums + bias.reshape(-1, 1, 1)
    factor = (X_SCALE * scales / STEP).astype(np.float32).reshape(-1, 1, 1)
    y = np.rint(sums.astype(np.float32) * factor)
    y = np.maximum(y, 0) if relu else y
    want = np.clip(y - 7, -128, 127).astype(np.int8)
    np.testing.assert_array_equal(interpret(better, [x])[0], want)


def test_a_bias_in_another_scale_stays_a_number() -> None:
    graph, _ = layer(biased=True, bias_scale=3.0)
    x = np.random.default_rng(1).integers(0, 256, (1, 6, 5, 5)).astype(np.uint8)
    (exact,) = interpret(graph, [x])
    (got,) = interpret(optimize(graph), [x])
    apart = np.abs(got.astype(int) - exact.astype(int))
    assert apart.max() <= 1
    assert (apart > 0).mean() < 0.01


def test_sums_of_dequantised_numbers() -> None:
    """An addition: each operand with a factor of its own, zero points of 0 left out."""
    graph = Graph("addition")
    operands = []
    for name, scale, zero in (("a", 0.5, 0), ("b", 0.03, 9)):
        x = graph.add_input(TensorType(uint8, (256,)), name)
        constants = graph.constant(np.float32(scale)), graph.constant(np.uint8(zero))
        operands.append(DequantizeLinear(float32)(x, *constants))
    y = QuantizeLinear(uint8)(
        operands[0] + operands[1], graph.constant(np.float32(0.7)), graph.constant(np.uint8(0))
    )
    graph.set_outputs([y])
    better = optimize(graph, decompose=True)
    assert not any(n.op.name == "div" for n in better.nodes)
    a = np.arange(256).astype(np.uint8)
    b = a[::-1].copy()
    want = a * (np.float32(0.5) / np.float32(0.7)) + (b - np.float32(9)) * (
        np.float32(0.03) / np.float32(0.7)
    )
    want = np.clip(np.rint(want), 0, 255).astype(np.uint8)
    np.testing.assert_array_equal(interpret(better, [a, b])[0], want)


@pytest.mark.parametrize("step", [np.float32(1e-30), np.float32(np.inf), np.float32(0)])
def test_what_is_divided_still(step: np.float32) -> None:
    """A step whose quotients float32 may not hold, and a value that is read otherwise, too."""
    graph = Graph("divided")
    x = graph.add_input(TensorType(uint8, (4,)), "x")
    real = DequantizeLinear(float32)(x, graph.constant(np.float32(2)))
    graph.set_outputs([QuantizeLinear(uint8)(real, graph.constant(step))])
    assert any(n.op.name == "div" for n in optimize(graph, decompose=True).nodes)


def test_a_sum_that_is_a_result_stays() -> None:
    graph = Graph("both")
    x = graph.add_input(TensorType(uint8, (4,)), "x")
    real = Relu()(DequantizeLinear(float32)(x, graph.constant(np.float32(2))))
    graph.set_outputs([real, QuantizeLinear(uint8)(real, graph.constant(np.float32(3)))])
    better = optimize(graph)
    data = np.arange(4).astype(np.uint8) * 40
    real_data, codes = interpret(better, [data])
    np.testing.assert_array_equal(real_data, data * np.float32(2))
    np.testing.assert_array_equal(codes, np.rint(data * np.float32(2) / np.float32(3)))
