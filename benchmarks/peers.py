"""The peers that are installed, set to the same number of threads."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

Feed = Mapping[str, np.ndarray[Any, Any]]
Work = Callable[[], object]


def available(name: str) -> bool:
    """Whether a peer can be imported."""
    return importlib.util.find_spec(name) is not None


def torch(threads: int) -> Any | None:
    """PyTorch, or None."""
    if not available("torch"):
        return None
    import torch

    torch.set_num_threads(threads)
    return torch


def jax(threads: int) -> Any | None:
    """JAX, or None. Its threads are set when it is first imported in a process."""
    if not available("jax"):
        return None
    if threads == 1:
        os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false")
    import jax

    return jax


def onnxruntime(model: bytes, feed: Feed, threads: int) -> Work | None:
    """A run of an ONNX Runtime session on the CPU, or None."""
    if not available("onnxruntime"):
        return None
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return lambda: session.run(None, feed)


def openvino(model: bytes, feed: Feed, threads: int) -> Work | None:
    """A run of an OpenVINO request on the CPU, in float32; None without it, or if it refuses."""
    if not available("openvino"):
        return None
    import openvino as ov

    try:
        return _openvino(ov.Core(), model, feed, threads)
    except RuntimeError as error:
        print(f"openvino does not take this model: {str(error).splitlines()[0]}")
        return None


def _openvino(core: Any, model: bytes, feed: Feed, threads: int) -> Work:
    settings = {
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": 1,
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": "f32",
    }
    network = core.read_model(model)
    # Known sizes, as everyone else sees them at the first call.
    network.reshape({name: list(a.shape) for name, a in feed.items()})
    request = core.compile_model(network, "CPU", settings).create_infer_request()
    return lambda: request.infer(dict(feed), share_inputs=True, share_outputs=True)
