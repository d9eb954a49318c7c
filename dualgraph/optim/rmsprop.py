"""RMSprop."""

from __future__ import annotations

from typing import Any

import dualgraph as dg
from dualgraph._tensor import Tensor
from dualgraph.optim._blocks import Array, effective_grad
from dualgraph.optim.optimizer import Optimizer, ParamsT, check_nonnegative
from dualgraph_compiler.ops.base import array_module

__all__ = ["RMSprop"]


class RMSprop(Optimizer):
    """Gradient descent with steps divided by a running root mean square of the gradient.

    Args:
        params: parameters or groups of them, as for `Optimizer`.
        lr: learning rate.
        alpha: decay rate of the mean square.
        eps: added to the denominator, after the root.
        weight_decay: L2 penalty added to the gradient.
        momentum: share of the last update that carries over.
        centered: divide by an estimate of the standard deviation instead of the mean square.
        maximize: ascend instead of descend.
        capturable, foreach: hints of PyTorch, kept in the options.
        differentiable: must be False.

    Raises:
        ArgumentError: a negative value.

    Source: Hinton, "Neural Networks for Machine Learning", lecture 6, 2012; Graves, "Generating
    Sequences With Recurrent Neural Networks", 2013 (centered).
    """

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 1e-2,
        alpha: float = 0.99,
        eps: float = 1e-8,
        weight_decay: float = 0,
        momentum: float = 0,
        centered: bool = False,
        capturable: bool = False,
        foreach: bool | None = None,
        maximize: bool = False,
        differentiable: bool = False,
    ) -> None:
        check_nonnegative("learning rate", lr)
        check_nonnegative("epsilon value", eps)
        check_nonnegative("momentum value", momentum)
        check_nonnegative("weight_decay value", weight_decay)
        check_nonnegative("alpha value", alpha)
        defaults = {
            "lr": lr,
            "momentum": momentum,
            "alpha": alpha,
            "eps": eps,
            "centered": centered,
            "weight_decay": weight_decay,
            "capturable": capturable,
            "foreach": foreach,
            "maximize": maximize,
            "differentiable": differentiable,
        }
        super().__init__(params, defaults)

    def _update(
        self, group: dict[str, Any], param: Tensor, grad: Tensor, state: dict[str, Any]
    ) -> None:
        if not state:
            state["step"] = dg.tensor(0.0, dtype=dg.float32)
            state["square_avg"] = dg.zeros_like(param)
            if group["momentum"] > 0:
                state["momentum_buffer"] = dg.zeros_like(param)
            if group["centered"]:
                state["grad_avg"] = dg.zeros_like(param)
        state["step"]._data += 1
        mean = state["grad_avg"] if group["centered"] else None
        buffer = state["momentum_buffer"] if group["momentum"] > 0 else None
        arrays = param, grad, state["square_avg"], mean, buffer
        xp = array_module(param._data)
        for pieces in self._workspace.blocks(*arrays, scratch=2):
            _rmsprop(xp, *pieces, options=group)


def _rmsprop(
    xp: Any,
    param: Array,
    grad: Array,
    mean_sq: Array,
    mean: Array | None,
    buffer: Array | None,
    direction: Array,
    work: Array,
    *,
    options: dict[str, Any],
) -> None:
    lr, alpha = float(options["lr"]), options["alpha"]
    grad = effective_grad(
        xp, param, grad, options["weight_decay"], options["maximize"], out=direction
    )
    # mean_sq = alpha * mean_sq + (1 - alpha) * grad**2
    xp.multiply(grad, grad, out=work)
    xp.multiply(work, 1 - alpha, out=work)
    xp.multiply(mean_sq, alpha, out=mean_sq)
    xp.add(mean_sq, work, out=mean_sq)
    if mean is None:
        xp.sqrt(mean_sq, out=work)
    else:
        # mean += (1 - alpha) * (grad - mean); the deviation is sqrt(mean_sq - mean**2)
        xp.subtract(grad, mean, out=work)
        xp.multiply(work, 1 - alpha, out=work)
        xp.add(mean, work, out=mean)
        xp.multiply(mean, mean, out=work)
        xp.subtract(mean_sq, work, out=work)
        xp.sqrt(work, out=work)
    xp.add(work, options["eps"], out=work)
    xp.divide(grad, work, out=work)
    if buffer is not None:
        xp.multiply(buffer, options["momentum"], out=buffer)
        xp.add(buffer, work, out=buffer)
        xp.multiply(buffer, lr, out=work)
    else:
        xp.multiply(work, lr, out=work)
    xp.subtract(param, work, out=param)
