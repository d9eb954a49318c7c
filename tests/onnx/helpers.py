"""What the ONNX tests share."""

from __future__ import annotations

import functools
import os
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from onnx.backend.test.case.test_case import TestCase

REAL_MODELS = Path(
    os.environ.get("DUALGRAPH_REAL_MODELS")
    or Path(__file__).resolve().parents[3] / "shared" / "real_models"
)


def real_model(name: str) -> Path:
    """The path of a model trained by others; skips the test where there is none."""
    path = REAL_MODELS / name
    if not path.is_file():
        pytest.skip(f"needs {name}; set DUALGRAPH_REAL_MODELS to the folder that has it")
    return path


@functools.cache
def suite(kind: str) -> list[TestCase]:
    """The cases of ONNX's test suite of a kind ("node", "simple", "real", ...)."""
    with warnings.catch_warnings():  # its own computations overflow and the like
        warnings.simplefilter("ignore")
        from onnx.backend.test.loader import load_model_tests

        return load_model_tests(kind=kind)


def run_onnxruntime(
    model: onnx.ModelProto | str | Path, feeds: Mapping[str, Any]
) -> list[np.ndarray]:
    """All outputs according to ONNX Runtime."""
    import onnxruntime

    source = model.SerializeToString() if isinstance(model, onnx.ModelProto) else str(model)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
    return session.run(None, dict(feeds))


def make_model(
    nodes: Sequence[onnx.NodeProto],
    inputs: Mapping[str, Sequence[int | str | None]],
    outputs: Sequence[str],
    *,
    opset: int = 21,
    initializers: Mapping[str, Any] | None = None,
    dtypes: Mapping[str, int] | None = None,
    ir_version: int | None = None,
    functions: Sequence[onnx.FunctionProto] = (),
    domains: Sequence[str] = (),
) -> onnx.ModelProto:
    """A model of float32 inputs (unless `dtypes` says otherwise) and outputs of unstated shape."""
    dtypes = dtypes or {}
    opsets = [helper.make_opsetid("", opset), *(helper.make_opsetid(d, 1) for d in domains)]
    initializers = initializers or {}
    graph = helper.make_graph(
        nodes,
        "g",
        [
            helper.make_tensor_value_info(n, dtypes.get(n, TensorProto.FLOAT), s)
            for n, s in inputs.items()
        ],
        [helper.make_tensor_value_info(n, dtypes.get(n, TensorProto.FLOAT), None) for n in outputs],
        [onnx.numpy_helper.from_array(np.asarray(a), n) for n, a in initializers.items()],
    )
    return helper.make_model(
        graph,
        opset_imports=opsets,
        functions=functions,
        ir_version=ir_version or min(onnx.helper.find_min_ir_version_for(opsets, True), 10),
    )
