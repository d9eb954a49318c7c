"""Ops on blocked images: [N, C/B, *S, B], the channels in blocks of B, zeros behind the last.

The layout pass makes them, and no one else: ONNX has none of them. `block` and `unblock` say how
blocked and plain images hang together.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from ..dims import DimLike, Shape, product
from ..dtypes import int16
from ..kernels.conv import conv_forward
from ..ops import f
from ..ops.base import Array, Kind, Op
from ..ops.conv import Conv, Pairs
from ..types import TensorType
from .words import halves


def blocks(channels: int, lanes: int) -> int:
    """How many blocks of `lanes` hold so many channels."""
    return -(-channels // lanes)


def block(x: Any, lanes: int) -> Any:
    """[N, C, *S] -> [N, C/lanes, *S, lanes], in ordinary ops."""
    n, channels, *sizes = x.shape
    count = blocks(channels, lanes)
    if channels % lanes:
        x = f.pad(x, [(0, 0), (0, count * lanes - channels), *[(0, 0)] * len(sizes)])
    if all(d == 1 for d in sizes):
        return f.reshape(x, (n, count, *sizes, lanes))
    x = f.reshape(x, (n, count, lanes, *sizes))
    return f.permute(x, (0, 1, *range(3, x.ndim), 2))


def unblock(x: Any, channels: int, parts: int = 1) -> Any:
    """[N, C/lanes, *S, lanes] -> [N, channels, *S], in ordinary ops.

    Each of `parts` equal parts of the channels begins a block.
    """
    n, count, *sizes, lanes = x.shape
    if not all(d == 1 for d in sizes):
        x = f.permute(x, (0, 1, x.ndim - 1, *range(2, x.ndim - 1)))
    if parts == 1:
        x = f.reshape(x, (n, count * lanes, *sizes))
        return x if channels == count * lanes else f.slice_axis(x, 1, 0, channels)
    x = f.reshape(x, (n, parts, count // parts * lanes, *sizes))
    return f.reshape(f.slice_axis(x, 2, 0, channels // parts), (n, channels, *sizes))


@dataclass(frozen=True, slots=True, repr=False)
class BlockedConv(Op):
    """Conv whose result is blocked, by `lanes`, and whose image is, too, unless `plain`.

    Shapes: x [N, C/B, *S, B] or plain [N, C, *S], w [O, C/groups, *K] -> [N, O/B, *P, B], with
    `channels` = C. What a group makes begins a block, unless each channel is a group. The weight is
    never blocked here: routines pack it as they like. Of int16, w is in words (see `words`) and the
    sums are int32; x may then be in smaller blocks than the result. Depthwise, x may be of bytes,
    of which `zero` stands for 0; w and the sums are float32 then, too.
    """

    stride: tuple[int, ...]
    padding: Pairs
    dilation: tuple[int, ...]
    groups: int
    channels: int
    lanes: int
    plain: bool
    zero: int = 0
    name: ClassVar[str] = "blocked_conv"
    kind: ClassVar[Kind] = Kind.CONTRACTION

    @property
    def is_depthwise(self) -> bool:
        """Whether each channel has windows of its own."""
        return 1 < self.groups == self.channels

    @property
    def parts(self) -> int:
        """How many parts of the result begin a block."""
        return 1 if self.is_depthwise else self.groups

    def conv(self) -> Conv:
        """The convolution of plain images."""
        return Conv(self.stride, self.padding, self.dilation, self.groups)

    def sizes(self, shape: Shape) -> Shape:
        """The spatial sizes of an image of `shape`."""
        return shape[2:] if self.plain else shape[2:-1]

    def infer(self, x: TensorType, w: TensorType) -> TensorType:
        n, sizes = x.shape[0], self.sizes(x.shape)
        places = self.conv().output(sizes, w.shape[2:])
        channels = w.shape[0]
        assert isinstance(channels, int)
        count = self.parts * blocks(channels // self.parts, self.lanes)
        return TensorType(w.dtype, (n, count, *places, self.lanes))

    def flops(self, y: TensorType, *inputs: TensorType) -> DimLike:
        return y.size * product(inputs[1].shape[1:]) * (4 if inputs[0].dtype is int16 else 2)

    def eager(self, xp: Any, x: Array, w: Array) -> Array:
        image = x if self.plain else unblock(x, self.channels)
        if x.dtype == int16.np:
            image, w = image.astype(np.float64), halves(xp, w, 1).astype(np.float64)
            w = w[:, : self.channels // self.groups]
        elif x.dtype != w.dtype:
            image = image.astype(np.float32) - np.float32(self.zero)
        y = conv_forward(xp, image, w, *self.conv().geometry())
        y = y.astype(np.int32) if x.dtype == int16.np else y
        parts = [block(part, self.lanes) for part in xp.split(y, self.parts, 1)]
        return xp.concatenate(parts, 1)


@dataclass(frozen=True, slots=True, repr=False)
class BlockedPool(Op):
    """The maximum ("max") or sum ("sum") of each window of a blocked image.

    Shapes: [N, C/B, *S, B] -> [N, C/B, *places, B]. What lies outside of the image does not count.
    """

    fold: str
    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    dilation: tuple[int, ...]
    before: tuple[DimLike, ...]
    places: Shape
    name: ClassVar[str] = "blocked_pool"
    kind: ClassVar[Kind] = Kind.LIBRARY

    def infer(self, x: TensorType) -> TensorType:
        return x.with_shape((*x.shape[:2], *self.places, x.shape[-1]))

    def eager(self, xp: Any, x: Array) -> Array:
        y: Any = xp.full((*x.shape[:2], *self.places, x.shape[-1]), self.neutral, x.dtype)
        for tap in _taps(self.kernel):
            into, source = _overlap(self, tap, x.shape[2:-1])
            part = x[(slice(None), slice(None), *source)]
            fold = xp.maximum if self.fold == "max" else xp.add
            y[(slice(None), slice(None), *into)] = fold(y[(slice(None), slice(None), *into)], part)
        return y

    @property
    def neutral(self) -> float:
        """What changes no fold."""
        return float("-inf") if self.fold == "max" else 0.0


def _taps(kernel: tuple[int, ...]) -> list[tuple[int, ...]]:
    taps: list[tuple[int, ...]] = [()]
    for k in kernel:
        taps = [(*t, i) for t in taps for i in range(k)]
    return taps


def _overlap(op: BlockedPool, tap: tuple[int, ...], sizes: Any) -> tuple[list[slice], list[slice]]:
    """The windows of which a tap lies inside the image, and what it reads there."""
    from ..kernels.windows import window_span

    into, source = [], []
    for d, t in enumerate(tap):
        offset = t * op.dilation[d] - int(op.before[d])
        a, b = window_span(offset, op.stride[d], sizes[d], int(op.places[d]))
        into.append(a)
        source.append(b)
    return into, source
