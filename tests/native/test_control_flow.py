"""Branches, scans and loops, compiled with their bodies."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from dualgraph_compiler import Dim, Graph, TensorType
from dualgraph_compiler.dtypes import bool_, float32, int64
from dualgraph_compiler.errors import ArgumentError
from dualgraph_compiler.graph import interpret
from dualgraph_compiler.native import Home
from dualgraph_compiler.ops import f
from dualgraph_compiler.ops.base import REGISTRY
from dualgraph_compiler.ops.control import If
from dualgraph_compiler.ops.conv import Conv
from dualgraph_compiler.ops.loop import Loop
from dualgraph_compiler.ops.scan import Scan
from dualgraph_runtime.native import Executable, compile_graph

from .test_conv_gradient import quick_compiler

pytestmark = pytest.mark.compiler

F4 = TensorType(float32, (4,))
MATRIX = np.random.default_rng(7).standard_normal((4, 4)).astype(np.float32)


def native(graph: Graph) -> Executable:
    executable = compile_graph(graph, quick_compiler())
    assert "interpreted" not in executable.report()
    return executable


def check(graph: Graph, executable: Executable, *arrays: Any) -> None:
    found = executable.run(list(arrays))
    for got, want in zip(found, interpret(graph, list(arrays)), strict=True):
        assert got.shape == want.shape
        np.testing.assert_allclose(got, want, rtol=1e-6, atol=1e-6)


def vector(*numbers: float) -> Any:
    return np.array(numbers, np.float32)


def test_branches() -> None:
    """Results that are computed, that are operands, that are twice the same, and constants."""
    then, other = Graph("then"), Graph("else")
    x, y = (then.add_input(F4) for _ in range(2))
    total = f.matmul(f.reshape(x, (1, 4)), then.constant(MATRIX))
    total = f.reshape(total, (4,)) + y
    then.set_outputs([total, total, y, then.constant(vector(1, 2, 3, 4))])
    x, y = (other.add_input(F4) for _ in range(2))
    other.set_outputs([y, x, f.tanh(x) * other.constant(MATRIX[0]), y])
    graph = Graph()
    cond = graph.add_input(TensorType(bool_, ()))
    x, y = (graph.add_input(F4) for _ in range(2))
    results = If(then, other)(cond, x * 2, y)
    graph.set_outputs([*results, results[0] + results[3]])
    executable = native(graph)
    for truth in (True, False):
        check(graph, executable, np.array(truth), vector(1, 2, 3, 4), vector(5, 6, 7, -8))


IMAGE = TensorType(float32, (1, 16, 6, 6))


def layers(graph: Graph, x: Any, seed: int) -> Any:
    """A convolution, a depthwise one and a product with constants."""
    rng = np.random.default_rng(seed)

    def weight(*shape: int) -> Any:
        return graph.constant(rng.standard_normal(shape).astype(np.float32) / 8)

    y = Conv((1, 1), ((1, 1), (1, 1)), (1, 1))(x, weight(16, 16, 3, 3))
    y = f.tanh(Conv((1, 1), ((1, 1), (1, 1)), (1, 1), 16)(f.tanh(y), weight(16, 1, 3, 3)))
    return f.reshape(f.matmul(f.reshape(y, (16, 36)), weight(36, 36)), IMAGE.shape)


def branches_of(outer: Graph, cond: Any, x: Any, make: Any) -> Any:
    bodies = []
    for i, name in enumerate(("then", "else")):
        bodies.append(Graph(name))
        given = [bodies[i].add_input(v.type) for v in (x, cond)]
        bodies[i].set_outputs([make(bodies[i], *given, i)])
    return If(*bodies)(cond, x, cond)


def test_weights_of_branches_are_packed_once() -> None:
    """Those of branches in branches, in loops in branches, and in branches in loops, too."""

    def inner(graph: Graph, x: Any, cond: Any, i: int) -> Any:
        return layers(graph, x, i)

    def middle(graph: Graph, x: Any, cond: Any, i: int) -> Any:
        y = layers(graph, x, 2 + i)
        if i == 0:
            return branches_of(graph, f.logical_or(cond, cond), y, inner)
        body = Graph("body")
        state, truth, _ = (body.add_input(t) for t in (IMAGE, cond.type, TensorType(float32, ())))
        body.set_outputs([branches_of(body, truth, layers(body, state, 4), inner), truth])
        pieces = graph.constant(np.zeros(3, np.float32))
        return Scan(body, 2, 1, 3)(y, cond, pieces)[0]

    graph = Graph()
    cond, x = graph.add_input(TensorType(bool_, ())), graph.add_input(IMAGE)
    graph.set_outputs([branches_of(graph, cond, x, middle)])
    executable = native(graph)
    image = np.random.default_rng(0).standard_normal(IMAGE.shape).astype(np.float32)
    for truth in (True, False, True):
        check(graph, executable, np.array(truth), image)
    homes = [s.home for s in executable.program.slots]
    assert homes.count(Home.PACKED) == 3 * 7


def scan_body() -> Graph:
    """Carries a vector and a counter; stacks the vector, its double, and a sum."""
    body = Graph("body")
    state, count = body.add_input(F4), body.add_input(TensorType(int64, ()))
    piece, w = body.add_input(F4), body.add_input(TensorType(float32, (4, 4)))
    new = f.tanh(f.reshape(f.matmul(f.reshape(state, (1, 4)), w), (4,)) + piece)
    new = new * body.constant(np.array(0.5, np.float32)) + body.constant(MATRIX[1])
    body.set_outputs([new, count + 1, new, piece * 2, f.sum(new, (0,)), state])
    return body


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("length", [0, 1, 2, 7])
def test_scan(length: int, reverse: bool) -> None:
    graph = Graph()
    state, count = graph.add_input(F4), graph.add_input(TensorType(int64, ()))
    xs = graph.add_input(TensorType(float32, (length, 4)))
    w = graph.add_input(TensorType(float32, (4, 4)))
    graph.set_outputs(Scan(scan_body(), 2, 1, length, reverse)(state, count, xs, f.transpose(w)))
    xs_data = np.random.default_rng(length).standard_normal((length, 4)).astype(np.float32)
    check(graph, native(graph), vector(1, -1, 0, 2), np.array(3), xs_data, MATRIX)


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("length", [0, 1, 2, 5])
def test_states_that_are_stacked(length: int, reverse: bool) -> None:
    """They are computed in the stack, where the next step reads them; a second one is a copy."""
    body = Graph("step")
    a, b, piece = (body.add_input(F4) for _ in range(3))
    new = a * 0.5 + piece
    other = b + new
    body.set_outputs([new, other, other, new, new, a, piece])
    graph = Graph()
    states = [graph.add_input(F4) for _ in range(2)]
    xs = graph.add_input(TensorType(float32, (length, 4)))
    graph.set_outputs(Scan(body, 2, 1, length, reverse)(*states, xs))
    executable = native(graph)
    text = executable.program.text
    assert "const next0 = (f32 *)" in text
    assert "step % 2 ?" not in text
    xs_data = np.random.default_rng(length).standard_normal((length, 4)).astype(np.float32)
    check(graph, executable, vector(1, -1, 0, 2), vector(4, 3, 2, 1), xs_data)


def test_scan_of_any_length_inside_a_scan() -> None:
    n = Dim("n", min=1)
    inner = Graph("inner")
    total, piece = inner.add_input(F4), inner.add_input(F4)
    inner.set_outputs([total * 0.5 + piece, total])
    outer = Graph("outer")
    total = outer.add_input(F4)
    rows = outer.add_input(TensorType(float32, (n, 4)))
    last, stack = Scan(inner, 1, 1, n)(total, rows)
    outer.set_outputs([last, f.sum(stack, (0,))])
    graph = Graph()
    start = graph.add_input(F4)
    xs = graph.add_input(TensorType(float32, (3, n, 4)))
    graph.set_outputs(Scan(outer, 1, 1, 3)(start, xs))
    executable = native(graph)
    for size in (1, 5):
        xs_data = np.random.default_rng(size).standard_normal((3, size, 4)).astype(np.float32)
        check(graph, executable, vector(1, 2, 3, 4), xs_data)


def test_loop() -> None:
    """Ends at its limit or by its own condition, and may not begin."""
    body = Graph("body")
    step, state = body.add_input(TensorType(int64, ())), body.add_input(F4)
    bound = body.add_input(TensorType(float32, ()))
    new = state + f.cast(step, float32)
    body.set_outputs([f.less(f.max(new, (0,)), bound), new])
    graph = Graph()
    limit = graph.add_input(TensorType(int64, ()))
    cond = graph.add_input(TensorType(bool_, ()))
    state, bound = graph.add_input(F4), graph.add_input(TensorType(float32, ()))
    graph.set_outputs([Loop(body, 1)(limit, cond, state, bound)])
    executable = native(graph)
    for steps, begin, most in ((5, True, 100), (50, True, 20), (0, True, 9), (4, False, 9)):
        most_data = np.array(most, np.float32)
        check(graph, executable, np.array(steps), np.array(begin), vector(0, 1, 2, 3), most_data)


def test_loop_with_stacked_results() -> None:
    body = Graph("body")
    step, state = body.add_input(TensorType(int64, ())), body.add_input(F4)
    new = state * 2
    total = f.sum(new, (0,)) + f.cast(step, float32)
    body.set_outputs([body.constant(np.array(True)), new, total, new])
    graph = Graph()
    state = graph.add_input(F4)
    limit, cond = graph.constant(np.array(4)), graph.constant(np.array(True))
    graph.set_outputs(Loop(body, 1, 4)(limit, cond, state))
    check(graph, native(graph), vector(1, 2, 3, 4))


def test_an_error_inside_a_body_comes_out() -> None:
    body = Graph("body")
    state, by = (body.add_input(TensorType(int64, (3,))) for _ in range(2))
    body.set_outputs([REGISTRY["floor_div"]()(state, by)])
    graph = Graph()
    state = graph.add_input(TensorType(int64, (3,)))
    xs = graph.add_input(TensorType(int64, (2, 3)))
    graph.set_outputs([Scan(body, 1, 1, 2)(state, xs)])
    executable = native(graph)
    ones = np.ones((2, 3), np.int64)
    np.testing.assert_array_equal(executable.run([np.arange(3), ones])[0], np.arange(3))
    ones[1, 2] = 0
    with pytest.raises(ArgumentError, match="division by zero"):
        executable.run([np.arange(3), ones])
