"""Initial values of parameters. Every function with a trailing underscore fills its argument.

Fans count the inputs and outputs of one unit: weight [out, in, *kernel] has fan_in = in * kernel
and fan_out = out * kernel.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import Any

from dualgraph_compiler.errors import ArgumentError

from .. import functions as fn
from .._tensor import Tensor
from ..autograd.grad_mode import no_grad

__all__ = [
    "calculate_gain",
    "constant_",
    "dirac_",
    "eye_",
    "kaiming_normal_",
    "kaiming_uniform_",
    "normal_",
    "ones_",
    "orthogonal_",
    "sparse_",
    "trunc_normal_",
    "uniform_",
    "xavier_normal_",
    "xavier_uniform_",
    "zeros_",
]

_LINEAR = (
    "linear",
    "conv1d",
    "conv2d",
    "conv3d",
    "conv_transpose1d",
    "conv_transpose2d",
    "conv_transpose3d",
    "sigmoid",
)


def calculate_gain(nonlinearity: str, param: float | None = None) -> float:
    """The factor that keeps the variance through a nonlinearity; `param` is leaky_relu's slope."""
    if nonlinearity in _LINEAR:
        return 1.0
    if nonlinearity == "tanh":
        return 5.0 / 3
    if nonlinearity == "relu":
        return math.sqrt(2.0)
    if nonlinearity == "leaky_relu":
        slope = 0.01 if param is None else float(param)
        return math.sqrt(2.0 / (1 + slope**2))
    if nonlinearity == "selu":
        return 3.0 / 4
    raise ArgumentError(f"Unsupported nonlinearity {nonlinearity}")


@no_grad()
def uniform_(tensor: Tensor, a: float = 0.0, b: float = 1.0, generator: Any = None) -> Tensor:
    """From U(a, b)."""
    return tensor.uniform_(a, b, generator=generator)


@no_grad()
def normal_(tensor: Tensor, mean: float = 0.0, std: float = 1.0, generator: Any = None) -> Tensor:
    """From N(mean, std^2)."""
    return tensor.normal_(mean, std, generator=generator)


@no_grad()
def trunc_normal_(
    tensor: Tensor,
    mean: float = 0.0,
    std: float = 1.0,
    a: float = -2.0,
    b: float = 2.0,
    generator: Any = None,
) -> Tensor:
    """From N(mean, std^2) limited to [a, b]; what falls outside is drawn again."""
    if mean < a - 2 * std or mean > b + 2 * std:
        warnings.warn(
            "mean is more than 2 std from [a, b] in nn.init.trunc_normal_. The distribution of "
            "values may be incorrect.",
            stacklevel=3,
        )
    tensor.normal_(mean, std, generator=generator)
    for _ in range(100):
        outside = (tensor < a) | (tensor > b)
        if not bool(outside.any()):
            break
        again = fn.empty_like(tensor).normal_(mean, std, generator=generator)
        tensor.copy_(fn.where(outside, again, tensor))
    return tensor.clamp_(min=a, max=b)


@no_grad()
def constant_(tensor: Tensor, val: float) -> Tensor:
    """With `val` everywhere."""
    return tensor.fill_(val)


def ones_(tensor: Tensor) -> Tensor:
    """With 1 everywhere."""
    return constant_(tensor, 1.0)


def zeros_(tensor: Tensor) -> Tensor:
    """With 0 everywhere."""
    return constant_(tensor, 0.0)


@no_grad()
def eye_(tensor: Tensor) -> Tensor:
    """With the identity matrix; `tensor` is [n, m]."""
    if tensor.ndim != 2:
        raise ArgumentError(
            f"Only tensors with 2 dimensions are supported, got shape {list(tensor.shape)}"
        )
    identity = fn.eye(*tensor.shape, dtype=tensor.dtype, device=tensor.device)
    return tensor.copy_(identity)


@no_grad()
def dirac_(tensor: Tensor, groups: int = 1) -> Tensor:
    """With the kernel [out, in, *K] of a convolution that passes as many channels on as it can."""
    if tensor.ndim not in (3, 4, 5):
        raise ArgumentError(
            f"Only tensors with 3, 4, or 5 dimensions are supported, got shape {list(tensor.shape)}"
        )
    out, channels = tensor.shape[:2]
    if out % groups:
        raise ArgumentError(f"dim 0 must be divisible by groups, got {out} and {groups}")
    tensor.zero_()
    middle = tuple(k // 2 for k in tensor.shape[2:])
    for g in range(groups):
        for i in range(min(out // groups, channels)):
            tensor[(g * (out // groups) + i, i, *middle)] = 1.0
    return tensor


def _calculate_fan_in_and_fan_out(tensor: Tensor) -> tuple[int, int]:
    if tensor.ndim < 2:
        raise ArgumentError(
            "Fan in and fan out can not be computed for tensor with fewer than 2 dimensions"
        )
    field = math.prod(tensor.shape[2:])
    return tensor.shape[1] * field, tensor.shape[0] * field


def _fan(tensor: Tensor, mode: str) -> int:
    modes = {"fan_in": 0, "fan_out": 1}
    if mode.lower() not in modes:
        raise ArgumentError(f"Mode {mode} not supported, please use one of {list(modes)}")
    return _calculate_fan_in_and_fan_out(tensor)[modes[mode.lower()]]


def xavier_uniform_(tensor: Tensor, gain: float = 1.0, generator: Any = None) -> Tensor:
    """From U(-b, b), b = gain sqrt(6 / (fan_in + fan_out)) (Glorot & Bengio 2010)."""
    bound = gain * math.sqrt(6.0 / sum(_calculate_fan_in_and_fan_out(tensor)))
    return uniform_(tensor, -bound, bound, generator)


def xavier_normal_(tensor: Tensor, gain: float = 1.0, generator: Any = None) -> Tensor:
    """From N(0, s^2), s = gain sqrt(2 / (fan_in + fan_out))."""
    std = gain * math.sqrt(2.0 / sum(_calculate_fan_in_and_fan_out(tensor)))
    return normal_(tensor, 0.0, std, generator)


def kaiming_uniform_(
    tensor: Tensor,
    a: float = 0,
    mode: str = "fan_in",
    nonlinearity: str = "leaky_relu",
    generator: Any = None,
) -> Tensor:
    """From U(-b, b), b = gain sqrt(3 / fan) (He et al. 2015); `a` is leaky_relu's slope."""
    if _is_empty(tensor):
        return tensor
    bound = math.sqrt(3.0) * calculate_gain(nonlinearity, a) / math.sqrt(_fan(tensor, mode))
    return uniform_(tensor, -bound, bound, generator)


def kaiming_normal_(
    tensor: Tensor,
    a: float = 0,
    mode: str = "fan_in",
    nonlinearity: str = "leaky_relu",
    generator: Any = None,
) -> Tensor:
    """From N(0, s^2), s = gain / sqrt(fan)."""
    if _is_empty(tensor):
        return tensor
    std = calculate_gain(nonlinearity, a) / math.sqrt(_fan(tensor, mode))
    return normal_(tensor, 0.0, std, generator)


def _is_empty(tensor: Tensor) -> bool:
    if 0 not in tensor.shape:
        return False
    warnings.warn("Initializing zero-element tensors is a no-op", stacklevel=3)
    return True


@no_grad()
def orthogonal_(tensor: Tensor, gain: float = 1, generator: Any = None) -> Tensor:
    """With orthogonal rows (or columns, if fewer) of [n, *rest] (Saxe et al. 2013)."""
    import numpy as np

    from .._dispatch import make

    if tensor.ndim < 2:
        raise ArgumentError(
            f"Only tensors with 2 or more dimensions are supported, got shape {list(tensor.shape)}"
        )
    if tensor.numel() == 0:
        return tensor
    rows, columns = tensor.shape[0], tensor.numel() // tensor.shape[0]
    drawn = normal_(fn.empty(rows, columns), 0.0, 1.0, generator).numpy()
    flat = drawn.T if rows < columns else drawn
    q, r = np.linalg.qr(flat)
    q = q * np.sign(np.diag(r))
    q = q.T if rows < columns else q
    return tensor.copy_(make(np.ascontiguousarray(q * gain)).reshape(*tensor.shape))


@no_grad()
def sparse_(tensor: Tensor, sparsity: float, std: float = 0.01, generator: Any = None) -> Tensor:
    """From N(0, std^2), with a fraction `sparsity` of each column zero (Martens 2010)."""
    if tensor.ndim != 2:
        raise ArgumentError(
            f"Only tensors with 2 dimensions are supported, got shape {list(tensor.shape)}"
        )
    rows, columns = tensor.shape
    zeros = math.ceil(sparsity * rows)
    tensor.normal_(0, std, generator=generator)
    for column in range(columns):
        for row in fn.randperm(rows).tolist()[:zeros]:
            tensor[row, column] = 0.0
    return tensor


# -- names of old ---------------------------------------------------------------------------------


def _of_old(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    name = function.__name__

    def old(*args: Any, **kwargs: Any) -> Tensor:
        warnings.warn(
            f"`nn.init.{name[:-1]}` is now deprecated in favor of `nn.init.{name}`.",
            FutureWarning,
            stacklevel=2,
        )
        return function(*args, **kwargs)

    old.__name__ = old.__qualname__ = name[:-1]
    old.__doc__ = f"`{name}`, under the name that it had before."
    return old


uniform = _of_old(uniform_)
normal = _of_old(normal_)
constant = _of_old(constant_)
eye = _of_old(eye_)
dirac = _of_old(dirac_)
xavier_uniform = _of_old(xavier_uniform_)
xavier_normal = _of_old(xavier_normal_)
kaiming_uniform = _of_old(kaiming_uniform_)
kaiming_normal = _of_old(kaiming_normal_)
orthogonal = _of_old(orthogonal_)
sparse = _of_old(sparse_)
