"""Every op crossed with every opset from 13 to 28, in so far as the written nodes differ.

One sample an op; with ``DUALGRAPH_FULL_MATRIX=1`` all of them (some minutes). Each model passes
ONNX's checker, is imported again, and runs elsewhere: on ONNX Runtime up to its newest opset, on
ONNX's reference evaluator beyond.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import pytest

from dualgraph_compiler.dtypes import BY_ONNX
from dualgraph_compiler.errors import OnnxError
from dualgraph_compiler.graph import interpret
from dualgraph_compiler.onnx import export_graph, import_model
from tests.onnx.export_matrix import OPSETS, Form, chosen, forms, graph_of
from tests.op_samples import OpSamples, all_samples
from tests.test_ops import check_result, least_tolerance, naming

RECORDS = all_samples()
FULL = bool(os.environ.get("DUALGRAPH_FULL_MATRIX"))
NEWEST_OF_ORT = 26

# What other implementations get wrong: an op, and words of the sample (empty: of every one).
THEIR_BUGS = {
    ("bitwise_and", "no elements"): "ONNX Runtime's Mod broadcasts no elements wrongly",
    ("bitwise_or", "no elements"): "as bitwise_and",
    ("bitwise_xor", "no elements"): "as bitwise_and",
    ("deform_conv", "no images"): "ONNX Runtime's MatMul broadcasts no elements wrongly",
    ("rnn", "at opset 28"): "the reference evaluator ignores lengths",
    ("log_sum_exp", "at opset 28"): "the reference evaluator overflows",
    ("adafactor_update", "at opset 28"): "the reference evaluator has no largest of no elements",
    ("quantize_linear", "at opset 28"): "the reference evaluator keeps an axis that is not there",
    ("unique", "at opset 28"): "the reference evaluator sorts what is to stay as it occurs",
    ("non_max_suppression", "at opset 28"): "the reference evaluator takes no 0-d thresholds",
    ("slice_update", "at opset 27"): "the reference evaluator's Pad does not crop",
    ("slice_update", "at opset 28"): "the reference evaluator's Pad does not crop",
}

each_op = pytest.mark.parametrize("record", RECORDS.values(), ids=list(RECORDS))


@each_op
def test_every_opset(record: OpSamples) -> None:
    """Each form is valid, says what the op does, and is read back as that."""
    if not chosen(record, FULL):  # each sample says why, or is complex
        if record.op.is_pure:
            with pytest.raises(OnnxError):
                export_graph(graph_of(record.samples[0]), opset=OPSETS[0])
        return
    first = {}
    for form in forms(record, FULL):
        first.setdefault(form.index, form.opset)
        with naming(form):
            onnx.checker.check_model(form.model, full_check=True)
            got = interpret(import_model(form.model), form.sample.inputs)
            check_result(record, form.index, got, 20, least_tolerance(form.sample))
            _run_elsewhere(record, form)
    assert list(first) == chosen(record, FULL)


def _run_elsewhere(record: OpSamples, form: Form) -> None:
    sample = form.sample
    skips = (w in str(form) for name, w in THEIR_BUGS if name == record.op.name)
    if record.runtime is not True or sample.runtime is not True or any(skips):
        return
    declared = (*form.model.graph.input, *form.model.graph.output)
    types = {v.type.tensor_type.elem_type for v in declared}
    if any(BY_ONNX[t].is_narrow or BY_ONNX[t].np.kind not in "biufc" for t in types):
        return  # bfloat16 and narrower ones, which they do not hand over as arrays
    feeds = {f"x{k}": np.ascontiguousarray(x).reshape(x.shape) for k, x in enumerate(sample.inputs)}
    feeds = {v.name: feeds[v.name] for v in form.model.graph.input}
    run = _onnxruntime if form.opset <= NEWEST_OF_ORT else _reference
    got = run(form.model, feeds)
    if got is not None:
        check_result(record, form.index, got, 20, 1e-6)


def _onnxruntime(model: onnx.ModelProto, feeds: dict[str, Any]) -> Sequence[Any] | None:
    """Its results, or None where it says itself that it lacks a kernel for the types."""
    ort = pytest.importorskip("onnxruntime")
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    try:
        session = ort.InferenceSession(model.SerializeToString(), options)
    except ort.capi.onnxruntime_pybind11_state.NotImplemented:
        return None
    types = [BY_ONNX[v.type.tensor_type.elem_type] for v in model.graph.output]
    # It gives 8-bit floats as their bytes.
    return [
        y.view(t.np) if t.is_narrow and y.dtype == np.uint8 else y
        for y, t in zip(session.run(None, feeds), types, strict=True)
    ]


def _reference(model: onnx.ModelProto, feeds: dict[str, Any]) -> Sequence[Any]:
    from onnx.reference import ReferenceEvaluator

    return ReferenceEvaluator(model).run(None, feeds)
