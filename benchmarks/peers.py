"""The peers that are installed, set to the same number of threads."""

from __future__ import annotations

import importlib.util
from typing import Any


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


def jax() -> Any | None:
    """JAX, or None. Its CPU client takes its threads from the process's affinity."""
    if not available("jax"):
        return None
    import jax

    return jax


def onnxruntime_session(model: bytes, threads: int) -> Any | None:
    """An ONNX Runtime session on the CPU, or None."""
    if not available("onnxruntime"):
        return None
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
