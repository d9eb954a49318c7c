"""Adamax."""

from __future__ import annotations

from typing import Any

from dualgraph._tensor import Tensor
from dualgraph.optim.adam import check_betas
from dualgraph.optim.optimizer import Optimizer, ParamsT, check_nonnegative
from dualgraph_compiler.ops.optimizer_composed import AdamaxUpdate

__all__ = ["Adamax"]


class Adamax(Optimizer):
    """Adam with a running maximum of the gradient's size in place of its mean square.

    Args:
        params: parameters or groups of them, as for `Optimizer`.
        lr: learning rate.
        betas: decay rates of the running mean and of the running maximum, each in [0, 1).
        eps: added to the size of the gradient.
        weight_decay: L2 penalty added to the gradient.
        maximize: ascend instead of descend.
        foreach, capturable: hints of PyTorch, kept in the options.
        differentiable: must be False.

    Raises:
        ArgumentError: a value outside its range.

    Source: Kingma and Ba, "Adam: A Method for Stochastic Optimization", 2015, algorithm 2.
    """

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 2e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        foreach: bool | None = None,
        *,
        maximize: bool = False,
        differentiable: bool = False,
        capturable: bool = False,
    ) -> None:
        check_nonnegative("learning rate", lr)
        check_nonnegative("epsilon value", eps)
        check_betas(betas)
        check_nonnegative("weight_decay value", weight_decay)
        defaults = {
            "lr": lr,
            "betas": betas,
            "eps": eps,
            "weight_decay": weight_decay,
            "foreach": foreach,
            "maximize": maximize,
            "differentiable": differentiable,
            "capturable": capturable,
        }
        super().__init__(params, defaults)

    def _rule(self, options: dict[str, Any]) -> AdamaxUpdate:
        return AdamaxUpdate(
            eps=float(options["eps"]),
            weight_decay=float(options["weight_decay"]),
            maximize=bool(options["maximize"]),
        )
