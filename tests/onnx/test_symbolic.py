"""Shape arithmetic carried out while importing."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from dualgraph_compiler.errors import OnnxError
from dualgraph_compiler.graph import Graph, interpret, verify
from dualgraph_compiler.onnx import import_model
from tests.onnx.helpers import make_model, run_onnxruntime

node = helper.make_node
INT = TensorProto.INT64


def ints(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


def check(model: onnx.ModelProto, *feeds: dict[str, np.ndarray]) -> Graph:
    """The imported graph, compared with ONNX Runtime on each feed."""
    graph = import_model(model)
    verify(graph)
    for feed in feeds:
        for got, expected in zip(interpret(graph, feed), run_onnxruntime(model, feed), strict=True):
            assert got.dtype == expected.dtype
            np.testing.assert_array_equal(got, expected)
    return graph


def floats(*shape: int) -> np.ndarray:
    return np.arange(np.prod(shape), dtype=np.float32).reshape(shape)


def test_flatten_as_pytorch_writes_it() -> None:
    """Shape -> Gather -> Unsqueeze -> Concat -> Reshape leaves one reshape."""
    model = make_model(
        [
            node("Shape", ["x"], ["s"]),
            node("Gather", ["s", "zero"], ["b"], axis=0),
            node("Unsqueeze", ["b", "axes"], ["b1"]),
            node("Concat", ["b1", "minus"], ["shape"], axis=0),
            node("Reshape", ["x", "shape"], ["y"]),
        ],
        {"x": ["batch", 3, 4]},
        ["y"],
        initializers={"zero": np.int64(0), "axes": ints(0), "minus": ints(-1)},
    )
    graph = check(model, {"x": floats(2, 3, 4)}, {"x": floats(1, 3, 4)}, {"x": floats(5, 3, 4)})
    assert [str(n.op) for n in graph.nodes] == ["reshape(shape=(batch, 12))"]
    assert graph.constants == []


@pytest.mark.parametrize(
    ("op_type", "expected"), [("Add", 10), ("Sub", 4), ("Mul", 21), ("Div", 2)]
)
def test_arithmetic(op_type: str, expected: int) -> None:
    model = make_model(
        [
            node("Shape", ["x"], ["s"], start=1, end=2),
            node(op_type, ["s", "three"], ["r"]),
            node("Expand", ["one", "r"], ["y"]),
        ],
        {"x": [2, "n"]},
        ["y"],
        initializers={"three": ints(3), "one": np.ones(1, np.float32)},
    )
    graph = check(model, {"x": floats(2, 7)}, {"x": floats(2, 12)})
    assert interpret(graph, [floats(2, 7)])[0].shape == (expected,)
    assert [n.op.name for n in graph.nodes] == ["expand"]


def test_half_of_an_axis() -> None:
    """As in a gated unit: the bounds of a Slice are computed from the size."""
    model = make_model(
        [
            node("Shape", ["x"], ["s"]),
            node("Gather", ["s", "one"], ["d"]),
            node("Div", ["d", "two"], ["half"]),
            node("Mul", ["half", "two"], ["all"]),
            node("Slice", ["x", "half", "all", "one"], ["y"]),
        ],
        {"x": ["b", 6]},
        ["y"],
        initializers={"one": ints(1), "two": ints(2)},
    )
    check(model, {"x": floats(2, 6)}, {"x": floats(0, 6)})


def test_equal_and_where_on_sizes() -> None:
    """PyTorch's `expand` writes Where(Equal(shape, -1), ones, shape)."""
    model = make_model(
        [
            node("Shape", ["x"], ["s"]),
            node("Concat", ["s", "minus"], ["wish"], axis=0),
            node("Equal", ["wish", "minus"], ["keep"]),
            node(
                "ConstantOfShape", ["three"], ["ones"], value=onnx.numpy_helper.from_array(ints(1))
            ),
            node("Where", ["keep", "ones", "wish"], ["shape"]),
            node("Expand", ["c", "shape"], ["y"]),
        ],
        {"x": ["n", 2]},
        ["y"],
        initializers={"minus": ints(-1), "three": ints(3), "c": np.float32(2)},
    )
    check(model, {"x": floats(3, 2)}, {"x": floats(0, 2)})


def test_product_size_and_cast() -> None:
    model = make_model(
        [
            node("Shape", ["x"], ["s"]),
            node("ReduceProd", ["s"], ["p"]),
            node("Cast", ["p"], ["p32"], to=TensorProto.INT32),
            node("Cast", ["p32"], ["p64"], to=INT),
            node("Reshape", ["x", "p64"], ["flat"]),
            node("Size", ["x"], ["n"]),
            node("Unsqueeze", ["n", "axes"], ["n1"]),
            node("Expand", ["c", "n1"], ["filled"]),
        ],
        {"x": ["n", "m"]},
        ["flat", "filled"],
        initializers={"c": np.float32(2), "axes": ints(0)},
    )
    graph = check(model, {"x": floats(3, 2)}, {"x": floats(1, 1)})
    assert [str(v.type) for v in graph.outputs] == ["f32[m*n]", "f32[m*n]"]


def test_splitting_and_slicing_a_shape() -> None:
    model = make_model(
        [
            node("Shape", ["x"], ["s"]),
            node("Split", ["s", "sizes"], ["front", "back"], axis=0),
            node("Slice", ["s", "minus", "far", "zero", "minus"], ["reversed"]),
            node("Squeeze", ["front", "zero"], ["front0"]),
            node("Unsqueeze", ["front0", "zero"], ["front1"]),
            node("Concat", ["back", "front1"], ["rotated"], axis=0),
            node("Reshape", ["x", "rotated"], ["y"]),
            node("Reshape", ["x", "reversed"], ["z"]),
        ],
        {"x": ["a", 3, "b"]},
        ["y", "z"],
        initializers={
            "sizes": ints(1, 2),
            "minus": ints(-1),
            "far": ints(-(2**31)),
            "zero": ints(0),
        },
    )
    check(model, {"x": floats(2, 3, 4)})


def test_known_arithmetic_becomes_constants() -> None:
    model = make_model(
        [
            node("Range", ["zero", "four", "one"], ["r"]),
            node("Mul", ["r", "two"], ["d"]),
            node("Gather", ["x", "d"], ["y"], axis=1),
        ],
        {"x": [2, 8]},
        ["y"],
        initializers={
            k: np.int64(v) for k, v in [("zero", 0), ("four", 4), ("one", 1), ("two", 2)]
        },
    )
    graph = check(model, {"x": floats(2, 8)})
    assert len(graph) == 1


@pytest.mark.parametrize("used_as", ["output", "operand"])
def test_sizes_that_something_reads_become_nodes(used_as: str) -> None:
    nodes = [node("Shape", ["x"], ["s"])]
    if used_as == "operand":
        nodes += [node("Cast", ["s"], ["f"], to=TensorProto.FLOAT), node("Mul", ["f", "f"], ["y"])]
    model = make_model(
        nodes,
        {"x": ["n", 3]},
        ["y" if used_as == "operand" else "s"],
        dtypes={"s": INT},
    )
    check(model, {"x": floats(5, 3)}, {"x": floats(0, 3)})


def test_mean_over_a_dynamic_axis() -> None:
    """The size divides data, so it is needed both as a number and in a shape."""
    model = make_model(
        [
            node("Shape", ["x"], ["s"], start=0, end=1),
            node("Cast", ["s"], ["n"], to=TensorProto.FLOAT),
            node("ReduceSum", ["x", "zero"], ["sum"], keepdims=0),
            node("Div", ["sum", "n"], ["y"]),
        ],
        {"x": ["n", 3]},
        ["y"],
        initializers={"zero": ints(0)},
    )
    check(model, {"x": floats(5, 3)})


def test_a_shape_that_depends_on_data_is_refused() -> None:
    model = make_model(
        [node("Reshape", ["x", "shape"], ["y"])],
        {"x": [4], "shape": [2]},
        ["y"],
        dtypes={"shape": INT},
    )
    with pytest.raises(OnnxError, match="the shape of Reshape must be known before it runs"):
        import_model(model)


@pytest.mark.parametrize(
    ("shape", "allowzero", "expected"),
    [([0, -1], 0, (2, 12)), ([-1, 0], 0, (8, 3)), ([4, -1, 2], 0, (4, 3, 2)), ([-1], 0, (24,))],
)
def test_reshape(shape: list[int], allowzero: int, expected: tuple[int, ...]) -> None:
    model = make_model(
        [node("Reshape", ["x", "shape"], ["y"], allowzero=allowzero)],
        {"x": [2, 3, 4]},
        ["y"],
        initializers={"shape": ints(*shape)},
    )
    graph = check(model, {"x": floats(2, 3, 4)})
    assert graph.outputs[0].shape == expected


def test_reshape_of_nothing() -> None:
    model: Any = make_model(
        [node("Reshape", ["x", "shape"], ["y"], allowzero=1)],
        {"x": [0, 3]},
        ["y"],
        initializers={"shape": ints(3, 0)},
    )
    check(model, {"x": floats(0, 3)})
