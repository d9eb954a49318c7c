"""Products with constant matrices of few numbers a column are sums of few terms."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from dualgraph_compiler.dims import Dim
from dualgraph_compiler.dtypes import float32
from dualgraph_compiler.graph import Graph
from dualgraph_compiler.kernels.interpolation import weights
from dualgraph_compiler.native.sparse import sparse_product
from dualgraph_compiler.ops import f
from dualgraph_compiler.ops.conv import Conv
from dualgraph_compiler.types import TensorType
from dualgraph_runtime.native import compile_graph

pytestmark = pytest.mark.compiler
RNG = np.random.default_rng(0)


def matrix(size: int, out: int, cubic: float | None = None) -> Any:
    """The weights of an interpolation: [size, out]."""
    places = (np.arange(out) + 0.5) * size / out - 0.5
    return weights(places, size, out / size, cubic=cubic).T.astype(np.float32)


def along(x: Any, axis: int, m: Any) -> Any:
    """The product along an axis, as importing writes it."""
    axes = [i for i in range(x.ndim) if i != axis] + [axis]
    back = [axes.index(i) for i in range(x.ndim)]
    return f.permute(f.matmul(f.permute(x, axes), x.graph.constant(m)), back)


@pytest.mark.parametrize("channels", [3, 8])
@pytest.mark.parametrize("cubic", [None, -0.75])
def test_images_are_resized(channels: int, cubic: float | None) -> None:
    graph = Graph("g")
    x = graph.add_input(TensorType(float32, (Dim("n"), channels, 64, 40)), "x")
    rows, columns = matrix(64, 96, cubic), matrix(40, 80, cubic)
    weight = RNG.normal(size=(8, channels, 1, 1)).astype(np.float32)
    y = Conv((1, 1), ((0, 0), (0, 0)), (1, 1))(x, graph.constant(weight))
    graph.set_outputs([along(along(y, 3, columns), 2, rows), along(x, 2, rows)])
    image = RNG.normal(size=(2, channels, 64, 40)).astype(np.float32)
    small, plain = compile_graph(graph).run([image])
    mixed = np.einsum("nchw,oc->nohw", image.astype(np.float64), weight[:, :, 0, 0])
    np.testing.assert_allclose(
        small, np.einsum("nchw,hp,wq->ncpq", mixed, rows, columns), atol=1e-4
    )
    np.testing.assert_allclose(plain, np.einsum("nchw,hp->ncpw", image, rows), atol=1e-4)


def test_columns_of_zeros_and_what_is_not_finite() -> None:
    """What is infinite stays where it is: no term of weight 0 makes NaN of it."""
    m = np.zeros((40, 5), np.float32)
    m[3, 0], m[4, 0], m[7, 1], m[39, 4] = 2, -1, 1, 3
    graph = Graph("g")
    x = graph.add_input(TensorType(float32, (2, 40)), "x")
    graph.set_outputs([f.matmul(x, graph.constant(m))])
    values = RNG.normal(size=(2, 40)).astype(np.float32)
    values[0, 7] = np.inf
    (y,) = compile_graph(graph).run([values])
    np.testing.assert_array_equal(np.isinf(y[0]), [False, True, False, False, False])
    assert not np.isnan(y).any()
    np.testing.assert_allclose(y[1], values[1] @ m, rtol=1e-6)


def test_dense_products_stay() -> None:
    graph = Graph("g")
    x = graph.add_input(TensorType(float32, (4, 40)), "x")
    y = f.matmul(x, graph.constant(RNG.normal(size=(40, 9)).astype(np.float32)))
    assert sparse_product(y.node) is None
