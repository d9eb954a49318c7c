"""Which values are blocked: what passes through, where the plain form comes back, what stays."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from dualgraph_compiler import Graph, TensorType
from dualgraph_compiler.dtypes import float32
from dualgraph_compiler.graph import interpret, verify
from dualgraph_compiler.native import Target
from dualgraph_compiler.native.prepare import prepare
from dualgraph_compiler.ops import f
from dualgraph_compiler.ops.adaptive_pool import AdaptiveMaxPool
from dualgraph_compiler.ops.avg_pool import AvgPool
from dualgraph_compiler.ops.conv import Conv
from dualgraph_compiler.ops.indexing import IndexSelect
from dualgraph_compiler.ops.pool import MaxPool

SAME = Conv((1, 1), ((1, 1), (1, 1)), (1, 1))
POINT = Conv((1, 1), ((0, 0), (0, 0)), (1, 1))


class Net:
    """A graph with an image for input."""

    def __init__(self, *shape: int) -> None:
        self.rng = np.random.default_rng(0)
        self.graph = Graph()
        self.shape = shape
        self.x = self.graph.add_input(TensorType(float32, shape), "x")

    def weight(self, *shape: int) -> Any:
        return self.graph.constant(self.rng.normal(size=shape).astype(np.float32))

    def prepared(self, *outputs: Any) -> Graph:
        """The graph as the native engine takes it, after a check that it computes the same."""
        self.graph.set_outputs(outputs)
        made = prepare(self.graph, Target(32))
        verify(made)
        image = self.rng.normal(size=self.shape).astype(np.float32)
        pairs = zip(interpret(made, [image]), interpret(self.graph, [image]), strict=True)
        for got, want in pairs:
            np.testing.assert_allclose(got, want, atol=1e-4 * np.abs(want).max(), rtol=1e-4)
        return made


def names(graph: Graph) -> list[str]:
    return [n.op.name for n in graph.nodes]


def test_a_residual_network_is_reordered_at_its_end_only() -> None:
    net = Net(2, 3, 16, 16)
    y = f.clip(SAME(net.x, net.weight(16, 3, 3, 3), net.weight(16)), 0.0, None)
    y = MaxPool((3, 3), (2, 2), ((1, 1), (1, 1)), (1, 1))(y)
    scale = f.reshape(net.weight(16), (1, 16, 1, 1))
    y = f.clip(SAME(y, net.weight(16, 16, 3, 3)) * scale + y, 0.0, None)
    y = f.concat([y, POINT(y, net.weight(24, 16, 1, 1))], 1)
    y = AvgPool((2, 2), (2, 2), ((0, 0), (0, 0)))(y)
    gate = f.sigmoid(POINT(f.mean(y, (2, 3), True), net.weight(40, 40, 1, 1)))
    graph = net.prepared(y * gate)
    assert names(graph).count("permute") == 1
    assert next(n for n in graph.nodes if n.op.name == "permute").output.shape == (2, 5, 8, 4, 4)
    assert "conv" not in names(graph)


def test_a_mean_over_space_needs_no_reorder() -> None:
    net = Net(2, 3, 8, 8)
    y = f.mean(SAME(net.x, net.weight(16, 3, 3, 3)), (2, 3))
    assert "permute" not in names(net.prepared(y))


def test_channels_that_are_split_or_shuffled() -> None:
    net = Net(1, 3, 8, 8)
    y = SAME(net.x, net.weight(32, 3, 3, 3))
    left, right = f.slice_axis(y, 1, 0, 16), f.slice_axis(y, 1, 16, 32)
    y = f.concat([left, POINT(right, net.weight(16, 16, 1, 1))], 1)
    assert names(net.prepared(POINT(y, net.weight(8, 32, 1, 1)))).count("permute") == 1
    shuffled = f.reshape(f.permute(f.reshape(y, (1, 2, 16, 8, 8)), (0, 2, 1, 3, 4)), (1, 32, 8, 8))
    assert "blocked_conv" in names(net.prepared(POINT(shuffled, net.weight(8, 32, 1, 1))))


def test_lanes_behind_the_last_channel_stay_finite() -> None:
    net = Net(1, 3, 8, 8)
    y = SAME(net.x, net.weight(12, 3, 3, 3))
    fine = POINT(f.exp(f.tanh(y)) + 1.0, net.weight(4, 12, 1, 1))
    graph = net.prepared(fine)
    assert names(graph).count("permute") == 1
    behind = interpret(graph, [np.ones(net.shape, np.float32)])
    assert np.isfinite(behind[0]).all()
    net = Net(1, 3, 8, 8)
    y = SAME(net.x, net.weight(12, 3, 3, 3))
    spoilt = POINT(1.0 / (f.abs(y) * 2.0), net.weight(4, 12, 1, 1))
    graph = net.prepared(spoilt)
    divisions = [n for n in graph.nodes if n.op.name in ("div", "reciprocal")]
    assert all(n.output.ndim == 4 for n in divisions)


def test_what_only_touches_space_or_mixes_channels_stays_right() -> None:
    net = Net(2, 3, 8, 8)
    y = SAME(net.x, net.weight(16, 3, 3, 3))
    mask = net.weight(8, 8)
    position = net.weight(1, 1, 8, 8)
    per_place = y * mask + position
    over_channels = f.softmax(per_place, 1)
    over_rows = f.sum(per_place, (3,), True)
    by_sample = per_place * net.weight(2, 1, 1, 1) + net.weight(2, 16, 1, 1)
    net.prepared(over_channels, over_rows, f.flip(per_place, (1,)), by_sample)


def test_axes_of_size_one_come_and_go() -> None:
    net = Net(2, 16, 40, 1)
    y = Conv((1, 1), ((0, 0), (0, 0)), (1, 1))(net.x, net.weight(24, 16, 5, 1))
    y = f.tanh(f.reshape(y, (2, 24, 36))) * 2.0
    top, _ = AdaptiveMaxPool((1,))(y)
    assert names(net.prepared(f.reshape(top, (2, 24)))).count("permute") == 1  # at the input


def test_an_enlarged_image_stays_blocked() -> None:
    net = Net(2, 3, 8, 6)
    y = SAME(net.x, net.weight(12, 3, 3, 3))
    pixels = f.expand(f.reshape(y, (2, 12, 8, 1, 6, 1)), (2, 12, 8, 2, 6, 2))
    y = SAME(f.reshape(pixels, (2, 12, 16, 12)), net.weight(8, 12, 3, 3))
    assert names(net.prepared(y)).count("permute") == 1


def test_a_convolution_of_few_channels_stays_plain() -> None:
    net = Net(1, 3, 8, 8)
    assert "blocked_conv" not in names(net.prepared(SAME(net.x, net.weight(1, 3, 3, 3))))


def enlarged(x: Any, axis: int, matrix: np.ndarray[Any, Any]) -> Any:
    """The product of a matrix [size, out] with `x` along an axis, the way Resize is imported."""
    last = [*(i for i in range(x.ndim) if i != axis), axis]
    product = f.matmul(f.permute(x, last), x.graph.constant(matrix.astype(np.float32)))
    return f.permute(product, [last.index(i) for i in range(x.ndim)])


def bands(size: int, out: int, taps: int) -> np.ndarray[Any, Any]:
    """A matrix with `taps` weights in a column, fewer at its ends."""
    matrix = np.zeros((size, out))
    first = np.linspace(1 - taps, size - 1, out).astype(int)
    for k in range(taps):
        inside = (first + k >= 0) & (first + k < size)
        matrix[(first + k)[inside], np.flatnonzero(inside)] = 0.5 - 0.2 * k
    return matrix


@pytest.mark.parametrize("taps", [2, 4])
def test_an_interpolated_image_stays_blocked(taps: int) -> None:
    net = Net(2, 3, 9, 10)
    y = SAME(net.x, net.weight(12, 3, 3, 3))
    y = enlarged(enlarged(y, 2, bands(9, 18, taps)), 3, bands(10, 15, taps))
    made = net.prepared(POINT(y, net.weight(8, 12, 1, 1)))
    assert names(made).count("permute") == 1  # at the end
    assert "matmul" not in names(made)


def test_products_along_space_with_other_matrices_stay_products() -> None:
    net = Net(2, 3, 9, 10)
    y = SAME(net.x, net.weight(12, 3, 3, 3))
    full = net.rng.normal(size=(10, 6))
    shifted = f.sigmoid(y)  # which is not 0 behind the last channel
    outputs = [enlarged(y, 3, full), enlarged(shifted, 3, bands(10, 15, 2))]
    assert names(net.prepared(*outputs)).count("matmul") == 2


def test_rows_and_columns_in_another_order_stay_blocked() -> None:
    net = Net(2, 3, 9, 10)
    y = SAME(net.x, net.weight(12, 3, 3, 3))
    columns = net.graph.constant(np.array([0, 3, 3, 9, -1]))
    y = f.permute(IndexSelect(3)(y, columns), (0, 1, 3, 2))
    made = net.prepared(POINT(y, net.weight(8, 12, 1, 1)))
    assert names(made).count("permute") == 2  # the one that is asked for, and at the end
