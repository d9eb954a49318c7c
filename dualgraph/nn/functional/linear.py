"""Affine maps and one-hot vectors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dualgraph_compiler import dtypes as dt
from dualgraph_compiler.errors import ArgumentError, ShapeError
from dualgraph_compiler.ops import linalg
from dualgraph_compiler.ops.base import shape_text

from ... import functions as fn
from ..._dispatch import apply

if TYPE_CHECKING:
    from ..._tensor import Tensor

_LINEAR = linalg.Linear()


def linear(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Return x weight^T + bias.

    Shapes: x [..., in], weight [out, in], bias [out] -> [..., out]; or weight [in] -> [...].
    """
    if weight._data.ndim == 2 and input._data.ndim:
        if bias is None:
            return apply(_LINEAR, input, weight)
        return apply(_LINEAR, input, weight, bias)
    if weight._data.ndim != 1:
        raise ShapeError(
            "linear: expected a weight [out_features, in_features], got "
            f"{shape_text(tuple(weight.shape))}"
        )
    out = (input * weight).sum(-1)
    return out if bias is None else out + bias


def bilinear(input1: Tensor, input2: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x1^T W x2 + bias: x1 [..., in1], x2 [..., in2], weight [out, in1, in2] -> [..., out]."""
    rows = input1.unsqueeze(-2).unsqueeze(-2)  # [..., 1, 1, in1]
    mixed = (rows @ weight).squeeze(-2)  # [..., out, in2]
    out = (mixed * input2.unsqueeze(-2)).sum(-1)
    return out if bias is None else out + bias


def one_hot(tensor: Tensor, num_classes: int = -1) -> Tensor:
    """1 at each class index and 0 elsewhere: int64 [...] -> int64 [..., num_classes].

    Without `num_classes` there are as many as the largest index needs.
    """
    if tensor.dtype is not dt.int64:
        raise ArgumentError(
            "one_hot is only applicable to index tensor of type LongTensor."
            f" Got {tensor.dtype.name}"
        )
    if not tensor.is_symbolic:
        if tensor.numel() == 0 and num_classes <= 0:
            raise ArgumentError("Can not infer total number of classes from empty tensor.")
        if tensor.numel() and int(tensor.min()) < 0:
            raise ArgumentError(f"Class values must be non-negative. Got {int(tensor.min())}")
        largest = int(tensor.max()) if tensor.numel() else -1
        if num_classes == -1:
            num_classes = largest + 1
        if largest >= num_classes:
            raise ArgumentError(
                f"Class values must be smaller than num_classes. Got {largest} and {num_classes}"
            )
    elif num_classes <= 0:
        raise ArgumentError("one_hot of a traced tensor needs num_classes")
    classes: Any = fn.arange(num_classes, device=tensor.device)
    return (tensor.unsqueeze(-1) == classes).to(dt.int64)  # type: ignore[no-any-return]
