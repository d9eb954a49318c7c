"""Whether a model that was made of another computes the same."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dualgraph.cli.engines import RTOL, difference, engines, random_feeds
from dualgraph_compiler.errors import DualGraphError, OnnxError

if TYPE_CHECKING:
    import onnx

_DRAWS = 20  # of inputs, to find some that a model runs on


def compare_models(model: onnx.ModelProto, made: onnx.ModelProto, tolerance: float = RTOL) -> float:
    """The largest difference of an output on random inputs, open sizes being 2.

    Raises:
        OnnxError: it is over `tolerance`, `made` is no valid model although `model` is, or `model`
            runs on none of the inputs tried.
    """
    problem = _invalid(made)
    if problem and not _invalid(model):
        raise OnnxError(f"the new model is not valid: {problem}")
    run = engines()["interpreter"]
    worst = 0.0
    names = {d.dim_param for i in model.graph.input for d in i.type.tensor_type.shape.dim}
    sizes = dict.fromkeys(names, 2)
    tried = 0
    for seed in range(_DRAWS):
        feeds = random_feeds(model, sizes, seed)
        try:
            wanted = run(model, feeds)
        except DualGraphError as error:  # indices outside, lengths of nothing
            if seed == _DRAWS - 1 and not tried:
                raise OnnxError(
                    f"the model runs on no random inputs, so nothing was compared ({error}); "
                    "--no-check writes the new one all the same"
                ) from error
            continue
        pairs = zip(run(made, feeds), wanted, strict=True)
        worst = max([worst, *(difference(a, b) for a, b in pairs)])
        tried += 1
        if tried == 2:
            break
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
