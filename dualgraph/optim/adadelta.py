"""Adadelta."""

from __future__ import annotations

from typing import Any

from dualgraph._tensor import Tensor
from dualgraph.optim.optimizer import Optimizer, ParamsT, check_nonnegative
from dualgraph_compiler.errors import ArgumentError
from dualgraph_compiler.ops.optimizer_composed import AdadeltaUpdate

__all__ = ["Adadelta"]


class Adadelta(Optimizer):
    """Steps scaled by the ratio of running root mean squares: of past changes over gradients.

    Args:
        params: parameters or groups of them, as for `Optimizer`.
        lr: what the computed change is multiplied by.
        rho: decay rate of both running means, in [0, 1].
        eps: added to the mean squares, under the roots.
        weight_decay: L2 penalty added to the gradient.
        maximize: ascend instead of descend.
        foreach, capturable: hints of PyTorch, kept in the options.
        differentiable: must be False.

    Raises:
        ArgumentError: a value outside its range.

    Source: Zeiler, "ADADELTA: An Adaptive Learning Rate Method", 2012, algorithm 1.
    """

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 1.0,
        rho: float = 0.9,
        eps: float = 1e-6,
        weight_decay: float = 0,
        foreach: bool | None = None,
        *,
        capturable: bool = False,
        maximize: bool = False,
        differentiable: bool = False,
    ) -> None:
        check_nonnegative("learning rate", lr)
        if not 0.0 <= rho <= 1.0:
            raise ArgumentError(f"Invalid rho value: {rho}")
        check_nonnegative("epsilon value", eps)
        check_nonnegative("weight_decay value", weight_decay)
        defaults = {
            "lr": lr,
            "rho": rho,
            "eps": eps,
            "weight_decay": weight_decay,
            "maximize": maximize,
            "capturable": capturable,
            "foreach": foreach,
            "differentiable": differentiable,
        }
        super().__init__(params, defaults)

    def _rule(self, options: dict[str, Any]) -> AdadeltaUpdate:
        return AdadeltaUpdate(
            rho=float(options["rho"]),
            eps=float(options["eps"]),
            weight_decay=float(options["weight_decay"]),
            maximize=bool(options["maximize"]),
        )
