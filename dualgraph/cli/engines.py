"""Ways to run an ONNX model, side by side: ours, ONNX's reference, and ONNX Runtime."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from dualgraph_compiler.errors import ArgumentError

if TYPE_CHECKING:
    import onnx

Feeds: TypeAlias = Mapping[str, np.ndarray[Any, Any]]
# Runs a model that has all of its data inside: the outputs in their order.
Engine: TypeAlias = "Callable[[onnx.ModelProto, Feeds], Sequence[Any]]"

RTOL, ATOL = 1e-4, 1e-4  # of each element, and of the largest of the tensor


def engines() -> dict[str, Engine]:
    """The ways there are here, the one to compare with first."""
    from dualgraph_runtime.native import find_compiler

    found: dict[str, Engine] = {"interpreter": _ours("interpreter")}
    if find_compiler() is not None:
        found["native"] = _ours("native")
    found["onnx.reference"] = _reference
    if importlib.util.find_spec("onnxruntime") is not None:
        found["onnxruntime"] = _onnxruntime
    return found


def _ours(execution: Any) -> Engine:
    def run(model: onnx.ModelProto, feeds: Feeds) -> Sequence[Any]:
        from dualgraph_runtime import GraphOptimizationLevel, InferenceSession, SessionOptions

        options = SessionOptions()
        options.execution = execution
        if execution == "interpreter":  # the oracle: every node as the file has it
            options.graph_optimization_level = GraphOptimizationLevel.ORT_DISABLE_ALL
        found: Sequence[Any] = InferenceSession(model, options).run(None, dict(feeds))
        return found

    return run


def _reference(model: onnx.ModelProto, feeds: Feeds) -> Sequence[Any]:
    from onnx.reference import ReferenceEvaluator

    with np.errstate(all="ignore"):
        results: Any = ReferenceEvaluator(model).run(None, dict(feeds))
    return list(results)


def _onnxruntime(model: onnx.ModelProto, feeds: Feeds) -> Sequence[Any]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    results: Sequence[Any] = session.run(None, dict(feeds))
    return results


def difference(x: Any, y: Any) -> float:
    """The largest difference of two results, relative to the largest element: 0 if they are equal.

    Infinite where shapes or types differ, or one has NaN where the other has not.
    """
    a, b = np.asarray(x), np.asarray(y)
    if a.shape != b.shape or a.dtype != b.dtype:
        return float("inf")
    if a.dtype.kind in "OUSTb":
        return 0.0 if np.array_equal(a, b) else float("inf")
    a, b = (
        a.astype(np.complex128 if a.dtype.kind == "c" else np.float64),
        b.astype(np.complex128 if b.dtype.kind == "c" else np.float64),
    )
    equal = (a == b) | (np.isnan(a) & np.isnan(b))
    if equal.all():
        return 0.0
    gap = np.abs(np.where(equal, 0, a - b))
    if np.isnan(gap).any():
        return float("inf")
    scale = np.abs(b[np.isfinite(b)]).max(initial=0.0)
    return float(gap.max() / max(scale, ATOL))


def random_feeds(
    model: onnx.ModelProto, sizes: Mapping[str, int], seed: int
) -> dict[str, np.ndarray[Any, Any]]:
    """Random arrays for every input of a model."""
    from dualgraph.cli.run import random_input
    from dualgraph_runtime import InferenceSession, SessionOptions

    options = SessionOptions()
    options.execution = "interpreter"
    rng = np.random.default_rng(seed)
    inputs = InferenceSession(model, options).get_inputs()
    return {a.name: random_input(a, sizes, rng) for a in inputs}


def read_feeds(path: str) -> dict[str, np.ndarray[Any, Any]]:
    """The arrays of an .npz file, by input name.

    Raises:
        ArgumentError: there is no such file, or it is none.
    """
    try:
        with np.load(path, allow_pickle=False) as data:
            return {name: np.array(data[name]) for name in data.files}
    except FileNotFoundError as error:
        raise ArgumentError(f"{path}: no such file") from error
    except Exception as error:  # what is no archive of arrays fails in many ways
        raise ArgumentError(f"{path}: not an .npz file of plain values ({error})") from error
