"""ai.onnx.ml on strings and maps, against ONNX Runtime."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import dualgraph_runtime as rt
from dualgraph_compiler.errors import OnnxError
from tests.onnx.helpers import run_onnxruntime
from tests.onnx.test_ml import ROWS, forest

FLOAT, INT, STRING = TensorProto.FLOAT, TensorProto.INT64, TensorProto.STRING
NAMES = np.array([["a", "b"], ["c", "zz"]], dtype=object)


def tensor(kind: int, shape: list[Any] | None = None) -> onnx.TypeProto:
    return helper.make_tensor_type_proto(kind, shape)


def mapping(key: int, value: int) -> onnx.TypeProto:
    return helper.make_map_type_proto(key, tensor(value))


def model_of(
    name: str, x: onnx.TypeProto, outputs: list[onnx.TypeProto], version: int = 3, **attributes: Any
) -> onnx.ModelProto:
    """A model of one node with one operand x."""
    names = [f"y{i}" for i in range(len(outputs))]
    node = helper.make_node(name, ["x"], names, domain="ai.onnx.ml", **attributes)
    infos = [helper.make_value_info(n, t) for n, t in zip(names, outputs, strict=True)]
    graph = helper.make_graph([node], "g", [helper.make_value_info("x", x)], infos)
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("ai.onnx.ml", version)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=9)


def run(model: onnx.ModelProto, x: Any) -> list[Any]:
    options = rt.SessionOptions()
    options.execution = "interpreter"
    return rt.InferenceSession(model, options).run(None, {"x": x})


def compare(model: onnx.ModelProto, x: Any) -> None:
    for found, wanted in zip(run(model, x), run_onnxruntime(model, {"x": x}), strict=True):
        if isinstance(wanted, list):
            assert [list(row) for row in found] == [list(row) for row in wanted]
            values = [[*row.values()] for row in found]
            np.testing.assert_allclose(values, [[*row.values()] for row in wanted], 1e-5)
        elif wanted.dtype.kind in "OU":
            np.testing.assert_array_equal(np.asarray(found, dtype=object), wanted)
        else:
            assert found.dtype == wanted.dtype
            np.testing.assert_allclose(found, wanted, 1e-5, 1e-6)


def test_label_encoder() -> None:
    """Every kind of keys to every kind of values."""
    kinds: dict[str, tuple[int, list[Any], Any]] = {
        "strings": (STRING, ["a", "b", "c"], "none"),
        "int64s": (INT, [4, 5, 6], -7),
        "floats": (FLOAT, [0.5, 1.5, 2.5], -0.25),
    }
    given = {"strings": NAMES, "int64s": np.array([[5, 9]]), "floats": np.array([[2.5, 3]], "f4")}
    for (k, (key, keys, _)), (v, (value, values, default)) in itertools.product(
        kinds.items(), repeat=2
    ):
        attributes = {f"keys_{k}": keys, f"values_{v}": values}
        if k == "strings":  # else the default
            attributes[f"default_{v[:-1]}"] = default
        x = given[k]
        types = tensor(key, list(x.shape)), [tensor(value)]
        compare(model_of("LabelEncoder", *types, **attributes), x)


def test_label_encoder_of_version_1() -> None:
    for x, kinds in ((NAMES, (STRING, INT)), (np.array([2, 0, 9]), (INT, STRING))):
        types = tensor(kinds[0], list(x.shape)), [tensor(kinds[1])]
        model = model_of("LabelEncoder", *types, version=1, classes_strings=["a", "b", "c"])
        compare(model, x)


def test_other_encoders() -> None:
    pairs = {"cats_strings": ["a", "b", "c"], "cats_int64s": [7, 8, 9]}
    for x, kinds in ((NAMES, (STRING, INT)), (np.array([[8, 1]]), (INT, STRING))):
        types = tensor(kinds[0], list(x.shape)), [tensor(kinds[1])]
        compare(model_of("CategoryMapper", *types, **pairs), x)
    types = tensor(STRING, [2, 2]), [tensor(FLOAT)]
    compare(model_of("OneHotEncoder", *types, cats_strings=["a", "c", "zz"]), NAMES)
    strict = model_of("OneHotEncoder", *types, cats_strings=["a", "b", "c"], zeros=0)
    with pytest.raises(OnnxError, match="'zz'"):
        run(strict, NAMES)


def test_maps() -> None:
    scores = np.array([[0.25, 0.5, 0.25], [1, 0, 0]], np.float32)
    for key, labels in (
        (INT, {"classlabels_int64s": [3, 5, 9]}),
        (STRING, {"classlabels_strings": ["a", "b", "c"]}),
    ):
        out = helper.make_sequence_type_proto(mapping(key, FLOAT))
        compare(model_of("ZipMap", tensor(FLOAT, ["n", 3]), [out], version=1, **labels), scores)
    words: dict[Any, Any] = {"b": 2.0, "zz": 7.0, "a": 0.5}
    vocabulary = {"string_vocabulary": ["a", "b", "c"]}
    types = mapping(STRING, FLOAT), [tensor(FLOAT)]
    compare(model_of("DictVectorizer", *types, version=1, **vocabulary), words)
    types = mapping(STRING, INT), [tensor(INT)]  # feeds of which ONNX Runtime takes for floats
    (y,) = run(model_of("DictVectorizer", *types, version=1, **vocabulary), {"b": 2})
    np.testing.assert_array_equal(y, np.array([[0, 2, 0]]))
    assert y.dtype == np.int64
    types = mapping(INT, STRING), [tensor(STRING)]
    (y,) = run(model_of("DictVectorizer", *types, version=1, int64_vocabulary=[0, 1]), {1: "x"})
    assert y.tolist() == [["", "x"]]
    numbers = {3: 0.5, 1: 2.0}
    for form in ({"map_form": "DENSE"}, {"map_form": "SPARSE", "max_map": 5}):
        types = mapping(INT, FLOAT), [tensor(FLOAT)]
        compare(model_of("CastMap", *types, version=1, **form), numbers)
        types = mapping(INT, FLOAT), [tensor(INT)]
        compare(model_of("CastMap", *types, version=1, cast_to="TO_INT64", **form), numbers)


def test_classifiers_of_names() -> None:
    """Scores are computed by a graph, whatever the labels are."""
    names = ["one", "two", "three"]
    types = tensor(FLOAT, ["n", 5]), [tensor(STRING), tensor(FLOAT)]
    trees = forest("class", targets=3, per_leaf=3)
    models = [model_of("TreeEnsembleClassifier", *types, classlabels_strings=names, **trees)]
    weights = np.random.default_rng(0).normal(size=15).tolist()
    given = {"coefficients": weights, "intercepts": [0.1, 0.2, 0.3]}
    models.append(model_of("LinearClassifier", *types, classlabels_strings=names, **given))
    two = {"coefficients": weights[:5], "intercepts": [0.1], "post_transform": "LOGISTIC"}
    models.append(model_of("LinearClassifier", *types, classlabels_strings=names[:2], **two))
    for model in models:
        compare(model, ROWS)
        options = rt.SessionOptions()
        options.execution = "interpreter"
        session = rt.InferenceSession(model, options)
        assert "LabelEncoder" in session.report()


def test_refusals() -> None:
    types = tensor(FLOAT, ["n", 3]), [helper.make_sequence_type_proto(mapping(INT, FLOAT))]
    with pytest.raises(OnnxError, match="2 classes"):
        run(model_of("ZipMap", *types, version=1, classlabels_int64s=[1, 2]), np.ones((1, 3), "f4"))
