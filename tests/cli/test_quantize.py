from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx

import dualgraph as dg
from dualgraph import nn
from tests.cli.conftest import Invoke, fails_with_one_line


def mlp(path: Path) -> Path:
    dg.manual_seed(0)
    net = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
    dg.onnx.export(net, (dg.randn(4, 64),), path, input_names=["x"])
    return path


def test_with_data_and_without(dualgraph: Invoke, tmp_path: Path) -> None:
    model, out, data = mlp(tmp_path / "m.onnx"), tmp_path / "q.onnx", tmp_path / "data"
    data.mkdir()
    np.save(data / "0.npy", np.random.default_rng(0).normal(size=(4, 64)).astype(np.float32))
    result = dualgraph("quantize", model, out, "--data", data, "--method", "percentile")
    assert result.exit_code == 0
    assert "layers in 8 bits" in result.stdout
    assert "int8 (" in result.stdout
    assert "float32 (slower: so small" in result.stdout
    assert "top-1 agrees in" in result.stdout
    kinds = {n.op_type for n in onnx.load(out).graph.node}
    assert {"QuantizeLinear", "DequantizeLinear"} <= kinds
    result = dualgraph("quantize", model, out)
    assert result.exit_code == 0
    assert "DynamicQuantizeLinear" in {n.op_type for n in onnx.load(out).graph.node}


def test_errors(dualgraph: Invoke, tmp_path: Path) -> None:
    model = mlp(tmp_path / "m.onnx")
    out = tmp_path / "q.onnx"
    fails_with_one_line(dualgraph("quantize", tmp_path / "absent.onnx", out), "absent.onnx")
    fails_with_one_line(dualgraph("quantize", model, out, "--data", tmp_path / "no"), ".npy")
    fails_with_one_line(dualgraph("quantize", model, tmp_path / "no" / "q.onnx"), "no folder")
    assert not out.exists()
