"""ai.onnx.ml on numbers, against ONNX Runtime and, where that departs from ONNX, its reference."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

import dualgraph_runtime as rt
from dualgraph_compiler.errors import OnnxError
from dualgraph_compiler.graph import interpret, verify
from dualgraph_compiler.onnx import import_model
from tests.onnx.helpers import run_onnxruntime

FLOAT, INT = TensorProto.FLOAT, TensorProto.INT64
TYPES = {np.dtype("f4"): FLOAT, np.dtype("f8"): TensorProto.DOUBLE, np.dtype("i8"): INT}
TRANSFORMS = ("NONE", "SOFTMAX", "LOGISTIC", "SOFTMAX_ZERO", "PROBIT")
MODES = [f"BRANCH_{m}" for m in ("LEQ", "LT", "GTE", "GT", "EQ", "NEQ")]


def model_of(
    name: str, x: np.ndarray, outputs: Sequence[int] = (FLOAT,), **attributes: Any
) -> onnx.ModelProto:
    """A model of one node on x, whose outputs have these element types."""
    names = [f"y{i}" for i in range(len(outputs))]
    given = {k: v for k, v in attributes.items() if v is not None and not (v == [] or v == ())}
    version = given.pop("version", 5 if name == "TreeEnsemble" else 3)
    node = helper.make_node(name, ["x"], names, domain="ai.onnx.ml", **given)
    graph = helper.make_graph(
        [node],
        "g",
        [helper.make_tensor_value_info("x", TYPES[x.dtype], ["n", *x.shape[1:]])],
        [helper.make_tensor_value_info(n, t, None) for n, t in zip(names, outputs, strict=True)],
    )
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("ai.onnx.ml", version)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=9)


def run(model: onnx.ModelProto, x: np.ndarray, native: bool = False) -> list[np.ndarray]:
    if native:
        options = rt.SessionOptions()
        options.execution = "native"
        session = rt.InferenceSession(model, options)
        assert "interpreted" not in session.report()
        return session.run(None, {"x": x})
    graph = import_model(model)
    verify(graph)
    return interpret(graph, [x])


def same(found: Sequence[np.ndarray], expected: Sequence[np.ndarray], what: Any = "") -> None:
    for y, wanted in zip(found, expected, strict=True):
        assert y.dtype == wanted.dtype, what
        np.testing.assert_allclose(y, wanted, 1e-4, 1e-5, err_msg=str(what))


def compare(
    name: str, x: np.ndarray, outputs: Sequence[int] = (FLOAT,), native: bool = False, **given: Any
) -> None:
    model = model_of(name, x, outputs, **given)
    same(run(model, x, native), run_onnxruntime(model, {"x": x}), given.keys())


def draw(*shape: int, seed: int = 0) -> np.ndarray:
    """Few different numbers, so that some are equal to a tree's."""
    return np.round(np.random.default_rng(seed).normal(size=shape), 1).astype(np.float32)


def forest(
    kind: str,
    trees: int = 6,
    depth: int = 4,
    targets: int = 1,
    per_leaf: int = 1,
    modes: Sequence[str] = MODES[:1],
    positive: bool = False,
) -> dict[str, list[Any]]:
    """The attributes of random trees over five features; `kind` is "target" or "class"."""
    rng = np.random.default_rng(trees)
    columns = "treeids nodeids featureids values modes truenodeids falsenodeids"
    nodes: dict[str, list[Any]] = {
        f"nodes_{c}": [] for c in (*columns.split(), "missing_value_tracks_true")
    }
    leaves: dict[str, list[Any]] = {
        f"{kind}_{c}": [] for c in ("treeids", "nodeids", "ids", "weights")
    }

    def add(table: dict[str, list[Any]], *row: Any) -> None:
        for column, value in zip(table.values(), row, strict=True):
            column.append(value)

    def grow(tree: int, level: int) -> int:
        number = nodes["nodes_treeids"].count(tree)
        leaf = level == depth or (level > 0 and rng.random() < 0.2)
        mode = "LEAF" if leaf else modes[rng.integers(len(modes))]
        feature, split = int(rng.integers(5)), float(np.float32(np.round(rng.normal(), 1)))
        add(nodes, tree, number, feature, split, mode, 0, 0, int(rng.integers(2)))
        at = len(nodes["nodes_treeids"]) - 1
        if leaf:
            for target in rng.permutation(targets)[:per_leaf]:
                weight = float(rng.normal())
                weight = abs(weight) / trees if positive else weight
                add(leaves, tree, number, int(target), weight)
        else:
            nodes["nodes_truenodeids"][at] = grow(tree, level + 1)
            nodes["nodes_falsenodeids"][at] = grow(tree, level + 1)
        return number

    for tree in range(trees):
        grow(tree, 0)
    return nodes | leaves


ROWS = draw(21, 5)
HOLES = np.where(draw(21, 5, seed=1) > 0.8, np.float32(np.nan), ROWS)


@pytest.mark.parametrize("aggregate", ["SUM", "AVERAGE", "MIN", "MAX"])
def test_regression_by_trees(aggregate: str) -> None:
    trees = forest("target", targets=3, per_leaf=3)
    given = {"n_targets": 3, "aggregate_function": aggregate, **trees}
    for base in (None, [0.5, -0.25, 1.0]):
        compare("TreeEnsembleRegressor", ROWS, base_values=base, **given)
    compare("TreeEnsembleRegressor", ROWS.astype("f8"), **given)
    found = run(model_of("TreeEnsembleRegressor", ROWS.astype("i8"), **given), ROWS.astype("i8"))
    whole = ROWS.astype("i8").astype("f4")
    same(found, run_onnxruntime(model_of("TreeEnsembleRegressor", whole, **given), {"x": whole}))


def test_comparisons_of_nodes() -> None:
    """Missing values take the branch that the node says; ONNX Runtime's NEQ does not ask."""
    for modes in (*([m] for m in MODES), MODES):
        given = {"n_targets": 1, **forest("target", modes=modes)}
        x = ROWS if "BRANCH_NEQ" in modes else HOLES
        compare("TreeEnsembleRegressor", x, **given)
    model = model_of("TreeEnsembleRegressor", HOLES, n_targets=1, **forest("target", modes=MODES))
    plain = {"n_targets": 1, **forest("target", modes=[MODES[4]])}
    turned = plain | {
        "nodes_modes": [m.replace("EQ", "NEQ") if m != "LEAF" else m for m in plain["nodes_modes"]],
        "nodes_truenodeids": plain["nodes_falsenodeids"],
        "nodes_falsenodeids": plain["nodes_truenodeids"],
        "nodes_missing_value_tracks_true": [
            1 - m for m in plain["nodes_missing_value_tracks_true"]
        ],
    }
    plain_model, turned_model = (
        model_of("TreeEnsembleRegressor", HOLES, **g) for g in (plain, turned)
    )
    same(run(turned_model, HOLES), run(plain_model, HOLES))
    assert np.isfinite(run(model, HOLES)[0]).all()


@pytest.mark.parametrize("transform", TRANSFORMS)
def test_classification_by_trees(transform: str) -> None:
    outputs, positive = (INT, FLOAT), transform == "PROBIT"
    given: dict[str, Any] = {"post_transform": transform, "classlabels_int64s": [3, 5, 9]}
    trees = forest("class", targets=3, per_leaf=3, positive=positive)
    for base in (None, [0.1, 0.2, 0.3]):
        compare("TreeEnsembleClassifier", ROWS, outputs, **given, base_values=base, **trees)
    if transform not in ("NONE", "LOGISTIC"):
        return  # of two classes ONNX Runtime applies no others
    given["classlabels_int64s"] = [3, 5]
    for positive, base in itertools.product((False, True), (None, [0.2])):
        trees = forest("class", positive=positive)
        compare("TreeEnsembleClassifier", ROWS, outputs, **given, base_values=base, **trees)


def test_two_classes_with_scores_of_their_own() -> None:
    """The label is that of the greater; ONNX Runtime answers with 0 and 1."""
    trees = forest("class", targets=2, per_leaf=2)
    model = model_of(
        "TreeEnsembleClassifier", ROWS, (INT, FLOAT), classlabels_int64s=[3, 5], **trees
    )
    labels, scores = run(model, ROWS)
    np.testing.assert_array_equal(labels, np.array([3, 5])[scores.argmax(1)])
    same([scores], run_onnxruntime(model, {"x": ROWS})[1:])


@pytest.mark.compiler
def test_trees_are_native() -> None:
    """Any number of rows: blocks of them, and what is left; float32 and float64."""
    trees = forest("class", trees=17, depth=6, targets=3, per_leaf=2, modes=MODES[:5])
    model = model_of(
        "TreeEnsembleClassifier", ROWS, (INT, FLOAT), classlabels_int64s=[0, 1, 2], **trees
    )
    options = rt.SessionOptions()
    options.execution = "native"
    session = rt.InferenceSession(model, options)
    assert "interpreted" not in session.report()
    for rows in (0, 1, 7, 64, 65, 200):
        x = draw(rows, 5, seed=rows)
        same(session.run(None, {"x": x}), run_onnxruntime(model, {"x": x}))
    for aggregate in ("MIN", "SUM"):
        given = {"n_targets": 2, "aggregate_function": aggregate}
        given |= forest("target", targets=2, per_leaf=2, modes=MODES[:5])
        compare("TreeEnsembleRegressor", HOLES.astype("f8"), native=True, **given)


def test_ensembles_of_version_5() -> None:
    """Against the reference: ONNX Runtime knows float32 only, and of the members some."""
    splits = np.array([0.5, np.nan, -0.2, 0.1], np.float32)
    given = {
        "n_targets": 2,
        "tree_roots": [0, 3],
        "nodes_modes": helper.make_tensor("m", TensorProto.UINT8, (4,), [0, 6, 3, 4]),
        "nodes_featureids": [0, 1, 2, 3],
        "nodes_splits": helper.make_tensor("s", FLOAT, (4,), splits),
        "nodes_truenodeids": [1, 0, 1, 4],
        "nodes_trueleafs": [0, 1, 1, 1],
        "nodes_falsenodeids": [2, 2, 3, 5],
        "nodes_falseleafs": [0, 1, 1, 1],
        "leaf_targetids": [0, 1, 0, 1, 1, 0],
        "leaf_weights": helper.make_tensor("w", FLOAT, (6,), [1.0, 2, 3, 4, 5, 6]),
        "membership_values": helper.make_tensor("v", FLOAT, (4,), [0.1, -0.4, 1.2, np.nan]),
    }
    for aggregate in (0, 1):
        model = model_of("TreeEnsemble", ROWS, **given, aggregate_function=aggregate)
        same(run(model, ROWS), ReferenceEvaluator(model).run(None, {"x": ROWS}))
    double = given | {
        n: helper.make_tensor(n, TensorProto.DOUBLE, (len(v),), v)
        for n, v in (("nodes_splits", splits), ("leaf_weights", [1.0, 2, 3, 4, 5, 6]))
    }
    x = ROWS.astype("f8")
    wide = model_of("TreeEnsemble", x, (TensorProto.DOUBLE,), **double)
    (y,) = run(wide, x)
    assert y.dtype == np.float64
    assert y.shape == (21, 2)


def test_malformed_trees() -> None:
    for change, text in (
        ({"nodes_featureids": [7] * 999}, "feature"),
        ({"nodes_truenodeids": [0] * 999}, "itself"),
        ({"nodes_falsenodeids": [9999] * 999}, "nowhere"),
        ({"nodes_modes": ["BRANCH_LIKE"] * 999}, "BRANCH|LIKE"),
        ({"target_ids": [5] * 999}, "target"),
        ({"nodes_values": [0.0]}, "length"),
    ):
        trees = forest("target")
        for name, values in change.items():
            trees[name] = values[: len(trees[name])]
        if "nodes_modes" in change:
            trees["nodes_modes"] = [
                "BRANCH_LIKE" if m != "LEAF" else m for m in forest("target")["nodes_modes"]
            ]
        with pytest.raises(OnnxError, match=text):
            import_model(model_of("TreeEnsembleRegressor", ROWS, n_targets=1, **trees))


@pytest.mark.parametrize("transform", TRANSFORMS)
def test_linear_models(transform: str) -> None:
    weights = np.random.default_rng(0).normal(size=15).astype("f4").tolist()
    given: dict[str, Any] = {"coefficients": weights, "post_transform": transform}
    compare("LinearRegressor", ROWS, targets=3, intercepts=[0.1, 0.2, 0.3], **given)
    compare("LinearRegressor", ROWS, targets=3, **given)
    labels = {"classlabels_ints": [3, 5, 9], "intercepts": [0.1, 0.2, 0.3]}
    compare("LinearClassifier", ROWS, (INT, FLOAT), **labels, **given)
    if transform in ("NONE", "LOGISTIC", "SOFTMAX"):
        two = {"classlabels_ints": [3, 5], "intercepts": [0.1]}
        given["coefficients"] = weights[:5]
        compare("LinearClassifier", ROWS, (INT, FLOAT), **two, **given)


@pytest.mark.parametrize("kernel", ["LINEAR", "POLY", "RBF", "SIGMOID"])
def test_support_vectors(kernel: str) -> None:
    rng = np.random.default_rng(1)
    given: dict[str, Any] = {"kernel_type": kernel, "kernel_params": [0.2, 0.1, 3.0]}
    given["support_vectors"] = rng.normal(size=7 * 5).tolist()
    weights = {"coefficients": rng.normal(size=7).tolist(), "rho": [0.1]}
    compare("SVMRegressor", ROWS, n_supports=7, **weights, **given)
    compare("SVMRegressor", ROWS, n_supports=7, one_class=1, **weights, **given)
    outputs = (INT, FLOAT)
    two = {"classlabels_ints": [3, 5], "vectors_per_class": [3, 4], **weights, **given}
    compare("SVMClassifier", ROWS, outputs, **two)
    compare("SVMClassifier", ROWS, outputs, **two, prob_a=[-1.2], prob_b=[0.1])
    three = given | {"classlabels_ints": [3, 5, 9], "vectors_per_class": [3, 2, 2]}
    three |= {"coefficients": rng.normal(size=14).tolist(), "rho": [0.1, -0.2, 0.05]}
    compare("SVMClassifier", ROWS, outputs, **three)
    odds = {"prob_a": [-1.2, -0.8, -2.0], "prob_b": [0.1, 0.0, -0.1]}
    model = model_of("SVMClassifier", ROWS, outputs, **three, **odds)
    found, expected = run(model, ROWS), run_onnxruntime(model, {"x": ROWS})
    np.testing.assert_array_equal(found[0], expected[0])
    np.testing.assert_allclose(found[1], expected[1], atol=2e-4)  # where steps end is rounding


def test_preprocessing() -> None:
    row = [0.5, 1.0, -1.0, 2.0, 0.25]
    for dtype in ("f4", "f8", "i8"):
        x = (10 * ROWS).astype(dtype)
        kind = TYPES[x.dtype]
        compare("Scaler", x, offset=row, scale=row[::-1])
        compare("Scaler", x, offset=[0.5], scale=[2.0])
        for norm in ("MAX", "L1", "L2"):
            if norm != "MAX":  # which ONNX Runtime divides by the greatest, not by its size
                compare("Normalizer", x, norm=norm)
        values = {"int64": [1, 2, 3, 4, 5], "float": row}["int64" if dtype == "i8" else "float"]
        names = ("int64s", "int64") if dtype == "i8" else ("floats", "float")
        given = {
            f"imputed_value_{names[0]}": values,
            f"replaced_value_{names[1]}": 3 if dtype == "i8" else 3.0,
        }
        if dtype != "f8":  # which ONNX Runtime lacks
            compare("Imputer", x, (kind,), **given)
    model = model_of("Normalizer", ROWS, norm="MAX")
    same(run(model, ROWS), ReferenceEvaluator(model).run(None, {"x": ROWS}))
    nan = float("nan")
    compare("Imputer", HOLES, imputed_value_floats=row, replaced_value_float=nan)
    compare("Imputer", HOLES, imputed_value_floats=row[:1], replaced_value_float=nan)
    compare("Binarizer", ROWS, threshold=0.3)
    x = ROWS[:, :3]
    compare("FeatureVectorizer", x, inputdimensions=[3])


def test_encoders() -> None:
    x = np.arange(12).reshape(4, 3) % 7
    keys, numbers = [5, 1, 4, 2], [0.5, 1.5, -2.0, 7.0]
    given = {"keys_int64s": keys, "values_floats": numbers, "default_float": -9.0}
    compare("LabelEncoder", x, **given)
    compare("LabelEncoder", x, (INT,), keys_int64s=keys, values_int64s=keys[::-1])
    floats = np.array([[0.5, np.nan, 7.0, 3.0]], np.float32)
    given = {"keys_floats": [*numbers, float("nan")], "values_int64s": [1, 2, 3, 4, 5]}
    compare("LabelEncoder", floats, (INT,), **given, default_int64=-3, version=4)
    compare("OneHotEncoder", x, cats_int64s=[1, 2, 6])
    compare("OneHotEncoder", x.astype("f4"), cats_int64s=[1, 2, 6])


def test_picking_features() -> None:
    at = np.array([2, 0, 4])
    node = helper.make_node("ArrayFeatureExtractor", ["x", "at"], ["y"], domain="ai.onnx.ml")
    for x in (ROWS, ROWS[0], ROWS.reshape(3, 7, 5)):
        graph = helper.make_graph(
            [node],
            "g",
            [helper.make_tensor_value_info("x", FLOAT, x.shape)],
            [helper.make_tensor_value_info("y", FLOAT, None)],
            [onnx.numpy_helper.from_array(at, "at")],
        )
        opsets = [helper.make_opsetid("", 18), helper.make_opsetid("ai.onnx.ml", 1)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=9)
        same(run(model, x), run_onnxruntime(model, {"x": x}))
