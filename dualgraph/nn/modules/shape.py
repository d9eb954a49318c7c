"""Layers that rearrange: flattening, padding, shuffling, resizing."""

from __future__ import annotations

from typing import Any

from ..._tensor import Tensor
from .. import functional as F
from ..functional._args import per_axis
from .module import Module

__all__ = [
    "ChannelShuffle",
    "CircularPad1d",
    "CircularPad2d",
    "CircularPad3d",
    "ConstantPad1d",
    "ConstantPad2d",
    "ConstantPad3d",
    "Flatten",
    "Fold",
    "PixelShuffle",
    "PixelUnshuffle",
    "ReflectionPad1d",
    "ReflectionPad2d",
    "ReflectionPad3d",
    "ReplicationPad1d",
    "ReplicationPad2d",
    "ReplicationPad3d",
    "Unflatten",
    "Unfold",
    "Upsample",
    "UpsamplingBilinear2d",
    "UpsamplingNearest2d",
    "ZeroPad1d",
    "ZeroPad2d",
    "ZeroPad3d",
]


class Flatten(Module):
    """Dimensions `start_dim` to `end_dim` as one.

    Shapes: [N, *] -> [N, product of *] by default.
    """

    def __init__(self, start_dim: int = 1, end_dim: int = -1) -> None:
        super().__init__()
        self.start_dim = start_dim
        self.end_dim = end_dim

    def forward(self, input: Tensor) -> Tensor:
        return input.flatten(self.start_dim, self.end_dim)

    def extra_repr(self) -> str:
        return f"start_dim={self.start_dim}, end_dim={self.end_dim}"


class Unflatten(Module):
    """Dimension `dim` as several of sizes `unflattened_size`."""

    def __init__(self, dim: int, unflattened_size: Any) -> None:
        super().__init__()
        if not isinstance(dim, int) or not isinstance(unflattened_size, tuple | list):
            raise TypeError("Unflatten: expected an int dim and a tuple of sizes")
        self.dim = dim
        self.unflattened_size = unflattened_size

    def forward(self, input: Tensor) -> Tensor:
        return input.unflatten(self.dim, tuple(self.unflattened_size))

    def extra_repr(self) -> str:
        return f"dim={self.dim}, unflattened_size={self.unflattened_size}"


# -- padding --------------------------------------------------------------------------------------


class _Pad(Module):
    """`padding` is one number, or (before, after) of the last axis, then of the one before it."""

    _rank: int
    _mode = "constant"

    def __init__(self, padding: int | tuple[int, ...]) -> None:
        super().__init__()
        self.padding = per_axis(type(self).__name__, padding, 2 * self._rank)

    def forward(self, input: Tensor) -> Tensor:
        return F.pad(input, self.padding, self._mode)

    def extra_repr(self) -> str:
        return f"{self.padding}"


class _ConstantPad(_Pad):
    def __init__(self, padding: int | tuple[int, ...], value: float) -> None:
        super().__init__(padding)
        self.value = value

    def forward(self, input: Tensor) -> Tensor:
        return F.pad(input, self.padding, "constant", self.value)

    def extra_repr(self) -> str:
        return f"padding={self.padding}, value={self.value}"


class ConstantPad1d(_ConstantPad):
    """`value` around L of [N, C, L]."""

    _rank = 1


class ConstantPad2d(_ConstantPad):
    """`value` around [H, W] of [N, C, H, W]."""

    _rank = 2


class ConstantPad3d(_ConstantPad):
    """`value` around [D, H, W] of [N, C, D, H, W]."""

    _rank = 3


class ZeroPad1d(_Pad):
    """Zeros around L. Shapes: [N, C, L] or [C, L] -> [N, C, left + L + right]."""

    _rank = 1


class ZeroPad2d(_Pad):
    """Zeros around [H, W]."""

    _rank = 2


class ZeroPad3d(_Pad):
    """Zeros around [D, H, W]."""

    _rank = 3


class ReflectionPad1d(_Pad):
    """L continued by its mirror image. Shapes: [N, C, L] or [C, L] -> [N, C, left + L + right]."""

    _rank, _mode = 1, "reflect"


class ReflectionPad2d(_Pad):
    """[H, W] continued by its mirror image."""

    _rank, _mode = 2, "reflect"


class ReflectionPad3d(_Pad):
    """[D, H, W] continued by its mirror image."""

    _rank, _mode = 3, "reflect"


class ReplicationPad1d(_Pad):
    """L continued by its edge. Shapes: [N, C, L] or [C, L] -> [N, C, left + L + right]."""

    _rank, _mode = 1, "replicate"


class ReplicationPad2d(_Pad):
    """[H, W] continued by its edge."""

    _rank, _mode = 2, "replicate"


class ReplicationPad3d(_Pad):
    """[D, H, W] continued by its edge."""

    _rank, _mode = 3, "replicate"


class CircularPad1d(_Pad):
    """L continued from its other end. Shapes: [N, C, L] or [C, L] -> [N, C, left + L + right]."""

    _rank, _mode = 1, "circular"


class CircularPad2d(_Pad):
    """[H, W] continued from its other end."""

    _rank, _mode = 2, "circular"


class CircularPad3d(_Pad):
    """[D, H, W] continued from its other end."""

    _rank, _mode = 3, "circular"


# -- rearranging ----------------------------------------------------------------------------------


class PixelShuffle(Module):
    """[N, C r^2, H, W] -> [N, C, H r, W r]."""

    def __init__(self, upscale_factor: int) -> None:
        super().__init__()
        self.upscale_factor = upscale_factor

    def forward(self, input: Tensor) -> Tensor:
        return F.pixel_shuffle(input, self.upscale_factor)

    def extra_repr(self) -> str:
        return f"upscale_factor={self.upscale_factor}"


class PixelUnshuffle(Module):
    """[N, C, H r, W r] -> [N, C r^2, H, W]."""

    def __init__(self, downscale_factor: int) -> None:
        super().__init__()
        self.downscale_factor = downscale_factor

    def forward(self, input: Tensor) -> Tensor:
        return F.pixel_unshuffle(input, self.downscale_factor)

    def extra_repr(self) -> str:
        return f"downscale_factor={self.downscale_factor}"


class ChannelShuffle(Module):
    """Channels, in groups, dealt out like cards. Shapes: [N, C, *] -> [N, C, *]."""

    def __init__(self, groups: int) -> None:
        super().__init__()
        self.groups = groups

    def forward(self, input: Tensor) -> Tensor:
        return F.channel_shuffle(input, self.groups)

    def extra_repr(self) -> str:
        return f"groups={self.groups}"


class Unfold(Module):
    """Sliding blocks of [N, C, H, W] as columns [N, C KH KW, P Q]."""

    def __init__(
        self, kernel_size: Any, dilation: Any = 1, padding: Any = 0, stride: Any = 1
    ) -> None:
        super().__init__()
        self.kernel_size = kernel_size
        self.dilation = dilation
        self.padding = padding
        self.stride = stride

    def forward(self, input: Tensor) -> Tensor:
        return F.unfold(input, self.kernel_size, self.dilation, self.padding, self.stride)

    def extra_repr(self) -> str:
        return (
            f"kernel_size={self.kernel_size}, dilation={self.dilation}, padding={self.padding}, "
            f"stride={self.stride}"
        )


class Fold(Module):
    """Columns [N, C KH KW, P Q] as sliding blocks of [N, C, *output_size], which add up.

    The transpose of Unfold.
    """

    def __init__(
        self,
        output_size: Any,
        kernel_size: Any,
        dilation: Any = 1,
        padding: Any = 0,
        stride: Any = 1,
    ) -> None:
        super().__init__()
        self.output_size = output_size
        self.kernel_size = kernel_size
        self.dilation = dilation
        self.padding = padding
        self.stride = stride

    def forward(self, input: Tensor) -> Tensor:
        return F.fold(
            input, self.output_size, self.kernel_size, self.dilation, self.padding, self.stride
        )

    def extra_repr(self) -> str:
        return (
            f"output_size={self.output_size}, kernel_size={self.kernel_size}, "
            f"dilation={self.dilation}, padding={self.padding}, stride={self.stride}"
        )


class Upsample(Module):
    """[N, C, *S] resized; see `nn.functional.interpolate` for the modes there are."""

    def __init__(
        self,
        size: Any = None,
        scale_factor: Any = None,
        mode: str = "nearest",
        align_corners: bool | None = None,
        recompute_scale_factor: bool | None = None,
    ) -> None:
        super().__init__()
        self.name = type(self).__name__
        self.size = size
        if isinstance(scale_factor, tuple):
            scale_factor = tuple(float(f) for f in scale_factor)
        self.scale_factor = float(scale_factor) if isinstance(scale_factor, int) else scale_factor
        self.mode = mode
        self.align_corners = align_corners
        self.recompute_scale_factor = recompute_scale_factor

    def forward(self, input: Tensor) -> Tensor:
        return F.interpolate(
            input,
            self.size,
            self.scale_factor,
            self.mode,
            self.align_corners,
            self.recompute_scale_factor,
        )

    def extra_repr(self) -> str:
        if self.scale_factor is not None:
            return f"scale_factor={self.scale_factor!r}, mode={self.mode!r}"
        return f"size={self.size!r}, mode={self.mode!r}"


class UpsamplingNearest2d(Upsample):
    """[N, C, H, W] resized by repeating the nearest pixel."""

    def __init__(self, size: Any = None, scale_factor: Any = None) -> None:
        super().__init__(size, scale_factor, mode="nearest")


class UpsamplingBilinear2d(Upsample):
    """[N, C, H, W] resized by interpolation between pixels, the corners kept in place."""

    def __init__(self, size: Any = None, scale_factor: Any = None) -> None:
        super().__init__(size, scale_factor, mode="bilinear", align_corners=True)
