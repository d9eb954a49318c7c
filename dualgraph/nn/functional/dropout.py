"""Dropout: elements, or whole channels, set to zero at random while training."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dualgraph_compiler.errors import ArgumentError

from ... import functions as fn
from ...autograd.inplace import assign

if TYPE_CHECKING:
    from ..._tensor import Tensor

# Alpha dropout sets elements to SELU's negative limit instead of 0.
_SELU_LIMIT = -1.6732632423543772848170429916717 * 1.0507009873554804934193349852946


def _check(p: float) -> None:
    if not 0.0 <= p <= 1.0:
        raise ArgumentError(f"dropout probability has to be between 0 and 1, but got {p}")


def _keep(input: Tensor, p: float, channels: bool) -> Any:
    """1 where an element (a channel, if `channels`) is kept and 0 where it is dropped."""
    if channels:
        shape = (*input.shape[:2], *(1,) * (input.ndim - 2))
        input = fn.empty(shape, dtype=input.dtype, device=input.device)
    return fn.bernoulli(input, 1.0 - p)


def _drop(input: Tensor, p: float, training: bool, inplace: bool, channels: bool = False) -> Tensor:
    _check(p)
    if not training or p == 0.0:
        return input
    if p == 1.0:
        result = input * 0.0
    else:
        result = input * (_keep(input, p, channels) * (1.0 / (1.0 - p)))
    return assign(input, result) if inplace else result


def dropout(input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """Drop elements with probability `p`, scaling the rest by 1 / (1 - p) (Srivastava 2014)."""
    return _drop(input, p, training, inplace)


def _drop_channels(rank: int, input: Tensor, p: float, training: bool, inplace: bool) -> Tensor:
    _check(p)
    if not training or p == 0.0:
        return input
    if input.ndim == rank + 1:
        result = _drop(input.unsqueeze(0), p, training, False, channels=True).squeeze(0)
        return assign(input, result) if inplace else result
    return _drop(input, p, training, inplace, channels=True)


def dropout1d(
    input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False
) -> Tensor:
    """Whole channels of [N, C, L] or [C, L] are 0 with probability `p`."""
    return _drop_channels(1, input, p, training, inplace)


def dropout2d(
    input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False
) -> Tensor:
    """Whole channels of [N, C, H, W] are 0 with probability `p` (Tompson et al. 2015)."""
    # A 3-d input is a batch here, as PyTorch has it for historical reasons.
    return _drop(input, p, training, inplace, channels=True)


def dropout3d(
    input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False
) -> Tensor:
    """Whole channels of [N, C, D, H, W] or [C, D, H, W] are 0 with probability `p`."""
    return _drop_channels(3, input, p, training, inplace)


def _alpha(input: Tensor, p: float, training: bool, inplace: bool, channels: bool) -> Tensor:
    _check(p)
    if not training or p == 0.0:
        return input
    if p == 1.0:
        result = input * 0.0
    else:
        scale = ((1.0 - p) * (1.0 + p * _SELU_LIMIT**2)) ** -0.5
        shift = -scale * p * _SELU_LIMIT
        keep = _keep(input, p, channels)
        result = (input * keep + (1.0 - keep) * _SELU_LIMIT) * scale + shift
    return assign(input, result) if inplace else result


def alpha_dropout(
    input: Tensor, p: float = 0.5, training: bool = False, inplace: bool = False
) -> Tensor:
    """Dropout that keeps mean and variance of SELU outputs (Klambauer et al. 2017).

    Shapes: [*] -> [*].
    """
    return _alpha(input, p, training, inplace, channels=False)


def feature_alpha_dropout(
    input: Tensor, p: float = 0.5, training: bool = False, inplace: bool = False
) -> Tensor:
    """`alpha_dropout` of whole channels. Shapes: [N, C, *] -> [N, C, *]."""
    return _alpha(input, p, training, inplace, channels=True)
