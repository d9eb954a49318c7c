"""NAdam."""

from __future__ import annotations

from typing import Any, ClassVar

import dualgraph as dg
from dualgraph._tensor import Tensor
from dualgraph.optim.adam import check_betas
from dualgraph.optim.optimizer import Optimizer, ParamsT, check_nonnegative
from dualgraph_compiler.ops.optimizer_composed import NadamUpdate

__all__ = ["NAdam"]


class NAdam(Optimizer):
    """Adam with Nesterov's momentum, which looks one step ahead.

    Args:
        params: parameters or groups of them, as for `Optimizer`.
        lr: learning rate.
        betas: decay rates of the two running means, each in [0, 1).
        eps: added to the denominator.
        weight_decay: L2 penalty added to the gradient.
        momentum_decay: how quickly the momentum reaches its full value.
        decoupled_weight_decay: shrink the parameter instead of changing the gradient.
        maximize: ascend instead of descend.
        foreach, capturable: hints of PyTorch, kept in the options.
        differentiable: must be False.

    Raises:
        ArgumentError: a value outside its range.

    Source: Dozat, "Incorporating Nesterov Momentum into Adam", 2016.
    """

    _scalars: ClassVar[tuple[str, ...]] = ("step", "mu_product")

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 2e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        momentum_decay: float = 4e-3,
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
        check_nonnegative("momentum_decay value", momentum_decay)
        defaults = {
            "lr": lr,
            "betas": betas,
            "eps": eps,
            "weight_decay": weight_decay,
            "momentum_decay": momentum_decay,
            "decoupled_weight_decay": decoupled_weight_decay,
            "maximize": maximize,
            "foreach": foreach,
            "capturable": capturable,
            "differentiable": differentiable,
        }
        super().__init__(params, defaults)

    def _rule(self, options: dict[str, Any]) -> NadamUpdate:
        return NadamUpdate(
            eps=float(options["eps"]),
            weight_decay=float(options["weight_decay"]),
            momentum_decay=float(options["momentum_decay"]),
            maximize=bool(options["maximize"]),
            decoupled=bool(options["decoupled_weight_decay"]),
        )

    def fresh_state(self, param: Tensor, name: str) -> Tensor:
        """Zeros, but for the product of the momenta so far, which starts from one."""
        if name == "mu_product":
            return dg.tensor(1.0, dtype=dg.float32)
        return super().fresh_state(param, name)
