"""Integer products, compiled: exact for every geometry and width of vectors."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from dualgraph_compiler import Dim
from dualgraph_compiler.compile import optimize
from dualgraph_compiler.dtypes import float32, int8, uint8
from dualgraph_compiler.graph import Graph, interpret, parse_graph
from dualgraph_compiler.native import Target, build
from dualgraph_compiler.ops import f
from dualgraph_compiler.ops.activation import Relu
from dualgraph_compiler.ops.conv import Conv
from dualgraph_compiler.ops.quantize import (
    ConvInteger,
    DequantizeLinear,
    MatmulInteger,
    QuantizeLinear,
)
from dualgraph_compiler.types import TensorType
from dualgraph_runtime.native import Compiler, compile_graph, find_compiler

pytestmark = pytest.mark.compiler

# Bytes of vectors, and flags: without the macros the text is plain C.
PLAIN = tuple(f"-U__{m}__" for m in ("SSE2", "AVX2", "AVX512BW", "AVX512VNNI", "AVXVNNI"))
MACHINES: dict[str, tuple[int, tuple[str, ...]]] = {
    "16": (16, ()),
    "32": (32, ()),
    "64": (64, ()),
    "plain": (32, PLAIN),
}
each_machine = pytest.mark.parametrize("machine", MACHINES)


def compiler(machine: str) -> Compiler:
    found = find_compiler()
    assert found is not None
    vector_bytes, more = MACHINES[machine]
    flags = tuple("-O1" if flag == "-O2" else flag for flag in found.flags)
    return dataclasses.replace(found, flags=(*flags, *more), target=Target(vector_bytes))


def ends(rng: np.random.Generator, *shape: int, dtype: Any = np.uint8) -> np.ndarray:
    """Bytes of which many are the smallest or the largest of their dtype."""
    info = np.iinfo(dtype)
    x = rng.integers(info.min, info.max + 1, shape)
    return np.where(rng.random(shape) < 0.3, rng.choice([info.min, info.max], shape), x).astype(
        dtype
    )


@pytest.mark.parametrize("machine", [m for m in MACHINES if m != "64"])
def test_random_products(machine: str) -> None:
    """Many in one program: rows, columns and depths of all sorts, constant operands and others."""
    rng = np.random.default_rng(1)
    graph, arrays = Graph("products"), []
    outputs = []
    for i in range(12):
        m, k, n = (int(rng.choice([1, 2, 5, 8, 17, 40])) for _ in range(3))
        left, right = (np.uint8, np.int8)[i % 2], (np.int8, np.uint8)[i % 3 == 2]
        a, b = ends(rng, m, k, dtype=left), ends(rng, k, n, dtype=right)
        x = graph.add_input(TensorType(int8 if i % 2 else uint8, a.shape), f"a{i}")
        arrays.append(a)
        y: Any = graph.constant(b)
        if i % 4 == 3:
            y = graph.add_input(TensorType(int8 if right is np.int8 else uint8, b.shape), f"b{i}")
            arrays.append(b)
        za, zb = ends(rng, 1, dtype=left)[0], ends(rng, n, dtype=right)
        zb = zb if i % 2 else zb[0]
        outputs.append(MatmulInteger()(x, y, graph.constant(za), graph.constant(zb)))
    graph.set_outputs(outputs)
    found = compile_graph(graph, compiler(machine)).run(arrays)
    for got, wanted in zip(found, interpret(graph, arrays), strict=True):
        np.testing.assert_array_equal(got, wanted)


@each_machine
def test_random_convolutions(machine: str) -> None:
    """One after the other, so that images stay blocked between them, and as they come."""
    rng = np.random.default_rng(2)
    graph, arrays, outputs = Graph("convolutions"), [], []
    for i, (channels, outs, groups, window, stride) in enumerate(
        [
            (3, 20, 1, 3, 1),
            (16, 24, 1, 1, 1),
            (20, 9, 1, 3, 2),
            (16, 16, 16, 3, 1),
            (32, 32, 2, 3, 1),
        ]
    ):
        image = ends(rng, 2, channels, 9, 7)
        x = graph.add_input(TensorType(uint8, image.shape), f"x{i}")
        arrays.append(image)
        op = ConvInteger((stride,) * 2, ((1, 1), (0, 2)), (1, 1), groups)
        weight = graph.constant(ends(rng, outs, channels // groups, window, window, dtype=np.int8))
        zx = graph.constant(np.uint8(rng.choice([0, 128, 255])))
        zw = graph.constant(ends(rng, outs, dtype=np.int8) if i % 2 else np.int8(0))
        total = op(x, weight, zx, zw)
        outputs.append(total)
        bytes_ = QuantizeLinear(uint8)(f.cast(total, float32), graph.constant(np.float32(2000)))
        weight = graph.constant(ends(rng, 13, outs, 3, 3, dtype=np.int8))
        again = ConvInteger((1, 1), ((1, 1), (1, 1)), (1, 1))
        outputs.append(again(bytes_, weight, zx, graph.constant(np.int8(-3))))
    graph.set_outputs(outputs)
    found = compile_graph(graph, compiler(machine)).run(arrays)
    for got, wanted in zip(found, interpret(graph, arrays), strict=True):
        np.testing.assert_array_equal(got, wanted)


def windows_of_three(rng: np.random.Generator, graph: Graph) -> list[Any]:
    """Convolutions by 3x3 windows whose tiles end at and over borders, and their inputs."""
    arrays, outputs = [], []
    for i, (channels, outs, height, width, padding) in enumerate(
        [
            (16, 24, 9, 7, ((1, 1), (1, 1))),
            (20, 17, 8, 11, ((0, 2), (1, 0))),
            (37, 40, 7, 7, ((1, 1), (1, 1))),
            (16, 16, 30, 6, ((2, 2), (0, 0))),
        ]
    ):
        image = ends(rng, 3, channels, height, width)
        image[0] = 255 * (i % 2)
        x = graph.add_input(TensorType(uint8, image.shape), f"x{i}")
        arrays.append(image)
        w = ends(rng, outs, channels, 3, 3, dtype=np.int8)
        w[0], w[1] = -128, 127  # the largest sums that there are
        zx = graph.constant(np.uint8([0, 255, 128, 7][i]))
        zw = graph.constant(ends(rng, outs, dtype=np.int8) if i % 2 else np.int8(127 * (i // 2)))
        op = ConvInteger((1, 1), padding, (1, 1))
        outputs.append(op(x, graph.constant(w), zx, zw))
    graph.set_outputs(outputs)
    return arrays


@each_machine
def test_windows_of_three_by_tiles(machine: str) -> None:
    """Winograd's products are whole numbers, and exact for the largest and smallest bytes."""
    rng = np.random.default_rng(11)
    graph = Graph("windows")
    arrays = windows_of_three(rng, graph)
    assert "winograd_gather" in build(graph, compiler(machine).target).text
    found = compile_graph(graph, compiler(machine)).run(arrays)
    for got, wanted in zip(found, interpret(graph, arrays), strict=True):
        np.testing.assert_array_equal(got, wanted)


@pytest.mark.parametrize("samples", [1, 5])
def test_windows_of_three_of_any_number_of_images(samples: int) -> None:
    """The number of images is told by the call."""
    rng = np.random.default_rng(12)
    graph = Graph("batch")
    x = graph.add_input(TensorType(uint8, (Dim("n"), 24, 6, 7)), "x")
    w = graph.constant(ends(rng, 19, 24, 3, 3, dtype=np.int8))
    op = ConvInteger((1, 1), ((1, 1), (1, 1)), (1, 1))
    graph.set_outputs([op(x, w, graph.constant(np.uint8(9)), graph.constant(np.int8(0)))])
    image = ends(rng, samples, 24, 6, 7)
    (got,) = compile_graph(graph, compiler("32")).run([image])
    np.testing.assert_array_equal(got, interpret(graph, [image])[0])


@each_machine
def test_depthwise_convolutions_of_bytes(machine: str) -> None:
    """Bytes are read as they lie, with zero points of all sorts, known ones and others."""
    rng = np.random.default_rng(7)
    graph, arrays, outputs = Graph("depthwise"), [], []
    for i, (channels, each, window, stride) in enumerate(
        [(16, 1, 3, 1), (12, 1, 5, 2), (8, 2, 3, 1), (24, 1, 3, 2), (5, 1, 3, 1)]
    ):
        dtype = (np.uint8, np.int8)[i % 2]
        image = ends(rng, 2, channels, 11, 9, dtype=dtype)
        x: Any = graph.add_input(TensorType(uint8 if i % 2 == 0 else int8, image.shape), f"x{i}")
        arrays.append(image)
        zx: Any = graph.constant(dtype(rng.choice([-128, 0, 3, 127]) if i % 2 else 3 * i))
        if i == 3:
            zx = graph.add_input(TensorType(int8, ()), "zero")
            arrays.append(np.int8(-77))
        weight = graph.constant(ends(rng, channels * each, 1, window, window, dtype=np.int8))
        op = ConvInteger((stride,) * 2, ((1, 2), (0, 1)), (1, 1), channels)
        zw = graph.constant(ends(rng, channels * each, dtype=np.int8) if i % 2 else np.int8(-5))
        outputs.append(op(x, weight, zx, zw))
    graph.set_outputs(outputs)
    found = compile_graph(graph, compiler(machine)).run(arrays)
    for got, wanted in zip(found, interpret(graph, arrays), strict=True):
        np.testing.assert_array_equal(got, wanted)


def test_words_are_multiplied_by_the_machine() -> None:
    """On AVX2, and on what adds to a sum in the same instruction."""
    graph = Graph("product")
    x = graph.add_input(TensorType(uint8, (8, 64)), "x")
    w = graph.constant(np.ones((64, 32), np.int8))
    zeros = graph.constant(np.uint8(0)), graph.constant(np.int8(0))
    graph.set_outputs([MatmulInteger()(x, w, *zeros)])
    text = build(graph, Target(32)).text
    assert "__builtin_ia32_pmaddwd256" in text
    assert "__builtin_ia32_vpdpwssd_v8si" in text


# -- dequantised operands -------------------------------------------------------------------------


def layers(rng: np.random.Generator, *, per_channel: bool) -> Graph:
    """quantize -> dequantize -> conv -> bias, relu -> quantize -> dequantize."""
    graph = Graph("layers")
    x = graph.add_input(TensorType(float32, (1, 8, 6, 6)), "x")
    scale, zero = graph.constant(np.float32(0.02)), graph.constant(np.uint8(117))
    real = DequantizeLinear(float32)(QuantizeLinear(uint8)(x, scale, zero), scale, zero)
    each = (rng.random(16) * 0.01 + 0.001).astype(np.float32)
    scales = graph.constant(each if per_channel else each[0])
    weight = graph.constant(ends(rng, 16, 8, 3, 3, dtype=np.int8))
    w = DequantizeLinear(float32, 0)(weight, scales)
    bias = graph.constant(rng.normal(size=16).astype(np.float32))
    y = Relu()(Conv((1, 1), ((1, 1), (1, 1)), (1, 1))(real, w, bias))
    step = graph.constant(np.float32(0.3))
    y = QuantizeLinear(uint8)(y, step, graph.constant(np.uint8(3)))
    graph.set_outputs([y])
    return graph


@pytest.mark.parametrize("per_channel", [False, True])
def test_convolutions_of_dequantised_numbers(per_channel: bool) -> None:
    """Integers, at most one step from the float computation, and that where it rounds to a half."""
    rng = np.random.default_rng(3)
    graph = layers(rng, per_channel=per_channel)
    better = optimize(graph)
    assert sum(n.op.name == "conv_integer" for n in better.nodes) == 1
    assert not any(n.op.name == "conv" for n in better.nodes)
    image = rng.normal(size=(1, 8, 6, 6)).astype(np.float32) * 2
    (exact,) = interpret(optimize(graph, numerics="strict"), [image])
    for got in (
        interpret(better, [image])[0],
        compile_graph(graph, compiler("32")).run([image])[0],
    ):
        apart = np.abs(got.astype(int) - exact.astype(int))
        assert apart.max() <= 1
        assert (apart > 0).mean() < 0.01
    assert len(np.unique(exact)) > 20


def test_layers_of_dequantised_numbers() -> None:
    text = """
graph layers(%q: u8[4, 20], %s: f32[]):
  const %w: i8[16, 20] = <320 elements>
  const %scales: f32[16] = <16 elements>
  %1: f32[4, 20] = dequantize_linear(%q, %s, dtype=f32, axis=1, block=0)
  %2: f32[16, 20] = dequantize_linear(%w, %scales, dtype=f32, axis=0, block=0)
  %3: f32[20, 16] = permute(%2, axes=(1, 0))
  %4: f32[4, 16] = matmul(%1, %3)
  return %4 as y
"""
    rng = np.random.default_rng(4)
    data = {"w": ends(rng, 16, 20, dtype=np.int8), "scales": rng.random(16).astype(np.float32)}
    graph = parse_graph(text, data)
    better = optimize(graph)
    assert next(n.op.name for n in better.nodes) == "matmul_integer"
    arrays = [ends(rng, 4, 20), np.float32(0.01)]
    for a, b in zip(interpret(better, arrays), interpret(graph, arrays), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize(
    ("x_scale", "w_scale", "w_axis", "depth"),
    [((20,), (), 0, 20), ((), (20,), 0, 20), ((), (), 0, 40000)],
    ids=["a scale for each column of x", "scales along the sum", "a sum beyond int32"],
)
def test_what_stays_in_float(x_scale: Any, w_scale: Any, w_axis: int, depth: int) -> None:
    graph = Graph("stays")
    q = graph.add_input(TensorType(uint8, (4, depth)), "q")
    w = graph.constant(np.ones((depth, 6), np.int8))
    x = DequantizeLinear(float32, 1)(q, graph.constant(np.ones(x_scale, np.float32)))
    real = DequantizeLinear(float32, w_axis)(w, graph.constant(np.ones(w_scale, np.float32)))
    graph.set_outputs([f.matmul(x, real)])
    assert any(n.op.name == "matmul" for n in optimize(graph).nodes)
    (got,) = interpret(optimize(graph), [np.ones((4, depth), np.uint8)])
    np.testing.assert_allclose(got, depth)
