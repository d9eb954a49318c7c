"""RAdam."""

from __future__ import annotations

from typing import Any

from dualgraph._tensor import Tensor
from dualgraph.optim.adam import check_betas
from dualgraph.optim.optimizer import Optimizer, ParamsT, check_nonnegative
from dualgraph_compiler.ops.optimizer_composed import RadamUpdate

__all__ = ["RAdam"]


class RAdam(Optimizer):
    """Adam that trusts its mean squares only as far as the number of steps warrants.

    Args:
        params: parameters or groups of them, as for `Optimizer`.
        lr: learning rate.
        betas: decay rates of the two running means, each in [0, 1).
        eps: added to the denominator.
        weight_decay: L2 penalty added to the gradient.
        decoupled_weight_decay: shrink the parameter instead of changing the gradient.
        maximize: ascend instead of descend.
        foreach, capturable: hints of PyTorch, kept in the options.
        differentiable: must be False.

    Raises:
        ArgumentError: a value outside its range.

    Source: Liu et al., "On the Variance of the Adaptive Learning Rate and Beyond", 2020,
    algorithm 2.
    """

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        decoupled_weight_decay: bool = False,
        *,
        foreach: bool | None = None,
        maximize: bool = False,
        capturable: bool = False,
        differentiable: bool = False,
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
            "maximize": maximize,
            "foreach": foreach,
            "capturable": capturable,
            "decoupled_weight_decay": decoupled_weight_decay,
            "differentiable": differentiable,
        }
        super().__init__(params, defaults)

    def _rule(self, options: dict[str, Any]) -> RadamUpdate:
        return RadamUpdate(
            eps=float(options["eps"]),
            weight_decay=float(options["weight_decay"]),
            maximize=bool(options["maximize"]),
            decoupled=bool(options["decoupled_weight_decay"]),
        )
