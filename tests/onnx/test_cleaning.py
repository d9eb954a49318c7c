"""Models that are no single graph, made smaller node by node."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from dualgraph_compiler.onnx import load_model
from dualgraph_compiler.onnx.cleaning import cleaned
from dualgraph_runtime import InferenceSession
from tests.onnx.helpers import make_model, suite

node = helper.make_node
INT = TensorProto.INT64


def operators(model: onnx.ModelProto) -> list[str]:
    return [n.op_type for n in model.graph.node]


def small(model: onnx.ModelProto, feeds: dict[str, Any]) -> onnx.ModelProto:
    """The cleaned model, which gives the same."""
    made = cleaned(load_model(model))
    pairs = zip(*(InferenceSession(m).run(None, feeds) for m in (model, made)), strict=True)
    for a, b in pairs:
        np.testing.assert_equal(a, b)
    return made


def test_constants_copies_and_what_nobody_reads() -> None:
    model = make_model(
        [
            node("Constant", [], ["two"], value_float=2.0),
            node("Mul", ["w", "two"], ["doubled"]),
            node("Identity", ["x"], ["copy"]),
            node("Add", ["copy", "doubled"], ["a"]),
            node("Add", ["x", "doubled"], ["b"]),
            node("Sin", ["x"], ["unread"]),
            node("Mul", ["a", "b"], ["m"]),
            node("ReduceSum", ["m", "axes"], ["y"], keepdims=0),
        ],
        {"x": ["n", 3], "axes": [1]},
        ["y"],
        initializers={"w": np.arange(3, dtype=np.float32), "spare": np.ones(5, np.float32)},
        dtypes={"axes": INT},
    )
    x = np.random.default_rng(0).standard_normal((2, 3)).astype(np.float32)
    made = small(model, {"x": x, "axes": np.array([0])})
    assert operators(made) == ["Add", "Mul", "ReduceSum"]
    assert [t.name for t in made.graph.initializer] == ["doubled"]


def test_what_stays() -> None:
    """Draws, outputs, and what nested graphs read under its name."""
    branch = helper.make_graph(
        [node("Neg", ["copy"], ["n"])], "b", [], [helper.make_value_info("n", onnx.TypeProto())]
    )
    model = make_model(
        [
            node("RandomUniform", [], ["r"], shape=[4]),
            node("RandomUniform", [], ["s"], shape=[4]),
            node("Sub", ["r", "s"], ["apart"]),
            node("Identity", ["x"], ["copy"]),
            node("If", ["cond"], ["y"], then_branch=branch, else_branch=branch),
            node("Identity", ["x"], ["z"]),
        ],
        {"x": [2], "cond": []},
        ["y", "z", "apart"],
        dtypes={"cond": TensorProto.BOOL},
    )
    made = cleaned(load_model(model))
    assert operators(made) == operators(model)
    assert np.abs(InferenceSession(made).run(["apart"], feeds())[0]).max() > 0


def feeds() -> dict[str, Any]:
    return {"x": np.ones(2, np.float32), "cond": np.array(True)}


def test_large_results_are_not_folded() -> None:
    model = make_model(
        [node("ConstantOfShape", ["s"], ["big"]), node("ReduceSum", ["big", "axes"], ["y"])],
        {"axes": [1]},
        ["y"],
        initializers={"s": np.array([1000, 1000])},
        dtypes={"axes": INT},
    )
    assert operators(small(model, {"axes": np.array([0])})) == operators(model)


@pytest.mark.parametrize("kind", ["sequence_", "loop", "string", "optional_"])
def test_models_of_the_suite(kind: str) -> None:
    cases = [c for c in suite("node") if c.name.startswith(f"test_{kind}")]
    assert cases
    for case in cases:
        names = [i.name for i in case.model.graph.input]
        made = cleaned(load_model(case.model))
        for inputs, wanted in case.data_sets:
            given = dict(zip(names, inputs, strict=True))
            for a, b in zip(InferenceSession(made).run(None, given), wanted, strict=True):
                np.testing.assert_equal(a, b, err_msg=case.name)
