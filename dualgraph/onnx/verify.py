"""Whether an exported model is valid, and computes what was traced."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from dualgraph_compiler.errors import OnnxError
from dualgraph_compiler.graph import Graph, interpret
from dualgraph_compiler.ops.random import Random

if TYPE_CHECKING:
    import onnx

# By the size of a floating-point element: how far results may be apart, relative to the largest.
# Files hold attributes in float32, whatever the operands are.
_TOLERANCE = {2: 2e-2, 4: 1e-4, 8: 1e-5}


def refuse_random(graph: Graph) -> None:
    """Raise OnnxError if the graph draws random numbers: each run would draw the same."""
    for node in graph.nodes:
        for name in node.op.bodies:
            refuse_random(getattr(node.op, name))
        if isinstance(node.op, Random):
            place = f" (at {node.loc})" if node.loc is not None else ""
            raise OnnxError(
                f"the model draws random numbers{place}, and every run of a file would draw the "
                "same. Pass them as an input, export the model in evaluation mode, or export a "
                "whole training step with export_training_step, which hands on the generator"
            )


def check_model(proto: onnx.ModelProto) -> None:
    """Run ONNX's checker with full shape inference.

    Raises:
        OnnxError: the model is not valid.
    """
    import onnx

    from dualgraph_compiler.onnx import load_model
    from dualgraph_compiler.onnx.lift import skeleton
    from dualgraph_compiler.onnx.save import is_large

    if is_large(proto):  # the checker takes a model as bytes: what is large becomes inputs
        proto = skeleton(proto, load_model(proto))
    try:
        onnx.checker.check_model(proto, full_check=True)
    except Exception as error:  # of several unrelated classes
        raise OnnxError(f"the exported model is not valid: {error}") from error


def verify_model(
    proto: onnx.ModelProto, graph: Graph, arrays: Sequence[Any], *, what: str = "the exported model"
) -> None:
    """Compare what a model gives with what the graph that it was written from gives.

    Params that the model takes as inputs are fed as they are in the graph.

    Raises:
        OnnxError: it cannot be read back, or some output is further from the graph's than rounding
            explains.
    """
    from dualgraph_compiler.onnx import import_model

    arrays = [_on_host(a) for a in arrays]
    graph = graph.copy()
    for v in (*graph.params, *graph.constants):
        v.data = _on_host(v.data)
    again = import_model(proto)
    params = [v.data for v in graph.params]
    by_name = {v.name: v.data for v in graph.params}
    given = [*arrays, *(by_name[v.name] for v in again.inputs[len(arrays) :])]
    with np.errstate(all="ignore"):
        wanted = [np.asarray(a) for a in interpret(graph, arrays)]
        found = [np.asarray(a) for a in interpret(again, given)]
        problems = [difference(a, b) for a, b in zip(wanted, found, strict=True)]
        if any(problems):
            moves = _sensitivity(graph, arrays, params, wanted)
            problems = [
                difference(a, b, move) for a, b, move in zip(wanted, found, moves, strict=True)
            ]
    for name, problem in zip(graph.output_names, problems, strict=True):
        if problem:
            raise OnnxError(
                f"{what} gives something else than the trace: output {name!r} {problem}. Please "
                "report it; verify=False writes the model all the same"
            )


def _on_host(data: Any) -> Any:
    """An array in the host's memory, wherever it is."""
    return data.get() if hasattr(data, "get") else data


def _sensitivity(
    graph: Graph, arrays: Sequence[Any], params: Sequence[Any], wanted: Sequence[Any]
) -> list[float]:
    """How far each output moves when every operand moves by a rounding.

    Adam divides a gradient by its own size, so one that is nothing but rounding errors decides the
    direction of a whole step.
    """
    rng = np.random.default_rng(0)
    moves = [0.0] * len(wanted)

    def nudged(a: Any) -> Any:
        if a.dtype.kind not in "fc":
            return a
        rounding = 4 * np.finfo(a.dtype).eps * rng.uniform(-1, 1, a.shape)
        return np.asarray(a * (1 + rounding)).astype(a.dtype)

    graph = graph.copy()
    for _ in range(2):
        for v, data in zip(graph.params, params, strict=True):
            v.data = nudged(np.asarray(data))
        for i, y in enumerate(interpret(graph, [nudged(np.asarray(a)) for a in arrays])):
            if wanted[i].dtype.kind in "fc" and wanted[i].size:
                moves[i] = max(moves[i], float(np.nanmax(np.abs(np.asarray(y) - wanted[i]))))
    return moves


def difference(wanted: Any, found: Any, move: float = 0.0) -> str:
    """How two arrays differ, in words; empty if they do not, beyond what `move` explains."""
    if wanted.dtype != found.dtype or wanted.shape != found.shape:
        return (
            f"is {found.dtype.name}{list(found.shape)} instead of "
            f"{wanted.dtype.name}{list(wanted.shape)}"
        )
    if wanted.dtype.kind in "biu":
        count = int((wanted != found).sum())
        return f"differs in {count} of {wanted.size} elements" if count else ""
    wide = np.complex128 if wanted.dtype.kind == "c" else np.float64
    a, b = wanted.astype(wide), found.astype(wide)
    finite = np.isfinite(a)
    if not np.array_equal(np.where(finite, 0, a), np.where(finite, 0, b), equal_nan=True):
        return "has infinities or NaN in other places"
    apart = np.abs(a - b, where=finite, out=np.zeros(a.shape)).max(initial=0)
    scale = np.abs(a, where=finite, out=np.zeros(a.shape)).max(initial=0)
    part = wanted.dtype.itemsize // (2 if wanted.dtype.kind == "c" else 1)
    limit = _TOLERANCE.get(part, 1e-4) * max(scale, 1) + 4 * move
    return f"is up to {apart:.3g} off, of {scale:.3g}" if not apart <= limit else ""
