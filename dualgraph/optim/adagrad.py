"""Adagrad."""

from __future__ import annotations

from typing import Any

import dualgraph as dg
from dualgraph._tensor import Tensor
from dualgraph.optim.optimizer import Optimizer, ParamsT, check_nonnegative
from dualgraph_compiler.ops.optimizer import AdagradUpdate

__all__ = ["Adagrad"]


class Adagrad(Optimizer):
    """Gradient descent with steps divided by the root of the sum of all squared gradients.

    Args:
        params: parameters or groups of them, as for `Optimizer`.
        lr: learning rate.
        lr_decay: the learning rate of step t is `lr / (1 + (t - 1) * lr_decay)`.
        weight_decay: L2 penalty added to the gradient.
        initial_accumulator_value: what the sum of squares starts from.
        eps: added to the denominator.
        maximize: ascend instead of descend.
        foreach, fused: hints of PyTorch, kept in the options.
        differentiable: must be False.

    Raises:
        ArgumentError: a negative value.

    Source: Duchi et al., "Adaptive Subgradient Methods for Online Learning and Stochastic
    Optimization", 2011.
    """

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 1e-2,
        lr_decay: float = 0,
        weight_decay: float = 0,
        initial_accumulator_value: float = 0,
        eps: float = 1e-10,
        foreach: bool | None = None,
        *,
        maximize: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
    ) -> None:
        check_nonnegative("learning rate", lr)
        check_nonnegative("lr_decay value", lr_decay)
        check_nonnegative("weight_decay value", weight_decay)
        check_nonnegative("initial_accumulator_value value", initial_accumulator_value)
        check_nonnegative("epsilon value", eps)
        defaults = {
            "lr": lr,
            "lr_decay": lr_decay,
            "eps": eps,
            "weight_decay": weight_decay,
            "initial_accumulator_value": initial_accumulator_value,
            "foreach": foreach,
            "maximize": maximize,
            "differentiable": differentiable,
            "fused": fused,
        }
        super().__init__(params, defaults)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group; its state starts at once, as in PyTorch."""
        super().add_param_group(param_group)
        group = self.param_groups[-1]
        start = group["initial_accumulator_value"]
        for param in group["params"]:
            # Complex arrays are summed as pairs of reals, so both parts start from the value.
            fill = complex(start, start) if param.is_complex() else start
            self.state[param] = {
                "step": dg.tensor(0.0, dtype=dg.float32),
                "sum": dg.full_like(param, fill, requires_grad=False),
            }

    def _rule(self, options: dict[str, Any]) -> AdagradUpdate:
        return AdagradUpdate(
            lr_decay=float(options["lr_decay"]),
            eps=float(options["eps"]),
            weight_decay=float(options["weight_decay"]),
            maximize=bool(options["maximize"]),
        )
