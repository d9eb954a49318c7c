"""Affine maps and table lookups."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dualgraph_compiler import dtypes as dt
from dualgraph_compiler.errors import ArgumentError, ShapeError
from dualgraph_compiler.ops import linalg
from dualgraph_compiler.ops.base import shape_text
from dualgraph_compiler.ops.embedding import Embedding

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
    return out if bias is None else out + bias  # type: ignore[no-any-return]


def bilinear(input1: Tensor, input2: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x1^T W x2 + bias: x1 [..., in1], x2 [..., in2], weight [out, in1, in2] -> [..., out]."""
    rows = input1.unsqueeze(-2).unsqueeze(-2)  # [..., 1, 1, in1]
    mixed = (rows @ weight).squeeze(-2)  # [..., out, in2]
    out = (mixed * input2.unsqueeze(-2)).sum(-1)
    return out if bias is None else out + bias  # type: ignore[no-any-return]


def embedding(
    input: Tensor,
    weight: Tensor,
    padding_idx: int | None = None,
    max_norm: float | None = None,
    norm_type: float = 2.0,
    scale_grad_by_freq: bool = False,
    sparse: bool = False,
) -> Tensor:
    """Rows of a table: input int [...], weight [n, d] -> [..., d].

    The row `padding_idx` gets no gradient. `max_norm` scales rows that are longer down, in place.
    """
    if scale_grad_by_freq or sparse:
        raise ArgumentError("embedding: scale_grad_by_freq and sparse gradients are not supported")
    count = weight.shape[0]
    index = None
    if padding_idx is not None:
        if isinstance(count, int) and not -count <= padding_idx < count:
            raise ArgumentError("Padding_idx must be within num_embeddings")
        index = padding_idx if padding_idx >= 0 else count + padding_idx
    if max_norm is not None:
        _renormalize(weight, input, max_norm, norm_type)
    return apply(Embedding(index), weight, input)


def _renormalize(weight: Tensor, input: Tensor, max_norm: float, norm_type: float) -> None:
    from ...autograd.grad_mode import no_grad

    with no_grad():
        rows = input.unique()
        table = weight[rows]
        norms = (table.abs() ** norm_type).sum(-1, keepdim=True) ** (1.0 / norm_type)
        scale = (max_norm / (norms + 1e-7)).clamp(max=1.0)
        weight[rows] = table * scale


def one_hot(tensor: Tensor, num_classes: int = -1) -> Tensor:
    """1 at each class index and 0 elsewhere: int64 [...] -> int64 [..., num_classes].

    Without `num_classes` there are as many as the largest index needs.
    """
    if tensor.dtype is not dt.int64:
        raise ArgumentError("one_hot is only applicable to index tensor of type LongTensor.")
    if not tensor.is_symbolic:
        if tensor.numel() == 0 and num_classes <= 0:
            raise ArgumentError("Can not infer total number of classes from empty tensor.")
        if tensor.numel() and int(tensor.min()) < 0:
            raise ArgumentError("Class values must be non-negative.")
        largest = int(tensor.max()) if tensor.numel() else -1
        if num_classes == -1:
            num_classes = largest + 1
        if largest >= num_classes:
            raise ArgumentError("Class values must be smaller than num_classes.")
    elif num_classes <= 0:
        raise ArgumentError("one_hot of a traced tensor needs num_classes")
    classes: Any = fn.arange(num_classes, device=tensor.device)
    return (tensor.unsqueeze(-1) == classes).to(dt.int64)  # type: ignore[no-any-return]
