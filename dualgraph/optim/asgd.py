"""ASGD."""

from __future__ import annotations

from typing import Any, ClassVar

import dualgraph as dg
from dualgraph._tensor import Tensor
from dualgraph.optim.optimizer import Optimizer, ParamsT, check_nonnegative
from dualgraph_compiler.ops.optimizer_composed import AsgdUpdate

__all__ = ["ASGD"]


class ASGD(Optimizer):
    """Gradient descent that also keeps the average of the parameters, in state `"ax"`.

    Args:
        params: parameters or groups of them, as for `Optimizer`.
        lr: learning rate of the first step.
        lambd: how quickly the learning rate and the parameters decay.
        alpha: power of the learning rate's decay.
        t0: the step at which averaging starts.
        weight_decay: L2 penalty added to the gradient.
        maximize: ascend instead of descend.
        foreach, capturable: hints of PyTorch, kept in the options.
        differentiable: must be False.

    Raises:
        ArgumentError: a negative value.

    Source: Polyak and Juditsky, "Acceleration of Stochastic Approximation by Averaging", 1992.
    """

    _scalars: ClassVar[tuple[str, ...]] = ("step", "eta", "mu")

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 1e-2,
        lambd: float = 1e-4,
        alpha: float = 0.75,
        t0: float = 1e6,
        weight_decay: float = 0,
        foreach: bool | None = None,
        maximize: bool = False,
        differentiable: bool = False,
        capturable: bool = False,
    ) -> None:
        check_nonnegative("learning rate", lr)
        check_nonnegative("weight_decay value", weight_decay)
        defaults = {
            "lr": lr,
            "lambd": lambd,
            "alpha": alpha,
            "t0": t0,
            "weight_decay": weight_decay,
            "foreach": foreach,
            "maximize": maximize,
            "differentiable": differentiable,
            "capturable": capturable,
        }
        super().__init__(params, defaults)

    def _rule(self, options: dict[str, Any]) -> AsgdUpdate:
        return AsgdUpdate(
            lambd=float(options["lambd"]),
            alpha=float(options["alpha"]),
            t0=float(options["t0"]),
            weight_decay=float(options["weight_decay"]),
            maximize=bool(options["maximize"]),
        )

    def fresh_state(self, param: Tensor, name: str) -> Tensor:
        """Zeros, but for the learning rate "eta" and the weight "mu" of a new value."""
        if name == "mu":
            return dg.tensor(1.0, dtype=dg.float32)
        if name == "eta":
            group = next(g for g in self.param_groups if any(p is param for p in g["params"]))
            return dg.tensor(float(group["lr"]), dtype=dg.float32)
        return super().fresh_state(param, name)
