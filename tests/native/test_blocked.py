"""Convolution and pooling of blocked images, over random geometries and widths of vectors."""

from __future__ import annotations

import dataclasses
import re
from itertools import product
from typing import Any

import numpy as np
import pytest

from dualgraph_compiler import Dim, Graph, TensorType
from dualgraph_compiler.dtypes import float32
from dualgraph_compiler.graph import interpret
from dualgraph_compiler.native import Target, build
from dualgraph_compiler.ops import f
from dualgraph_compiler.ops.avg_pool import AvgPool
from dualgraph_compiler.ops.conv import Conv
from dualgraph_compiler.ops.pool import MaxPool
from dualgraph_runtime.native import Compiler, compile_graph, find_compiler

pytestmark = pytest.mark.compiler

WIDTHS = (16, 32, 64)  # what the machine lacks the compiler makes of narrower vectors


def compiler(vector_bytes: int) -> Compiler:
    """A compiler for vectors of this width, told to optimise little."""
    found = find_compiler()
    assert found is not None
    flags = tuple("-O1" if flag == "-O2" else flag for flag in found.flags)
    return dataclasses.replace(found, flags=flags, target=Target(vector_bytes))


def reference(x: Any, w: Any, op: Conv) -> np.ndarray[Any, Any]:
    """The convolution in float64, one tap of the window after the other."""
    n, channels, *sizes = x.shape
    outs, ins, *window = w.shape
    before = [max(0, lo) for lo, _ in op.padding]
    wide = np.zeros((n, channels, *(3 * s + 40 for s in sizes)))
    inside = tuple(slice(b, b + s) for b, s in zip(before, sizes, strict=True))
    wide[(slice(None), slice(None), *inside)] = x
    places = op.output(x.shape[2:], w.shape[2:])
    y = np.zeros((n, outs, *places))
    for tap in product(*map(range, window)):
        cut = [slice(None), slice(None)]
        for d, t in enumerate(tap):
            start = t * op.dilation[d] - op.padding[d][0] + before[d]
            cut.append(slice(start, start + (places[d] - 1) * op.stride[d] + 1, op.stride[d]))
        part = wide[tuple(cut)]
        per_group = outs // op.groups
        for g in range(op.groups):
            made = slice(g * per_group, (g + 1) * per_group)
            read = part[:, g * ins : (g + 1) * ins]
            taps = w[(made, slice(None), *tap)].astype(np.float64)
            y[:, made] += np.einsum("nc...,oc->no...", read, taps)
    return y


def random_conv(rng: np.random.Generator) -> tuple[tuple[int, ...], tuple[int, ...], Conv]:
    """The shapes of an image and a weight, and a convolution that fits them."""
    rank = int(rng.choice([1, 2, 2, 2, 3]))
    channels = int(rng.choice([1, 3, 8, 12, 16, 24, 48]))
    kind = rng.choice(["full", "depthwise", "grouped"])
    groups, ins, outs = 1, channels, int(rng.choice([2, 5, 8, 16, 20, 40]))
    if kind == "depthwise":
        groups, ins, outs = channels, 1, channels * int(rng.integers(1, 5))
    elif kind == "grouped":
        groups, ins, outs = 3, 16, int(rng.choice([3, 15, 48]))
        channels = 48
    window, sizes, stride, padding, dilation = [], [], [], [], []
    for _ in range(rank):
        k, d = int(rng.integers(1, 5)), int(rng.integers(1, 4))
        lo, hi = (int(v) for v in rng.integers(-1, 4, 2))
        if rng.random() < 0.4:
            k, d, lo, hi = 1, 1, 0, 0
        most = {1: 120, 2: 24, 3: 7}[rank]
        sizes.append(int(rng.integers(d * (k - 1) + 4, d * (k - 1) + most)))
        window.append(k)
        stride.append(int(rng.choice([1, 1, 1, 2, 3])))
        padding.append((lo, hi))
        dilation.append(d)
    op = Conv(tuple(stride), tuple(padding), tuple(dilation), groups)
    samples = int(rng.integers(1, 3))
    return (samples, channels, *sizes), (outs, ins, *window), op


def activation(y: Any, kind: int, xp: Any) -> Any:
    """Something to fuse behind a convolution, on values or arrays."""
    if kind == 0:
        return y
    if kind == 1:
        return f.clip(y, 0.0, 6.0) if xp is f else np.clip(y, 0, 6)
    return y * 0.5 + xp.tanh(y)


@pytest.mark.parametrize("vector_bytes", WIDTHS)
@pytest.mark.parametrize("seed", range(3))
def test_random_convolutions(vector_bytes: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    graph, arrays, outputs, wanted = Graph(), [], [], []
    for i in range(8):
        image, weight, op = random_conv(rng)
        batch = Dim(f"n{i}", min=0) if i % 3 == 0 else image[0]
        x = rng.normal(size=image).astype(np.float32)
        w = (rng.normal(size=weight) / np.sqrt(np.prod(weight[1:]))).astype(np.float32)
        bias = rng.normal(size=weight[:1]).astype(np.float32)
        operands = [graph.add_input(TensorType(float32, (batch, *image[1:])), f"x{i}")]
        arrays.append(x)
        if i % 2:
            operands += [graph.constant(w), graph.constant(bias)]
        else:
            operands += [
                graph.add_input(TensorType(float32, w.shape), f"w{i}"),
                graph.add_input(TensorType(float32, bias.shape), f"bias{i}"),
            ]
            arrays += [w, bias]
        outputs.append(activation(op(*operands), i % 3, f))
        plain = reference(x, w, op) + bias.reshape(-1, *(1,) * (x.ndim - 2))
        wanted.append(activation(plain, i % 3, np))
    graph.set_outputs(outputs)
    found = compile_graph(graph, compiler(vector_bytes)).run(arrays)
    for y, want in zip(found, wanted, strict=True):
        assert y.shape == want.shape
        np.testing.assert_allclose(y, want, atol=1e-5 * max(1, np.abs(want).max(initial=0)))


@pytest.mark.parametrize("vector_bytes", WIDTHS)
def test_small_images_are_taken_together(vector_bytes: int) -> None:
    """Their places are those of a few samples, of which the last task may have fewer."""
    rng = np.random.default_rng(4)
    graph, arrays, wanted, outputs = Graph(), [], [], []
    cases = [  # image, weight, stride, padding, groups
        ((7, 40, 2, 2), (20, 40, 3, 3), 1, 1, 1),
        ((7, 16, 4, 5), (24, 16, 3, 3), 1, 1, 1),
        ((9, 24, 7, 7), (48, 8, 3, 3), 2, 1, 3),
        ((19, 16, 4, 4), (32, 16, 1, 1), 2, 0, 1),
        ((5, 256, 4, 4), (8, 256, 3, 3), 1, 1, 1),
    ]
    for i, (image, weight, stride, padding, groups) in enumerate(cases):
        for kind in range(2):
            op = Conv((stride,) * 2, ((padding, padding),) * 2, (1, 1), groups)
            x = rng.normal(size=image).astype(np.float32)
            w = (rng.normal(size=weight) / np.sqrt(np.prod(weight[1:]))).astype(np.float32)
            n = Dim(f"n{i}", min=0) if kind else image[0]
            value = graph.add_input(TensorType(float32, (n, *image[1:])), f"x{i}_{kind}")
            bias = graph.add_input(TensorType(float32, (n, weight[0], 1, 1)), f"bias{i}_{kind}")
            shift = rng.normal(size=(image[0], weight[0], 1, 1)).astype(np.float32)
            outputs.append(op(value, graph.constant(w)) + bias)
            arrays += [x, shift]
            wanted.append(reference(x, w, op) + shift)
    graph.set_outputs(outputs)
    found = compile_graph(graph, compiler(vector_bytes)).run(arrays)
    for y, want in zip(found, wanted, strict=True):
        np.testing.assert_allclose(y, want, atol=1e-5 * np.abs(want).max())


def test_blocks_of_channels_that_alias_in_caches() -> None:
    rng = np.random.default_rng(3)
    graph, arrays, wanted, outputs = Graph(), [], [], []
    for shape, weight in (((2, 80, 128, 1), (16, 80, 5, 1)), ((1, 72, 32, 64), (8, 72, 1, 1))):
        x = rng.normal(size=shape).astype(np.float32)
        w = (rng.normal(size=weight) / 20).astype(np.float32)
        op = Conv((1, 1), ((0, 0), (0, 0)), (1, 1))
        value = graph.add_input(TensorType(float32, shape), f"x{len(arrays)}")
        outputs.append(op(value, graph.constant(w)))
        arrays.append(x)
        wanted.append(reference(x, w, op))
    graph.set_outputs(outputs)
    for y, want in zip(compile_graph(graph, compiler(32)).run(arrays), wanted, strict=True):
        np.testing.assert_allclose(y, want, atol=1e-5 * np.abs(want).max())


@pytest.mark.parametrize("vector_bytes", WIDTHS)
def test_pooling_of_blocked_images(vector_bytes: int) -> None:
    rng = np.random.default_rng(1)
    graph = Graph()
    x = graph.add_input(TensorType(float32, (2, 3, 13, 14)), "x")
    one = ((1, 1), (1, 1))
    w = rng.normal(size=(20, 3, 3, 3)).astype(np.float32)
    y = f.exp(Conv((1, 1), one, (1, 1))(x, graph.constant(w)))
    y = Conv((1, 1), one, (1, 1), 20)(y, graph.constant(rng.normal(size=(20, 1, 3, 3)).astype("f")))
    pools = [
        MaxPool((3, 3), (2, 2), one, (1, 1)),
        MaxPool((2, 3), (2, 1), ((0, 0), (1, 1)), (1, 2)),
        MaxPool((3, 2), (2, 2), ((1, 1), (0, 1)), (1, 1), True),
        AvgPool((3, 3), (2, 2), one),
        AvgPool((3, 3), (2, 2), one, True, False),
        AvgPool((13, 14), (1, 1), ((0, 0), (0, 0))),
    ]
    outputs = [p(y) * 0.5 + 1.0 for p in pools]
    outputs += [f.mean(y, (2, 3), True), f.max(y, (2, 3)), f.sum(y, (3,), True)]
    graph.set_outputs(outputs)
    image = rng.normal(size=(2, 3, 13, 14)).astype(np.float32)
    image[0, 1, 3, 5] = np.nan  # which a maximum must hand on
    run = compile_graph(graph, compiler(vector_bytes)).run([image])
    for got, want in zip(run, interpret(graph, [image]), strict=True):
        scale = np.nanmax(np.abs(want), initial=1)
        np.testing.assert_allclose(got, want, atol=1e-5 * scale, rtol=1e-5)


@pytest.mark.parametrize("vector_bytes", WIDTHS)
def test_sizes_known_only_at_a_call(vector_bytes: int) -> None:
    rng = np.random.default_rng(2)
    n, h, w = Dim("n", min=1), Dim("h", min=7), Dim("w", min=7)
    graph = Graph()
    x = graph.add_input(TensorType(float32, (n, 3, h, w)), "x")

    def weight(*shape: int) -> Any:
        return graph.constant((rng.normal(size=shape) / shape[1]).astype(np.float32))

    one = ((1, 1), (1, 1))
    y = f.clip(Conv((2, 2), one, (1, 1))(x, weight(16, 3, 3, 3)), 0.0, None)
    z = Conv((1, 1), ((2, 2), (2, 2)), (2, 2), 16)(y, weight(16, 1, 3, 3))
    y = y + Conv((1, 1), ((0, 0), (0, 0)), (1, 1))(z, weight(16, 16, 1, 1))
    y = MaxPool((2, 3), (1, 2), one, (1, 1))(y)
    y = Conv((1, 1), ((2, 1), (0, 3)), (1, 1))(y, weight(20, 16, 4, 2))
    graph.set_outputs([y, f.mean(y, (2, 3))])
    executable = compile_graph(graph, compiler(vector_bytes))
    for size in ((1, 7, 7), (2, 20, 31), (1, 64, 90)):
        image = rng.normal(size=(size[0], 3, *size[1:])).astype(np.float32)
        for got, want in zip(executable.run([image]), interpret(graph, [image]), strict=True):
            np.testing.assert_allclose(got, want, atol=1e-5 * np.abs(want).max())


@pytest.mark.parametrize("vector_bytes", WIDTHS)
@pytest.mark.parametrize("window", [1, 3])
def test_what_follows_a_tile_reads_more_than_its_sums(vector_bytes: int, window: int) -> None:
    rng = np.random.default_rng(window)
    graph, border = Graph(), (window - 1) // 2
    x = graph.add_input(TensorType(float32, (Dim("n"), 16, 7, 9)), "x")
    gate = graph.add_input(TensorType(float32, (Dim("n"), 40, 1, 1)), "gate")
    column = graph.constant(rng.normal(size=(9,)).astype(np.float32))
    w = graph.constant((rng.normal(size=(40, 16, window, window)) / 4 / window).astype(np.float32))
    again = graph.constant((rng.normal(size=(40, 40, 1, 1)) / 6).astype(np.float32))
    y = Conv((1, 1), ((border, border),) * 2, (1, 1))(x, w)
    point = Conv((1, 1), ((0, 0), (0, 0)), (1, 1))
    graph.set_outputs(
        [
            f.clip(point(y, again) * gate + y, -1.0, None),  # sums of which all is known by place
            point(y, again) * column,  # which is read by column
            f.tanh(point(y, again)),  # which is dear
        ]
    )
    arrays = [rng.normal(size=s).astype(np.float32) for s in ((3, 16, 7, 9), (3, 40, 1, 1))]
    run = compile_graph(graph, compiler(vector_bytes)).run(arrays)
    for got, want in zip(run, interpret(graph, arrays), strict=True):
        np.testing.assert_allclose(got, want, atol=2e-5 * np.abs(want).max())


def test_layers_that_end_alike_share_the_functions_of_their_tiles() -> None:
    rng = np.random.default_rng(0)
    graph = Graph()
    y = graph.add_input(TensorType(float32, (1, 16, 12, 12)), "x")
    for outs, ins, stride in ((48, 16, 1), (32, 48, 1), (64, 32, 2)):
        op = Conv((stride, stride), ((0, 0), (0, 0)), (1, 1))
        w = graph.constant(rng.normal(size=(outs, ins, 1, 1)).astype(np.float32))
        bias = graph.constant(rng.normal(size=(outs, 1, 1)).astype(np.float32))
        y = f.clip(op(y, w) + bias, 0.0, 6.0)
    graph.set_outputs([y])
    text = build(graph, Target(32)).text
    assert len(re.findall(r"^static .* void tiles6x2", text, re.MULTILINE)) == 1
    assert "_epilogue" not in text
