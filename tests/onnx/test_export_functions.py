"""Optimised models: fused regions as functions that the file itself defines."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

import dualgraph as dg
import dualgraph.nn.functional as F
from dualgraph import nn
from dualgraph_compiler.graph import interpret, parse_graph
from dualgraph_compiler.onnx import export_graph, import_model
from dualgraph_runtime import InferenceSession
from tests.onnx.helpers import run_onnxruntime

TWICE = """
graph twice(%x: f32[batch, 3], %z: f32[batch, 3]):
  param %w: f32[3] = [1.0, 2.0, 3.0]
  const %c: f32[] = 0.5
  %1: f32[batch, 3] = mul(%x, %w)  # net.py:1
  %2: f32[batch, 3] = add(%1, %c)  # net.py:2
  %3: f32[batch] = sum(%2, axes=(1,), keepdims=False)
  %4: f32[batch, 3] = mul(%z, %w)  # net.py:1
  %5: f32[batch, 3] = add(%4, %c)  # net.py:2
  %6: f32[batch] = max(%5, axes=(1,), keepdims=False)
  return %3 as a, %6 as b
"""


@pytest.mark.parametrize("opset", [13, 18, 21, 26])
def test_regions_that_compute_the_same_share_a_function(opset: int) -> None:
    graph = parse_graph(TWICE)
    model = export_graph(graph, functions=True, opset=opset)
    onnx.checker.check_model(model, full_check=True)
    calls = [n for n in model.graph.node if n.domain == "dualgraph.fused"]
    assert len(calls) == 2
    assert len({n.op_type for n in calls}) == len(model.functions) == 1
    assert [n.op_type for n in model.functions[0].node] == ["Constant", "Mul", "Add"]
    assert calls[0].doc_string == "net.py:2"
    x, z = np.random.default_rng(0).normal(size=(2, 4, 3)).astype(np.float32)
    wanted = interpret(graph, [x, z])
    for found in (run_onnxruntime(model, {"x": x, "z": z}), interpret(import_model(model), [x, z])):
        for a, b in zip(wanted, found, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-6)


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3, padding=1)
        self.bn = nn.BatchNorm2d(4)
        self.head = nn.Linear(4, 3)

    def forward(self, x: dg.Tensor) -> dg.Tensor:
        y = self.bn(self.conv(x))
        y = F.silu(y) * dg.sigmoid(y + 1) + x
        return F.softmax(self.head(y.mean((2, 3))) * 2 + 1, 1)


def test_an_optimised_model_runs_everywhere() -> None:
    model = Net().eval()
    x = dg.randn(2, 1, 6, 6)
    shapes = {"x": {0: "batch", 2: "height"}}
    proto = dg.onnx.export(model, (x,), dynamic_shapes=shapes, optimized=True)
    onnx.checker.check_model(proto, full_check=True)
    assert "BatchNormalization" not in {n.op_type for n in proto.graph.node}
    assert proto.functions
    wanted = model(x).detach().numpy()
    (theirs,) = run_onnxruntime(proto, {"x": x.numpy()})
    (ours,) = InferenceSession(proto).run(None, {"x": x.numpy()})
    np.testing.assert_allclose(theirs, wanted, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(ours, wanted, rtol=1e-4, atol=1e-5)
    # Any runtime can put the definitions in place of the calls.
    inlined = onnx.inliner.inline_local_functions(proto)
    assert {n.domain for n in inlined.graph.node} == {""}
