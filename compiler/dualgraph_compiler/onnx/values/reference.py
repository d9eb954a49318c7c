"""ONNX's own implementation of operators that have none here: the last resort.

Only for operators on images and strings; no arithmetic goes this way.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ...errors import OnnxError

if TYPE_CHECKING:
    import onnx

REFERENCE = frozenset({"ImageDecoder"})


def run_reference(node: onnx.NodeProto, operands: Sequence[Any]) -> list[Any]:
    """The results of a node as ``onnx.reference`` computes them.

    Raises:
        OnnxError: it fails, or a package that it needs is not there.
    """
    from onnx.reference import ReferenceEvaluator

    feeds = {name: value for name, value in zip(node.input, operands, strict=True) if name}
    try:
        found = ReferenceEvaluator(node).run(None, feeds)
    except Exception as error:  # whatever it meets
        raise OnnxError(f"onnx.reference cannot compute it: {error}") from error
    return list(found)
