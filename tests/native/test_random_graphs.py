"""Random graphs, compiled, against the interpreter: fusion keeps results."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dualgraph_compiler import Dim, Graph, TensorType
from dualgraph_compiler.dtypes import float32
from dualgraph_compiler.errors import DualGraphError
from dualgraph_compiler.graph import Interpreter
from dualgraph_compiler.ops.base import REGISTRY
from dualgraph_compiler.ops.movement import Expand, Permute, Reshape
from dualgraph_compiler.ops.padding import Pad
from dualgraph_compiler.ops.rearrange import Concat, Flip, Tril
from dualgraph_compiler.ops.reduction import Max, Mean, Sum
from dualgraph_compiler.ops.slicing import Slice, SliceGrad
from dualgraph_runtime.native import compile_graph

from ..passes.test_random_graphs import graphs as mixed_graphs

pytestmark = pytest.mark.compiler

N = Dim("n", min=1)
SHAPES = [(), (5,), (N, 5), (N, 1), (2, N, 5), (2, 1, 5), (2, N, 1), (5, N), (1, 9), (N, 9), (9, N)]
UNARY = ["neg", "abs", "relu", "tanh", "sigmoid", "exp"]
BINARY = ["add", "sub", "mul", "maximum", "minimum"]


@st.composite
def row_graphs(draw: Any) -> Graph:
    """Graphs full of reductions, broadcasts and changes of shape."""
    graph = Graph("random")
    shapes = draw(st.lists(st.sampled_from(SHAPES), min_size=1, max_size=3))
    values = [graph.add_input(TensorType(float32, s), f"x{i}") for i, s in enumerate(shapes)]
    for _ in range(draw(st.integers(3, 14))):
        made = _step(draw, graph, values)
        if made is not None:
            values.append(made)
    outputs = [*draw(st.lists(st.sampled_from(values), min_size=0, max_size=2)), values[-1]]
    graph.set_outputs(outputs, [f"out{i}" for i in range(len(outputs))])
    return graph


def _step(draw: Any, graph: Graph, values: list[Any]) -> Any:
    a = draw(st.sampled_from(values[-4:]))
    b = draw(st.sampled_from(values))
    axes = tuple(i for i in range(a.ndim) if draw(st.booleans()))
    keepdims = draw(st.booleans())
    order = tuple(draw(st.permutations(range(a.ndim))))
    start = tuple(0 if isinstance(d, Dim) else min(1, d - 1) for d in a.shape)
    larger = tuple(d + 2 for d in a.shape)
    inner = tuple(d + 1 for d in a.shape)
    ops: list[Any] = [
        *((REGISTRY[draw(st.sampled_from(UNARY))](), [a]) for _ in range(3)),
        *((REGISTRY[draw(st.sampled_from(BINARY))](), [a, b]) for _ in range(6)),
        *((op(axes, keepdims), [a]) for op in (Sum, Mean, Max) for _ in range(2)),
        (Permute(order), [a]),
        (Reshape((a.size,)), [a]),
        (Reshape((1, *a.shape, 1)), [a]),
        (Reshape(tuple(d for d in a.shape if d != 1)), [a]),
        (Expand((3, *a.shape)), [a]),
        (Slice(start, a.shape, (1,) * a.ndim), [a]),
        (SliceGrad((1,) * a.ndim, inner, (1,) * a.ndim, larger), [a]),
        (Flip(axes), [a]),
        (Tril(0), [a]),
        (Pad(((1, 2),) * a.ndim, 0.5), [a]),
        (Concat(0), [a, a, b]),
    ]
    op, operands = draw(st.sampled_from(ops))
    try:
        return graph.call(op, operands)
    except DualGraphError:
        return None


def check(graph: Graph, sizes: list[int], low: float, high: float) -> None:
    """Compiled and interpreted results agree, for each size of the symbol."""
    run, oracle = compile_graph(graph), Interpreter(graph)
    for n in sizes:
        rng = np.random.default_rng(n)
        arrays = []
        for v in graph.inputs:
            shape = [n if isinstance(d, Dim) else d for d in v.shape]
            arrays.append(rng.uniform(low, high, shape).astype(v.dtype.np))
        with np.errstate(all="ignore"):
            want = oracle.run(arrays)
        for got, expected in zip(run.run(arrays), want, strict=True):
            assert got.shape == expected.shape
            assert got.dtype == expected.dtype
            scale = max(1.0, np.abs(expected[np.isfinite(expected)]).max(initial=0))
            np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5 * scale)


@settings(max_examples=60)
@given(graph=row_graphs())
def test_rows(graph: Graph) -> None:
    check(graph, [1, 3, 40], -1.0, 1.0)


@settings(max_examples=25)
@given(graph=mixed_graphs(smooth=True))
def test_mixed(graph: Graph) -> None:
    check(graph, [4], -2.0, 2.0)
