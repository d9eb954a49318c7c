"""The exported file, run without the code that made it."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

import dualgraph as dg
from dualgraph_compiler.errors import DualGraphError
from dualgraph_models.digits_cnn import DigitsCNN, example_inputs

BLOCKED = ("dualgraph", "dualgraph_models", "onnxruntime", "torch", "click", "rich")

# What the new process runs; the first part makes sure that no model code can be found.
STANDALONE = """
import sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {blocked}:
            raise ImportError(name + " is blocked in this process")

sys.meta_path.insert(0, Blocked())
import json
import numpy as np
{shown}
np.save(sys.argv[3], scores)
blocked = [name for name in {blocked} if name in sys.modules]
print(json.dumps({{"modules": len(sys.modules), "blocked": blocked}}))
"""
SHOWN = """\
import dualgraph_runtime as rt
session = rt.InferenceSession(sys.argv[1])
(scores,) = session.run(None, {"x": np.load(sys.argv[2])})"""


@dataclass(frozen=True, slots=True)
class Agreement:
    """How the scores of one way of running the model compare with the eager ones."""

    name: str
    same: int  # images with the same prediction
    images: int
    largest_difference: float

    @property
    def is_good(self) -> bool:
        """Predictions equal, scores equal to 1e-3: optimisation reassociates sums."""
        return self.same == self.images and self.largest_difference < 1e-3


def compare(name: str, scores: npt.NDArray[Any], eager: npt.NDArray[Any]) -> Agreement:
    """Compare scores [n, 10] with the eager ones."""
    same = int((scores.argmax(1) == eager.argmax(1)).sum())
    return Agreement(name, same, len(eager), float(np.abs(scores - eager).max()))


def export(model: DigitsCNN, path: Path) -> Any:
    """Write digits.onnx, checked by onnx.checker; returns the ModelProto."""
    return dg.onnx.export(
        model,
        example_inputs(),
        path,
        output_names=["scores"],
        dynamic_shapes={"x": {0: "batch"}},
    )


def run_standalone(path: Path, images: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Scores computed in a new process by dualgraph_runtime, `dualgraph` not importable there.

    Raises:
        DualGraphError: that process failed, or found what it should not.
    """
    script = STANDALONE.replace("{shown}", SHOWN.replace("{", "{{").replace("}", "}}"))
    with tempfile.TemporaryDirectory(prefix="dualgraph-") as folder:
        given, made = Path(folder, "images.npy"), Path(folder, "scores.npy")
        np.save(given, images)
        done = subprocess.run(
            [sys.executable, "-P", "-c", script.format(blocked=BLOCKED)]
            + [str(p.resolve()) for p in (path, given, made)],
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "PYTHONPATH": _module_path()},
        )
        if done.returncode != 0:
            reason = done.stderr.strip().splitlines()[-1:] or [f"status {done.returncode}"]
            raise DualGraphError(f"the standalone process failed: {reason[0]}")
        found = json.loads(done.stdout)["blocked"]
        if found:
            raise DualGraphError(f"the standalone process imported {', '.join(found)}")
        scores: npt.NDArray[Any] = np.load(made)
        return scores


def _module_path() -> str:
    """This process's own module path, absolute, so that the new one finds the same packages."""
    return os.pathsep.join(str(Path(p).resolve()) for p in sys.path if p and Path(p).exists())


def onnxruntime_session(path: Path, *, one_thread: bool) -> Any | None:
    """An ONNX Runtime session on the file, or None where it is not installed."""
    if importlib.util.find_spec("onnxruntime") is None:
        return None
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.log_severity_level = 3
    if one_thread:
        options.intra_op_num_threads = 1
    return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
