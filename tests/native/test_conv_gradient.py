"""Gradients of convolutions and transposed convolutions, compiled, against float64."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from dualgraph_compiler import Dim, Graph, TensorType
from dualgraph_compiler.dtypes import DType, float32, float64, int64
from dualgraph_compiler.errors import IndexOutOfRange
from dualgraph_compiler.graph import interpret
from dualgraph_compiler.native import build
from dualgraph_compiler.native.target import Target
from dualgraph_compiler.ops import f
from dualgraph_compiler.ops.adaptive_pool import AdaptiveAvgPoolGrad
from dualgraph_compiler.ops.avg_pool import AvgPool, AvgPoolGrad
from dualgraph_compiler.ops.conv import Conv, ConvInputGrad, ConvWeightGrad
from dualgraph_compiler.ops.conv_transpose import ConvTranspose
from dualgraph_compiler.ops.pool import MaxPool, MaxPoolGrad, MaxPoolIndices
from dualgraph_runtime.native import Compiler, compile_graph, find_compiler

pytestmark = pytest.mark.compiler


def quick_compiler(vector_bytes: int | None = None) -> Compiler:
    compiler = find_compiler()
    assert compiler is not None
    flags = tuple("-O1" if flag == "-O2" else flag for flag in compiler.flags)
    target = compiler.target if vector_bytes is None else Target(vector_bytes)
    return dataclasses.replace(compiler, flags=flags, target=target)


# Image, weight, and stride, padding, dilation, groups.
GEOMETRIES: list[tuple[tuple[int, ...], tuple[int, ...], Conv]] = [
    ((2, 3, 9, 11), (7, 3, 3, 3), Conv((1, 1), ((1, 1), (1, 1)), (1, 1))),
    ((2, 3, 9, 11), (14, 3, 3, 3), Conv((2, 2), ((1, 1), (1, 1)), (1, 1))),
    ((1, 4, 20, 21), (13, 4, 5, 3), Conv((2, 3), ((0, 2), (1, 0)), (1, 2))),
    ((2, 16, 7, 10), (20, 16, 1, 1), Conv((1, 1), ((0, 0), (0, 0)), (1, 1))),
    ((2, 5, 8, 8), (6, 5, 1, 1), Conv((2, 2), ((0, 0), (0, 0)), (1, 1))),
    ((2, 6, 8, 8), (12, 2, 3, 3), Conv((1, 2), ((1, 1), (1, 1)), (1, 1), 3)),
    ((1, 8, 9, 9), (8, 1, 3, 3), Conv((2, 2), ((1, 0), (0, 1)), (1, 1), 8)),
    ((2, 2, 12, 13), (3, 2, 3, 3), Conv((2, 2), ((2, 2), (2, 3)), (2, 2))),
    ((2, 2, 15, 14), (3, 2, 4, 3), Conv((4, 3), ((3, 1), (0, 2)), (2, 3))),
    ((2, 3, 9, 9), (2, 3, 2, 2), Conv((3, 4), ((0, 0), (1, 1)), (1, 1))),
    ((1, 2, 9, 9), (2, 2, 3, 3), Conv((1, 1), ((-1, -2), (2, -1)), (1, 1))),
    ((2, 5, 33), (5, 1, 4), Conv((2,), ((3, 3),), (1,), 5)),
    ((1, 2, 5, 6, 7), (3, 2, 2, 3, 2), Conv((1, 1, 2), ((1, 0),) * 3, (1, 1, 1))),
    ((2, 21, 5, 6), (9, 21, 3, 2), Conv((2, 1), ((1, 1), (0, 1)), (1, 1))),
    ((0, 2, 5), (3, 2, 2), Conv((1,), ((0, 0),), (1,))),
]


def gradients(dtype: DType) -> tuple[Graph, list[Any]]:
    """Both gradients of every geometry, with something fused behind them."""
    graph = Graph("gradients")
    rng = np.random.default_rng(0)
    arrays: list[Any] = []
    outputs: list[Any] = []
    for image, weight, op in GEOMETRIES:
        places = op.output(image[2:], weight[2:])
        shapes = [(image[0], weight[0], *places), weight, image]
        g, w, x = (graph.add_input(TensorType(dtype, s)) for s in shapes)
        arrays += [rng.standard_normal(s).astype(dtype.np) for s in shapes]
        on_x = ConvInputGrad(*op.geometry(), image[2:])(g, w)
        on_w = ConvWeightGrad(*op.geometry(), weight[2:])(g, x)
        outputs += [on_x, f.tanh(on_x) * x, on_w, w - on_w * 0.1]
    graph.set_outputs(outputs)
    return graph, arrays


def check(graph: Graph, arrays: list[Any], found: list[Any], tolerance: float) -> None:
    wide = [a.astype(np.float64) if a.dtype.kind == "f" else a for a in arrays]
    reference = as_float64(graph)
    for v, got, want in zip(graph.outputs, found, interpret(reference, wide), strict=True):
        assert got.shape == want.shape
        scale = max(1.0, np.abs(want).max(initial=0))
        np.testing.assert_allclose(got, want, atol=tolerance * scale, err_msg=str(v.node))


def as_float64(graph: Graph) -> Graph:
    """The same nodes on float64."""
    wide = Graph(graph.name)
    new: dict[Any, Any] = {}
    for v in graph.inputs:
        dtype = float64 if v.dtype.is_floating_point else v.dtype
        new[v] = wide.add_input(TensorType(dtype, v.shape), v.name)
    for v in graph.constants:
        data = v.data.astype(np.float64) if v.dtype.is_floating_point else v.data
        new[v] = wide.constant(data)
    for node in graph.nodes:
        made = wide.call(node.op, [new[v] for v in node.inputs])
        new.update(zip(node.outputs, made if isinstance(made, tuple) else (made,), strict=True))
    wide.set_outputs([new[v] for v in graph.outputs])
    return wide


@pytest.mark.parametrize("vector_bytes", [16, 32])
def test_geometry(vector_bytes: int) -> None:
    graph, arrays = gradients(float32)
    executable = compile_graph(graph, quick_compiler(vector_bytes))
    assert "interpreted" not in executable.report()
    check(graph, arrays, executable.run(arrays), 1e-5)


def test_weight_gradient_of_float64() -> None:
    graph, arrays = gradients(float64)
    report = build(graph).report()
    assert "conv_weight_grad of" not in report
    check(graph, arrays, compile_graph(graph, quick_compiler()).run(arrays), 1e-12)


@pytest.mark.parametrize(
    ("image", "weight", "op"),
    [
        ((2, 4, 5, 6), (4, 3, 3, 3), ConvTranspose((2, 2), ((1, 1), (0, 1)), (1, 0), (1, 1))),
        ((1, 6, 5, 4), (6, 2, 2, 3), ConvTranspose((3, 2), ((0, 0), (2, 1)), (2, 1), (1, 2), 3)),
        ((2, 3, 9), (3, 5, 4), ConvTranspose((1,), ((0, 2),), (0,), (1,))),
        (
            (1, 2, 3, 3, 4),
            (2, 2, 2, 2, 3),
            ConvTranspose((2, 1, 1), ((0, 0),) * 3, (1, 0, 0), (1,) * 3),
        ),
    ],
)
def test_transposed(image: tuple[int, ...], weight: tuple[int, ...], op: ConvTranspose) -> None:
    graph = Graph()
    x, w = (graph.add_input(TensorType(float32, s)) for s in (image, weight))
    bias = graph.add_input(TensorType(float32, (weight[1] * op.groups,)))
    graph.set_outputs([op(x, w, bias)])
    rng = np.random.default_rng(1)
    arrays = [rng.standard_normal(v.shape).astype(np.float32) for v in graph.inputs]
    executable = compile_graph(graph, quick_compiler())
    assert "interpreted" not in executable.report()
    check(graph, arrays, executable.run(arrays), 1e-5)


def test_any_size() -> None:
    n, h = Dim("n", min=1), Dim("h", min=6, max=100)
    graph = Graph()
    op = Conv((2, 2), ((1, 1), (2, 0)), (1, 1))
    x = graph.add_input(TensorType(float32, (n, 3, h, h)), "x")
    w = graph.add_input(TensorType(float32, (8, 3, 3, 3)), "w")
    y = op(x, w)
    g = f.tanh(y)
    on_x = ConvInputGrad(*op.geometry(), tuple(x.shape[2:]))(g, w)
    on_w = ConvWeightGrad(*op.geometry(), (3, 3))(g, x)
    graph.set_outputs([on_x, on_w])
    executable = compile_graph(graph, quick_compiler())
    assert "interpreted" not in executable.report()
    rng = np.random.default_rng(2)
    for sizes in ((1, 6), (2, 13), (3, 40)):
        shapes = [(sizes[0], 3, sizes[1], sizes[1]), (8, 3, 3, 3)]
        arrays = [rng.standard_normal(s).astype(np.float32) for s in shapes]
        check(graph, arrays, executable.run(arrays), 1e-5)


@pytest.mark.parametrize("vector_bytes", [16, 32])
@pytest.mark.parametrize(
    ("image", "op"),
    [
        ((3, 40, 2, 2), Conv((1, 1), ((1, 1), (1, 1)), (1, 1))),
        ((2, 40, 5, 4), Conv((2, 3), ((1, 2), (2, 0)), (1, 1))),
        ((2, 80, 2, 3), Conv((1, 1), ((2, 2), (2, 3)), (2, 2), 2)),
        ((2, 40, 4, 1, 3), Conv((1, 1, 2), ((1, 1), (1, 1), (1, 1)), (1, 1, 1))),
    ],
)
def test_weight_gradients_of_small_images(vector_bytes: int, image: Any, op: Conv) -> None:
    """Only those places are gone over at which a tap lies in the image; some taps never do."""
    graph = Graph()
    x = graph.add_input(TensorType(float32, image))
    window = (3,) * (len(image) - 2)
    g = graph.add_input(TensorType(float32, (image[0], 10, *op.output(image[2:], window))))
    graph.set_outputs([ConvWeightGrad(*op.geometry(), window)(g, x)])
    rng = np.random.default_rng(6)
    arrays = [rng.standard_normal(v.shape).astype(np.float32) for v in graph.inputs]
    check(graph, arrays, compile_graph(graph, quick_compiler(vector_bytes)).run(arrays), 1e-5)


def test_operands_that_are_views() -> None:
    """Channels last, and a gradient that is the same everywhere."""
    op = Conv((1, 1), ((1, 1), (1, 1)), (1, 1))
    graph = Graph()
    x = graph.add_input(TensorType(float32, (2, 7, 6, 5)), "x")
    g = graph.add_input(TensorType(float32, (2, 9, 1, 1)), "g")
    image, grad = f.permute(x, (0, 3, 1, 2)), f.expand(g, (2, 9, 7, 6))
    graph.set_outputs([ConvWeightGrad(*op.geometry(), (3, 3))(grad, image)])
    rng = np.random.default_rng(3)
    arrays = [rng.standard_normal(v.shape).astype(np.float32) for v in graph.inputs]
    executable = compile_graph(graph, quick_compiler())
    assert len(executable.program.kernels) == 1
    check(graph, arrays, executable.run(arrays), 1e-5)


def test_gradients_of_pooling() -> None:
    """Positions of maxima and what is added there; parts of averages."""
    graph = Graph()
    rng = np.random.default_rng(4)
    arrays: list[Any] = []
    outputs: list[Any] = []
    for shape, pool in [
        ((2, 3, 8, 10), MaxPool((2, 2), (2, 2), ((0, 0), (0, 0)), (1, 1))),
        ((2, 2, 9, 11), MaxPool((3, 3), (2, 2), ((1, 1), (1, 1)), (1, 1))),
        ((1, 2, 12, 9), MaxPool((3, 2), (2, 1), ((1, 1), (0, 1)), (2, 3), True)),
        ((2, 2, 5, 6, 7), MaxPool((2, 3, 2), (1, 2, 2), ((0, 0),) * 3, (1, 1, 1))),
        ((2, 3, 8, 10), AvgPool((2, 2), (2, 2), ((0, 0), (0, 0)))),
        ((2, 3, 9, 7), AvgPool((3, 2), (2, 3), ((1, 1), (0, 1)), True, False)),
        ((1, 2, 15), AvgPool((4,), (3,), ((2, 1),), False, True, 5)),
    ]:
        x = graph.add_input(TensorType(float32, shape))
        y = pool(x)
        g = graph.add_input(TensorType(float32, y.shape))
        if isinstance(pool, MaxPool):
            _, at = MaxPoolIndices(*pool.geometry())(x)
            on_x = MaxPoolGrad(shape[2:], pool.overlapping())(g, at)
            outputs += [y, at, f.where(f.greater(x, 0), on_x, f.like(x, 0))]
        else:
            on_x = AvgPoolGrad(*pool.geometry(), shape[2:])(g)
            outputs += [on_x, on_x * x]
        arrays += [rng.standard_normal(v.shape).astype(np.float32) for v in (x, g)]
    for sizes, places in [((6, 7), (1, 1)), ((6, 8), (3, 2))]:
        g = graph.add_input(TensorType(float32, (2, 3, *places)))
        arrays.append(rng.standard_normal(g.shape).astype(np.float32))
        outputs.append(AdaptiveAvgPoolGrad(sizes)(g))
    graph.set_outputs(outputs)
    executable = compile_graph(graph, quick_compiler())
    report = executable.report()
    assert "interpreted" not in report
    assert "max(" not in report  # values come with their positions
    check(graph, arrays, executable.run(arrays), 1e-5)


def test_maxima_that_are_not_numbers() -> None:
    graph = Graph()
    x = graph.add_input(TensorType(float32, (1, 1, 4, 4)))
    graph.set_outputs(MaxPoolIndices((2, 2), (2, 2), ((0, 0), (0, 0)), (1, 1))(x))
    image = np.full((1, 1, 4, 4), -np.inf, np.float32)
    image[0, 0, 0, :2] = np.nan
    image[0, 0, 3, 1] = np.inf
    image[0, 0, 2, 3] = image[0, 0, 3, 2] = 1
    for got, want in zip(
        compile_graph(graph, quick_compiler()).run([image]), interpret(graph, [image]), strict=True
    ):
        np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("vector_bytes", [16, 32])
@pytest.mark.parametrize(
    ("image", "op"),
    [
        ((2, 3, 9, 45), MaxPoolIndices((3, 3), (2, 2), ((1, 1), (1, 1)), (1, 1))),
        ((2, 1, 5, 21), MaxPoolIndices((2, 4), (1, 1), ((1, 0), (2, 1)), (2, 1))),
        ((1, 2, 70), MaxPoolIndices((5,), (3,), ((2, 2),), (2,))),
        ((1, 2, 3, 4, 33), MaxPoolIndices((2, 2, 2), (1, 1, 2), ((0, 0),) * 3, (1, 1, 1))),
    ],
)
def test_maxima_side_by_side(vector_bytes: int, image: Any, op: MaxPoolIndices) -> None:
    """The first of equal maxima, and the last number that is none, also far from borders."""
    graph = Graph()
    graph.set_outputs(op(graph.add_input(TensorType(float32, image))))
    x = np.random.default_rng(7).integers(-3, 3, image).astype(np.float32)
    x.flat[::29], x.flat[::31] = np.nan, -np.inf
    got = compile_graph(graph, quick_compiler(vector_bytes)).run([x])
    for a, b in zip(got, interpret(graph, [x]), strict=True):
        np.testing.assert_array_equal(a, b)


def test_position_out_of_range() -> None:
    graph = Graph()
    g = graph.add_input(TensorType(float32, (1, 2, 2, 2)))
    at = graph.add_input(TensorType(int64, (1, 2, 2, 2)))
    graph.set_outputs([MaxPoolGrad((3, 3), True)(g, at)])
    executable = compile_graph(graph, quick_compiler())
    for bad in (9, -1):
        where = np.zeros((1, 2, 2, 2), np.int64)
        where[0, 1, 1, 1] = bad
        with pytest.raises(IndexOutOfRange, match=str(bad)):
            executable.run([np.ones((1, 2, 2, 2), np.float32), where])
