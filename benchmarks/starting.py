"""Starting: from a new process to the first answer of a file, and the memory that took.

Each contender is a Python process of its own that imports its library, loads the file, runs it
once, and says how much memory it held at most.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import dualgraph as dg
from dualgraph_models import resnet

from . import peers
from .harness import Row

COLD = "dualgraph runtime, nothing cached"
WARM = "dualgraph runtime"

_INPUT = "x = np.zeros((1, 3, 224, 224), np.float32)"
_OURS = f"""
from dualgraph_runtime import InferenceSession, SessionOptions
import numpy as np
{_INPUT}
options = SessionOptions()
options.execution = "EXECUTION"
options.intra_op_num_threads = WORKERS
session = InferenceSession("FILE", options)
session.run(None, {{session.get_inputs()[0].name: x}})
"""
_PROGRAMS = {
    WARM: _OURS.replace("EXECUTION", "native"),
    COLD: _OURS.replace("EXECUTION", "auto"),
    "onnxruntime": f"""
import numpy as np
import onnxruntime
{_INPUT}
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = WORKERS
session = onnxruntime.InferenceSession("FILE", options, providers=["CPUExecutionProvider"])
session.run(None, {{session.get_inputs()[0].name: x}})
""",
    "openvino": f"""
import numpy as np
import openvino
{_INPUT}
settings = {{"INFERENCE_NUM_THREADS": WORKERS, "INFERENCE_PRECISION_HINT": "f32"}}
openvino.Core().compile_model("FILE", "CPU", settings).create_infer_request().infer([x])
""",
}
# In KiB. Not from getrusage: that counts what the process held before it became this program.
_PEAK = """
with open("/proc/self/status") as status:
    print(next(line for line in status if line.startswith("VmHWM")).split()[1])
"""


def rows(threads: int, repeats: int = 7) -> list[Row]:
    """The time in milliseconds and the memory in MB (10^6 bytes)."""
    times: dict[str, list[float]] = {}
    memory: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "resnet18.onnx"
        dg.onnx.export(resnet.resnet18().eval(), resnet.example_inputs(), str(file))
        programs = {
            name: text.replace("FILE", str(file)).replace("WORKERS", str(threads)) + _PEAK
            for name, text in _PROGRAMS.items()
            if name.startswith("dualgraph") or peers.available(name)
        }
        _run(programs[WARM])  # which fills the cache
        for _ in range(repeats):
            for name, program in programs.items():
                took, peak = _run(program, cold=name == COLD)
                times.setdefault(name, []).append(took * 1e3)
                memory.setdefault(name, []).append(peak * 1024 / 1e6)
    title = "ResNet-18 file: import, load, first answer"
    took = {name: statistics.median(t) for name, t in times.items()}
    held = {name: statistics.median(m) for name, m in memory.items() if name != COLD}
    return [
        Row(title, {}, claim=WARM, unit="ms", figures=took),
        Row("ResNet-18 file: peak memory", {}, claim=WARM, unit="MB", figures=held),
    ]


def _run(program: str, cold: bool = False) -> tuple[float, int]:
    """Seconds and peak KiB of a new process, with kernels cached or none."""
    with tempfile.TemporaryDirectory() as empty:
        environment = dict(os.environ)
        # Installed packages have their bytecode; so is ours to have it after the first run.
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        if cold:
            environment["DUALGRAPH_CACHE_DIR"] = empty
        start = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-c", program],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        )
        return time.perf_counter() - start, int(done.stdout.split()[-1])
