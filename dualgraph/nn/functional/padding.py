"""Padding, and rearrangements of the spatial axes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from dualgraph_compiler.errors import ArgumentError, ShapeError
from dualgraph_compiler.kernels.sizes import conv_output_size
from dualgraph_compiler.ops.base import shape_text
from dualgraph_compiler.ops.padding import Pad, PadMode
from dualgraph_compiler.ops.slicing import SliceGrad

from ... import functions as fn
from ..._dispatch import apply
from ...functions.parts import part
from ...functions.sizes import require_size
from ._args import per_axis

if TYPE_CHECKING:
    from ..._tensor import Tensor


def pad(
    input: Tensor, pad: Sequence[Any], mode: str = "constant", value: float | None = None
) -> Tensor:
    """`input` padded: (before, after) of the last dimension, then of the one before it, ...

    `mode` is "constant" (with `value`, 0 by default), "reflect", "replicate" or "circular", which
    take the elements themselves. Negative amounts crop.
    """
    amounts = tuple(pad)
    ndim = input.ndim
    if len(amounts) % 2:
        raise ArgumentError(f"Padding length must be divisible by 2, got {list(amounts)}")
    if len(amounts) > 2 * ndim:
        raise ArgumentError(
            "Padding length should be less than or equal to two times the input dimension but got "
            f"padding length {len(amounts)} and input of dimension {ndim}"
        )
    count = len(amounts) // 2
    last = [(amounts[2 * i], amounts[2 * i + 1]) for i in range(count)]
    full = ((0, 0),) * (ndim - count) + tuple(reversed(last))
    if mode == "constant":
        return apply(Pad(full, 0 if value is None else value), input)
    if mode not in ("reflect", "replicate", "circular"):
        raise NotImplementedError(f"Unrecognised padding mode {mode}")
    if value is not None and value != 0:
        raise ArgumentError(f'Padding mode "{mode}" doesn\'t take in value argument')
    if count not in (1, 2, 3) or ndim not in (count + 1, count + 2):
        raise NotImplementedError(
            "Only 2D, 3D, 4D, 5D padding with non-constant padding are supported for now"
        )
    if not any(isinstance(a, int) and a < 0 for a in amounts):
        return apply(PadMode(full, mode), input)
    # The op takes no negative amounts; a constant padding crops. What is cropped still counts as an
    # edge to repeat or mirror, but not as an end to go on from.
    crop = Pad(tuple((min(lo, 0), min(hi, 0)) for lo, hi in full))
    grow = PadMode(tuple((max(lo, 0), max(hi, 0)) for lo, hi in full), mode)
    first, then = (crop, grow) if mode == "circular" else (grow, crop)
    return apply(then, apply(first, input))


def pixel_shuffle(input: Tensor, upscale_factor: int) -> Tensor:
    """[..., C r^2, H, W] -> [..., C, H r, W r] (Shi et al. 2016)."""
    r = upscale_factor
    *lead, c, h, w = input.shape
    if isinstance(c, int) and c % (r * r):
        raise ShapeError(
            "pixel_shuffle expects its input's 'channel' dimension to be divisible by the square "
            f"of upscale_factor, but input.size(-3)={c} is not divisible by {r * r}"
        )
    n = len(lead)
    x = input.reshape(*lead, c // (r * r), r, r, h, w)
    x = x.permute(*range(n), n, n + 3, n + 1, n + 4, n + 2)
    return x.reshape(*lead, c // (r * r), h * r, w * r)


def pixel_unshuffle(input: Tensor, downscale_factor: int) -> Tensor:
    """[..., C, H r, W r] -> [..., C r^2, H, W]: the inverse of `pixel_shuffle`."""
    r = downscale_factor
    *lead, c, h, w = input.shape
    if any(isinstance(d, int) and d % r for d in (h, w)):
        raise ShapeError(
            f"pixel_unshuffle: height and width of {shape_text(tuple(input.shape))} must be "
            f"divisible by downscale_factor, {r}"
        )
    n = len(lead)
    x = input.reshape(*lead, c, h // r, r, w // r, r)
    x = x.permute(*range(n), n, n + 2, n + 4, n + 1, n + 3)
    return x.reshape(*lead, c * r * r, h // r, w // r)


def channel_shuffle(input: Tensor, groups: int) -> Tensor:
    """Channels of [N, C, *S], in groups, dealt out like cards."""
    n, c, *sizes = input.shape
    x = input.reshape(n, groups, c // groups, *sizes).transpose(1, 2)
    return x.reshape(n, c, *sizes)


native_channel_shuffle = channel_shuffle


def unfold(
    input: Tensor,
    kernel_size: Any,
    dilation: Any = 1,
    padding: Any = 0,
    stride: Any = 1,
) -> Tensor:
    """Sliding blocks as columns: [N, C, H, W] -> [N, C KH KW, P Q] (im2col)."""
    kh, kw = per_axis("unfold", kernel_size, 2)
    dh, dw = per_axis("unfold", dilation, 2)
    ph, pw = per_axis("unfold", padding, 2)
    sh, sw = per_axis("unfold", stride, 2)
    single = input.ndim == 3
    x = input.unsqueeze(0) if single else input
    x = pad(x, (pw, pw, ph, ph))
    n, c, h, w = x.shape
    p, q = conv_output_size(h, kh, sh, 0, 0, dh), conv_output_size(w, kw, sw, 0, 0, dw)
    for count in (p, q):
        if not isinstance(count, int) or count < 1:
            why = f"unfold: no block of {kh} x {kw} fits into the padded input of {h} x {w}"
            require_size(count, ">=", 1, why)
    blocks = [
        part(
            part(x, 2, i * dh, i * dh + (p - 1) * sh + 1, sh),
            3,
            j * dw,
            j * dw + (q - 1) * sw + 1,
            sw,
        )
        for i in range(kh)
        for j in range(kw)
    ]
    out = fn.stack(blocks, 2).reshape(n, c * kh * kw, p * q)
    return out.squeeze(0) if single else out


def fold(
    input: Tensor,
    output_size: Any,
    kernel_size: Any,
    dilation: Any = 1,
    padding: Any = 0,
    stride: Any = 1,
) -> Tensor:
    """Columns as sliding blocks of an image, added where they overlap: [N, C KH KW, P Q] -> image.

    The transpose of `unfold`. Shapes: -> [N, C, *output_size]; without N alike.
    """
    kernel = per_axis("fold", kernel_size, 2)
    steps, pads = per_axis("fold", stride, 2), per_axis("fold", padding, 2)
    spread = per_axis("fold", dilation, 2)
    sizes = [s + 2 * p for s, p in zip(per_axis("fold", output_size, 2), pads)]
    x = input.unsqueeze(0) if input.ndim == 2 else input
    n, rows, columns = x.shape
    (kh, kw), (dh, dw), (sh, sw) = kernel, spread, steps
    p, q = (conv_output_size(s, k, t, 0, 0, d) for s, k, t, d in zip(sizes, kernel, steps, spread))
    if rows % (kh * kw) or columns != p * q:
        raise ShapeError(
            f"fold: expected [N, C * {kh * kw}, {p * q}] for blocks of {kh} x {kw} in an image of "
            f"{tuple(per_axis('fold', output_size, 2))}, got {shape_text(tuple(input.shape))}"
        )
    channels = rows // (kh * kw)
    blocks = x.reshape(n, channels, kh * kw, p, q)
    shape = (n, channels, *sizes)
    image: Any = 0
    for at in range(kh * kw):
        i, j = at // kw * dh, at % kw * dw
        ends = (n, channels, i + (p - 1) * sh + 1, j + (q - 1) * sw + 1)
        spot = SliceGrad((0, 0, i, j), ends, (1, 1, sh, sw), shape)
        image = apply(spot, blocks[:, :, at]) + image
    out = pad(image, (-pads[1], -pads[1], -pads[0], -pads[0]))
    return out.squeeze(0) if input.ndim == 2 else out
