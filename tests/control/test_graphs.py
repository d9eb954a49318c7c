"""Nested graphs in the compiler: text, checks, sizes, passes, gradients."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from dualgraph_compiler.compile import optimize
from dualgraph_compiler.errors import AutogradError, FeedError, GraphError, ShapeError
from dualgraph_compiler.graph import (
    Graph,
    Interpreter,
    gradients,
    inline,
    interpret,
    parse_graph,
    to_text,
    verify,
)
from dualgraph_compiler.graph.nested import definitions, free_symbols
from dualgraph_compiler.graph.page import to_html
from dualgraph_compiler.ops.loop import Loop
from dualgraph_compiler.passes import PassManager, RemoveDeadCode, SimplifyControl
from tests.passes.helpers import assert_same_results, check

BRANCHES = """\
graph g(%c: bool[], %x: f64[n]):
  %1: f64[n] = if(%c, %x, sizes=())
    then_branch(%a: f64[n]):
      const %two: f64[] = 2.0
      %1: f64[n] = mul(%a, %two)
      return %1 as output
    else_branch(%a: f64[n]):
      %1: f64[n] = sin(%a)
      return %1 as output
  return %1 as output"""

WHILE = """\
graph g(%limit: i64[], %x: f64[n]):
  const %go: bool[] = True
  %1: f64[n], %2: f64[trips, n] = loop(%limit, %go, %x, carried=1, trips=trips, sizes=())
    body(%i: i64[], %a: f64[n]):
      const %c0: f64[] = 1.5
      const %c1: f64[] = 100.0
      %1: f64[n] = mul(%a, %c0)
      %2: f64[] = sum(%1, axes=(0,), keepdims=False)
      %3: bool[] = less(%2, %c1)
      return %3 as go, %1 as a, %a as y
  %3: f64[n, trips] = permute(%2, axes=(1, 0))
  %4: f64[n*trips] = reshape(%3, shape=(n*trips,))
  return %1 as output, %4 as flat"""

GROWING = """\
graph g(%limit: i64[], %x: f64[n]):
  const %go: bool[] = True
  %1: f64[m] = loop(%limit, %go, %x, carried=1, trips=0, sizes=(m,))
    body(%i: i64[], %a: f64[k]):
      const %go: bool[] = True
      %1: f64[2*k] = concat(%a, %a, axis=0)
      return %go as go, %1 as a
  %2: f64[m + 1] = pad(%1, pads=((0, 1),), value=7.0)
  return %2 as output"""

# A size of the graph around, which no input of the bodies has by itself.
OUTER_SIZE = """\
graph g(%c: bool[], %x: f64[n, m]):
  %1: f64[m*n] = reshape(%x, shape=(m*n,))
  %2: f64[n, m] = if(%c, %1, sizes=())
    then_branch(%a: f64[m*n]):
      %1: f64[n, m] = reshape(%a, shape=(n, m))
      return %1 as output
    else_branch(%a: f64[m*n]):
      const %zero: f64[] = 0.0
      %1: f64[n, m] = expand(%zero, shape=(n, m))
      return %1 as output
  return %2 as output"""

X = np.array([1.0, 2.0])


# -- text and checks ------------------------------------------------------------------------------


@pytest.mark.parametrize("text", [BRANCHES, WHILE, GROWING, OUTER_SIZE])
def test_text_comes_back(text: str) -> None:
    graph = parse_graph(text)
    verify(graph)
    assert to_text(graph) == text
    assert to_text(parse_graph(to_text(graph, full=True))) == text
    assert to_text(graph.copy()) == text
    page = to_html(graph)
    assert "control" in page
    assert "nodes</text>" in page  # how large the bodies are
    assert graph.to_networkx().number_of_nodes() > 3


def test_lines_of_errors_in_nested_text() -> None:
    with pytest.raises(GraphError, match=r"^line 5: .*mul"):
        parse_graph(BRANCHES.replace("mul(%a, %two)", "mul(%a, %missing)"))
    with pytest.raises(GraphError, match=r"^line 7: expected 'else_branch\(inputs\):'"):
        parse_graph("\n".join([*BRANCHES.splitlines()[:6], "  return %1 as output"]))
    with pytest.raises(GraphError, match="expected the lines of its then_branch"):
        parse_graph("\n".join(BRANCHES.splitlines()[:2]))
    with pytest.raises(GraphError, match="expected no more text"):
        parse_graph(BRANCHES + "\n  %2: f64[n] = sin(%x)")


def branch_of(graph: Graph) -> Graph:
    (node,) = (n for n in graph.nodes if n.op.bodies)
    return node.op.then_branch


def test_verifier_looks_inside() -> None:
    graph = parse_graph(BRANCHES)
    branch_of(graph).add_param(X, "w")
    with pytest.raises(GraphError, match="then_branch of if: expected no params"):
        verify(graph)
    graph = parse_graph(BRANCHES)
    next(branch_of(graph).nodes).outputs[0].uses.clear()
    (value,) = branch_of(graph).inputs
    value.uses.clear()
    with pytest.raises(GraphError, match="then_branch of if.*use list"):
        verify(graph)


def test_bodies_are_closed() -> None:
    graph = parse_graph(BRANCHES)
    inner = branch_of(graph)
    with pytest.raises(GraphError, match="belongs to graph"):
        inner.add_node(next(inner.nodes).op, (inner.inputs[0], graph.inputs[1]))


# -- sizes ----------------------------------------------------------------------------------------


def test_sizes_that_only_a_run_tells() -> None:
    graph = parse_graph(WHILE)
    assert list(definitions(graph)) == ["trips"]
    runner = Interpreter(graph)
    for limit, trips in ((3, 3), (100, 9), (0, 0), (4, 4)):
        last, flat = runner.run([np.array(limit), X])
        np.testing.assert_allclose(last, X * 1.5**trips)
        assert flat.shape == (2 * trips,)


def test_carried_values_that_grow() -> None:
    graph = parse_graph(GROWING)
    for limit in range(4):
        (y,) = interpret(graph, [np.array(limit), X])
        np.testing.assert_array_equal(y, [*(list(X) * 2**limit), 7.0])


def test_sizes_of_the_graph_around() -> None:
    graph = parse_graph(OUTER_SIZE)
    op = next(n.op for n in graph.nodes if n.op.bodies)
    assert {s.name for s in op.symbols()} == {"n", "m"}
    assert {s.name for s in free_symbols(branch_of(graph))} == {"n", "m"}
    runner = Interpreter(graph)
    for shape in ((2, 3), (1, 0), (4, 1)):
        x = np.ones(shape)
        np.testing.assert_array_equal(runner.run([np.True_, x])[0], x)
        np.testing.assert_array_equal(runner.run([np.False_, x])[0], np.zeros(shape))
    assert_same_results(graph, optimize(graph, verify=True), [np.True_, np.ones((2, 3))])


def test_a_body_is_generic_in_its_inputs_sizes() -> None:
    graph = parse_graph(BRANCHES)
    op = next(graph.nodes).op
    other = Graph()
    c, x = (other.add_input(t) for t in (graph.inputs[0].type, graph.inputs[1].type))
    y = other.call(op, (c, other.call(parse_concat(), (x, x))))
    assert str(y.type) == "f64[2*n]"
    with pytest.raises(ShapeError, match=r"f64\[3, 3\]"):
        other.call(op, (c, other.add_input(y.type.with_shape((3, 3)))))


def parse_concat() -> Any:
    text = "graph g(%x: f64[n]):\n  %1: f64[2*n] = concat(%x, %x, axis=0)\n  return %1 as y"
    return next(parse_graph(text).nodes).op


def test_a_wrong_size_at_run_time_is_an_error() -> None:
    graph = parse_graph(BRANCHES.replace("f64[n]", "f64[3]"))
    with pytest.raises(FeedError):
        interpret(graph, [np.True_, X])


def test_inline() -> None:
    graph = parse_graph(BRANCHES)
    out = Graph("g")
    x = out.add_input(graph.inputs[1].type, "x")
    out.set_outputs(inline(branch_of(graph), out, [x]))
    verify(out)
    np.testing.assert_array_equal(interpret(out, [X])[0], 2 * X)


# -- passes ---------------------------------------------------------------------------------------


def test_passes_work_inside_bodies() -> None:
    text = BRANCHES.replace("sin(%a)", "add(%a, %z)").replace(
        "    else_branch(%a: f64[n]):", "    else_branch(%a: f64[n]):\n      const %z: f64[] = -0.0"
    )
    graph = parse_graph(text)
    small = optimize(graph, numerics="strict", verify=True)
    other = next(n.op for n in small.nodes if n.op.bodies).else_branch
    assert len(other) == 0
    assert to_text(graph) == text  # untouched: the pass put a copy in place
    assert_same_results(graph, small, [np.False_, X])


def test_a_decided_branch_is_taken() -> None:
    text = BRANCHES.replace("%c: bool[], ", "").replace(
        "  %1: f64[n] = if", "  const %c: bool[] = True\n  %1: f64[n] = if"
    )
    check(
        SimplifyControl(),
        text,
        "graph g(%x: f64[n]):\n  const %two: f64[] = 2.0\n  %1: f64[n] = mul(%x, %two)\n"
        "  return %1 as output",
    )


def test_constants_move_in_and_unread_operands_go() -> None:
    check(
        SimplifyControl(),
        """
graph g(%h: f64[2], %x: f64[4], %u: f64[3]):
  const %w: f64[] = 3.0
  %1: f64[2], %2: f64[4], %3: f64[4] = scan(%h, %x, %w, %u, carried=1, scanned=1, length=4, \
reverse=False)
    body(%a: f64[2], %b: f64[], %w: f64[], %u: f64[3]):
      %1: f64[2] = mul(%a, %w)
      %2: f64[] = mul(%b, %w)
      %3: f64[] = sin(%b)
      return %1 as a, %2 as y, %3 as z
  return %1 as last, %3 as z""",
        """
graph g(%h: f64[2], %x: f64[4], %u: f64[3]):
  %1: f64[2], %2: f64[4] = scan(%h, %x, carried=1, scanned=1, length=4, reverse=False)
    body(%a: f64[2], %b: f64[]):
      const %w: f64[] = 3.0
      %1: f64[2] = mul(%a, %w)
      %2: f64[] = sin(%b)
      return %1 as a, %2 as z
  return %1 as last, %2 as z""",
    )


def test_an_operand_stays_that_gives_a_body_a_size() -> None:
    text = """\
graph g(%c: bool[], %x: f64[n]):
  %1: f64[n] = if(%c, %x, sizes=())
    then_branch(%a: f64[n]):
      const %c0: f64[] = 1.0
      %1: f64[n] = expand(%c0, shape=(n,))
      return %1 as output
    else_branch(%a: f64[n]):
      const %c0: f64[] = 2.0
      %1: f64[n] = expand(%c0, shape=(n,))
      return %1 as output
  return %1 as output"""
    check(SimplifyControl(), text, text)


def test_a_node_stays_while_its_sizes_are_needed() -> None:
    graph = parse_graph(WHILE)
    # The first result is no longer read, and of the second only its size.
    loop, *_ = (n for n in graph.nodes if isinstance(n.op, Loop))
    from dualgraph_compiler.ops.creation import DimValue

    trips = loop.outputs[1].shape[0]
    graph.set_outputs([graph.call(DimValue(trips), ())])
    PassManager([RemoveDeadCode()], verify=True).run(graph)
    assert [n.op.name for n in graph.nodes] == ["loop", "dim_value"]
    small = optimize(graph, verify=True)
    assert interpret(small, [np.array(5), X])[0] == 5


# -- gradients ------------------------------------------------------------------------------------


def test_gradient_of_a_loop_of_unknown_length() -> None:
    graph = parse_graph(WHILE)
    with pytest.raises(AutogradError, match=r"dg\.scan"):
        gradients(graph, [graph.outputs[0]], [graph.inputs[1]])


def test_gradient_of_a_loop_of_known_length() -> None:
    text = """\
graph g(%x: f64[2], %w: f64[2]):
  const %limit: i64[] = 3
  const %go: bool[] = True
  %1: f64[2] = loop(%limit, %go, %x, %w, carried=1, trips=0, sizes=())
    body(%i: i64[], %a: f64[2], %w: f64[2]):
      const %go: bool[] = True
      %1: f64[] = cast(%i, dtype=f64)
      %2: f64[2] = mul(%a, %w)
      %3: f64[2] = add(%2, %1)
      return %go as go, %3 as a
  return %1 as output"""
    graph = parse_graph(text)
    found = gradients(graph, graph.outputs, graph.inputs)
    second = gradients(graph, [found[1]], [graph.inputs[1]])
    graph.set_outputs([*found, *second])
    verify(graph)
    w = np.array([0.5, -2.0])
    gx, gw, gww = interpret(graph, [X, w])
    # ((x w + 0) w + 1) w + 2
    np.testing.assert_allclose(gx, w**3)
    np.testing.assert_allclose(gw, 3 * X * w**2 + 1)
    np.testing.assert_allclose(gww, 6 * X * w)


def test_only_gradients_that_are_wanted_are_computed() -> None:
    text = """\
graph g(%xs: f64[4, 2], %h: f64[2], %w: f64[2]):
  %1: f64[2] = scan(%h, %xs, %w, carried=1, scanned=1, length=4, reverse=False)
    body(%a: f64[2], %x: f64[2], %w: f64[2]):
      %1: f64[2] = mul(%a, %w)
      %2: f64[2] = mul(%1, %x)
      return %2 as a
  return %1 as output"""
    graph = parse_graph(text)
    (g,) = gradients(graph, graph.outputs, [graph.inputs[1]])
    graph.set_outputs([g])
    small = optimize(graph, verify=True)
    scans = [n for n in small.nodes if n.op.bodies]
    assert all(len(n.outputs) <= 3 for n in scans)
    assert_same_results(graph, small, tol=1e-12)
