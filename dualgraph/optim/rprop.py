"""Rprop."""

from __future__ import annotations

from typing import Any

import dualgraph as dg
from dualgraph._tensor import Tensor
from dualgraph.optim.optimizer import Optimizer, ParamsT, check_nonnegative
from dualgraph_compiler.errors import ArgumentError
from dualgraph_compiler.ops.optimizer_composed import RpropUpdate

__all__ = ["Rprop"]


class Rprop(Optimizer):
    """Steps of sizes that grow while the gradient keeps its sign and shrink where it turns.

    Meant for gradients of the whole data, not of batches.

    Args:
        params: parameters or groups of them, as for `Optimizer`.
        lr: size of the first step.
        etas: factors of a step that shrinks, in (0, 1), and of one that grows, above 1.
        step_sizes: smallest and largest size of a step.
        maximize: ascend instead of descend.
        capturable, foreach: hints of PyTorch, kept in the options.
        differentiable: must be False.

    Raises:
        ArgumentError: a value outside its range.

    Source: Riedmiller and Braun, "A Direct Adaptive Method for Faster Backpropagation Learning:
    The RPROP Algorithm", 1993.
    """

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 1e-2,
        etas: tuple[float, float] = (0.5, 1.2),
        step_sizes: tuple[float, float] = (1e-6, 50),
        *,
        capturable: bool = False,
        foreach: bool | None = None,
        maximize: bool = False,
        differentiable: bool = False,
    ) -> None:
        check_nonnegative("learning rate", lr)
        if not 0.0 < etas[0] < 1.0 < etas[1]:
            raise ArgumentError(f"Invalid eta values: {etas[0]}, {etas[1]}")
        defaults = {
            "lr": lr,
            "etas": etas,
            "step_sizes": step_sizes,
            "foreach": foreach,
            "maximize": maximize,
            "differentiable": differentiable,
            "capturable": capturable,
        }
        super().__init__(params, defaults)

    def _rule(self, options: dict[str, Any]) -> RpropUpdate:
        (minus, plus), (smallest, largest) = options["etas"], options["step_sizes"]
        return RpropUpdate(
            eta_minus=float(minus),
            eta_plus=float(plus),
            smallest=float(smallest),
            largest=float(largest),
            maximize=bool(options["maximize"]),
        )

    def fresh_state(self, param: Tensor, name: str) -> Tensor:
        """Zeros, but for the sizes of steps, which start from the learning rate."""
        if name != "step_size":
            return super().fresh_state(param, name)
        group = next(g for g in self.param_groups if any(p is param for p in g["params"]))
        lr = float(group["lr"])
        fill = complex(lr, lr) if param.is_complex() else lr
        return dg.full_like(param, fill, requires_grad=False)
