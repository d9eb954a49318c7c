"""The interpreter: binding of sizes, refusals, and what results share memory with."""

from __future__ import annotations

import numpy as np
import pytest

from dualgraph_compiler import Dim, Graph, TensorType, interpret, parse_graph
from dualgraph_compiler.dtypes import float32
from dualgraph_compiler.errors import FeedError
from dualgraph_compiler.graph import Interpreter

TEXT = """\
dim n: 2..8
graph g(%x: f32[n, 3], %y: f32[2*n]):
  const %c0: f32[2] = [1.0, 2.0]
  const %c1: f32[3] = [1.0, 2.0, 3.0]
  %1: f32[3*n] = reshape(%x, shape=(3*n,))
  %2: f32[n, 3] = expand(%c1, shape=(n, 3))
  return %1 as flat, %c0 as constant, %2 as wide"""


def feeds(n: int) -> list[np.ndarray]:
    return [np.arange(n * 3, dtype=np.float32).reshape(n, 3), np.ones(2 * n, np.float32)]


def test_sizes_are_bound_at_every_call():
    run = Interpreter(parse_graph(TEXT)).run
    for n in (2, 5, 2, 8):
        flat, _, wide = run(feeds(n))
        np.testing.assert_array_equal(flat, np.arange(n * 3))
        assert wide.shape == (n, 3)


def test_inputs_by_name():
    x, y = feeds(2)
    np.testing.assert_array_equal(interpret(parse_graph(TEXT), {"y": y, "x": x})[0], np.arange(6))


def test_results_may_be_written_to():
    run = Interpreter(parse_graph(TEXT)).run
    _, constant, wide = run(feeds(2))
    constant += 1
    wide += 1
    _, constant, wide = run(feeds(2))
    np.testing.assert_array_equal(constant, [1, 2])
    np.testing.assert_array_equal(wide, [[1, 2, 3]] * 2)


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        (feeds(3)[:1], "expected 2 inputs, got 1"),
        ([feeds(3)[0].astype(np.float64), feeds(3)[1]], "'x': expected dtype float32, got float64"),
        ([feeds(3)[1], feeds(3)[1]], "'x': expected 2 dimensions .* got shape \\[6\\]"),
        ([np.ones((3, 4), np.float32), feeds(3)[1]], "'x': expected size 3 in dimension 1"),
        ([feeds(3)[0], feeds(4)[1]], "'y': dimension 0 has size 8, but .* which is 6"),
        (feeds(9), "size 9, but n is declared at least 2 and at most 8"),
        (feeds(1), "size 1, but n is declared at least 2 and at most 8"),
    ],
)
def test_what_does_not_fit_is_refused(inputs, message):
    with pytest.raises(FeedError, match=message):
        interpret(parse_graph(TEXT), inputs)


def test_params_may_be_given_at_the_call():
    graph = Graph("g")
    x = graph.add_input(TensorType(float32, (Dim("n"),)), "x")
    w = graph.add_param(np.float32([2]), "w")
    graph.set_outputs([x * w])
    run = Interpreter(graph).run
    ones = np.ones(3, np.float32)
    np.testing.assert_array_equal(run([ones])[0], 2 * ones)
    np.testing.assert_array_equal(run([ones], [np.float32([5])])[0], 5 * ones)
