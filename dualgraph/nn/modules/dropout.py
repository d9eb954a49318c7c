"""Dropout layers: active in training mode only."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from dualgraph_compiler.errors import ArgumentError

from ..._tensor import Tensor
from .. import functional as F
from .module import Module

__all__ = [
    "AlphaDropout",
    "Dropout",
    "Dropout1d",
    "Dropout2d",
    "Dropout3d",
    "FeatureAlphaDropout",
]


class _Dropout(Module):
    _function: ClassVar[Callable[..., Tensor]]

    def __init__(self, p: float = 0.5, inplace: bool = False) -> None:
        super().__init__()
        if not 0 <= p <= 1:
            raise ArgumentError(f"dropout probability has to be between 0 and 1, but got {p}")
        self.p = p
        self.inplace = inplace

    def forward(self, input: Tensor) -> Tensor:
        return type(self)._function(input, self.p, self.training, self.inplace)

    def extra_repr(self) -> str:
        return f"p={self.p}, inplace={self.inplace}"


class Dropout(_Dropout):
    """Elements are 0 with probability `p`, the rest scaled by 1 / (1 - p). Shapes: [*] -> [*]."""

    _function = staticmethod(F.dropout)


class Dropout1d(_Dropout):
    """Channels of [N, C, L] are 0 with probability `p`."""

    _function = staticmethod(F.dropout1d)


class Dropout2d(_Dropout):
    """Channels of [N, C, H, W] are 0 with probability `p`."""

    _function = staticmethod(F.dropout2d)


class Dropout3d(_Dropout):
    """Channels of [N, C, D, H, W] are 0 with probability `p`."""

    _function = staticmethod(F.dropout3d)


class AlphaDropout(_Dropout):
    """Dropout that keeps mean and variance of SELU outputs. Shapes: [*] -> [*]."""

    _function = staticmethod(F.alpha_dropout)


class FeatureAlphaDropout(_Dropout):
    """AlphaDropout of whole channels. Shapes: [N, C, *] -> [N, C, *]."""

    _function = staticmethod(F.feature_alpha_dropout)
