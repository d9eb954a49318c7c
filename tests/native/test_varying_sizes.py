"""One frame for all sizes: shapes and memory are computed for each call by the launcher."""

from __future__ import annotations

import operator
import threading
from operator import add, mul
from typing import Any

import numpy as np
import pytest

from dualgraph_compiler import dtypes as dt
from dualgraph_compiler.dims import Dim, evaluate, floordiv, maximum, minimum, mod
from dualgraph_compiler.errors import FeedError
from dualgraph_compiler.graph import Graph, interpret, parse_graph
from dualgraph_compiler.types import TensorType
from dualgraph_runtime.native import Executable, compile_graph, find_compiler
from dualgraph_runtime.native.launcher import extension
from dualgraph_runtime.native.sizes import code_of, grown

compiler = find_compiler()
pytestmark = pytest.mark.skipif(
    compiler is None or extension(compiler) is None, reason="needs a C compiler"
)

# Intermediate values, outputs of composed sizes, and two sizes.
GRAPH = """
graph g(%x: f32[n, m], %y: f32[n, 4]):
  %1: f32[n, 4 + m] = concat(%x, %y, axis=1)
  %2: f32[n, 4 + m] = cumsum(%1, axis=1, exclusive=False, reverse=False)
  %3: f32[n, 4 + m] = softmax(%2, axis=0)
  %4: f32[n*(4 + m)] = reshape(%3, shape=(n*(4 + m),))
  return %4 as a, %2 as b
"""


def feeds(n: int, m: int) -> list[Any]:
    rng = np.random.default_rng(n * 100 + m)
    return [rng.normal(size=s).astype(np.float32) for s in ((n, m), (n, 4))]


def check(run: Executable, graph: Graph, n: int, m: int) -> None:
    arrays = feeds(n, m)
    for got, wanted in zip(run.run(arrays), interpret(graph, arrays), strict=True):
        assert got.shape == wanted.shape
        np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=1e-6)


def test_sizes_up_and_down() -> None:
    graph = parse_graph(GRAPH)
    run = compile_graph(graph)
    for n, m in ((3, 2), (3, 3), (1, 1), (50, 70), (51, 71), (2, 90), (0, 5), (5, 0), (3, 2)):
        check(run, graph, n, m)


def test_a_growing_size_seldom_makes_room() -> None:
    graph = parse_graph(GRAPH)
    run = compile_graph(graph)
    frames = []
    for m in range(16, 200):
        check(run, graph, 2, m)
        frames.append(run.frame)
    assert len({*map(id, frames)}) < 15
    last = frames[-1]
    check(run, graph, 2, 40)
    check(run, graph, 1, 120)
    assert run.frame is last
    run.trim()
    check(run, graph, 2, 200)


def test_what_does_not_fit_is_refused() -> None:
    run = compile_graph(parse_graph(GRAPH))
    run.run(feeds(3, 2))
    x, y = feeds(3, 2)
    for wrong in ([x, y[:2]], [x[0], y], [x, y[:, :3]], [x.astype(np.float64), y]):
        with pytest.raises(FeedError):
            run.run(wrong)
    bounded = compile_graph(_bounded())
    for n in (2, 4, 3):
        assert bounded.run([np.ones(n, np.float32)])[0].shape == (n,)
    for n in (1, 5):
        with pytest.raises(FeedError):
            bounded.run([np.ones(n, np.float32)])


def _bounded() -> Graph:
    graph = Graph("g")
    x = graph.add_input(TensorType(dt.float32, (Dim("n", min=2, max=4),)), "x")
    graph.set_outputs([-x], ["y"])
    return graph


def test_several_threads_with_sizes_of_their_own() -> None:
    graph = parse_graph(GRAPH)
    run = compile_graph(graph)
    failures: list[BaseException] = []

    def work(m: int) -> None:
        try:
            for n in (60, 70, 80) * 4:
                check(run, graph, n, m)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(m,)) for m in (100, 150, 200, 250)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert failures == []


def test_results_that_are_held_stay_as_they_are() -> None:
    graph = parse_graph(GRAPH)
    run = compile_graph(graph)
    held = [(run.run(feeds(2, m)), feeds(2, m)) for m in (5, 6, 5, 6, 7, 5)]
    for got, arrays in held:
        for a, b in zip(got, interpret(graph, arrays), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def _computed(code: list[int], sizes: list[int]) -> int:
    """What frame.c computes, in Python."""
    stack: list[int] = []
    at = iter(code)
    for op in at:
        if op == 0:
            break
        if op in (1, 2):
            n = next(at)
            stack.append(n if op == 1 else sizes[n])
            continue
        b, a = stack.pop(), stack.pop()
        stack.append({3: add, 4: mul, 5: operator.floordiv, 6: max}[op](a, b))
    (value,) = stack
    return value


def test_expressions_as_code() -> None:
    n, m = Dim("n"), Dim("m")
    cases = [n, n * m + 3, floordiv(n + 1, 2) * m, maximum(n, m) - 1, mod(n, 3), minimum(n, 7) * m]
    for case in cases:
        for sizes in ([0, 1], [5, 9], [12, 4]):
            env = dict(zip("nm", sizes, strict=True))
            assert _computed(code_of(case, {"n": 0, "m": 1}), sizes) == evaluate(case, env)


def test_room_is_made_for_more_than_is_needed() -> None:
    assert grown({"n": 8, "m": 3}, {"n": 7, "m": 4}) == {"n": 10, "m": 3}
