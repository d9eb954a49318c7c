"""Stochastic gradient descent with momentum."""

from __future__ import annotations

from typing import Any

import dualgraph as dg
from dualgraph._tensor import Tensor
from dualgraph.optim._blocks import Array, effective_grad
from dualgraph.optim.optimizer import Optimizer, ParamsT, check_nonnegative
from dualgraph_compiler.errors import ArgumentError
from dualgraph_compiler.ops.base import array_module

__all__ = ["SGD"]


class SGD(Optimizer):
    """Stochastic gradient descent, with (Nesterov) momentum and weight decay.

    Args:
        params: parameters or groups of them, as for `Optimizer`.
        lr: learning rate.
        momentum: share of the last update that carries over.
        dampening: share of the gradient that momentum leaves out.
        weight_decay: L2 penalty added to the gradient.
        nesterov: look ahead along the momentum.
        maximize: ascend instead of descend.
        foreach, fused: hints of PyTorch, kept in the options; every step is one in-place pass.
        differentiable: must be False.

    Raises:
        ArgumentError: a negative value, or Nesterov without momentum or with dampening.

    Source: Sutskever et al., "On the importance of initialization and momentum in deep learning",
    2013, in PyTorch's form: the learning rate scales the momentum when it is applied.
    """

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 1e-3,
        momentum: float = 0,
        dampening: float = 0,
        weight_decay: float = 0,
        nesterov: bool = False,
        *,
        maximize: bool = False,
        foreach: bool | None = None,
        differentiable: bool = False,
        fused: bool | None = None,
    ) -> None:
        check_nonnegative("learning rate", lr)
        check_nonnegative("momentum value", momentum)
        check_nonnegative("weight_decay value", weight_decay)
        if nesterov and (momentum <= 0 or dampening != 0):
            raise ArgumentError("Nesterov momentum requires a momentum and zero dampening")
        defaults = {
            "lr": lr,
            "momentum": momentum,
            "dampening": dampening,
            "weight_decay": weight_decay,
            "nesterov": nesterov,
            "maximize": maximize,
            "foreach": foreach,
            "differentiable": differentiable,
            "fused": fused,
        }
        super().__init__(params, defaults)

    def _update(
        self, group: dict[str, Any], param: Tensor, grad: Tensor, state: dict[str, Any]
    ) -> None:
        buffer: Tensor | None = None
        first = False
        if group["momentum"] != 0:
            buffer = state.get("momentum_buffer")
            first = buffer is None
            if buffer is None:
                buffer = state["momentum_buffer"] = dg.zeros_like(param)
        xp = array_module(param._data)
        for pieces in self._workspace.blocks(param, grad, buffer, scratch=2):
            _sgd(xp, *pieces, first=first, lr=float(group["lr"]), options=group)


def _sgd(
    xp: Any,
    param: Array,
    grad: Array,
    buffer: Array | None,
    direction: Array,
    update: Array,
    *,
    first: bool,
    lr: float,
    options: dict[str, Any],
) -> None:
    momentum = options["momentum"]
    grad = effective_grad(
        xp, param, grad, options["weight_decay"], options["maximize"], out=direction
    )
    if buffer is not None:
        if first:
            buffer[...] = grad
        else:
            xp.multiply(buffer, momentum, out=buffer)
            xp.multiply(grad, 1 - options["dampening"], out=update)
            xp.add(buffer, update, out=buffer)
        if options["nesterov"]:
            xp.multiply(buffer, momentum, out=update)
            grad = xp.add(grad, update, out=direction)
        else:
            grad = buffer
    xp.multiply(grad, lr, out=update)
    xp.subtract(param, update, out=param)
