"""Models on sequences, optionals and strings, and with control flow, step by step."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import dualgraph_runtime as rt
from dualgraph_compiler.errors import FeedError
from dualgraph_runtime.backend import DualGraphBackend
from tests.onnx.helpers import make_model, suite
from tests.onnx.stepwise import (
    INT,
    STRING,
    agrees,
    compare,
    floats,
    model_of,
    node,
    sequence,
    session,
    value,
)

# -- control flow --------------------------------------------------------------------------------


def test_a_loop_that_carries_a_sequence() -> None:
    """Appends x * step to a sequence, in a loop within a loop."""
    inner = helper.make_graph(
        [
            node("Cast", ["j"], ["jf"], to=TensorProto.FLOAT),
            node("Mul", ["x", "jf"], ["scaled"]),
            node("SequenceInsert", ["s_in", "scaled"], ["s_out"]),
            node("Identity", ["c_in"], ["c_out"]),
        ],
        "inner",
        [
            helper.make_tensor_value_info("j", INT, []),
            helper.make_tensor_value_info("c_in", TensorProto.BOOL, []),
            value("s_in", sequence()),
        ],
        [helper.make_tensor_value_info("c_out", TensorProto.BOOL, []), value("s_out", sequence())],
    )
    outer = helper.make_graph(
        [
            node("Loop", ["i", "", "t_in"], ["t_out"], body=inner),
            node("Identity", ["d_in"], ["d_out"]),
        ],
        "outer",
        [
            helper.make_tensor_value_info("i", INT, []),
            helper.make_tensor_value_info("d_in", TensorProto.BOOL, []),
            value("t_in", sequence()),
        ],
        [helper.make_tensor_value_info("d_out", TensorProto.BOOL, []), value("t_out", sequence())],
    )
    model = model_of(
        [
            node("SequenceEmpty", [], ["empty"]),
            node("Loop", ["n", "", "empty"], ["all"], body=outer),
            node("ConcatFromSequence", ["all"], ["y"], axis=0),
        ],
        [
            helper.make_tensor_value_info("x", TensorProto.FLOAT, ["k"]),
            helper.make_tensor_value_info("n", INT, []),
        ],
        [value("all", sequence()), helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
    )
    s = session(model)
    x = floats(3)
    for n in (2, 4):
        everything, y = s.run(None, {"x": x, "n": np.array(n)})
        expected = [x * j for i in range(n) for j in range(i)]
        compare(everything, expected)
        compare(y, np.concatenate(expected))
    assert s.get_outputs()[0].type == "seq(tensor(float))"


def test_a_draw_is_one_for_all_steps() -> None:
    nodes = [
        node("RandomNormal", [], ["drawn"], shape=[8]),
        node("Abs", ["drawn"], ["x"]),
        node("SplitToSequence", ["x"], ["parts"]),
        node("ConcatFromSequence", ["parts"], ["again"], axis=0),
        node("Sub", ["again", "x"], ["y"]),
    ]
    s = session(make_model(nodes, {}, ["x", "y"]))
    (first, zeros), (second, _) = s.run(None, {}), s.run(None, {})
    np.testing.assert_array_equal(zeros, np.zeros(8, np.float32))
    assert not np.array_equal(first, second)


def test_a_branch_that_slices_by_what_it_computes() -> None:
    def branch(name: str, by: int) -> onnx.GraphProto:
        return helper.make_graph(
            [
                node("ReduceMax", ["x"], ["m" + name], keepdims=1),
                node("Cast", ["m" + name], ["e" + name], to=INT),
                node("Slice", ["x", "start", "e" + name], [name], name="slice_" + name),
            ],
            name,
            [],
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, None)],
        )

    model = model_of(
        [
            node("Constant", [], ["start"], value_ints=[0]),
            node("If", ["c"], ["y"], then_branch=branch("a", 1), else_branch=branch("b", 2)),
        ],
        [
            helper.make_tensor_value_info("x", TensorProto.FLOAT, ["k"]),
            helper.make_tensor_value_info("c", TensorProto.BOOL, []),
        ],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
    )
    s = rt.InferenceSession(model)
    for cond in (True, False):
        for x in ([3, 1, 2, 0.5, 1], [1, 0.5, 0]):
            agrees(s, model, {"x": np.array(x, np.float32), "c": np.array(cond)})


# -- optionals and strings -----------------------------------------------------------------------


def test_an_optional_that_may_be_absent() -> None:
    kind = helper.make_optional_type_proto(helper.make_tensor_type_proto(TensorProto.FLOAT, ["n"]))

    def branch(name: str, nodes: list[onnx.NodeProto]) -> onnx.GraphProto:
        out = helper.make_tensor_value_info(name, TensorProto.FLOAT, None)
        return helper.make_graph(nodes, name, [], [out])

    model = model_of(
        [
            node("OptionalHasElement", ["bias"], ["has"]),
            node(
                "If",
                ["has"],
                ["y"],
                then_branch=branch(
                    "a",
                    [node("OptionalGetElement", ["bias"], ["b"]), node("Add", ["x", "b"], ["a"])],
                ),
                else_branch=branch("c", [node("Identity", ["x"], ["c"])]),
            ),
        ],
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n"]), value("bias", kind)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
    )
    s = session(model)
    x, b = floats(3), np.ones(3, np.float32)
    compare(s.run(None, {"x": x, "bias": None}), [x])
    compare(s.run(None, {"x": x, "bias": b}), [x + b])
    assert s.get_inputs()[1].type == "optional(tensor(float))"


def test_strings_are_moved_and_compared() -> None:
    model = model_of(
        [
            node("Constant", [], ["words"], value_strings=["no", "yes", "maybe"]),
            node("ArgMax", ["scores"], ["best"], axis=1, keepdims=0),
            node("Gather", ["words", "best"], ["label"]),
            node("Equal", ["label", "expected"], ["right"]),
            node("Cast", ["right"], ["ones"], to=TensorProto.FLOAT),
            node("ReduceMean", ["ones"], ["accuracy"], keepdims=0),
            node("StringConcat", ["label", "expected"], ["both"]),
            node("Unsqueeze", ["both", "best_axis"], ["column"]),
        ],
        [
            helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["n", 3]),
            helper.make_tensor_value_info("expected", STRING, ["n"]),
        ],
        [
            helper.make_tensor_value_info("label", STRING, None),
            helper.make_tensor_value_info("accuracy", TensorProto.FLOAT, None),
            helper.make_tensor_value_info("column", STRING, None),
        ],
    )
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.array([1]), "best_axis"))
    s = session(model)
    scores = np.eye(3, dtype=np.float32)[[1, 0, 2, 1]]
    label, accuracy, column = s.run(None, {"scores": scores, "expected": ["yes", "a", "b", "yes"]})
    assert label.tolist() == ["yes", "no", "maybe", "yes"]
    assert accuracy == 0.5
    assert column.tolist() == [["yesyes"], ["noa"], ["maybeb"], ["yesyes"]]
    with pytest.raises(FeedError, match="'expected': expected strings, got int64"):
        s.run(None, {"scores": scores, "expected": [1, 2, 3, 4]})


def test_an_image_is_decoded_by_the_reference() -> None:
    image = pytest.importorskip("PIL.Image")
    import io

    pixels = (np.arange(4 * 5 * 3) * 4).astype(np.uint8).reshape(4, 5, 3)
    stream = io.BytesIO()
    image.fromarray(pixels).save(stream, "png")
    model = model_of(
        [node("ImageDecoder", ["data"], ["y"]), node("Shape", ["y"], ["shape"])],
        [helper.make_tensor_value_info("data", TensorProto.UINT8, ["n"])],
        [
            helper.make_tensor_value_info("y", TensorProto.UINT8, None),
            helper.make_tensor_value_info("shape", INT, None),
        ],
    )
    s = session(model)
    y, shape = s.run(None, {"data": np.frombuffer(stream.getvalue(), np.uint8)})
    np.testing.assert_array_equal(y, pixels)
    assert shape.tolist() == [4, 5, 3]
    assert "'y' (ImageDecoder): by onnx.reference" in s.report()


def test_what_the_runner_cannot_compare() -> None:
    """ONNX's test runner takes no sequence with a 0-d element, which this case gives."""
    (case,) = [c for c in suite("node") if c.name == "test_loop16_seq_none"]
    inputs, (expected,) = case.data_sets[0]
    (found,) = DualGraphBackend.run_model(case.model, inputs)
    compare(found, expected)
