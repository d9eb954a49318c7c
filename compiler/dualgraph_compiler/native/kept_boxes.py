"""Boxes to keep as a routine that finds at most so many, and the cut to those that it found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from ..dims import DimLike
from ..dtypes import float32, int64
from ..graph import Node, Value
from ..ops.base import REGISTRY, Op
from ..types import TensorType


@dataclass(frozen=True, slots=True, repr=False)
class KeptBoxes(Op):
    """What NonMaxSuppression finds, and how many they are: int64 [most, 3] and int64 [].

    At most `limit` are kept of an image and class. Operands: those of NonMaxSuppression.
    """

    limit: DimLike
    centered: bool
    name: ClassVar[str] = "kept_boxes"
    n_outputs: ClassVar[int] = 2

    def infer(self, boxes: TensorType, scores: TensorType, *_: TensorType) -> Any:
        most = scores.shape[0] * scores.shape[1] * self.limit
        return TensorType(int64, (most, 3)), TensorType(int64, ())


def kept_boxes(node: Node) -> Value | None:
    """A NonMaxSuppression of float32 as such a routine and a cut; None for other nodes."""
    op: Any = node.op
    if op.name != "non_max_suppression" or node.inputs[0].dtype is not float32:
        return None
    limit: DimLike = node.inputs[0].shape[1]
    most = node.inputs[2]
    if most.is_constant and isinstance(limit, int):
        limit = min(limit, max(0, int(most.data)))
    found, count = KeptBoxes(limit, op.centered)(*node.inputs)
    return REGISTRY["beginning"](op.size)(found, count)  # type: ignore[no-any-return]
