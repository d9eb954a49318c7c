"""Adam and AdamW."""

from __future__ import annotations

import math
from typing import Any

import dualgraph as dg
from dualgraph._tensor import Tensor
from dualgraph.optim._blocks import Array, effective_grad
from dualgraph.optim.optimizer import Optimizer, ParamsT, check_nonnegative
from dualgraph_compiler.errors import ArgumentError
from dualgraph_compiler.ops.base import array_module

__all__ = ["Adam", "AdamW"]


class Adam(Optimizer):
    """Adaptive moments: steps scaled by running means of the gradient and of its square.

    Args:
        params: parameters or groups of them, as for `Optimizer`.
        lr: learning rate.
        betas: decay rates of the two running means, each in [0, 1).
        eps: added to the denominator.
        weight_decay: L2 penalty added to the gradient.
        amsgrad: divide by the largest mean square so far instead of the current one.
        maximize: ascend instead of descend.
        decoupled_weight_decay: shrink the parameter instead of changing the gradient, which makes
            this AdamW.
        foreach, capturable, fused: hints of PyTorch, kept in the options; every step is one
            in-place pass.
        differentiable: must be False.

    Raises:
        ArgumentError: a value outside its range.

    Source: Kingma and Ba, "Adam: A Method for Stochastic Optimization", 2015, algorithm 1; Reddi
    et al., "On the Convergence of Adam and Beyond", 2018 (amsgrad).
    """

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        amsgrad: bool = False,
        *,
        foreach: bool | None = None,
        maximize: bool = False,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
        decoupled_weight_decay: bool = False,
    ) -> None:
        check_nonnegative("learning rate", lr)
        check_nonnegative("epsilon value", eps)
        for index, beta in enumerate(betas):
            if not 0.0 <= float(beta) < 1.0:
                raise ArgumentError(f"Invalid beta parameter at index {index}: {beta}")
        check_nonnegative("weight_decay value", weight_decay)
        defaults = {
            "lr": lr,
            "betas": betas,
            "eps": eps,
            "weight_decay": weight_decay,
            "amsgrad": amsgrad,
            "maximize": maximize,
            "foreach": foreach,
            "capturable": capturable,
            "differentiable": differentiable,
            "fused": fused,
            "decoupled_weight_decay": decoupled_weight_decay,
        }
        super().__init__(params, defaults)

    def _update(
        self, group: dict[str, Any], param: Tensor, grad: Tensor, state: dict[str, Any]
    ) -> None:
        if not state:
            state["step"] = dg.tensor(0.0, dtype=dg.float32)
            state["exp_avg"] = dg.zeros_like(param)
            state["exp_avg_sq"] = dg.zeros_like(param)
            if group["amsgrad"]:
                state["max_exp_avg_sq"] = dg.zeros_like(param)
        state["step"]._data += 1
        moments = state["exp_avg"], state["exp_avg_sq"]
        largest = state["max_exp_avg_sq"] if group["amsgrad"] else None
        xp = array_module(param._data)
        for pieces in self._workspace.blocks(param, grad, *moments, largest, scratch=2):
            _adam(xp, *pieces, step=float(state["step"]._data), options=group)


class AdamW(Adam):
    """Adam with weight decay that shrinks the parameters directly.

    Arguments as for `Adam`, with a default `weight_decay` of 0.01.

    Source: Loshchilov and Hutter, "Decoupled Weight Decay Regularization", 2019, algorithm 2.
    """

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        amsgrad: bool = False,
        *,
        maximize: bool = False,
        foreach: bool | None = None,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
    ) -> None:
        super().__init__(
            params,
            lr,
            betas,
            eps,
            weight_decay,
            amsgrad,
            foreach=foreach,
            maximize=maximize,
            capturable=capturable,
            differentiable=differentiable,
            fused=fused,
            decoupled_weight_decay=True,
        )


def _adam(
    xp: Any,
    param: Array,
    grad: Array,
    mean: Array,
    mean_sq: Array,
    largest_sq: Array | None,
    direction: Array,
    work: Array,
    *,
    step: float,
    options: dict[str, Any],
) -> None:
    lr = float(options["lr"])
    beta1, beta2 = (float(beta) for beta in options["betas"])
    decay = float(options["weight_decay"])
    if options["decoupled_weight_decay"]:
        if decay != 0:
            xp.multiply(param, 1 - lr * decay, out=param)
        decay = 0.0
    grad = effective_grad(xp, param, grad, decay, options["maximize"], out=direction)

    # mean += (1 - beta1) * (grad - mean)
    xp.subtract(grad, mean, out=work)
    xp.multiply(work, 1 - beta1, out=work)
    xp.add(mean, work, out=mean)
    # mean_sq = beta2 * mean_sq + (1 - beta2) * grad**2
    xp.multiply(grad, grad, out=work)
    xp.multiply(work, 1 - beta2, out=work)
    xp.multiply(mean_sq, beta2, out=mean_sq)
    xp.add(mean_sq, work, out=mean_sq)
    if largest_sq is not None:
        mean_sq = xp.maximum(largest_sq, mean_sq, out=largest_sq)

    # param -= lr / c1 * mean / (sqrt(mean_sq) / c2 + eps), multiplied through by c2
    correction1 = 1 - beta1**step
    correction2 = math.sqrt(1 - beta2**step)
    xp.sqrt(mean_sq, out=work)
    xp.add(work, options["eps"] * correction2, out=work)
    xp.divide(mean, work, out=work)
    xp.multiply(work, lr * correction2 / correction1, out=work)
    xp.subtract(param, work, out=param)
