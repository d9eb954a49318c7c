"""Recurrent layers and their gradients, compiled as scans."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from dualgraph_compiler import Dim, Graph, TensorType
from dualgraph_compiler.dims import DimLike
from dualgraph_compiler.dtypes import DType, float32, float64, int64
from dualgraph_compiler.graph import gradients, interpret
from dualgraph_compiler.ops import f
from dualgraph_compiler.ops.gru import GRU
from dualgraph_compiler.ops.lstm import LSTM
from dualgraph_compiler.ops.recurrent import RNN
from dualgraph_runtime.native import compile_graph

from .test_conv_gradient import quick_compiler

pytestmark = pytest.mark.compiler

LAYERS: list[Any] = [LSTM(), LSTM(reverse=True), GRU(), GRU(reverse=True), RNN(), RNN("relu", True)]


def layer(
    op: Any, dtype: DType, steps: DimLike, batch: DimLike, sized: bool, backward: bool
) -> Graph:
    """All results of a layer of 5 features to 6, and the gradients of its operands."""
    graph = Graph("layer")
    features, hidden = 5, 6
    shapes: list[tuple[DimLike, ...]] = [(steps, batch, features)]
    shapes += [(batch, hidden)] * op.states
    shapes += [(op.gates * hidden, features), (op.gates * hidden, hidden)]
    shapes += [(op.gates * hidden,)] * 2
    operands = [graph.add_input(TensorType(dtype, s), f"x{i}") for i, s in enumerate(shapes)]
    lens = [graph.add_input(TensorType(int64, (batch,)), "lens")] if sized else []
    results = op(*operands, *lens)
    outputs = list(results)
    if backward:
        shown = [v * v for v in results[: 1 + op.states]]
        total = shown[0]
        loss = f.sum(total, tuple(range(total.ndim)))
        for v in shown[1:]:
            loss = loss + f.sum(f.tanh(v), tuple(range(v.ndim)))
        outputs += gradients(graph, [loss], operands)
    graph.set_outputs(outputs)
    return graph


def feeds(graph: Graph, sizes: dict[str, int], steps: int) -> list[Any]:
    rng = np.random.default_rng(0)
    arrays: list[Any] = []
    for v in graph.inputs:
        shape = tuple(d if isinstance(d, int) else sizes[str(d)] for d in v.shape)
        if v.name == "lens":
            arrays.append(rng.integers(1, steps + 1, shape))
        else:
            arrays.append(rng.standard_normal(shape).astype(np.float32))
    return arrays


def check(narrow: Graph, wide: Graph, arrays: list[Any], executable: Any) -> None:
    double = [a.astype(np.float64) if a.dtype.kind == "f" else a for a in arrays]
    wanted = interpret(wide, double)
    for got, want in zip(executable.run(arrays), wanted, strict=True):
        scale = max(1.0, np.abs(want).max(initial=0))
        np.testing.assert_allclose(got, want, atol=2e-5 * scale)


@pytest.mark.parametrize("sized", [False, True])
@pytest.mark.parametrize("op", LAYERS, ids=str)
def test_layer_and_its_gradients(op: Any, sized: bool) -> None:
    narrow, wide = (layer(op, t, 4, 3, sized, True) for t in (float32, float64))
    executable = compile_graph(narrow, quick_compiler())
    if not (sized and op.reverse):  # reversing sequences of lengths of their own is left
        assert "interpreted" not in executable.report()
    check(narrow, wide, feeds(narrow, {}, 4), executable)


@pytest.mark.parametrize("op", [LSTM(), GRU(), RNN()], ids=str)
def test_any_number_of_steps(op: Any) -> None:
    steps, batch = Dim("steps", min=1), Dim("batch", min=1)
    narrow, wide = (layer(op, t, steps, batch, False, True) for t in (float32, float64))
    executable = compile_graph(narrow, quick_compiler())
    assert "interpreted" not in executable.report()
    for n, b in ((1, 1), (5, 2), (17, 9)):
        check(narrow, wide, feeds(narrow, {"steps": n, "batch": b}, n), executable)


def test_results_that_nobody_reads() -> None:
    graph = layer(LSTM(), float32, 3, 2, False, False)
    y, h, *_ = graph.outputs
    graph.set_outputs([h, y])
    arrays = feeds(graph, {}, 3)
    executable = compile_graph(graph, quick_compiler())
    assert "concat" not in executable.report()  # the gates are kept for gradients only
    for got, want in zip(executable.run(arrays), interpret(graph, arrays), strict=True):
        np.testing.assert_allclose(got, want, atol=1e-6)


def test_no_steps() -> None:
    graph = layer(LSTM(), float32, 0, 2, False, False)
    arrays = feeds(graph, {}, 0)
    for got, want in zip(
        compile_graph(graph, quick_compiler()).run(arrays), interpret(graph, arrays), strict=True
    ):
        np.testing.assert_array_equal(got, want)
