"""What tests of models that are no single graph are written with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

import dualgraph_runtime as rt
from tests.onnx.helpers import run_onnxruntime

node = helper.make_node
INT, STRING = TensorProto.INT64, TensorProto.STRING


def session(model: onnx.ModelProto, execution: Any = "interpreter") -> rt.InferenceSession:
    """A session that runs in steps whatever comes; test_specialized has the other way."""
    options = rt.SessionOptions()
    options.execution = execution
    made = rt.InferenceSession(model, options)
    assert made._steps is not None
    made._steps.specialized = None
    return made


def native() -> rt.SessionOptions:
    options = rt.SessionOptions()
    options.execution = "native"
    return options


def agrees(s: rt.InferenceSession, model: onnx.ModelProto, feeds: Mapping[str, Any]) -> None:
    """The session gives what ONNX Runtime does."""
    expected = run_onnxruntime(model, feeds)
    for got, wanted in zip(s.run(None, feeds), expected, strict=True):
        compare(got, wanted)


def compare(got: Any, wanted: Any) -> None:
    if isinstance(wanted, list):
        assert isinstance(got, list)
        for g, w in zip(got, wanted, strict=True):
            compare(g, w)
    elif isinstance(wanted, np.ndarray) and wanted.dtype.kind not in "OU":
        assert got.dtype == wanted.dtype
        assert got.shape == wanted.shape
        np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=1e-6)
    else:
        np.testing.assert_array_equal(got, wanted)


def value(name: str, kind: onnx.TypeProto) -> onnx.ValueInfoProto:
    return helper.make_value_info(name, kind)


def sequence(elem: int = TensorProto.FLOAT) -> onnx.TypeProto:
    return helper.make_sequence_type_proto(helper.make_tensor_type_proto(elem, None))


def model_of(
    nodes: list[onnx.NodeProto],
    inputs: list[onnx.ValueInfoProto],
    outputs: list[onnx.ValueInfoProto],
    opset: int = 21,
) -> onnx.ModelProto:
    graph = helper.make_graph(nodes, "g", inputs, outputs)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)


def floats(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)
