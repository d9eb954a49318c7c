"""ONNX operators in forms that this project does not write itself, against ONNX Runtime."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from dualgraph_compiler.errors import OnnxError
from dualgraph_compiler.graph import Graph, interpret, verify
from dualgraph_compiler.onnx import import_model


def f32(*shape: int) -> np.ndarray[Any, Any]:
    return np.random.default_rng(len(shape)).normal(size=shape).astype(np.float32)


def ints(*values: int) -> np.ndarray[Any, Any]:
    return np.array(values, np.int64)


def model(
    kind: str,
    inputs: Sequence[Any],
    constants: dict[int, Any],
    outputs: Sequence[int],
    dynamic: bool = False,
    **attributes: Any,
) -> Any:
    """A model of one node. `outputs` are the ranks of its results, all float32 or int64.

    `inputs` are arrays, None for an absent one; those listed in `constants` become initializers.
    """
    import onnx
    from onnx import helper, numpy_helper

    names, values, initializers = [], [], []
    for i, x in enumerate(inputs):
        if i in constants:
            initializers.append(numpy_helper.from_array(np.asarray(constants[i]), f"c{i}"))
            names.append(f"c{i}")
        elif x is None:
            names.append("")
        else:
            shape = list(x.shape)
            if dynamic and i == 0:  # all but the channels
                for k in (0, *range(2, x.ndim)):
                    shape[k] = f"n{k}"
            kind_of = helper.np_dtype_to_tensor_dtype(x.dtype)
            values.append(helper.make_tensor_value_info(f"x{i}", kind_of, shape))
            names.append(f"x{i}")
    results = [f"y{k}" for k in range(len(outputs))]
    node = helper.make_node(kind, names, results, **attributes)
    schema = onnx.defs.get_schema(kind, 21)
    infos = []
    for k, rank in enumerate(outputs):
        declared = schema.outputs[min(k, len(schema.outputs) - 1)].type_str
        is_index = declared in ("tensor(int64)", "I")
        dtype = onnx.TensorProto.INT64 if is_index else onnx.TensorProto.FLOAT
        infos.append(helper.make_tensor_value_info(results[k], dtype, [None] * rank))
    graph = helper.make_graph([node], "g", values, infos, initializers)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    onnx.checker.check_model(made)
    return made


def imported(made: Any) -> Graph:
    graph = import_model(made)
    verify(graph)
    return graph


def compare(made: Any, inputs: Sequence[Any]) -> None:
    ort = pytest.importorskip("onnxruntime")
    options = ort.SessionOptions()
    options.log_severity_level = 4
    session = ort.InferenceSession(made.SerializeToString(), options)
    feeds = dict(zip([v.name for v in session.get_inputs()], inputs, strict=True))
    want = session.run(None, feeds)
    got = interpret(imported(made), list(inputs))
    for a, b in zip(got, want, strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


BOTH = pytest.mark.parametrize("dynamic", [False, True], ids=["static", "dynamic"])

# kind, operands, which of them are constants, ranks of the results, attributes
CASES: dict[str, tuple[str, list[Any], list[int], list[int], dict[str, Any]]] = {
    "slice with negative steps": (
        "Slice",
        [f32(5, 6), ints(-1, 4), ints(-(2**63) + 1, 0), ints(0, 1), ints(-2, -1)],
        [1, 2, 3, 4],
        [2],
        {},
    ),
    "slice beyond the ends": (
        "Slice",
        [f32(5, 6), ints(-9, 2), ints(9, 2**63 - 1), ints(1, 0), ints(2, 1)],
        [1, 2, 3, 4],
        [2],
        {},
    ),
    "slice to nothing": ("Slice", [f32(5), ints(4), ints(2)], [1, 2], [1], {}),
    "slice backwards to nothing": (
        "Slice",
        [f32(5), ints(1), ints(3), ints(0), ints(-1)],
        [1, 2, 3, 4],
        [1],
        {},
    ),
    "slice without axes": ("Slice", [f32(5, 4), ints(1, 0), ints(-1, -2)], [1, 2], [2], {}),
    "reshape with 0 and -1": ("Reshape", [f32(2, 3, 4), ints(0, -1)], [1], [2], {}),
    "flatten": ("Flatten", [f32(2, 3, 4)], [], [2], {"axis": -1}),
    "squeeze": ("Squeeze", [f32(2, 1, 3), ints(-2)], [1], [2], {}),
    "unsqueeze": ("Unsqueeze", [f32(2, 3), ints(-1, 0)], [1], [4], {}),
    "expand both ways": ("Expand", [f32(3, 1), ints(2, 1, 4)], [1], [3], {}),
    "transpose by default": ("Transpose", [f32(2, 3, 4)], [], [3], {}),
    "split in unequal parts": ("Split", [f32(7, 2)], [], [2, 2, 2], {"num_outputs": 3}),
    "split by sizes": ("Split", [f32(2, 5), ints(1, 4)], [1], [2, 2], {"axis": -1}),
    "pad with axes": (
        "Pad",
        [f32(3, 4), ints(1, 2), np.float32(7), ints(-1)],
        [1, 2, 3],
        [2],
        {},
    ),
    "pad by reflection and crop": (
        "Pad",
        [f32(4, 5), ints(1, 0, -1, 2)],
        [1],
        [2],
        {"mode": "reflect"},
    ),
    "tile": ("Tile", [f32(2, 3), ints(2, 2)], [1], [2], {}),
    "gather by one constant": ("Gather", [f32(4, 3), np.int64(-1)], [1], [1], {}),
    "gather elements": ("GatherElements", [f32(2, 3), np.array([[0, -1]])], [], [2], {"axis": -1}),
    "gather n-d": ("GatherND", [f32(2, 3, 4), np.array([[0, 1], [1, -1]])], [], [2], {}),
    "scatter n-d": (
        "ScatterND",
        [f32(4, 3), np.array([[3], [-3]]), f32(2, 3)],
        [],
        [2],
        {"reduction": "add"},
    ),
    "one-hot in front": (
        "OneHot",
        [ints(0, -1, 9), np.int64(3), np.array([-1, 5], np.float32)],
        [1, 2],
        [2],
        {"axis": 0},
    ),
    "top-k": ("TopK", [f32(3, 5), ints(2)], [1], [2, 2], {"axis": 0, "largest": 0}),
    "argmax, last of equals": (
        "ArgMax",
        [np.array([[1, 3, 3, 0]], np.float32)],
        [],
        [1],
        {"axis": -1, "keepdims": 0, "select_last_index": 1},
    ),
    "cumsum": ("CumSum", [f32(3, 4), np.int64(-2)], [1], [2], {"reverse": 1, "exclusive": 1}),
    "conv, same upper": (
        "Conv",
        [f32(1, 2, 5, 6), f32(3, 2, 2, 3)],
        [],
        [4],
        {"auto_pad": "SAME_UPPER", "strides": [2, 1]},
    ),
    "conv, same lower": (
        "Conv",
        [f32(1, 2, 5, 6), f32(3, 2, 2, 3)],
        [],
        [4],
        {"auto_pad": "SAME_LOWER", "strides": [2, 2]},
    ),
    "conv, valid": ("Conv", [f32(1, 2, 5), f32(3, 2, 2), f32(3)], [], [3], {"auto_pad": "VALID"}),
    "conv, unequal padding": ("Conv", [f32(1, 2, 5), f32(3, 2, 2)], [], [3], {"pads": [2, 0]}),
    "transposed conv, output shape": (
        "ConvTranspose",
        [f32(1, 2, 3, 3), f32(2, 1, 3, 3)],
        [],
        [4],
        {"strides": [3, 2], "output_shape": [10, 8]},
    ),
    "transposed conv, same upper": (
        "ConvTranspose",
        [f32(1, 2, 3, 3), f32(2, 1, 3, 3)],
        [],
        [4],
        {"strides": [2, 2], "auto_pad": "SAME_UPPER"},
    ),
    "max pool, same upper": (
        "MaxPool",
        [f32(1, 2, 5, 6)],
        [],
        [4],
        {"kernel_shape": [2, 3], "strides": [2, 2], "auto_pad": "SAME_UPPER"},
    ),
    "max pool with indices": (
        "MaxPool",
        [f32(2, 3, 5)],
        [],
        [3, 3],
        {"kernel_shape": [2], "strides": [2], "ceil_mode": 1},
    ),
    "average pool, ceil": (
        "AveragePool",
        [f32(1, 2, 6)],
        [],
        [3],
        {"kernel_shape": [3], "strides": [2], "pads": [1, 1], "ceil_mode": 1},
    ),
    "global max pool": ("GlobalMaxPool", [f32(2, 3, 4, 5)], [], [4], {}),
    "global average pool": ("GlobalAveragePool", [f32(2, 3, 4)], [], [3], {}),
    "layer norm over two axes": (
        "LayerNormalization",
        [f32(2, 3, 4), f32(3, 4)],
        [],
        [3],
        {"axis": 1, "epsilon": 1e-3},
    ),
    "instance norm": ("InstanceNormalization", [f32(2, 3, 4), f32(3), f32(3)], [1, 2], [3], {}),
    "reverse sequence, batch first": (
        "ReverseSequence",
        [f32(2, 4), ints(3, 2)],
        [],
        [2],
        {"time_axis": 1, "batch_axis": 0},
    ),
}
# Sizes that must be known, or that other operands state as well.
STATIC = {"layer norm over two axes", "reverse sequence, batch first"}


@BOTH
@pytest.mark.parametrize("name", CASES)
def test_import(name: str, dynamic: bool) -> None:
    kind, inputs, fixed, ranks, attributes = CASES[name]
    if dynamic and name in STATIC:
        pytest.skip("needs a known size")
    constants = {i: inputs[i] for i in fixed}
    made = model(kind, inputs, constants, ranks, dynamic, **attributes)
    compare(made, [x for i, x in enumerate(inputs) if i not in constants])


def test_batch_norm_in_training_mode() -> None:
    x, scale, bias, mean, var = f32(4, 3, 2), f32(3), f32(3), f32(3), f32(3) ** 2
    made = model(
        "BatchNormalization",
        [x, scale, bias, mean, var],
        {},
        [3, 1, 1],
        training_mode=1,
        momentum=0.75,
    )
    y, new_mean, new_var = interpret(imported(made), [x, scale, bias, mean, var])
    current, spread = x.mean((0, 2)), x.var((0, 2))
    np.testing.assert_allclose(new_mean, 0.75 * mean + 0.25 * current, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(new_var, 0.75 * var + 0.25 * spread, rtol=1e-5, atol=1e-6)
    normal = (x - current[:, None]) / np.sqrt(spread + 1e-5)[:, None]
    np.testing.assert_allclose(y, normal * scale[:, None] + bias[:, None], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("start", [0, 2])
def test_range_of_a_size(start: int) -> None:
    """Range whose end is a symbolic size, as exporters write positions."""
    from onnx import TensorProto, helper, numpy_helper

    nodes = [
        helper.make_node("Shape", ["x"], ["s"]),
        helper.make_node("Squeeze", ["s"], ["n"]),
        helper.make_node("Range", ["a", "n", "d"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n"])],
        [helper.make_tensor_value_info("y", TensorProto.INT64, [None])],
        [numpy_helper.from_array(np.array(v), n) for n, v in (("a", start), ("d", 2))],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    (y,) = interpret(imported(made), [f32(7)])
    np.testing.assert_array_equal(y, np.arange(start, 7, 2))


REFUSED: dict[str, tuple[str, list[Any], list[int], list[int], dict[str, Any], str]] = {
    "gather out of bounds": ("Gather", [f32(4), np.int64(4)], [1], [0], {}, "out of bounds"),
    "slice by data": ("Slice", [f32(3), ints(0), ints(1)], [], [1], {}, "starts of Slice"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str) -> None:
    kind, inputs, fixed, ranks, attributes, match = REFUSED[name]
    made = model(kind, inputs, {i: inputs[i] for i in fixed}, ranks, **attributes)
    with pytest.raises(OnnxError, match=match):
        import_model(made)
