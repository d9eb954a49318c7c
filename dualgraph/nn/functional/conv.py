"""Convolutions over one, two and three spatial axes, and their transposes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from dualgraph_compiler.errors import ArgumentError
from dualgraph_compiler.ops.conv import Conv
from dualgraph_compiler.ops.conv_transpose import ConvTranspose

from ..._dispatch import apply
from ._args import batched, pairs, per_axis

if TYPE_CHECKING:
    from ..._tensor import Tensor

_Size = int | Sequence[int]


def same_padding(kernel: Sequence[int], dilation: Sequence[int]) -> tuple[tuple[int, int], ...]:
    """The padding that keeps sizes at stride 1; an odd element goes to the end."""
    totals = [d * (k - 1) for k, d in zip(kernel, dilation)]
    return tuple((t // 2, t - t // 2) for t in totals)


def _conv(
    rank: int,
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: _Size,
    padding: _Size | str,
    dilation: _Size,
    groups: int,
) -> Tensor:
    name = f"conv{rank}d"
    strides = per_axis(name, stride, rank)
    dilations = per_axis(name, dilation, rank)
    if isinstance(padding, str):
        if padding == "valid":
            pads: tuple[tuple[Any, Any], ...] = ((0, 0),) * rank
        elif padding != "same":
            raise ArgumentError(
                f"{name}: padding must be a number, 'same' or 'valid', got {padding!r}"
            )
        elif any(s != 1 for s in strides):
            raise ArgumentError("padding='same' is not supported for strided convolutions")
        else:
            pads = same_padding(tuple(weight.shape[2:]), dilations)
    else:
        amounts = per_axis(name, padding, rank)
        if min(amounts) < 0:
            raise ArgumentError(f"{name}: negative padding is not supported, got {padding}")
        pads = pairs(amounts)
    x, single = batched(name, input, rank)
    op = Conv(strides, pads, dilations, groups)
    out = apply(op, x, weight) if bias is None else apply(op, x, weight, bias)
    return out.squeeze(0) if single else out


def conv1d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: _Size = 1,
    padding: _Size | str = 0,
    dilation: _Size = 1,
    groups: int = 1,
) -> Tensor:
    """Cross-correlation: x [N, C, L] or [C, L], weight [O, C/groups, K] -> [N, O, P].

    `padding` is a number of zeros on both sides, "valid" for none or "same" for P = L.
    """
    return _conv(1, input, weight, bias, stride, padding, dilation, groups)


def conv2d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: _Size = 1,
    padding: _Size | str = 0,
    dilation: _Size = 1,
    groups: int = 1,
) -> Tensor:
    """Cross-correlation: x [N, C, H, W] or [C, H, W], weight [O, C/groups, KH, KW] -> [N, O, P, Q].

    P = floor((H + 2 padding - dilation (KH - 1) - 1) / stride) + 1, and Q likewise from W.

    Args:
        input: images, [N, C, H, W], or one image [C, H, W], which gives [O, P, Q].
        weight: kernels, [O, C/groups, KH, KW], of the input's dtype.
        bias: added to each channel of the result, [O].
        stride: how far the kernel moves at a time: one number, or two for H and W.
        padding: zeros at both ends of H and of W: one number or two, "valid" for none or "same"
            for [P, Q] = [H, W] (with a stride of 1).
        dilation: how far apart the kernel's elements lie: one number or two.
        groups: into how many parts the channels are cut; each part of the result is computed from
            one part of the input.

    Raises:
        ShapeError: sizes that do not fit each other, or a kernel larger than the padded input.
        DTypeError: operands of different dtypes.

    Source: ``torch.nn.functional.conv2d``; ONNX Conv-11.
    """
    return _conv(2, input, weight, bias, stride, padding, dilation, groups)


def conv3d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: _Size = 1,
    padding: _Size | str = 0,
    dilation: _Size = 1,
    groups: int = 1,
) -> Tensor:
    """Cross-correlation: x [N, C, D, H, W], weight [O, C/groups, KD, KH, KW] -> [N, O, P, Q, R]."""
    return _conv(3, input, weight, bias, stride, padding, dilation, groups)


def _conv_transpose(
    rank: int,
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: _Size,
    padding: _Size,
    output_padding: _Size,
    groups: int,
    dilation: _Size,
) -> Tensor:
    name = f"conv_transpose{rank}d"
    strides, dilations = per_axis(name, stride, rank), per_axis(name, dilation, rank)
    extra = per_axis(name, output_padding, rank)
    for e, s, d in zip(extra, strides, dilations):
        if e >= max(s, d):
            raise ArgumentError(
                f"{name}: output padding must be smaller than either stride or dilation, but got "
                f"output_padding {extra}, stride {strides}, dilation {dilations}"
            )
    x, single = batched(name, input, rank)
    pads = pairs(per_axis(name, padding, rank))
    op = ConvTranspose(strides, pads, extra, dilations, groups)
    out = apply(op, x, weight) if bias is None else apply(op, x, weight, bias)
    return out.squeeze(0) if single else out


def conv_transpose1d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: _Size = 1,
    padding: _Size = 0,
    output_padding: _Size = 0,
    groups: int = 1,
    dilation: _Size = 1,
) -> Tensor:
    """Transposed convolution: x [N, C, L], weight [C, O/groups, K] -> [N, O, P]."""
    return _conv_transpose(
        1, input, weight, bias, stride, padding, output_padding, groups, dilation
    )


def conv_transpose2d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: _Size = 1,
    padding: _Size = 0,
    output_padding: _Size = 0,
    groups: int = 1,
    dilation: _Size = 1,
) -> Tensor:
    """Transposed convolution: x [N, C, H, W], weight [C, O/groups, KH, KW] -> [N, O, P, Q]."""
    return _conv_transpose(
        2, input, weight, bias, stride, padding, output_padding, groups, dilation
    )


def conv_transpose3d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: _Size = 1,
    padding: _Size = 0,
    output_padding: _Size = 0,
    groups: int = 1,
    dilation: _Size = 1,
) -> Tensor:
    """Transposed convolution: x [N, C, D, H, W], weight [C, O/groups, *K] -> [N, O, P, Q, R]."""
    return _conv_transpose(
        3, input, weight, bias, stride, padding, output_padding, groups, dilation
    )
