"""Models that nobody here wrote, against ONNX Runtime."""

from __future__ import annotations

import numpy as np
import pytest

from dualgraph_compiler.graph import interpret, verify
from dualgraph_compiler.onnx import export_graph, import_model
from tests.onnx.helpers import real_model, run_onnxruntime


def feeds_for(name: str) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    if name == "mnist.onnx":
        return {"Input3": rng.random((1, 1, 28, 28), np.float32)}
    if name.startswith("ultraface"):
        return {"input": rng.standard_normal((1, 3, 240, 320), np.float32)}
    return {"bytes": rng.integers(0, 257, (3, 2048)).astype(np.int32)}


MODELS = ["mnist.onnx", "ultraface_version-RFB-320.onnx", "magika_v3_3.onnx"]


@pytest.mark.parametrize("name", MODELS)
def test_import(name: str) -> None:
    path, feeds = real_model(name), feeds_for(name)
    expected = run_onnxruntime(path, feeds)
    for weights in ("constant", "param"):
        graph = import_model(path, weights=weights)
        verify(graph)
        assert bool(graph.params) == (weights == "param")
        for got, wanted in zip(interpret(graph, feeds), expected, strict=True):
            np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", MODELS)
def test_export_again(name: str) -> None:
    path, feeds = real_model(name), feeds_for(name)
    model = export_graph(import_model(path))
    for got, wanted in zip(
        run_onnxruntime(model, feeds), run_onnxruntime(path, feeds), strict=True
    ):
        np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-4)
