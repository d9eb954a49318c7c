"""The graph's text form prints and parses back."""

from __future__ import annotations

import numpy as np
import pytest

from dualgraph_compiler import Dim, Graph, TensorType, parse_graph, verify
from dualgraph_compiler.dtypes import ALL, float32, int64
from dualgraph_compiler.errors import GraphError, IndexOutOfRange, ShapeError
from dualgraph_compiler.graph import Location, to_text
from dualgraph_compiler.ops.creation import Full
from dualgraph_compiler.ops.movement import Reshape
from dualgraph_compiler.ops.pointwise import Add, Mul, Neg

SCALE = """\
graph scale(%x: f32[batch, 3]):
  param %weight: f32[3]
  const %c0: f32[] = 2.0
  %1: f32[batch, 3] = mul(%x, %weight)  # model.py:7
  %2: f32[batch, 3] = mul(%1, %c0)  # model.py:8
  return %2 as output"""


def round_trip(graph: Graph) -> Graph:
    text = to_text(graph, full=True)
    back = parse_graph(text)
    verify(back)
    assert to_text(back, full=True) == text
    return back


def test_prints_as_it_was_read():
    graph = parse_graph(SCALE)
    verify(graph)
    assert str(graph) == SCALE
    assert [n.loc.line for n in graph.nodes] == [7, 8]


def test_data_of_params_and_elided_constants_may_be_given():
    graph = Graph("g")
    x = graph.add_input(TensorType(float32, (9,)), "x")
    graph.set_outputs([Add()(x, graph.constant(np.arange(9, dtype=np.float32), "big"))])
    text = str(graph)
    assert "%big: f32[9] = <9 elements>" in text
    with pytest.raises(GraphError, match="line 2: the constant's elements are elided"):
        parse_graph(text)
    back = parse_graph(text, {"big": np.ones(9, np.float32)})
    assert str(back) == text
    round_trip(graph)


@pytest.mark.parametrize("dtype", ALL, ids=str)
def test_constants_of_every_dtype(dtype):
    graph = Graph("constants")
    few = np.array([0, 1, 1, 0]).reshape(2, 2).astype(dtype.np)
    many = np.arange(24).reshape(2, 3, 4).astype(dtype.np)
    graph.set_outputs([graph.constant(few), graph.constant(many), graph.constant(few[0, 0])])
    back = round_trip(graph)
    for a, b in zip(graph.outputs, back.outputs, strict=True):
        assert a.type == b.type
        assert a.data.tobytes() == b.data.tobytes()


def test_constants_of_every_special_value():
    graph = Graph("special")
    reals = np.array([np.nan, np.inf, -np.inf, -0.0, 1e-45, 0.1, 3.4e38], np.float32)
    numbers = np.array([complex(np.inf, 1), complex(1, -np.inf), 1j], np.complex64)
    graph.set_outputs([graph.constant(reals), graph.constant(numbers)])
    back = round_trip(graph)
    assert back.outputs[0].data.tobytes() == reals.tobytes()
    np.testing.assert_array_equal(back.outputs[1].data, numbers)


def test_attributes_of_every_sort():
    graph = Graph("attributes")
    n = Dim("n", min=2, max=8)
    x = graph.add_input(TensorType(float32, (n, 6)), "x")
    values = [
        Reshape((2 * n, 3))(x),
        graph.call(Full((n,), -0.0, float32), ()),
        graph.call(Full((2, 3), float("inf"), float32), ()),
        graph.call(Full((), complex(1, -2), ALL[-1]), ()),
        graph.call(Full((), True, int64), ()),
    ]
    graph.set_outputs(values, [f"o{i}" for i in range(5)])
    back = round_trip(graph)
    assert [repr(n.op) for n in back.nodes] == [repr(n.op) for n in graph.nodes]


def test_bounds_of_sizes_survive():
    graph = Graph("bounds")
    n = Dim("n", min=1, max=64)
    graph.set_outputs([graph.add_input(TensorType(float32, (n, Dim("k"))), "x")])
    text = str(graph)
    assert text.startswith("dim n: 1..64\ngraph bounds(%x: f32[n, k]):")
    back = round_trip(graph)
    assert back.inputs[0].shape[0] < 65


def test_strange_names_print_and_parse():
    graph = Graph("torch jit (export)")
    x = graph.add_input(TensorType(float32, ()), "input:0")
    y = Neg()(x)
    y.name = "a b, c # d"
    z = Add()(y, graph.constant(np.float32(3), "w'eight"))
    graph.set_outputs([z, z, x], ["out, as 'b'", "output:0", "x"])
    back = parse_graph(str(graph))
    assert back.output_names == ["out, as 'b'", "output:0", "x"]
    assert str(back) == str(graph)


def test_equal_names_are_told_apart():
    graph = Graph("g")
    x = graph.add_input(TensorType(float32, ()), "x")
    values = [Neg()(x) for _ in range(3)]
    for v in values:
        v.name = "x"
    values.append(Mul()(graph.constant(np.float32(3)), graph.constant(np.float32(4))))
    graph.set_outputs(values)
    text = str(graph)
    assert [f"%{n}: " in text for n in ("x", "x_1", "x_2", "x_3", "c0", "c1", "1")] == [True] * 7
    parse_graph(text)


def test_locations_can_be_left_out():
    graph = Graph("g")
    x = graph.add_input(TensorType(float32, ()), "x")
    graph.loc = Location("/home/someone/model.py", 3, "forward")
    graph.set_outputs([Neg()(x)])
    assert "# model.py:3" in str(graph)
    assert "#" not in to_text(graph, locations=False)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("%1: f32[2] = nosuchop(%x)", "line 2: expected 'results = op"),
        ("%1: f32[2] = neg(%y)", "line 2: 'y'"),
        ("%1: f32[3] = neg(%x)", "declared types differ from the inferred f32\\[2\\]"),
        ("%1: f32[2] = add(%x)", "add takes 2 operands, got 1"),
        ("%x: f32[2] = neg(%x)", "%x is defined twice"),
        ("const %c: f32[] = __import__('os')", "expected a list of numbers"),
        ("const %c: f32[] = x", "expected a list of numbers"),
        ("const %c: f32[2] = [1.0]", "line 2"),
        ("%1: f99[2] = neg(%x)", "line 2"),
        ("%1: f32[2 = neg(%x)", "line 2"),
        ("nonsense", "line 2"),
    ],
)
def test_bad_lines_are_named(line, message):
    with pytest.raises(GraphError, match=message):
        parse_graph(f"graph g(%x: f32[2]):\n  {line}\n")


def test_what_an_op_refuses_is_named_too():
    with pytest.raises(GraphError, match="line 2: sum") as caught:
        parse_graph("graph g(%x: f32[2]):\n  %1: f32[] = sum(%x, axes=(4,), keepdims=False)")
    assert isinstance(caught.value.__cause__, IndexOutOfRange | ShapeError)


@pytest.mark.parametrize("text", ["", "\n# nothing\n", "grph g():", "dim n: few\ngraph g():"])
def test_text_without_a_graph_is_refused(text):
    with pytest.raises(GraphError, match="expected"):
        parse_graph(text)


def test_ten_thousand_constants_print_in_no_time():
    graph = Graph("many")
    values = [graph.constant(np.full(17, i, np.float64)) for i in range(10_000)]
    graph.set_outputs(values[:1])
    assert str(graph).count("const") == 10_000
