"""Operators that are made of others, and old versions of operators, against ONNX Runtime."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

import dualgraph_runtime as rt
from dualgraph_compiler.errors import OnnxError
from dualgraph_compiler.graph import interpret
from dualgraph_compiler.onnx import import_model
from tests.onnx.helpers import run_onnxruntime

Array = np.ndarray[Any, Any]


def f32(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng([seed, *shape]).normal(size=shape).astype(np.float32)


def ints(*values: int) -> Array:
    return np.array(values, np.int64)


def model_of(
    op: str,
    opset: int,
    inputs: list[Any],
    outputs: int = 1,
    const: tuple[int, ...] = (),
    **attributes: Any,
) -> tuple[onnx.ModelProto, dict[str, Array]]:
    """A model of one node, and its feeds; the operands `const` are initializers."""
    names = [f"x{i}" if x is not None else "" for i, x in enumerate(inputs)]
    found = {n: np.asarray(x) for n, x in zip(names, inputs, strict=True) if n}
    held = {names[i] for i in const}
    infos = {
        n: helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(a.dtype), a.shape)
        for n, a in found.items()
    }
    graph = helper.make_graph(
        [helper.make_node(op, names, [f"y{i}" for i in range(outputs)], **attributes)],
        "g",
        [info for n, info in infos.items() if n not in held],
        [onnx.ValueInfoProto(name=f"y{i}") for i in range(outputs)],
        [numpy_helper.from_array(a, n) for n, a in found.items() if n in held],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    feeds = {n: a for n, a in found.items() if n not in held}
    return onnx.shape_inference.infer_shapes(model), feeds


def evaluate(model: onnx.ModelProto, feeds: dict[str, Array]) -> list[Array]:
    graph = import_model(model)
    return [np.asarray(y) for y in interpret(graph, [feeds[v.name] for v in graph.inputs])]


def same(found: list[Array], expected: list[Any], within: int = 0) -> None:
    assert len(found) == len(expected)
    for a, b in zip(found, expected, strict=True):
        assert (a.dtype, a.shape) == (b.dtype, b.shape)
        if a.dtype.kind in "iu" and within:
            assert abs(a - b).max() <= within
            continue
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)


IMAGE = f32(1, 2, 6, 7)
HALVED = np.array([1, 1, 0.5, 0.6], np.float32)
DOUBLED = np.array([1, 1, 2, 1.5], np.float32)
ROIS = np.array([[0, 0, 3, 4], [1, 1, 5, 6]], np.float32)
CALLS: list[tuple[Any, ...]] = [
    # windows
    ("LpPool", 18, [IMAGE], 1, (), {"kernel_shape": [2, 3], "strides": [2, 1], "p": 3}),
    ("LpPool", 18, [IMAGE], 1, (), {"kernel_shape": [2, 3], "dilations": [2, 1], "p": 1}),
    ("LpPool", 11, [IMAGE], 1, (), {"kernel_shape": [3, 3], "auto_pad": "SAME_UPPER"}),
    ("LpPool", 2, [IMAGE], 1, (), {"kernel_shape": [2, 3], "pads": [1, 1, 0, 1]}),
    ("GlobalLpPool", 2, [IMAGE], 1, (), {"p": 3}),
    ("LRN", 13, [f32(2, 6, 3, 4)], 1, (), {"size": 5, "alpha": 0.5, "beta": 0.6, "bias": 2.0}),
    ("LRN", 1, [f32(1, 3, 2, 2)], 1, (), {"size": 7}),
    ("LpNormalization", 1, [f32(2, 3, 2)], 1, (), {"p": 1, "axis": 1}),
    ("LpNormalization", 1, [np.zeros((2, 3), np.float32)], 1, (), {}),
    ("AveragePool", 19, [IMAGE], 1, (), {"kernel_shape": [3, 2], "dilations": [2, 3]}),
    (
        "AveragePool",
        19,
        [f32(1, 2, 8, 9)],
        1,
        (),
        {
            "kernel_shape": [3, 2],
            "dilations": [2, 1],
            "strides": [2, 2],
            "pads": [1, 1, 1, 1],
            "ceil_mode": 1,
            "count_include_pad": 1,
        },
    ),
    ("MaxPool", 12, [f32(2, 2, 6, 7)], 2, (), {"kernel_shape": [2, 3], "storage_order": 1}),
    ("Col2Im", 18, [f32(2, 8, 20), ints(3, 4), ints(2, 2)], 1, (1, 2), {"pads": [1, 1, 1, 1]}),
    ("Col2Im", 18, [f32(2, 12, 3), ints(7), ints(3)], 1, (1, 2), {"strides": [2]}),
    ("DepthToSpace", 11, [f32(1, 8, 2, 3)], 1, (), {"blocksize": 2, "mode": "CRD"}),
    ("DepthToSpace", 1, [f32(1, 8, 2, 3)], 1, (), {"blocksize": 2}),
    ("SpaceToDepth", 13, [f32(1, 2, 4, 6)], 1, (), {"blocksize": 2}),
    # gathers and scatters
    ("GatherND", 12, [f32(2, 3, 4), np.array([[0], [2]])], 1, (), {"batch_dims": 1}),
    (
        "GatherND",
        13,
        [f32(2, 3, 4, 2), np.zeros((2, 3, 2, 1), np.int64)],
        1,
        (),
        {"batch_dims": 2},
    ),
    *(
        (
            "ScatterND",
            18,
            [f32(4, 3, 2), np.array([[1, 2], [1, -1], [0, 0]]), f32(3, 2, seed=1)],
            1,
            (),
            {"reduction": how},
        )
        for how in ("add", "mul", "max", "min")
    ),
    ("Compress", 11, [f32(3, 4), np.array([True, False, True])], 1, (), {"axis": -2}),
    ("Compress", 11, [f32(3, 4), np.array([True, False, True])], 1, (), {}),
    ("NonZero", 13, [f32(3, 4) > 0], 1, (), {}),
    ("Unique", 11, [np.round(f32(9))], 4, (), {"sorted": 0}),
    ("NonMaxSuppression", 11, [abs(f32(1, 9, 4)), abs(f32(1, 2, 9)), ints(5)], 1, (), {}),
    ("Trilu", 14, [f32(2, 3, 4), np.int64(1)], 1, (), {"upper": 0}),
    ("Trilu", 14, [f32(3, 4), np.int64(-2)], 1, (), {}),
    ("Pad", 13, [f32(2, 3), ints(1, 0, -1, 2), np.float32(2)], 1, (1,), {}),
    # numbers
    *(
        ("Range", 11, [np.array(v, d) for v in bounds], 1, const, {})
        for const in ((), (0, 1, 2))
        for d, bounds in (
            (np.float32, (1, 4, 0.7)),
            (np.float64, (3, -1, -0.5)),
            (np.int16, (1, 9, 3)),
            (np.int32, (10, -4, -3)),
            (np.int64, (5, 5, 1)),
        )
    ),
    ("Einsum", 12, [f32(2, 3), f32(3, 4), f32(4)], 1, (), {"equation": "ij,jk,k"}),
    ("Einsum", 12, [f32(2, 3, 3)], 1, (), {"equation": "...ii -> ...i"}),
    ("Hardmax", 13, [np.round(f32(2, 3, 4))], 1, (), {"axis": 1}),
    ("LayerNormalization", 17, [f32(2, 3, 4), f32(3, 4)], 3, (), {"axis": 1}),
    ("MeanVarianceNormalization", 13, [f32(2, 3, 4)], 1, (), {"axes": [1]}),
    # signals
    ("DFT", 20, [f32(2, 8, 1), ints(6)[0], ints(1)[0]], 1, (1, 2), {"onesided": 1}),
    ("DFT", 17, [f32(2, 8, 2)], 1, (), {"axis": 1, "inverse": 1}),
    ("STFT", 17, [f32(2, 20, 1), ints(4)[0], f32(8)], 1, (1,), {}),
    ("STFT", 17, [f32(2, 20, 1), ints(4)[0], None, ints(8)[0]], 1, (1, 3), {"onesided": 0}),
    ("HannWindow", 17, [ints(9)[0]], 1, (0,), {}),
    ("HammingWindow", 17, [ints(9)[0]], 1, (0,), {"periodic": 0}),
    ("BlackmanWindow", 17, [ints(9)[0]], 1, (0,), {"output_datatype": 11}),
    (
        "MelWeightMatrix",
        17,
        [*(np.int64(v) for v in (20, 400, 16000)), np.float32(20), np.float32(7600)],
        1,
        (0, 1, 2, 3, 4),
        {},
    ),
    # images
    ("AffineGrid", 20, [f32(2, 3, 4), ints(2, 1, 3, 4, 2)], 1, (1,), {"align_corners": 1}),
    ("CenterCropPad", 18, [f32(5, 4, 3), ints(2, 7)], 1, (1,), {"axes": [0, -1]}),
    (
        "Resize",
        19,
        [IMAGE, np.array([0, 0, 0.1, -0.2, 1, 1, 0.8, 1.1], np.float32), None, ints(1, 2, 4, 9)],
        1,
        (1, 3),
        {
            "mode": "linear",
            "coordinate_transformation_mode": "tf_crop_and_resize",
            "extrapolation_value": 7.0,
        },
    ),
    ("Resize", 19, [(9 * IMAGE).astype(np.int32), None, DOUBLED], 1, (2,), {"mode": "linear"}),
    # as they were
    ("Softmax", 11, [f32(2, 3, 4)], 1, (), {}),
    ("Hardmax", 11, [np.round(f32(2, 3, 4))], 1, (), {}),
    ("Hardmax", 7, [np.round(f32(2, 3, 4))], 1, (), {"axis": 0}),
    ("Upsample", 7, [IMAGE], 1, (), {"mode": "linear", "scales": [1.0, 1.0, 2.0, 2.0]}),
    ("Upsample", 9, [IMAGE, DOUBLED], 1, (1,), {"mode": "linear"}),
    ("Upsample", 9, [IMAGE, DOUBLED], 1, (1,), {"mode": "nearest"}),
    ("Resize", 10, [IMAGE, DOUBLED], 1, (1,), {"mode": "linear"}),
    ("Resize", 10, [IMAGE, HALVED], 1, (1,), {"mode": "nearest"}),
    ("GroupNormalization", 18, [f32(2, 4, 3), f32(2), f32(2)], 1, (), {"num_groups": 2}),
    (
        "RoiAlign",
        10,
        [IMAGE, ROIS, ints(0, 0)],
        1,
        (),
        {"output_height": 2, "output_width": 3, "sampling_ratio": 2},
    ),
    ("TopK", 1, [f32(2, 5)], 2, (), {"k": 3}),
    ("Split", 2, [f32(6, 4)], 2, (), {"split": [2, 4]}),
    ("Dropout", 12, [f32(2, 3), np.float32(0), np.array(True)], 2, (), {}),
]


@pytest.mark.parametrize("call", CALLS, ids=[f"{c[0]}-{c[1]}-{i}" for i, c in enumerate(CALLS)])
def test_against_onnxruntime(call: tuple[Any, ...]) -> None:
    op, opset, inputs, outputs, const, attributes = call
    model, feeds = model_of(op, opset, inputs, outputs, const, **attributes)
    with np.errstate(all="ignore"):
        # Interpolated integers are cut off, so the last bits of the weights decide some of them.
        within = int(op == "Resize")
        same(evaluate(model, feeds), run_onnxruntime(model, feeds), within)


def test_versions_that_onnxruntime_lacks() -> None:
    x, slope = f32(2, 3, 4), f32(3)
    model, feeds = model_of("PRelu", 6, [x, slope])
    same(evaluate(model, feeds), [np.where(x < 0, x * slope[:, None], x)])
    model, feeds = model_of("Cast", 1, [x], to="INT32")
    same(evaluate(model, feeds), [x.astype(np.int32)])
    model, feeds = model_of("Cast", 1, [x], to="COMPLEX32")
    with pytest.raises(OnnxError, match="COMPLEX32"):
        import_model(model)


def test_types_are_known_behind_old_operators() -> None:
    """The converter needs shapes, and infers none behind an operator that it does not know."""
    nodes = [
        helper.make_node("Upsample", ["x"], ["a"], scales=[1.0, 1.0, 2.0, 2.0]),
        helper.make_node("Softmax", ["a"], ["y"]),
    ]
    info = helper.make_tensor_value_info("x", 1, IMAGE.shape)
    graph = helper.make_graph(nodes, "g", [info], [helper.make_tensor_value_info("y", 1, None)])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 7)], ir_version=4)
    same(evaluate(model, {"x": IMAGE}), run_onnxruntime(model, {"x": IMAGE}))


def test_in_a_session() -> None:
    """Sizes that only a run tells, between compiled parts."""
    nodes = [
        helper.make_node("Relu", ["x"], ["a"]),
        helper.make_node("NonZero", ["a"], ["at"]),
        helper.make_node("Transpose", ["at"], ["rows"], perm=[1, 0]),
        helper.make_node("GatherND", ["a", "rows"], ["b"]),
        helper.make_node("Exp", ["b"], ["y"]),
    ]
    info = helper.make_tensor_value_info("x", 1, ["n", 5])
    outputs = [helper.make_tensor_value_info("y", 1, None)]
    graph = helper.make_graph(nodes, "g", [info], outputs)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    for execution in ("interpreter", "native"):
        options = rt.SessionOptions()
        options.execution = execution
        session = rt.InferenceSession(model.SerializeToString(), options)
        for n in (3, 7, 0):
            x = f32(n, 5)
            (y,) = session.run(None, {"x": x})
            np.testing.assert_allclose(y, np.exp(x[x > 0]), rtol=1e-5)


FREE: list[tuple[Any, ...]] = [
    ("Einsum", 12, [f32(2, 3, 4), f32(2, 4, 5)], 1, (), {"equation": "...ij,...jk->...ik"}),
    ("Col2Im", 18, [f32(2, 8, 6), ints(3, 4), ints(2, 2)], 1, (1, 2), {}),
    ("GridSample", 20, [f32(2, 3, 4, 5), f32(2, 3, 3, 2)], 1, (), {}),
    ("DeformConv", 19, [IMAGE, f32(3, 2, 3, 3), f32(1, 18, 4, 5)], 1, (), {}),
    ("RoiAlign", 16, [IMAGE, ROIS, ints(0, 0)], 1, (), {"output_height": 2, "output_width": 2}),
    ("NonMaxSuppression", 11, [abs(f32(1, 9, 4)), abs(f32(1, 2, 9)), ints(5)], 1, (), {}),
    ("Det", 11, [f32(3, 2, 2)], 1, (), {}),
    ("ScatterND", 18, [f32(4, 3), np.array([[1], [3]]), f32(2, 3)], 1, (), {"reduction": "max"}),
    ("NegativeLogLikelihoodLoss", 13, [f32(3, 4), ints(1, 2, 0)], 1, (), {}),
    ("STFT", 17, [f32(2, 20, 1), ints(4)[0], f32(8)], 1, (1,), {}),
    ("Resize", 19, [IMAGE, None, DOUBLED], 1, (2,), {"mode": "linear"}),
]


@pytest.mark.parametrize("call", FREE, ids=[c[0] for c in FREE])
def test_with_no_size_declared(call: tuple[Any, ...]) -> None:
    """Every size of every input free, and unlike every other one."""
    op, opset, inputs, outputs, const, attributes = call
    model, feeds = model_of(op, opset, inputs, outputs, const, **attributes)
    expected = run_onnxruntime(model, feeds)
    for info in model.graph.input:
        for i, d in enumerate(info.type.tensor_type.shape.dim):
            d.dim_param = f"{info.name}_{i}"
    options = rt.SessionOptions()
    options.execution = "interpreter"
    session = rt.InferenceSession(model.SerializeToString(), options)
    same(session.run(None, feeds), expected)


# -- random draws ---------------------------------------------------------------------------------


def drawn(op: str, inputs: list[Any], outputs: int = 1, **attributes: Any) -> list[Array]:
    return evaluate(*model_of(op, 22 if op == "Dropout" else 15, inputs, outputs, **attributes))


def test_draws() -> None:
    (u,) = drawn("RandomUniform", [], shape=[4000], low=2.0, high=6.0)
    assert u.min() >= 2
    assert u.max() < 6
    assert abs(u.mean() - 4) < 0.1
    (z,) = drawn("RandomNormalLike", [f32(4000)], mean=3.0, scale=2.0, dtype=11)
    assert z.dtype == np.float64
    assert abs(z.mean() - 3) < 0.2
    assert abs(z.std() - 2) < 0.2
    (b,) = drawn("Bernoulli", [np.full(4000, 0.25)], dtype=7)
    assert b.dtype == np.int64
    assert set(b.tolist()) == {0, 1}
    assert abs(b.mean() - 0.25) < 0.04
    logits = np.log(np.array([[0.1, 0.6, 0.3], [0.98, 0.01, 0.01]], np.float32))
    (m,) = drawn("Multinomial", [logits], sample_size=3000, dtype=7)
    assert m.shape == (2, 3000)
    for row, share in zip(m, np.exp(logits), strict=True):
        np.testing.assert_allclose(np.bincount(row, minlength=3) / 3000, share, atol=0.05)


def test_seeds() -> None:
    """Draws without a seed differ from run to run, where a graph is optimised, too."""
    model, _ = model_of("RandomNormal", 15, [], shape=[8])
    session = rt.InferenceSession(model.SerializeToString())
    first, second = (session.run(None, {})[0] for _ in range(2))
    assert (first != second).all()


@pytest.mark.parametrize("known", [(), (1, 2)])
def test_dropout_while_training(known: tuple[int, ...]) -> None:
    x = f32(50, 60)
    inputs = [x, np.float32(0.25), np.array(True)]
    y, mask = evaluate(*model_of("Dropout", 22, inputs, 2, known))
    assert abs(mask.mean() - 0.75) < 0.04
    np.testing.assert_allclose(y, np.where(mask, x / 0.75, 0), rtol=1e-6)
    inputs[2] = np.array(False)
    y, mask = evaluate(*model_of("Dropout", 22, inputs, 2, known))
    np.testing.assert_array_equal(y, x)
    assert mask.all()
