"""Symbolic sizes through ONNX: one file, run by ONNX Runtime and imported back, at many sizes."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest

import dualgraph as dg
from dualgraph_compiler.compile import optimize
from dualgraph_compiler.dims import Dim, parse_dim, symbols
from dualgraph_compiler.errors import OnnxError
from dualgraph_compiler.graph import interpret
from dualgraph_compiler.onnx import export_graph, import_model
from tests.tracing.dynamic_cases import CASES
from tests.tracing.test_dynamic_shapes import BOUNDS, TRACED, arrays, flat, outcome

ort = pytest.importorskip("onnxruntime")

# Sizes at which no case asks for an element that is not there; each differs from the traced.
# ONNX has no bounds of sizes: that at most 40 positions are asked for is lost.
NOT_READ_BACK = {"positions"}
NOT_WRITTEN = {
    "slice from the end by another": "'n' is the size of no input",
    "adaptive": "h to 3 has no ONNX form",
    "adaptive, kept": "h to 2 has no ONNX form",
}
SIZES = {"n": 7, "h": 9, "w": 8, "m": 5, "d": 4, "h5": 6}


def exported(name: str) -> tuple[Any, list[list[Any]], Any]:
    function, texts = CASES[name]
    shapes = [[parse_dim(d, BOUNDS) for d in text.split()] for text in texts]
    spec = [{i: d for i, d in enumerate(s) if isinstance(d, Dim)} for s in shapes]
    graph = dg.trace(function, *map(dg.from_numpy, arrays(shapes, TRACED)), dynamic_shapes=spec)
    return function, shapes, export_graph(optimize(graph, freeze=True, numerics="strict"))


def session(model: Any) -> Any:
    options = ort.SessionOptions()
    options.log_severity_level = 4
    return ort.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"])


@pytest.mark.parametrize("name", CASES)
def test_one_file_for_all_sizes(name: str) -> None:
    if name in NOT_WRITTEN:
        with pytest.raises(OnnxError, match=NOT_WRITTEN[name]):
            exported(name)
        return
    function, shapes, model = exported(name)
    run = session(model)
    again = None if name in NOT_READ_BACK else import_model(model)
    for sizes in (TRACED, SIZES):
        feeds = arrays(shapes, sizes)
        want = outcome(lambda: [t.detach().numpy() for t in flat(function(*map(dg.tensor, feeds)))])  # noqa: B023
        if isinstance(want, Exception):
            continue
        named = {i.name: x for i, x in zip(model.graph.input, feeds, strict=True)}
        kept = {i.name for i in run.get_inputs()}
        results = [run.run(None, {k: v for k, v in named.items() if k in kept})]
        if again is not None:
            results.append(interpret(again, feeds))
        for got in results:
            for a, b in zip(got, want, strict=True):
                assert np.shape(a) == b.shape, sizes
                np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4, err_msg=f"at {sizes}")


def dim_params(info: onnx.ValueInfoProto) -> list[str]:
    return [d.dim_param or str(d.dim_value) for d in info.type.tensor_type.shape.dim]


def test_names_are_written_and_come_back() -> None:
    def f(x, y):
        return x[1:], dg.cat([x, x]), x @ y, x.reshape(-1)

    spec = {"x": {0: "batch", 1: "width"}, "y": {0: "width"}}
    model = dg.onnx.export(f, (dg.ones(3, 4), dg.ones(4, 2)), dynamic_shapes=spec)
    assert [dim_params(i) for i in model.graph.input] == [["batch", "width"], ["width", "2"]]
    assert [dim_params(o) for o in model.graph.output] == [
        ["max(0, batch - 1)", "width"],
        ["2*batch", "width"],
        ["batch", "2"],
        ["batch*width"],
    ]
    again = import_model(model)
    assert [str(d) for v in again.outputs for d in v.shape] == [
        d for o in model.graph.output for d in dim_params(o)
    ]
    x, y = np.ones((6, 5), np.float32), np.ones((5, 2), np.float32)
    shapes = [r.shape for r in session(model).run(None, {"x": x, "y": y})]
    assert shapes == [(5, 5), (12, 5), (6, 2), (30,)]


def test_derived_inputs_are_declared_by_their_expression() -> None:
    model = dg.onnx.export(
        lambda x, y: x.reshape(-1, 2) + y,
        (dg.ones(6), dg.ones(3, 2)),
        dynamic_shapes={"x": {0: "2*half"}, "y": {0: "half"}},
    )
    assert dim_params(model.graph.input[0]) == ["2*half"]
    names = {s.name for v in import_model(model).inputs for d in v.shape for s in symbols(d)}
    assert "half" in names
    feeds = {"x": np.ones(10, np.float32), "y": np.ones((5, 2), np.float32)}
    assert session(model).run(None, feeds)[0].shape == (5, 2)
