"""ONNX's own test cases, one model an operator: each gives the stated result or a clear error."""

from __future__ import annotations

import functools
from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from dualgraph_compiler.errors import OnnxError
from dualgraph_compiler.graph import interpret, verify
from dualgraph_compiler.onnx import export_graph, import_model
from tests.onnx.helpers import run_onnxruntime, suite

# Results that rest on the order of roundings in half precision.
TOLERANCE = {2: 2e-2, 4: 1e-4, 8: 1e-4}


# Random draws, whose values a test cannot state.
DRAWN = {
    "test_bernoulli",
    "test_bernoulli_double",
    "test_bernoulli_seed",
    "test_training_dropout",
    "test_training_dropout_default",
    "test_training_dropout_default_mask",
    "test_training_dropout_mask",
}


@dataclass
class Case:
    name: str
    model: onnx.ModelProto
    inputs: list[np.ndarray]
    outputs: list[np.ndarray]


@functools.cache
def cases() -> list[Case]:
    """Every case whose inputs and outputs are tensors of numbers."""
    every = []
    for case in suite("node"):
        if case.name.removesuffix("_expanded") in DRAWN:
            continue
        inputs, outputs = case.data_sets[0]
        if all(
            isinstance(t, onnx.TensorProto | np.ndarray | np.generic) for t in (*inputs, *outputs)
        ):
            every.append(Case(case.name, case.model, arrays(inputs), arrays(outputs)))
    return every


def arrays(tensors: Any) -> list[np.ndarray]:
    return [
        np.asarray(numpy_helper.to_array(t) if isinstance(t, onnx.TensorProto) else t)
        for t in tensors
    ]


def with_constants(case: Case) -> Case:
    """The case with small integers and scalars fixed: axes and shapes must be known on import."""
    model = onnx.ModelProto()
    model.CopyFrom(case.model)
    del model.graph.input[:]
    inputs = []
    for info, array in zip(case.model.graph.input, case.inputs, strict=True):
        setting = array.ndim == 0 or info.name in ("scales", "roi")
        if setting or (array.dtype.kind in "ib" and array.size <= 16):
            model.graph.initializer.append(numpy_helper.from_array(array, info.name))
        else:
            model.graph.input.append(info)
            inputs.append(array)
    return Case(case.name, model, inputs, case.outputs)


def problem(found: list[Any], expected: list[np.ndarray]) -> str:
    """How results differ; empty if they do not."""
    for got, wanted in zip(found, expected, strict=True):
        got = np.asarray(got)
        if got.dtype != wanted.dtype or got.shape != wanted.shape:
            return f"{got.dtype}{list(got.shape)}, not {wanted.dtype}{list(wanted.shape)}"
        wide = np.complex128 if wanted.dtype.kind == "c" else np.float64
        tolerance = max(TOLERANCE.get(a.dtype.itemsize, 1e-4) for a in expected)
        if not np.allclose(
            got.astype(wide), wanted.astype(wide), tolerance, tolerance, equal_nan=True
        ):
            return "other values"
    return ""


@pytest.fixture(scope="module", autouse=True)
def _quiet_half_precision() -> Any:
    with np.errstate(all="ignore"):
        yield


def test_import() -> None:
    """No wrong result, and no error but OnnxError, whatever the operator."""
    wrong: dict[str, str] = {}
    counts: Counter[str] = Counter()
    for case in cases():
        try:
            graph = import_model(case.model)
        except OnnxError:
            case = with_constants(case)
            try:
                graph = import_model(case.model)
            except OnnxError:
                counts["refused"] += 1
                continue
        verify(graph)
        counts["imported"] += 1
        different = problem(interpret(graph, case.inputs), case.outputs)
        if different:
            wrong[case.name] = different
    assert not wrong
    assert counts["imported"] > counts["refused"], counts


# Where ONNX Runtime computes something else than the operator's definition, or refuses.
THEIRS = {
    # lengths that are no power of two: errors of 1e-4 beside sums of 450
    "test_dft_opset19",
    "test_dft_axis_opset19",
    "test_dft_rfft_opset19",
    # an output larger than the operator's formula gives, which takes negative pads
    "test_convtranspose_output_shape",
    # a zero point for each channel of the weight
    "test_convinteger_with_padding",
    # shifts by the width of the type or more
    "test_bitshift_right_int8_shift_ge_width",
    "test_bitshift_right_int32_shift_ge_width",
    "test_bitshift_right_int8_negative_shift",
    "test_bitshift_right_int32_negative_shift",
}


def as_declared(got: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """ONNX Runtime gives 8-bit floats as their bytes."""
    small = wanted.dtype.kind not in "biu" and wanted.dtype.itemsize == 1
    return got.view(wanted.dtype) if small and got.dtype == np.uint8 else got


def test_dynamic_sizes_and_export() -> None:
    """With the first axis dynamic: the same result, and from ONNX Runtime after exporting."""
    wrong: dict[str, str] = {}
    compared = 0
    for case in cases():
        if case.name in THEIRS or not case.inputs or case.name.endswith("_expanded"):
            continue
        batch = next((a.shape[0] for a in case.inputs if a.ndim), 0)
        shapes = {
            info.name: ("n", *a.shape[1:])
            for info, a in zip(case.model.graph.input, case.inputs, strict=True)
            if a.ndim and a.shape[0] == batch > 1
        }
        try:
            graph = import_model(case.model, input_shapes=shapes)
            model = export_graph(graph)
        except OnnxError:
            continue
        different = problem(interpret(graph, case.inputs), case.outputs)
        try:
            names = [v.name for v in graph.inputs]
            found = run_onnxruntime(model, dict(zip(names, case.inputs, strict=True)))
            found = [as_declared(*pair) for pair in zip(found, case.outputs, strict=True)]
        except Exception as error:  # it lacks some element types of some operators
            if "NOT_IMPLEMENTED" in str(error) or "type" in str(error):
                continue
            different = different or f"ONNX Runtime: {error}"
        else:
            compared += 1
            different = different or problem(found, case.outputs)
        if different:
            wrong[case.name] = different
    assert not wrong
    assert compared > 300
