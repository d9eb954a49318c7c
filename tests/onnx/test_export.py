"""Graph -> ONNX model."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest

from dualgraph_compiler.dims import evaluate, parse_dim
from dualgraph_compiler.errors import OnnxError
from dualgraph_compiler.graph import Graph, Location, interpret, parse_graph
from dualgraph_compiler.onnx import export_graph, import_model
from dualgraph_compiler.ops.base import Op, op
from dualgraph_compiler.ops.pointwise import Add, Mul
from dualgraph_compiler.types import TensorType
from tests.onnx.helpers import run_onnxruntime

AFFINE = """
graph affine(%x: f32[batch, 3]):
  param %layer.weight: f32[3] = [1.0, 2.0, 3.0]
  const %c0: f32[] = 0.5
  %1: f32[batch, 3] = mul(%x, %layer.weight)  # model.py:7
  %2: f32[batch, 3] = add(%1, %c0)  # model.py:8
  return %2 as y
"""


def names(model: onnx.ModelProto) -> dict[str, list[str]]:
    g = model.graph
    return {
        "inputs": [i.name for i in g.input],
        "outputs": [o.name for o in g.output],
        "initializers": [t.name for t in g.initializer],
        "results": [n for node in g.node for n in node.output],
    }


def test_names_types_and_versions() -> None:
    model = export_graph(parse_graph(AFFINE), producer_version="1.2", metadata={"k": "v"})
    onnx.checker.check_model(model, full_check=True)
    assert names(model) == {
        "inputs": ["x"],
        "outputs": ["y"],
        "initializers": ["layer.weight", "const"],
        "results": ["mul", "y"],
    }
    (x,) = model.graph.input
    assert [d.dim_param or d.dim_value for d in x.type.tensor_type.shape.dim] == ["batch", 3]
    assert (model.ir_version, model.opset_import[0].version) == (10, 21)
    assert (model.producer_name, model.producer_version) == ("dualgraph", "1.2")
    assert [(p.key, p.value) for p in model.metadata_props] == [("k", "v")]


def test_the_result_is_what_onnxruntime_computes() -> None:
    graph = parse_graph(AFFINE)
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    (found,) = run_onnxruntime(export_graph(graph), {"x": x})
    np.testing.assert_array_equal(found, interpret(graph, [x])[0])


def test_equal_graphs_give_equal_bytes() -> None:
    first, second = (
        export_graph(parse_graph(AFFINE)).SerializeToString(deterministic=True) for _ in range(2)
    )
    assert first == second


def test_export_of_an_import_is_the_same_model() -> None:
    model = export_graph(parse_graph(AFFINE))
    again = export_graph(import_model(model, weights="param"))
    assert again.graph == model.graph


@pytest.mark.parametrize(("opset", "ir"), [(13, 7), (17, 8), (21, 10), (22, 10), (26, 13)])
def test_ir_version_follows_opset(opset: int, ir: int) -> None:
    model = export_graph(parse_graph(AFFINE), opset=opset)
    onnx.checker.check_model(model, full_check=True)
    assert (model.opset_import[0].version, model.ir_version) == (opset, ir)


@pytest.mark.parametrize("opset", [0, 12, 99])
def test_opsets_out_of_range_are_refused(opset: int) -> None:
    with pytest.raises(OnnxError, match=f"expected an opset from 13 to .*, got {opset}"):
        export_graph(parse_graph(AFFINE), opset=opset)


def test_locations_are_doc_strings_without_folders() -> None:
    graph = Graph()
    x = graph.add_input(TensorType(_f32(), (2,)), "x")
    graph.loc = Location("/home/someone/net.py", 12, "forward", "features.conv1")
    y = graph.call(Add(), (x, x))
    graph.set_outputs([y], ["y"])
    (node,) = export_graph(graph).graph.node
    assert node.doc_string == "net.py:12 in forward [features.conv1]"
    assert node.name == "features.conv1/Add"
    assert not export_graph(graph, doc=False).graph.node[0].doc_string
    (back,) = import_model(export_graph(graph)).nodes
    assert back.loc == Location("net.py", 12, "forward", "features.conv1")


def _f32() -> object:
    from dualgraph_compiler.dtypes import float32

    return float32


def test_outputs_that_are_inputs_constants_or_repeated() -> None:
    graph = Graph()
    x = graph.add_input(TensorType(_f32(), (2,)), "x")
    w = graph.add_param(np.array([1, 2], np.float32), "w")
    c = graph.constant(np.array([3, 4], np.float32))
    s = graph.call(Mul(), (x, x))
    graph.set_outputs([x, w, c, s, s], ["x", "w", "c", "s", "s2"])
    model = export_graph(graph)
    onnx.checker.check_model(model, full_check=True)
    assert names(model)["outputs"] == ["x_1", "w", "c", "s", "s2"]
    a = np.array([5, 6], np.float32)
    found = run_onnxruntime(model, {"x": a})
    for got, expected in zip(found, [a, [1, 2], [3, 4], a * a, a * a], strict=True):
        np.testing.assert_array_equal(got, expected)


def test_names_are_unique() -> None:
    graph = Graph()
    x = graph.add_input(TensorType(_f32(), (2,)), "add")
    y = graph.call(Add(), (x, x))
    z = graph.call(Add(), (y, x))
    z.name = "const"
    out = graph.call(Add(), (z, graph.constant(np.array([1, 2], np.float32))))
    graph.set_outputs([out], ["add_1"])
    model = export_graph(graph)
    onnx.checker.check_model(model, full_check=True)
    every = [n for group in ("inputs", "initializers", "results") for n in names(model)[group]]
    assert len(set(every)) == len(every)
    assert {"add", "const", "add_1"} <= set(every)


def test_unused_weights_are_left_out() -> None:
    graph = parse_graph(AFFINE)
    graph.add_param(np.zeros(5, np.float32), "unused")
    assert "unused" not in names(export_graph(graph))["initializers"]


@pytest.mark.parametrize(
    "text",
    [
        "n",
        "2*n + 3",
        "n*m - m",
        "floordiv(n + 1, 2)",
        "-floordiv(-n, 2)",
        "mod(n, 4)",
        "max(n, m)",
        "min(n, 3)",
        "floordiv(n*m, m + 1)",
    ],
)
@pytest.mark.parametrize("sizes", [(1, 1), (2, 5), (7, 3)])
def test_symbolic_sizes_are_computed_from_the_inputs(text: str, sizes: tuple[int, int]) -> None:
    dim = parse_dim(text)
    graph = parse_graph(
        f"""graph g(%x: f32[n, m]):
          const %c: f32[] = 2.0
          %1: f32[{dim}, 3, n] = expand(%c, shape=({dim}, 3, n))
          return %1 as y"""
    )
    n, m = sizes
    (found,) = run_onnxruntime(export_graph(graph), {"x": np.zeros(sizes, np.float32)})
    assert found.shape == (evaluate(dim, {"n": n, "m": m}), 3, n)


def test_a_size_that_no_input_has_is_refused() -> None:
    graph = parse_graph(
        """graph g(%x: f32[n*n]):
          const %c: f32[] = 2.0
          %1: f32[n] = expand(%c, shape=(n,))
          return %1 as y"""
    )
    with pytest.raises(OnnxError, match="'n' is the size of no input"):
        export_graph(graph)


def test_an_op_without_onnx_form_is_named_with_its_line() -> None:
    from dualgraph_compiler.ops.base import REGISTRY

    @op
    class Unwritable(Op):
        """For this test only."""

        def infer(self, x: TensorType) -> TensorType:
            return x

    try:
        graph = Graph()
        x = graph.add_input(TensorType(_f32(), (2,)), "x")
        graph.loc = Location("net.py", 3)
        graph.set_outputs([graph.call(Unwritable(), (x,))])
        with pytest.raises(OnnxError, match="unwritable has no ONNX form") as caught:
            export_graph(graph)
        assert caught.value.__notes__ == ["at net.py:3"]
    finally:
        del REGISTRY["unwritable"]


def test_an_operand_whose_type_comes_later_names_the_opset() -> None:
    from dualgraph_compiler.dtypes import bfloat16
    from dualgraph_compiler.ops.base import REGISTRY

    @op
    class Chosen(Op):
        """For this test only."""

        def infer(self, x: TensorType) -> TensorType:
            return x

        def to_onnx(self, ctx: Any, x: str) -> Any:
            return ctx.emit("Where", ctx.constant(True), x, x)

    try:
        graph = Graph()
        x = graph.add_input(TensorType(bfloat16, (2,)), "x")
        graph.set_outputs([graph.call(Chosen(), (x,))])
        with pytest.raises(OnnxError, match="Where-9 takes no bfloat16 operand.*needs opset 16"):
            export_graph(graph, opset=15)
        export_graph(graph, opset=16)
    finally:
        del REGISTRY["chosen"]


@pytest.mark.parametrize("opset", [13, 21, 26])
def test_products_over_a_size_that_is_not_known(opset: int) -> None:
    graph = parse_graph(
        """graph g(%x: f32[2, n]):
          %1: f32[2, n] = cumprod(%x, axis=1)
          return %1 as y"""
    )
    x = np.random.default_rng(0).normal(size=(2, 5)).astype(np.float32)
    (found,) = run_onnxruntime(export_graph(graph, opset=opset), {"x": x})
    np.testing.assert_allclose(found, np.cumprod(x, 1), rtol=1e-5)


def test_a_formula_that_sizes_do_not_allow_is_an_onnx_error() -> None:
    graph = parse_graph(
        """graph g(%x: f32[2, c, 3]):
          %1: f32[2, c, 3] = group_norm(%x, groups=2, eps=1e-05)  # net.py:7
          return %1 as y"""
    )
    with pytest.raises(OnnxError, match="group_norm has no ONNX form for these operands") as caught:
        export_graph(graph, opset=17)
    assert caught.value.__notes__ == ["at net.py:7"]
