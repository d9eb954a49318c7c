"""Factorizations of matrices larger than a block, against NumPy's products of what they give."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from dualgraph_compiler.dims import Dim
from dualgraph_compiler.dtypes import dtype_of
from dualgraph_compiler.errors import IndexOutOfRange
from dualgraph_compiler.graph import Graph
from dualgraph_compiler.kernels import factorization
from dualgraph_compiler.ops.base import REGISTRY, Op
from dualgraph_compiler.ops.lu import LuFactor, PivotsToPermutation
from dualgraph_compiler.ops.triangular import Cholesky, SolveTriangular
from dualgraph_compiler.types import TensorType
from dualgraph_runtime.native import compile_graph

pytestmark = pytest.mark.compiler
RNG = np.random.default_rng(0)


def run(op: Op, *arrays: Any, symbolic: bool = True) -> Any:
    """The results of one op, compiled; the first size of each operand is a symbol."""
    graph = Graph("g")
    inputs = []
    for a in arrays:
        first = Dim("batch") if symbolic and a.ndim > 2 and a.shape[0] > 1 else a.shape[0]
        inputs.append(graph.add_input(TensorType(dtype_of(a), (first, *a.shape[1:]))))
    found = graph.call(op, inputs)
    graph.set_outputs([found] if op.n_outputs == 1 else list(found))
    compiled = compile_graph(graph)
    assert "interpreted" not in compiled.report()
    return compiled.run(list(arrays))


def matrices(*shape: int, dtype: str = "float32") -> Any:
    return RNG.normal(size=shape).astype(dtype)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", [(3, 70, 50), (2, 33, 90), (2, 65, 65), (4, 1, 1), (2, 0, 3)])
def test_lu(shape: tuple[int, ...], dtype: str) -> None:
    a = matrices(*shape, dtype=dtype)
    packed, pivots, info = run(LuFactor(), a)
    want, order, _ = factorization.lu(np, a)
    np.testing.assert_array_equal(pivots, order)
    np.testing.assert_allclose(packed, want, atol=2e-4 if dtype == "float32" else 1e-12)
    assert not info.any()


def test_the_first_zero_pivot_is_told() -> None:
    a = matrices(3, 40, 40)
    a[1, :, 20] = a[1, :, 3] = 0
    a[2, 7] = 0
    _, _, info = run(LuFactor(), a)
    assert info[0] == 0
    assert info[1] == 4
    assert info[2] == 40


@pytest.mark.parametrize("upper", [False, True])
def test_cholesky(upper: bool) -> None:
    half = matrices(3, 50, 50)
    a = half @ half.swapaxes(1, 2) + 5 * np.eye(50, dtype=np.float32)
    a[1, 30, 30] = -1  # the others are positive definite
    (read, spoilt) = (np.triu, np.tril) if upper else (np.tril, np.triu)
    given = read(a) + spoilt(np.full_like(a, np.nan), -1 if upper else 1)  # is not read
    found, info = run(Cholesky(upper), given)
    np.testing.assert_array_equal(info, [0, 31, 0])
    low = found.swapaxes(1, 2) if upper else found
    for i in (0, 2):
        np.testing.assert_allclose(low[i] @ low[i].T, a[i], rtol=1e-4, atol=1e-3)
    np.testing.assert_array_equal(read(found), found)


@pytest.mark.parametrize("unit", [False, True])
@pytest.mark.parametrize("upper", [False, True])
@pytest.mark.parametrize("batches", [((3,), (3,)), ((2, 1), (1, 3)), ((), (2,)), ((2,), ())])
def test_triangular_systems(batches: Any, upper: bool, unit: bool) -> None:
    a = matrices(*batches[0], 40, 40, dtype="float64") / 40 + 2 * np.eye(40)
    b = matrices(*batches[1], 40, 21, dtype="float64")
    (x,) = run(SolveTriangular(upper, unit), a, b, symbolic=False)
    whole = np.triu(a) if upper else np.tril(a)
    if unit:
        whole = whole - whole * np.eye(40) + np.eye(40)
    np.testing.assert_allclose(whole @ x, np.broadcast_to(b, x.shape), atol=1e-9)


@pytest.mark.parametrize("inverse", [False, True])
def test_permutations(inverse: bool) -> None:
    pivots = np.array([[3, 2, 5], [1, 5, 4]], np.int32)
    (order,) = run(PivotsToPermutation(5, inverse), pivots)
    np.testing.assert_array_equal(order, factorization.permutation(np, pivots, 5, inverse))
    with pytest.raises(IndexOutOfRange, match="index -1"):
        run(PivotsToPermutation(5, inverse), pivots * 0)


def test_what_is_made_of_factors() -> None:
    a, b = matrices(4, 40, 40, dtype="float64"), matrices(1, 40, 3, dtype="float64")
    (det,) = run(REGISTRY["det"](), a)
    np.testing.assert_allclose(det, np.linalg.det(a), rtol=1e-9)
    sign, log = run(REGISTRY["slog_det"](), a)
    np.testing.assert_allclose(sign * np.exp(log), np.linalg.det(a), rtol=1e-9)
    x, info = run(REGISTRY["solve"](), a, b)
    np.testing.assert_allclose(a @ x, np.broadcast_to(b, x.shape), atol=1e-9)
    inverse, _ = run(REGISTRY["inverse"](), a)
    np.testing.assert_allclose(a @ inverse, np.broadcast_to(np.eye(40), a.shape), atol=1e-9)
    assert not info.any()
