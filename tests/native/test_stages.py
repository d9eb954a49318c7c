"""Programs of several steps, with sizes that only a run tells, carried out by the launcher."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from dualgraph_compiler.graph import Graph, interpret, parse_graph
from dualgraph_compiler.native import Interpreted
from dualgraph_runtime.native import Executable, compile_graph, executable

pytestmark = pytest.mark.compiler

# Nodes that Python computes, on what is there from the start, on compiled values and on each
# other's results; outputs whose sizes are known before and after, one of them twice, an input.
FOUND = """\
graph g(%x: f64[n, m], %least: f64[]):
  %0: f64[n] = sum(%x, axes=(1,), keepdims=False)
  %1: bool[n] = greater(%0, %least)
  %2: i64[1, found] = positions(%1, size=found)
  %3: i64[found] = reshape(%2, shape=(found,))
  %4: f64[found, m] = index_select(%x, %3, axis=0)
  %5: f64[found, m] = exp(%4)
  %6: f64[found*m] = reshape(%5, shape=(found*m,))
  %7: f64[u], %8: i64[u], %9: i64[found*m], %10: i64[u] = unique(%6, size=u, axis=None)
  %11: f64[u] = mul(%7, %7)
  return %0 as sums, %5 as rows, %7 as u, %10 as counts, %11 as squares, %7 as again, %3 as at"""


def cases() -> list[list[Any]]:
    rng = np.random.default_rng(1)
    return [
        [rng.integers(-4, 5, (n, m)).astype(float), np.array(least)]
        for n, m in ((5, 3), (1, 1), (64, 7), (0, 3), (5, 0), (5, 3), (300, 40))
        for least in (0.0, 1e9, -1e9)
    ]


def check(run: Executable, graph: Graph) -> None:
    kept = []
    for arrays in [*cases(), *cases()]:
        before = [a.copy() for a in arrays]
        got, want = run.run(arrays), interpret(graph, arrays)
        for a, b in zip(got, want, strict=True):
            assert (a.shape, a.dtype) == (b.shape, b.dtype)
            np.testing.assert_allclose(a, b, rtol=1e-12)
        every = [*arrays, *got]
        for i, a in enumerate(got):
            assert not any(np.may_share_memory(a, b) for b in every if b is not a), i
            assert a.flags.writeable
        np.testing.assert_array_equal(arrays[0], before[0])
        kept.append((got, [a.copy() for a in got]))
    for got, copies in kept:  # no later run has written to them
        for a, b in zip(got, copies, strict=True):
            np.testing.assert_array_equal(a, b)


def test_steps_by_the_launcher() -> None:
    graph = parse_graph(FOUND)
    run = compile_graph(graph)
    assert sum(isinstance(s, Interpreted) for s in run.program.steps)
    check(run, graph)
    assert run.extension is None or run.frame is not None


def test_steps_without_the_launcher(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(executable, "frame_type", lambda compiler: None)
    graph = parse_graph(FOUND)
    run = compile_graph(graph)
    check(run, graph)
    assert run.frame is None


def test_several_threads_at_once() -> None:
    graph = parse_graph(FOUND)
    run = compile_graph(graph)
    failed: list[BaseException] = []

    def work(check: Callable[[Executable, Graph], None]) -> None:
        try:
            check(run, graph)
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=work, args=(check,)) for _ in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not failed


def test_an_error_of_a_node_is_raised_and_the_next_call_runs() -> None:
    graph = parse_graph(
        """\
graph g(%start: i64[], %stop: i64[], %step: i64[], %x: i64[n]):
  %0: i64[k] = range(%start, %stop, %step, size=k)
  %1: i64[k] = add(%0, %0)
  %2: i64[k] = index_select(%x, %1, axis=0)
  return %2 as y"""
    )
    run = compile_graph(graph)
    x = np.arange(10) * 3

    def numbers(*given: int) -> list[Any]:
        return [*(np.array(i) for i in given), x]

    for _ in range(2):
        np.testing.assert_array_equal(run.run(numbers(0, 4, 1))[0], [0, 6, 12, 18])
        with pytest.raises(Exception, match="no end"):
            run.run(numbers(0, 4, 0))  # from the node
        with pytest.raises(IndexError, match="12"):
            run.run(numbers(0, 40, 6))  # from compiled code
        assert run.run(numbers(4, 4, 1))[0].shape == (0,)


def test_programs_are_let_go() -> None:
    run = compile_graph(parse_graph(FOUND))
    run.run(cases()[0])
    gone = weakref.ref(run)
    del run
    gc.collect()
    assert gone() is None
