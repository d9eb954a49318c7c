"""Non-maximum suppression as native code, box for box what the reference keeps."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from dualgraph_compiler import Dim, Graph, TensorType
from dualgraph_compiler.dtypes import float32, int64
from dualgraph_compiler.kernels import selection
from dualgraph_compiler.native import Target, build
from dualgraph_compiler.ops.selection import NonMaxSuppression
from dualgraph_runtime.native import Executable, compile_graph, find_compiler

pytestmark = pytest.mark.compiler


def graph_of(centered: bool, most: int | None = None) -> Graph:
    """The op for any number of images, classes and boxes; `most` where it is a constant."""
    graph = Graph()
    n, c, b = Dim("n"), Dim("c"), Dim("b")
    operands = [
        graph.add_input(TensorType(float32, (n, b, 4)), "boxes"),
        graph.add_input(TensorType(float32, (n, c, b)), "scores"),
    ]
    if most is None:
        operands.append(graph.add_input(TensorType(int64, ()), "most"))
    else:
        operands.append(graph.constant(np.array(most)))
    operands += [graph.add_input(TensorType(float32, ()), x) for x in ("overlap", "least")]
    graph.set_outputs([NonMaxSuppression(Dim("found"), centered)(*operands)])
    return graph


def case(n: int, c: int, b: int, seed: int) -> tuple[Any, Any]:
    """Boxes, some of them without area, turned round or not there; scores, many of them equal."""
    rng = np.random.default_rng(seed)
    boxes = rng.integers(0, 12, (n, b, 4)).astype(np.float32)
    scores = rng.integers(-3, 9, (n, c, b)).astype(np.float32) / 8
    boxes[rng.random((n, b)) < 0.05] = np.nan
    boxes[rng.random((n, b)) < 0.03, 2] = np.inf
    scores[rng.random((n, c, b)) < 0.1] = -0.0
    scores[rng.random((n, c, b)) < 0.05] = np.nan
    return boxes, scores


LIMITS = [(4, 0.5, 0.3), (1000, 0.2, 0.0), (60, 0.9, -np.inf), (0, 0.5, 0.1), (50, -1.0, 0.0)]


@pytest.mark.parametrize("centered", [False, True])
@pytest.mark.parametrize("vector_bytes", [16, 32])
def test_what_is_kept(vector_bytes: int, centered: bool) -> None:
    compiler = find_compiler()
    assert compiler is not None
    flags = tuple("-O1" if flag == "-O2" else flag for flag in compiler.flags)
    program = build(graph_of(centered), Target(vector_bytes))
    assert [s.op.name for s in program.steps if hasattr(s, "op")] == ["beginning"]
    run = Executable(program, dataclasses.replace(compiler, flags=flags))
    for seed, (n, c, b) in enumerate([(1, 1, 1), (2, 3, 40), (1, 2, 333), (1, 1, 0), (0, 2, 5)]):
        boxes, scores = case(n, c, b, seed)
        for most, overlap, least in LIMITS:
            numbers = (np.array(most), np.float32(overlap), np.float32(least))
            (got,) = run.run([boxes, scores, *map(np.asarray, numbers)])
            want = selection.non_max_suppression(np, boxes, scores, most, overlap, least, centered)
            np.testing.assert_array_equal(got, want)


def test_a_constant_limit_bounds_memory() -> None:
    graph = graph_of(False, most=7)
    boxes, scores = case(2, 3, 200, 5)
    run = compile_graph(graph)
    (got,) = run.run([boxes, scores, np.array(0.4, np.float32), np.array(0, np.float32)])
    want = selection.non_max_suppression(np, boxes, scores, 7, 0.4, 0.0, False)
    np.testing.assert_array_equal(got, want)
