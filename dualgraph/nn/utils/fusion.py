"""Batch norm put into the layer before it, for evaluation."""

from __future__ import annotations

import copy
from typing import Any

from dualgraph import functions as fn
from dualgraph._tensor import Tensor
from dualgraph.nn.parameter import Parameter
from dualgraph_compiler.errors import ArgumentError


def fuse_conv_bn_eval(conv: Any, bn: Any, transpose: bool = False) -> Any:
    """A copy of a convolution that does what it and the batch norm after it do in evaluation.

    `transpose` is for transposed convolutions (without groups).

    Raises:
        ArgumentError: one of the two is in training mode, or there are no running statistics.

    Source: torch.nn.utils.fuse_conv_bn_eval.
    """
    fused = _fusable(conv, bn)
    statistics = (bn.running_mean, bn.running_var, bn.eps, bn.weight, bn.bias)
    made = fuse_conv_bn_weights(conv.weight, conv.bias, *statistics, transpose)
    fused.weight, fused.bias = made
    return fused


def fuse_linear_bn_eval(linear: Any, bn: Any) -> Any:
    """A copy of a linear layer that does what it and the batch norm after it do in evaluation.

    Raises:
        ArgumentError: as `fuse_conv_bn_eval`, or the two have other numbers of features.

    Source: torch.nn.utils.fuse_linear_bn_eval.
    """
    if bn.num_features not in (1, linear.out_features):
        raise ArgumentError(
            f"To fuse, expected a batch norm of {linear.out_features} features, or of 1, got "
            f"{bn.num_features}"
        )
    fused = _fusable(linear, bn)
    statistics = (bn.running_mean, bn.running_var, bn.eps, bn.weight, bn.bias)
    fused.weight, fused.bias = fuse_linear_bn_weights(linear.weight, linear.bias, *statistics)
    return fused


def fuse_conv_bn_weights(
    conv_w: Tensor,
    conv_b: Tensor | None,
    bn_rm: Tensor,
    bn_rv: Tensor,
    bn_eps: float,
    bn_w: Tensor | None,
    bn_b: Tensor | None,
    transpose: bool = False,
) -> tuple[Parameter, Parameter]:
    """Weight and bias of a convolution and the batch norm after it."""
    shape = [1] * conv_w.ndim
    shape[1 if transpose else 0] = -1
    factor = fn.rsqrt(bn_rv + bn_eps)
    bias = (fn.zeros_like(bn_rm) if conv_b is None else conv_b) - bn_rm
    bias = bias * factor
    if bn_w is not None:
        factor, bias = factor * bn_w, bias * bn_w
    if bn_b is not None:
        bias = bias + bn_b
    weight = conv_w * factor.reshape(shape)
    kind = conv_w.dtype if conv_b is None else conv_b.dtype
    wanted = True if conv_b is None else conv_b.requires_grad
    return (
        Parameter(weight.detach().to(conv_w.dtype), conv_w.requires_grad),
        Parameter(bias.detach().to(kind), wanted),
    )


def fuse_linear_bn_weights(
    linear_w: Tensor,
    linear_b: Tensor | None,
    bn_rm: Tensor,
    bn_rv: Tensor,
    bn_eps: float,
    bn_w: Tensor | None,
    bn_b: Tensor | None,
) -> tuple[Parameter, Parameter]:
    """Weight and bias of a linear layer and the batch norm after it."""
    return fuse_conv_bn_weights(linear_w, linear_b, bn_rm, bn_rv, bn_eps, bn_w, bn_b)


def _fusable(layer: Any, bn: Any) -> Any:
    if layer.training or bn.training:
        raise ArgumentError("Fusion only for eval!")
    if bn.running_mean is None or bn.running_var is None:
        raise ArgumentError("bn.running_mean and bn.running_var must not be None")
    return copy.deepcopy(layer)
