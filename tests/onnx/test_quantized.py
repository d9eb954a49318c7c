"""Quantised operators against ONNX Runtime: equal, or one step apart where it rounds otherwise."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

import dualgraph_runtime as rt
from tests.onnx.helpers import run_onnxruntime

U8, S8, F32 = np.uint8, np.int8, np.float32
rng = np.random.default_rng(0)


def u8(*shape: int) -> np.ndarray:
    return rng.integers(0, 256, shape).astype(U8)


def s8(*shape: int) -> np.ndarray:
    """Of 7 bits, whose products ONNX Runtime adds without saturating, VNNI or not."""
    return rng.integers(-64, 64, shape).astype(S8)


def f32(*shape: int) -> np.ndarray:
    return rng.normal(size=shape).astype(F32)


def number(value: float, dtype: Any = F32) -> np.ndarray:
    return np.asarray(value, dtype)


def model_of(op_type: str, operands: list[Any], fixed: set[int], **attributes: Any) -> Any:
    """A model of one operator; the operands at `fixed` are initializers, None are absent."""
    domain = "com.microsoft" if op_type.startswith("com.microsoft::") else ""
    names = ["" if x is None else f"x{i}" for i, x in enumerate(operands)]
    node = helper.make_node(
        op_type.removeprefix("com.microsoft::"), names, ["y"], domain=domain, **attributes
    )
    kinds = {
        i: helper.np_dtype_to_tensor_dtype(x.dtype) for i, x in enumerate(operands) if x is not None
    }
    graph = helper.make_graph(
        [node],
        "g",
        [
            helper.make_tensor_value_info(f"x{i}", kind, operands[i].shape)
            for i, kind in kinds.items()
            if i not in fixed
        ],
        [onnx.ValueInfoProto(name="y")],
        [numpy_helper.from_array(operands[i], f"x{i}") for i in kinds if i in fixed],
    )
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10)


def both(op_type: str, operands: list[Any], weights: set[int], **attributes: Any) -> Any:
    """Our result and theirs; everything but the first operand and other images is constant."""
    fixed = {i for i, x in enumerate(operands) if x is not None and (x.ndim < 2 or i in weights)}
    fixed.discard(0)
    model = model_of(op_type, operands, fixed, **attributes)
    feeds = {f"x{i}": x for i, x in enumerate(operands) if x is not None and i not in fixed}
    (theirs,) = run_onnxruntime(model, feeds)
    (ours,) = rt.InferenceSession(model.SerializeToString()).run(None, feeds)
    assert (ours.dtype, ours.shape) == (theirs.dtype, theirs.shape)
    return ours, theirs


SX, ZX, SY, ZY = number(0.02), number(120, U8), number(0.05), number(131, U8)
SW, ZW = number(0.01), number(0, S8)
CHANNELS = (rng.random(12) * 0.02 + 0.001).astype(F32)

# Exact: ONNX Runtime adds integers and scales them as the operator's definition says.
EXACT = {
    "conv": (
        "QLinearConv",
        [u8(2, 8, 9, 9), SX, ZX, s8(12, 8, 3, 3), SW, ZW, SY, ZY],
        {3},
        {"pads": [1] * 4},
    ),
    "conv by channel": (
        "QLinearConv",
        [
            u8(1, 8, 9, 9),
            SX,
            ZX,
            s8(12, 8, 3, 3),
            CHANNELS,
            np.zeros(12, S8),
            SY,
            ZY,
            rng.integers(-9999, 9999, 12).astype(np.int32),
        ],
        {3},
        {"strides": [2, 2]},
    ),
    "conv depthwise": (
        "QLinearConv",
        [u8(1, 12, 9, 9), SX, ZX, s8(12, 1, 3, 3), CHANNELS, np.zeros(12, S8), SY, ZY],
        {3},
        {"group": 12},
    ),
    "conv of uint8": (
        "QLinearConv",
        [u8(1, 4, 6, 6), SX, ZX, u8(6, 4, 3, 3), SW, number(99, U8), SY, ZY],
        {3},
        {"auto_pad": "SAME_UPPER"},
    ),
    "matmul": ("QLinearMatMul", [u8(5, 33), SX, ZX, s8(33, 12), SW, ZW, SY, ZY], {3}, {}),
    "matmul by column": (
        "QLinearMatMul",
        [u8(2, 5, 33), SX, ZX, s8(33, 12), CHANNELS, np.zeros(12, S8), SY, ZY],
        {3},
        {},
    ),
    "gemm": (
        "com.microsoft::QGemm",
        [
            u8(5, 33),
            SX,
            ZX,
            s8(12, 33),
            CHANNELS,
            np.zeros(12, S8),
            rng.integers(-9999, 9999, 12).astype(np.int32),
            SY,
            ZY,
        ],
        {3},
        {"transB": 1},
    ),
}

# One step apart where a result lies between two: sums of floats in another order.
NEAR = {
    "add": (
        "com.microsoft::QLinearAdd",
        [u8(3, 40), SX, ZX, u8(3, 40), SY, ZY, number(0.06), ZX],
        set(),
        {},
    ),
    "add of int8": (
        "com.microsoft::QLinearAdd",
        [s8(3, 40), SX, ZW, s8(1, 40), SY, number(7, S8), number(0.06), ZW],
        set(),
        {},
    ),
    "mul": (
        "com.microsoft::QLinearMul",
        [u8(3, 40), SX, ZX, u8(3, 40), SY, ZY, number(0.1), ZX],
        set(),
        {},
    ),
    "sigmoid": (
        "com.microsoft::QLinearSigmoid",
        [u8(300), SX, ZX, number(1 / 256), number(0, U8)],
        set(),
        {},
    ),
    "leaky relu": (
        "com.microsoft::QLinearLeakyRelu",
        [u8(300), SX, ZX, SY, ZY],
        set(),
        {"alpha": 0.2},
    ),
    "softmax": (
        "com.microsoft::QLinearSoftmax",
        [u8(4, 30), SX, ZX, number(1 / 256), number(0, U8)],
        set(),
        {"axis": -1, "opset": 13},
    ),
    "concat": (
        "com.microsoft::QLinearConcat",
        [SY, ZY, u8(2, 3), SX, ZX, u8(2, 5), SY, ZY],
        set(),
        {"axis": 1},
    ),
    "global average pool": (
        "com.microsoft::QLinearGlobalAveragePool",
        [u8(2, 5, 7, 7), SX, ZX, SY, ZY],
        set(),
        {},
    ),
    "average pool": (
        "com.microsoft::QLinearAveragePool",
        [u8(2, 5, 8, 8), SX, ZX, SY, ZY],
        set(),
        {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1] * 4},
    ),
}


@pytest.mark.parametrize("case", EXACT)
def test_integer_results(case: str) -> None:
    op_type, operands, weights, attributes = EXACT[case]
    ours, theirs = both(op_type, operands, weights, **attributes)
    np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("case", NEAR)
def test_results_one_step_apart(case: str) -> None:
    op_type, operands, weights, attributes = NEAR[case]
    ours, theirs = both(op_type, operands, weights, **attributes)
    apart = np.abs(ours.astype(int) - theirs.astype(int))
    assert apart.max() <= 1
    assert (apart > 0).mean() < 0.05


def packed(*shape: int) -> np.ndarray:
    return rng.integers(0, 256, shape).astype(U8)


@pytest.mark.parametrize("zeros", ["none", "packed", "float"])
@pytest.mark.parametrize(("bits", "block", "k"), [(4, 32, 96), (4, 16, 80), (8, 32, 64)])
def test_products_of_packed_weights(bits: int, block: int, k: int, zeros: str) -> None:
    n, count = 24, -(-k // block)
    operands: list[Any] = [f32(3, k), packed(n, count, block * bits // 8), f32(n * count)]
    if zeros == "packed":
        operands.append(packed(n * -(-count * bits // 8)))
    if zeros == "float":
        operands.append((f32(n * count) + 2 ** (bits - 1)).astype(F32))
    if bits == 8 and zeros == "float":
        pytest.skip("ONNX Runtime takes float zero points of 4 bits only")
    ours, theirs = both(
        "com.microsoft::MatMulNBits", operands, {1}, K=k, N=n, bits=bits, block_size=block
    )
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-3 * np.abs(theirs).max())


@pytest.mark.parametrize("bias", [False, True])
def test_products_quantised_as_they_run(bias: bool) -> None:
    weight, extra = s8(32, 12), [None, f32(12)] if bias else []
    for op_type, operands in (
        ("com.microsoft::DynamicQuantizeMatMul", [f32(5, 32), weight, CHANNELS, *extra]),
        (
            "com.microsoft::MatMulIntegerToFloat",
            [u8(5, 32), weight, SX, CHANNELS, ZX, np.zeros(12, S8), *extra[1:]],
        ),
    ):
        ours, theirs = both(op_type, operands, {1})
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("x", [f32(4, 7), f32(1), np.abs(f32(9)), -np.abs(f32(9))], ids=str)
def test_dynamic_quantisation(x: np.ndarray) -> None:
    names = ["y", "scale", "zero"]
    node = helper.make_node("DynamicQuantizeLinear", ["x"], names)
    graph = helper.make_graph(
        [node],
        "g",
        [helper.make_tensor_value_info("x", 1, x.shape)],
        [onnx.ValueInfoProto(name=n) for n in names],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    theirs = run_onnxruntime(model, {"x": x})
    ours = rt.InferenceSession(model.SerializeToString()).run(None, {"x": x})
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(a, b)


def test_16_bit_numbers_of_onnxruntime() -> None:
    scale, zero = number(0.001), number(40000, np.uint16)
    ours, theirs = both("com.microsoft::QuantizeLinear", [f32(50) * 9, scale, zero], set())
    np.testing.assert_array_equal(ours, theirs)
    x = rng.integers(0, 65536, 50).astype(np.uint16)
    ours, theirs = both("com.microsoft::DequantizeLinear", [x, scale, zero], set())
    np.testing.assert_array_equal(ours, theirs)
