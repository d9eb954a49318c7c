"""ONNX model -> graph."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from dualgraph_compiler.dims import Dim
from dualgraph_compiler.errors import OnnxError
from dualgraph_compiler.graph import Graph, interpret, verify
from dualgraph_compiler.onnx import import_model, load_model
from dualgraph_compiler.onnx.lift import prepare
from dualgraph_compiler.onnx.operator_rules import rule_for
from dualgraph_compiler.ops.onnx_rules import IMPORT_OPSET, RULES
from tests.onnx.helpers import make_model, run_onnxruntime

node = helper.make_node
X = np.linspace(-2, 3, 24, dtype=np.float32).reshape(2, 3, 4)


def agrees(model: onnx.ModelProto, feeds: dict[str, np.ndarray], rtol: float = 1e-6) -> Graph:
    """The imported graph, having checked that it computes what ONNX Runtime does."""
    graph = import_model(model)
    verify(graph)
    found = interpret(graph, feeds)
    for got, expected in zip(found, run_onnxruntime(model, feeds), strict=True):
        assert got.dtype == expected.dtype
        np.testing.assert_allclose(got, expected, rtol=rtol, atol=1e-6)
    return graph


# -- names and sizes -----------------------------------------------------------------------------


def test_names_are_kept() -> None:
    model = make_model(
        [
            node("Add", ["in.0", "w"], ["/layer/Add_output_0"]),
            node("Neg", ["/layer/Add_output_0"], ["y"]),
        ],
        {"in.0": [2, 3]},
        ["y"],
        initializers={"w": np.ones((2, 3), np.float32)},
    )
    graph = import_model(model, weights="param")
    assert [v.name for v in graph.inputs] == ["in.0"]
    assert [v.name for v in graph.params] == ["w"]
    assert [n.output.name for n in graph.nodes] == ["/layer/Add_output_0", "y"]
    assert graph.output_names == ["y"]
    assert graph.name == "g"
    assert import_model(model, name="other").name == "other"


def test_symbolic_sizes() -> None:
    model = make_model(
        [node("Add", ["x", "y"], ["z"])],
        {
            "x": ["batch_size", "seq len", "2d", "class", None, -1],
            "y": ["batch_size", "seq len", "2d", "class", 1, 1],
        },
        ["z"],
    )
    x, y = import_model(model).inputs
    assert [str(d) for d in x.shape] == ["batch_size", "seq_len", "d2d", "class_", "x_4", "x_5"]
    assert y.shape[:4] == x.shape[:4]


def test_sizes_that_differ_only_in_odd_characters_stay_different() -> None:
    model = make_model([node("Neg", ["x"], ["y"])], {"x": ["a b", "a-b"]}, ["y"])
    (x,) = import_model(model).inputs
    assert [str(d) for d in x.shape] == ["a_b", "a_b_1"]


def test_arithmetic_in_sizes() -> None:
    model = make_model([node("Neg", ["x"], ["y"])], {"x": ["n", "2*n + 1", "m + 1", "k*k"]}, ["y"])
    (x,) = import_model(model).inputs
    # "m + 1" tells m; k is the size of nothing, so "k*k" is a size of its own.
    assert x.shape == (Dim("n"), 2 * Dim("n") + 1, Dim("m") + 1, Dim("k_k"))


def test_input_shapes_can_be_given() -> None:
    model = make_model([node("Neg", ["x"], ["y"])], {"x": [1, "n"]}, ["y"])
    graph = import_model(model, input_shapes={"x": ("batch", 7)})
    assert str(graph.inputs[0].type) == "f32[batch, 7]"
    with pytest.raises(OnnxError, match="has no input 'q'; its inputs are 'x'"):
        import_model(model, input_shapes={"q": (1,)})


def test_an_input_without_shape() -> None:
    model = make_model([node("Neg", ["x"], ["y"])], {"x": [1]}, ["y"])
    model.graph.input[0].type.tensor_type.ClearField("shape")
    with pytest.raises(OnnxError, match="input 'x' declares no shape; give one with input_shapes"):
        import_model(model)
    assert str(import_model(model, input_shapes={"x": (3,)}).inputs[0].type) == "f32[3]"


def test_locations_of_older_pytorch() -> None:
    model = make_model([node("Neg", ["x"], ["y"])], {"x": [1]}, ["y"])
    model.graph.node[0].doc_string = "/a/b/net.py(31): forward\n/a/b/run.py(3): <module>\n"
    (only,) = import_model(model).nodes
    assert str(only.loc) == "net.py:31"
    model.graph.node[0].doc_string = "computes the thing"
    (only,) = import_model(model).nodes
    assert only.loc is None


# -- weights -------------------------------------------------------------------------------------


def test_weights_as_constants_or_params() -> None:
    model = make_model(
        [node("Mul", ["x", "w"], ["a"]), node("Add", ["a", "one"], ["y"])],
        {"x": [2, 3]},
        ["y"],
        initializers={"w": np.ones((2, 3), np.float32), "one": np.float32(1)},
    )
    constant, param = import_model(model), import_model(model, weights="param")
    assert (len(constant.params), len(constant.constants)) == (0, 2)
    assert [v.name for v in param.params] == ["w"]
    assert len(param.constants) == 1  # a scalar is a setting, not a weight
    with pytest.raises(OnnxError, match="weights='constant' or 'param'"):
        import_model(model, weights="frozen")


@pytest.mark.parametrize("ir_version", [3, 8])
def test_initializers_that_are_listed_as_inputs(ir_version: int) -> None:
    model = make_model(
        [node("Add", ["x", "w"], ["y"])],
        {"x": [3], "w": [3]},
        ["y"],
        initializers={"w": np.ones(3, np.float32)},
        opset=8,
        ir_version=ir_version,
    )
    graph = import_model(model)
    assert [v.name for v in graph.inputs] == ["x"]


def test_unused_initializers_are_not_even_read() -> None:
    model = make_model(
        [node("Neg", ["x"], ["y"])], {"x": [3]}, ["y"], initializers={"s": np.zeros(2, np.float32)}
    )
    model.graph.initializer[0].data_type = TensorProto.STRING
    assert import_model(model).constants == []


# -- opsets --------------------------------------------------------------------------------------


def test_old_operators_are_brought_up_to_date() -> None:
    model = make_model(
        [
            node("Squeeze", ["x"], ["a"], axes=[1]),
            node("Unsqueeze", ["a"], ["b"], axes=[0, 3]),
            node("ReduceSum", ["b"], ["c"], axes=[1], keepdims=0),
            node("Identity", ["c"], ["y"]),
        ],
        {"x": [2, 1, 3]},
        ["y"],
        opset=9,
        ir_version=4,
    )
    agrees(model, {"x": X[:, :1, :3]})


@pytest.mark.parametrize(
    ("shape", "axis", "aligned"),
    [
        ([3], 1, (3, 1)),
        ([2, 3], 0, (2, 3, 1)),
        ([4], -1, (4,)),
        ([3, 4], None, (3, 4)),
        ([], 0, ()),
    ],
)
def test_broadcasts_of_opset_6(shape: list[int], axis: int | None, aligned: tuple) -> None:
    """The second operand lines up with the first at `axis`."""
    b = np.arange(1, 1 + np.prod(shape), dtype=np.float32).reshape(shape)
    given = {} if axis is None else {"axis": axis}
    model = make_model(
        [node("Neg", ["x"], ["n"]), node("Add", ["n", "b"], ["y"], broadcast=1, **given)],
        {"x": [2, 3, 4], "b": shape},
        ["y"],
        initializers={"b": b},
        opset=6,
        ir_version=3,
    )
    (found,) = interpret(import_model(model), [X])
    np.testing.assert_array_equal(found, -X + b.reshape(aligned))


def test_conversion_is_skipped_where_nothing_changed() -> None:
    model = make_model([node("Add", ["x", "x"], ["y"])], {"x": [3]}, ["y"], opset=13)
    prepared = prepare(load_model(model), lambda op: True)
    assert prepared is model
    model = make_model([node("Squeeze", ["x"], ["y"], axes=[0])], {"x": [1, 3]}, ["y"], opset=11)
    prepared = prepare(load_model(model), lambda op: True)
    assert prepared.opset_import[0].version == IMPORT_OPSET


def test_large_initializers_stay_out_of_conversion() -> None:
    model = make_model(
        [node("Squeeze", ["w"], ["a"], axes=[0]), node("Add", ["x", "a"], ["y"])],
        {"x": [1000]},
        ["y"],
        initializers={"w": np.arange(1000, dtype=np.float32)[None]},
        opset=11,
        ir_version=6,
    )
    prepared = prepare(load_model(model), lambda op: True)
    assert not prepared.graph.initializer
    graph = agrees(model, {"x": np.ones(1000, np.float32)})
    assert len(graph.inputs) == 1


# -- functions -----------------------------------------------------------------------------------


def test_functions_of_the_model_are_inlined() -> None:
    double = helper.make_function(
        "local",
        "Double",
        ["a"],
        ["b"],
        [node("Add", ["a", "a"], ["b"])],
        [helper.make_opsetid("", 21)],
    )
    model = make_model(
        [
            node("Double", ["x"], ["t"], domain="local"),
            node("Double", ["t"], ["y"], domain="local"),
        ],
        {"x": [2, 3, 4]},
        ["y"],
        functions=[double],
        domains=["local"],
    )
    graph = agrees(model, {"x": X})
    assert [n.op.name for n in graph.nodes] == ["add", "add"]


def test_operators_with_a_definition_need_no_rule(monkeypatch: pytest.MonkeyPatch) -> None:
    name, version = "MeanVarianceNormalization", 13
    monkeypatch.delitem(RULES, name)
    assert rule_for(name) is None
    model = make_model(
        [node(name, ["x"], ["y"], axes=[0, 2])], {"x": [2, 3, 4]}, ["y"], opset=version
    )
    agrees(model, {"x": X}, rtol=1e-4)


# -- what is refused -----------------------------------------------------------------------------


def test_every_unsupported_operator_is_listed() -> None:
    model = make_model(
        [
            node("StringNormalizer", ["x"], ["a"]),
            node("Magic", ["a"], ["b"], domain="my.domain"),
            node("Magic", ["b"], ["y"], domain="my.domain"),
            node("Neg", ["x"], ["z"]),
        ],
        {"x": [2]},
        ["y", "z"],
        domains=["my.domain"],
    )
    with pytest.raises(
        OnnxError, match=r"not supported: StringNormalizer, my.domain::Magic \(2x\)"
    ):
        import_model(model)


def test_messages_name_the_node() -> None:
    model = make_model(
        [node("Add", ["x", "w"], ["y"], name="my_add")],
        {"x": [2]},
        ["y"],
        initializers={"w": np.ones(3, np.float32)},
    )
    with pytest.raises(OnnxError, match=r"node 'my_add' \(Add\): .*do not broadcast"):
        import_model(model)


@pytest.mark.parametrize(
    ("nodes", "message"),
    [
        ([node("Neg", ["later"], ["y"]), node("Neg", ["x"], ["later"])], "'later' is read but"),
        ([node("Neg", ["x"], ["q"])], "the graph's outputs: 'y' is read but"),
        ([node("Neg", ["x"], ["y"]), node("Neg", ["x"], ["y"])], "'y' is defined twice"),
        ([node("Neg", [], ["y"])], r"node 'y' \(Neg\)"),
        ([node("Neg", ["x", "x", "x"], ["y"])], r"node 'y' \(Neg\)"),
        ([node("Concat", ["x"], ["y"])], r"node 'y' \(Concat\)"),
    ],
)
def test_malformed_graphs(nodes: list[onnx.NodeProto], message: str) -> None:
    with pytest.raises(OnnxError, match=message):
        import_model(make_model(nodes, {"x": [2]}, ["y"]))


def test_inputs_that_are_no_tensors() -> None:
    model = make_model([node("Neg", ["x"], ["y"])], {"x": [2]}, ["y"])
    model.graph.input[0].CopyFrom(
        helper.make_tensor_sequence_value_info("x", TensorProto.FLOAT, None)
    )
    with pytest.raises(OnnxError, match="input 'x': expected a tensor, got a sequence"):
        import_model(model)


@pytest.mark.parametrize(
    ("elem_type", "name"),
    [(TensorProto.STRING, "STRING"), (99, "number 99")],
)
def test_element_types_that_are_not_supported(elem_type: int, name: str) -> None:
    model = make_model([node("Identity", ["x"], ["y"])], {"x": [2]}, ["y"])
    model.graph.input[0].type.tensor_type.elem_type = elem_type
    with pytest.raises(OnnxError, match=f"input 'x' has the element type {name}"):
        import_model(model)
    model = make_model(
        [node("Identity", ["w"], ["y"])],
        {"x": [2]},
        ["y"],
        initializers={"w": np.zeros(2, np.float32)},
    )
    model.graph.initializer[0].data_type = elem_type
    with pytest.raises(OnnxError, match=f"tensor 'w' has the element type {name}"):
        import_model(model)


def sparse(indices: Any, shape: list[int], count: int = 2) -> onnx.SparseTensorProto:
    """`count` ones, at `indices`."""
    at = numpy_helper.from_array(np.asarray(indices, np.int64))
    return helper.make_sparse_tensor(
        numpy_helper.from_array(np.ones(count, np.float32), "w"), at, shape
    )


@pytest.mark.parametrize("indices", [[1, 5], [[0, 1], [1, 2]]])
def test_sparse_tensors(indices: Any) -> None:
    model = make_model([node("Add", ["x", "w"], ["y"])], {"x": [2, 3]}, ["y"])
    model.graph.sparse_initializer.append(sparse(indices, [2, 3]))
    constant = make_model(
        [
            node("Constant", [], ["w"], sparse_value=sparse(indices, [2, 3])),
            node("Add", ["x", "w"], ["y"]),
        ],
        {"x": [2, 3]},
        ["y"],
    )
    for m in (model, constant):
        (y,) = interpret(import_model(m), [np.zeros((2, 3), np.float32)])
        np.testing.assert_array_equal(y, [[0, 1, 0], [0, 0, 1]])
    assert model.graph.sparse_initializer  # the caller's own model stays as it was


@pytest.mark.parametrize(
    ("indices", "shape"),
    [
        ([1, 6], [2, 3]),
        ([-1, 0], [2, 3]),
        ([1], [2, 3]),
        ([[0, 0, 0], [0, 0, 1]], [2, 3]),
        ([0, 1], [1 << 40, 1 << 20]),
        ([0, 1], [-2, 3]),
    ],
)
def test_malformed_sparse_tensors(indices: Any, shape: list[int]) -> None:
    model = make_model([node("Add", ["x", "w"], ["y"])], {"x": [2, 3]}, ["y"])
    model.graph.sparse_initializer.append(sparse(indices, shape))
    with pytest.raises(OnnxError, match="sparse tensor 'w'"):
        import_model(model)


def test_a_sparse_tensor_of_nothing() -> None:
    model = make_model([node("Neg", ["x"], ["y"])], {"x": [2]}, ["y"])
    model.graph.sparse_initializer.add()
    with pytest.raises(OnnxError, match="sparse tensor .* is malformed"):
        import_model(model)


@pytest.mark.parametrize("count", [1, 3])
def test_slopes_of_old_prelu_are_one_a_channel(count: int) -> None:
    slope = np.linspace(0.1, 0.5, count, dtype=np.float32)
    model = make_model(
        [node("PRelu", ["x", "s"], ["y"])],
        {"x": [2, 3, 4]},
        ["y"],
        opset=6,
        initializers={"s": slope},
    )
    (y,) = interpret(import_model(model), [X])
    np.testing.assert_allclose(y, np.where(X < 0, slope[:, None] * X, X))


def test_a_gradient_node() -> None:
    """d(x * w + x) / dx and / dw, and of what does not depend on it."""
    model = make_model(
        [
            node("Mul", ["x", "w"], ["p"]),
            node("Add", ["p", "x"], ["y"]),
            node(
                "Gradient",
                ["x", "w", "z"],
                ["dx", "dw", "dz"],
                domain="ai.onnx.preview.training",
                xs=["x", "w", "z"],
                y="y",
            ),
        ],
        {"x": [4], "w": [4], "z": [4]},
        ["dx", "dw", "dz"],
        domains=["ai.onnx.preview.training"],
    )
    x, w, z = (np.arange(4, dtype=np.float32) + i for i in range(3))
    dx, dw, dz = interpret(import_model(model), [x, w, z])
    np.testing.assert_array_equal(dx, w + 1)
    np.testing.assert_array_equal(dw, x)
    np.testing.assert_array_equal(dz, np.zeros(4, np.float32))
