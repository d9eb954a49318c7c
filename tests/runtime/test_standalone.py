"""The runtime needs no front end: what "standalone" means here."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np

from dualgraph_compiler.graph import parse_graph
from dualgraph_compiler.onnx import export_graph, save_model

BLOCKED = ["dualgraph", "dualgraph_models", "torch", "onnxruntime", "cupy", "rich", "click"]

SCRIPT = """
import sys

class Block:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {blocked}:
            raise ImportError(name + " is blocked")

sys.meta_path.insert(0, Block())
import json, numpy as np
import dualgraph_runtime as rt
assert "onnx" not in sys.modules, "onnx takes long to import and is wanted only with a model"
session = rt.InferenceSession(sys.argv[1])
x = np.arange(6, dtype=np.float32).reshape(2, 3)
print(json.dumps([y.tolist() for y in session.run(None, {{session.get_inputs()[0].name: x}})]))
"""


def test_a_fresh_process_without_the_front_end(tmp_path: Path) -> None:
    graph = parse_graph(
        """graph g(%x: f32[batch, 3]):
          param %w: f32[3] = [1.0, 2.0, 3.0]
          %1: f32[batch, 3] = mul(%x, %w)
          return %1 as y"""
    )
    save_model(export_graph(graph), tmp_path / "m.onnx")
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", SCRIPT.format(blocked=BLOCKED), tmp_path / "m.onnx"],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    expected = np.arange(6).reshape(2, 3) * [1, 2, 3]
    np.testing.assert_array_equal(json.loads(done.stdout)[0], expected)
