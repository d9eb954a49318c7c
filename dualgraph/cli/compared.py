"""Whether a model that was made of another computes the same."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dualgraph.cli.engines import RTOL, difference, engines, random_feeds
from dualgraph_compiler.errors import OnnxError

if TYPE_CHECKING:
    import onnx


def compare_models(model: onnx.ModelProto, made: onnx.ModelProto, tolerance: float = RTOL) -> float:
    """The largest difference of an output on random inputs, open sizes being 2.

    Raises:
        OnnxError: it is over `tolerance`, or `made` is no valid model although `model` is.
    """
    problem = _invalid(made)
    if problem and not _invalid(model):
        raise OnnxError(f"the new model is not valid: {problem}")
    run = engines()["interpreter"]
    worst = 0.0
    names = {d.dim_param for i in model.graph.input for d in i.type.tensor_type.shape.dim}
    for seed in range(2):
        feeds = random_feeds(model, dict.fromkeys(names, 2), seed)
        pairs = zip(run(made, feeds), run(model, feeds), strict=True)
        worst = max([worst, *(difference(a, b) for a, b in pairs)])
    if worst > tolerance:
        raise OnnxError(
            f"the new model does not compute the same: results differ by {worst:.1e} of the "
            f"largest element, over {tolerance:.0e}; nothing was written"
        )
    return worst


def _invalid(model: onnx.ModelProto) -> str:
    """What ONNX's checker has against a model; empty if nothing."""
    import onnx

    try:
        onnx.checker.check_model(model, full_check=True)
    except Exception as error:  # the checker has exceptions of its own
        return " ".join(str(error).split())
    return ""
