"""Compiled programs as a caller sees them."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

import dualgraph_runtime.native.executable as executable
from dualgraph_compiler.dims import evaluate
from dualgraph_compiler.dtypes import float32
from dualgraph_compiler.errors import ArgumentError, DeviceError, FeedError
from dualgraph_compiler.graph import Graph, interpret, parse_graph
from dualgraph_compiler.native import Home, Interpreted, Target, build
from dualgraph_compiler.native.lower import nests
from dualgraph_compiler.ops import REGISTRY, f
from dualgraph_compiler.types import TensorType
from dualgraph_runtime.native import Compiler, Executable, compile_graph, find_compiler

pytestmark = pytest.mark.compiler

SOFTMAX = """
graph g(%x: f32[n, 10]):
  %1: f32[n, 10] = softmax(%x, axis=1)
  return %1 as output
"""

MIXED = """
graph g(%x: f32[n, 4], %y: f32[n, 4]):
  %1: f32[n, 4] = add(%x, %y)
  %2: f32[n, 4] = cumsum(%1, axis=1, exclusive=False, reverse=False)
  %3: f32[n, 4] = mul(%2, %1)
  %4: f32[4*n] = reshape(%3, shape=(4*n,))
  return %4 as a, %1 as b, %4 as c, %x as d
"""


def rand(*shape: int) -> np.ndarray[Any, Any]:
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


def without_launcher(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(executable, "frame_type", lambda compiler: None)


@pytest.fixture(params=["launcher", "ctypes"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both ways to call a program."""
    if request.param == "ctypes":
        without_launcher(monkeypatch)
    return str(request.param)


def test_any_size(way: str) -> None:
    graph = parse_graph(SOFTMAX)
    run = compile_graph(graph)
    for n in (3, 1, 0, 7, 3):
        x = rand(n, 10)
        (y,) = run.run([x])
        np.testing.assert_allclose(y, interpret(graph, [x])[0], rtol=1e-5)


def test_interpreted_nodes_stand_between_kernels(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(nests.RULES, REGISTRY["cumsum"])
    graph = parse_graph(MIXED)
    run = compile_graph(graph)
    x, y = rand(5, 4), rand(5, 4)
    found = run.run([x, y])
    for a, b in zip(found, interpret(graph, [x, y]), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5)
    assert sum(isinstance(s, Interpreted) for s in run.program.steps) == 1
    assert "cumsum has no native form yet" in run.report()
    # Every result is the caller's alone.
    for i, a in enumerate(found):
        assert not any(np.shares_memory(a, b) for b in (*found[:i], x, y))
        a[...] = 0


def test_results_are_new_arrays(way: str) -> None:
    run = compile_graph(parse_graph(SOFTMAX))
    x = rand(3, 10)
    (first,), (second,) = run.run([x]), run.run([x])
    assert not np.shares_memory(first, second)
    assert first.flags.owndata
    assert first.flags.writeable


def test_any_layout_of_inputs(way: str) -> None:
    run = compile_graph(parse_graph(SOFTMAX))
    x = rand(3, 10)
    (want,) = run.run([x])
    wide = rand(3, 20)
    wide[:, ::2] = x
    raw = np.zeros(3 * 10 * 4 + 1, np.uint8)
    unaligned = raw[1:].view(np.float32).reshape(3, 10)
    unaligned[...] = x
    swapped = x.astype(x.dtype.newbyteorder())
    for same in (np.asfortranarray(x), wide[:, ::2], unaligned, swapped):
        np.testing.assert_array_equal(run.run([same])[0], want)


def test_wrong_arrays_are_refused(way: str) -> None:
    run = compile_graph(parse_graph(SOFTMAX))
    run.run([rand(3, 10)])
    for wrong in (rand(3, 9), rand(10), rand(3, 10).astype(np.float64)):
        with pytest.raises(FeedError, match="input 'x'"):
            run.run([wrong])
    with pytest.raises(FeedError, match="expected 1 inputs"):
        run.run([])


def test_what_is_assumed_of_sizes_is_checked(way: str) -> None:
    text = SOFTMAX.replace("  %1", "  assume mod(n, 2) == 0, 'an even size'\n  %1", 1)
    run = compile_graph(parse_graph(text))
    for n in (2, 4):
        assert run.run([rand(n, 10)])[0].shape == (n, 10)
        with pytest.raises(FeedError, match="an even size: the graph needs .* but n = 3"):
            run.run([rand(3, 10)])


def test_division_by_zero_is_an_error(way: str) -> None:
    graph = parse_graph("""
graph g(%x: i32[4], %y: i32[4]):
  %1: i32[4] = floor_div(%x, %y)
  return %1 as output
""")
    run = compile_graph(graph)
    low = np.iinfo(np.int32).min
    x, y = np.array([7, -7, low, 1], np.int32), np.array([2, 2, -1, 3], np.int32)
    for _ in range(2):
        np.testing.assert_array_equal(run.run([x, y])[0], [3, -4, low, 0])
        with pytest.raises(ArgumentError, match="floor_div: integer division by zero"):
            run.run([x, y * 0])


def test_threads(way: str) -> None:
    graph = parse_graph("""
graph g(%x: f32[64, 300]):
  %1: f32[64, 300] = softmax(%x, axis=1)
  %2: f32[300, 64] = permute(%1, axes=(1, 0))
  %3: f32[300, 64] = softmax(%2, axis=1)
  return %3 as output
""")
    run = compile_graph(graph)
    inputs = [rand(64, 300) * i for i in range(8)]
    want = [run.run([x])[0] for x in inputs]
    barrier = threading.Barrier(4)

    def work(_: int) -> None:
        barrier.wait()
        for _ in range(20):
            for x, y in zip(inputs, want, strict=True):
                np.testing.assert_array_equal(run.run([x])[0], y)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))


def test_params_are_fed_beside_inputs(way: str) -> None:
    graph = parse_graph(
        """
graph g(%x: f32[2, 3]):
  param %w: f32[3]
  %1: f32[2, 3] = mul(%x, %w)
  return %1 as output
"""
    )
    run = compile_graph(graph)
    x = rand(2, 3)
    for w in (rand(3), rand(3) * 2):
        np.testing.assert_array_equal(run.run([x], [w])[0], x * w)


def test_the_same_graph_gives_the_same_text() -> None:
    for vector in (16, 32, 64):
        texts = {build(parse_graph(MIXED), Target(vector)).text for _ in range(3)}
        assert len(texts) == 1


def test_equal_kernels_are_one_function() -> None:
    graph = parse_graph("""
graph g(%x: f32[8, 10], %y: f32[8, 10]):
  %1: f32[8, 10] = softmax(%x, axis=1)
  %2: f32[8, 10] = softmax(%y, axis=1)
  return %1 as a, %2 as b
""")
    program = build(graph)
    assert len(program.kernels) == 2
    assert program.text.count("static void kernel") == 1


@pytest.mark.parametrize("vector", [16, 32, 64])
def test_every_width_of_vectors(vector: int) -> None:
    graph = parse_graph(SOFTMAX)
    compiler = find_compiler()
    assert compiler is not None
    for n in (1, 9):
        x = rand(n, 10) * 5
        (y,) = Executable(build(graph, Target(vector)), compiler).run([x])
        np.testing.assert_allclose(y, interpret(graph, [x])[0], rtol=1e-5)


def test_a_compiler_that_fails_says_why(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    monkeypatch.setenv("DUALGRAPH_CACHE_DIR", str(tmp_path))
    compiler = find_compiler()
    assert compiler is not None
    broken = Compiler(compiler.command, ("-not-a-flag",), "x", compiler.target)
    with pytest.raises(DeviceError, match="not-a-flag"):
        compile_graph(parse_graph(SOFTMAX), broken)


def test_names_from_a_file_do_not_become_code() -> None:
    graph = parse_graph(SOFTMAX)
    graph.inputs[0].name = '*/ #include "x" \\\n evil(); //'
    program = build(graph)
    assert "evil();" not in program.text
    compile_graph(graph).run([rand(2, 10)])


def test_packed_constants_that_fill_huge_pages() -> None:
    """Some larger than a page, some behind them, one of a line's part, one of no elements."""
    shapes = [(700, 800), (33, 5), (900, 300), (20, 0), (16, 16)]
    graph = Graph()
    arrays = [rand(3, k) for k, _ in shapes]
    operands = [
        graph.add_input(TensorType(float32, a.shape), f"x{i}") for i, a in enumerate(arrays)
    ]
    weights = [rand(*shape) for shape in shapes]
    pairs = zip(operands, weights, strict=True)
    graph.set_outputs([f.matmul(x, graph.constant(w)) for x, w in pairs])
    run = compile_graph(graph)
    packed = [slot for slot in run.program.slots if slot.home is Home.PACKED]
    assert sum(evaluate(slot.elements, {}) * 4 for slot in packed) > 2**21
    for got, a, w in zip(run.run(arrays), arrays, weights, strict=True):
        np.testing.assert_allclose(got, a.astype(np.float64) @ w, rtol=1e-4, atol=1e-4)
