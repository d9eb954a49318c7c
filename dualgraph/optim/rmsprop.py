"""RMSprop."""

from __future__ import annotations

from typing import Any

from dualgraph._tensor import Tensor
from dualgraph.optim.optimizer import Optimizer, ParamsT, check_nonnegative
from dualgraph_compiler.ops.optimizer import RmspropUpdate

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

    def _rule(self, options: dict[str, Any]) -> RmspropUpdate:
        return RmspropUpdate(
            momentum=options["momentum"] > 0,
            centered=bool(options["centered"]),
            alpha=float(options["alpha"]),
            eps=float(options["eps"]),
            weight_decay=float(options["weight_decay"]),
            maximize=bool(options["maximize"]),
        )
