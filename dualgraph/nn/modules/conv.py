"""Convolution layers over one, two and three spatial axes, and their transposes."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

from dualgraph_compiler.errors import ArgumentError

from ... import functions as fn
from ..._tensor import Tensor
from .. import functional as F
from .. import init
from ..functional._args import per_axis
from ..functional.conv import same_padding
from ..parameter import Parameter
from .module import Module

__all__ = [
    "Conv1d",
    "Conv2d",
    "Conv3d",
    "ConvTranspose1d",
    "ConvTranspose2d",
    "ConvTranspose3d",
]

_Size = int | tuple[int, ...]
_MODES = ("zeros", "reflect", "replicate", "circular")


class _ConvNd(Module):
    """What all convolution layers share: checks, parameters, initial values, the printed form."""

    _rank: int
    bias: Parameter | None

    def _setup(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: _Size,
        stride: _Size,
        padding: _Size | str,
        dilation: _Size,
        transposed: bool,
        output_padding: _Size,
        groups: int,
        bias: bool,
        padding_mode: str,
        device: Any,
        dtype: Any,
    ) -> None:
        if groups <= 0:
            raise ArgumentError(f"groups must be a positive integer, got {groups}")
        if in_channels % groups != 0:
            raise ArgumentError(
                f"in_channels must be divisible by groups, got {in_channels} and {groups}"
            )
        if out_channels % groups != 0:
            raise ArgumentError(
                f"out_channels must be divisible by groups, got {out_channels} and {groups}"
            )
        if isinstance(padding, str):
            if padding not in ("same", "valid"):
                raise ArgumentError(
                    f"Invalid padding string {padding!r}, should be one of {{'valid', 'same'}}"
                )
            if padding == "same" and any(s != 1 for s in self._each(stride)):
                raise ArgumentError("padding='same' is not supported for strided convolutions")
        if padding_mode not in _MODES:
            raise ArgumentError(
                f"padding_mode must be one of {list(_MODES)}, but got padding_mode='{padding_mode}'"
            )
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.kernel_size = self._each(kernel_size)
        self.stride = self._each(stride)
        self.padding = padding if isinstance(padding, str) else self._each(padding)
        self.dilation = self._each(dilation)
        self.transposed = transposed
        self.output_padding = self._each(output_padding)
        self.groups = groups
        self.padding_mode = padding_mode
        lead = (in_channels, out_channels) if transposed else (out_channels, in_channels)
        sizes = (lead[0], lead[1] // groups, *self.kernel_size)
        self.weight = Parameter(fn.empty(*sizes, device=device, dtype=dtype))
        if bias:
            self.bias = Parameter(fn.empty(out_channels, device=device, dtype=dtype))
        else:
            self.register_parameter("bias", None)
        self.reset_parameters()

    def _each(self, value: _Size) -> tuple[int, ...]:
        return per_axis(type(self).__name__, value, self._rank)

    def reset_parameters(self) -> None:
        """Draw new initial values: both from U(-b, b), b = 1 / sqrt(fan_in)."""
        init.kaiming_uniform_(self.weight, a=math.sqrt(5))
        if self.bias is not None:
            fan_in, _ = init._calculate_fan_in_and_fan_out(self.weight)
            if fan_in != 0:
                bound = 1 / math.sqrt(fan_in)
                init.uniform_(self.bias, -bound, bound)

    def extra_repr(self) -> str:
        text = (
            f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, "
            f"stride={self.stride}"
        )
        if self.padding != (0,) * self._rank:
            text += f", padding={self.padding}"
        if self.dilation != (1,) * self._rank:
            text += f", dilation={self.dilation}"
        if self.output_padding != (0,) * self._rank:
            text += f", output_padding={self.output_padding}"
        if self.groups != 1:
            text += f", groups={self.groups}"
        if self.bias is None:
            text += ", bias=False"
        if self.padding_mode != "zeros":
            text += f", padding_mode={self.padding_mode}"
        return text


class _Conv(_ConvNd):
    _function: ClassVar[Callable[..., Tensor]]

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: _Size,
        stride: _Size = 1,
        padding: _Size | str = 0,
        dilation: _Size = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        self._setup(
            in_channels,
            out_channels,
            kernel_size,
            stride,
            padding,
            dilation,
            False,
            0,
            groups,
            bias,
            padding_mode,
            device,
            dtype,
        )

    def _amounts(self) -> list[int]:
        """The padding as `F.pad` takes it: pairs, the last axis first."""
        if self.padding == "valid":
            return [0] * (2 * self._rank)
        if isinstance(self.padding, str):
            ends: Sequence[tuple[int, int]] = same_padding(self.kernel_size, self.dilation)
        else:
            ends = [(p, p) for p in self.padding]
        return [amount for pair in reversed(ends) for amount in pair]

    def forward(self, input: Tensor) -> Tensor:
        padding: Any = self.padding
        if self.padding_mode != "zeros":
            input = F.pad(input, self._amounts(), mode=self.padding_mode)
            padding = 0
        return type(self)._function(
            input, self.weight, self.bias, self.stride, padding, self.dilation, self.groups
        )


class Conv1d(_Conv):
    """Cross-correlation over L: [N, in, L] or [in, L] -> [N, out, P].

    weight [out, in / groups, K], bias [out]. `padding` is a number of zeros on both sides, "same"
    or "valid"; `padding_mode` "zeros", "reflect", "replicate" or "circular".
    """

    _rank = 1
    _function = staticmethod(F.conv1d)


class Conv2d(_Conv):
    """Cross-correlation over [H, W]: [N, in, H, W] or [in, H, W] -> [N, out, P, Q].

    weight [out, in / groups, KH, KW], bias [out]. `padding` is one number or two of zeros on both
    sides, "same" or "valid"; `padding_mode` "zeros", "reflect", "replicate" or "circular".
    """

    _rank = 2
    _function = staticmethod(F.conv2d)


class Conv3d(_Conv):
    """Cross-correlation over [D, H, W]: [N, in, D, H, W] -> [N, out, P, Q, R]."""

    _rank = 3
    _function = staticmethod(F.conv3d)


class _ConvTranspose(_ConvNd):
    _function: ClassVar[Callable[..., Tensor]]

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: _Size,
        stride: _Size = 1,
        padding: _Size = 0,
        output_padding: _Size = 0,
        groups: int = 1,
        bias: bool = True,
        dilation: _Size = 1,
        padding_mode: str = "zeros",
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        if padding_mode != "zeros":
            raise ArgumentError(
                f'Only "zeros" padding mode is supported for {self.__class__.__name__}'
            )
        self._setup(
            in_channels,
            out_channels,
            kernel_size,
            stride,
            padding,
            dilation,
            True,
            output_padding,
            groups,
            bias,
            padding_mode,
            device,
            dtype,
        )

    def forward(self, input: Tensor, output_size: Sequence[int] | None = None) -> Tensor:
        extra = self.output_padding
        if output_size is not None:
            extra = self._extra(input, list(output_size))
        return type(self)._function(
            input,
            self.weight,
            self.bias,
            self.stride,
            self.padding,
            extra,
            self.groups,
            self.dilation,
        )

    def _extra(self, input: Tensor, wanted: list[int]) -> tuple[int, ...]:
        """The output padding that gives the spatial sizes at the end of `wanted`."""
        rank, sizes = self._rank, tuple(input.shape[-self._rank :])
        if len(wanted) not in (rank, input.ndim):
            raise ArgumentError(
                f"{type(self).__name__}: for {input.ndim}D input, output_size must have {rank} or "
                f"{input.ndim} elements (got {len(wanted)})"
            )
        assert not isinstance(self.padding, str)
        least = [
            (n - 1) * s - 2 * p + d * (k - 1) + 1
            for n, s, p, d, k in zip(
                sizes, self.stride, self.padding, self.dilation, self.kernel_size
            )
        ]
        extra = tuple(w - low for w, low in zip(wanted[-rank:], least))
        if any(not 0 <= e < s for e, s in zip(extra, self.stride)):
            raise ArgumentError(
                f"requested an output size of {wanted[-rank:]}, but valid sizes range from {least} "
                f"to {[low + s - 1 for low, s in zip(least, self.stride)]} (for an input of "
                f"{list(sizes)})"
            )
        return extra


class ConvTranspose1d(_ConvTranspose):
    """Transposed convolution over L: [N, in, L] -> [N, out, P]; weight [in, out / groups, K]."""

    _rank = 1
    _function = staticmethod(F.conv_transpose1d)


class ConvTranspose2d(_ConvTranspose):
    """Transposed convolution over [H, W]: [N, in, H, W] -> [N, out, P, Q].

    weight [in, out / groups, KH, KW]. `output_size` of the call chooses among the sizes that
    a stride above 1 leaves open.
    """

    _rank = 2
    _function = staticmethod(F.conv_transpose2d)


class ConvTranspose3d(_ConvTranspose):
    """Transposed convolution over [D, H, W]: [N, in, D, H, W] -> [N, out, P, Q, R]."""

    _rank = 3
    _function = staticmethod(F.conv_transpose3d)
