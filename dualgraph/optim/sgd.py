"""Stochastic gradient descent with momentum."""

from __future__ import annotations

from typing import Any

from dualgraph._tensor import Tensor
from dualgraph.optim.optimizer import Optimizer, ParamsT, check_nonnegative
from dualgraph_compiler.errors import ArgumentError
from dualgraph_compiler.ops.optimizer import OptimizerUpdate, SgdUpdate

__all__ = ["SGD"]


class SGD(Optimizer):
    """Stochastic gradient descent, with (Nesterov) momentum and weight decay.

    Args:
        params: parameters or groups of them, as for `Optimizer`.
        lr: learning rate.
        momentum: share of the last update that carries over.
        dampening: share of the gradient that momentum leaves out.
        weight_decay: L2 penalty added to the gradient.
        nesterov: look ahead along the momentum.
        maximize: ascend instead of descend.
        foreach, fused: hints of PyTorch, kept in the options; every step is one in-place pass.
        differentiable: must be False.

    Raises:
        ArgumentError: a negative value, or Nesterov without momentum or with dampening.

    Source: Sutskever et al., "On the importance of initialization and momentum in deep learning",
    2013, in PyTorch's form: the learning rate scales the momentum when it is applied.
    """

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 1e-3,
        momentum: float = 0,
        dampening: float = 0,
        weight_decay: float = 0,
        nesterov: bool = False,
        *,
        maximize: bool = False,
        foreach: bool | None = None,
        differentiable: bool = False,
        fused: bool | None = None,
    ) -> None:
        check_nonnegative("learning rate", lr)
        check_nonnegative("momentum value", momentum)
        check_nonnegative("weight_decay value", weight_decay)
        if nesterov and (momentum <= 0 or dampening != 0):
            raise ArgumentError("Nesterov momentum requires a momentum and zero dampening")
        defaults = {
            "lr": lr,
            "momentum": momentum,
            "dampening": dampening,
            "weight_decay": weight_decay,
            "nesterov": nesterov,
            "maximize": maximize,
            "foreach": foreach,
            "differentiable": differentiable,
            "fused": fused,
        }
        super().__init__(params, defaults)

    def _rule(self, options: dict[str, Any]) -> SgdUpdate:
        return SgdUpdate(
            momentum=options["momentum"] != 0,
            dampening=float(options["dampening"]),
            weight_decay=float(options["weight_decay"]),
            nesterov=bool(options["nesterov"]),
            maximize=bool(options["maximize"]),
        )

    def number(self, options: dict[str, Any], name: str) -> float:
        """The learning rate or momentum; `first` depends on the parameter."""
        return 0.0 if name == "first" else float(options[name])

    def _update(
        self, op: OptimizerUpdate, numbers: list[float], param: Tensor, grad: Tensor
    ) -> None:
        if op.state:
            # The first step of a parameter fills its buffer; old checkpoints hold None there.
            state = self.state[param]
            first = state.get("momentum_buffer") is None
            if first:
                state["momentum_buffer"] = self.fresh_state(param, "momentum_buffer")
            numbers = [*numbers[:2], first]
        super()._update(op, numbers, param, grad)
