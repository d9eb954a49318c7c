"""Adam and AdamW."""

from __future__ import annotations

from typing import Any

from dualgraph._tensor import Tensor
from dualgraph.optim.optimizer import Optimizer, ParamsT, check_nonnegative
from dualgraph_compiler.errors import ArgumentError
from dualgraph_compiler.ops.optimizer import AdamUpdate

__all__ = ["Adam", "AdamW", "check_betas"]


def check_betas(betas: tuple[float, float]) -> None:
    """Raise `ArgumentError` unless both decay rates are in [0, 1)."""
    for index, beta in enumerate(betas):
        if not 0.0 <= float(beta) < 1.0:
            raise ArgumentError(f"Invalid beta parameter at index {index}: {beta}")


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
        check_betas(betas)
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

    def _rule(self, options: dict[str, Any]) -> AdamUpdate:
        return AdamUpdate(
            eps=float(options["eps"]),
            weight_decay=float(options["weight_decay"]),
            amsgrad=bool(options["amsgrad"]),
            maximize=bool(options["maximize"]),
            decoupled=bool(options["decoupled_weight_decay"]),
        )


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
