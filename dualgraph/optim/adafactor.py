"""Adafactor."""

from __future__ import annotations

import dataclasses
from typing import Any

import dualgraph as dg
from dualgraph._tensor import Tensor
from dualgraph.optim.optimizer import Optimizer, ParamsT, check_nonnegative
from dualgraph_compiler.errors import ArgumentError
from dualgraph_compiler.ops.optimizer import OptimizerUpdate
from dualgraph_compiler.ops.optimizer_composed import AdafactorUpdate

__all__ = ["Adafactor"]


class Adafactor(Optimizer):
    """Adaptive steps whose second moments take the memory of rows and columns only.

    Args:
        params: parameters or groups of them, as for `Optimizer`. Real ones only.
        lr: learning rate, relative to the root mean square of a parameter.
        beta2_decay: power of the step by which the running mean forgets, at most 0.
        eps: least mean square (None: the dtype's epsilon) and least size of a parameter.
        d: the root mean square that a change is clipped to.
        weight_decay: share of the parameter taken off at each step, times `lr`.
        foreach: a hint of PyTorch, kept in the options.
        maximize: ascend instead of descend.

    Raises:
        ArgumentError: a value outside its range.

    Source: Shazeer and Stern, "Adafactor: Adaptive Learning Rates with Sublinear Memory Cost",
    2018, algorithms 4 and 5.
    """

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 1e-2,
        beta2_decay: float = -0.8,
        eps: tuple[float | None, float] = (None, 1e-3),
        d: float = 1.0,
        weight_decay: float = 0.0,
        *,
        foreach: bool | None = None,
        maximize: bool = False,
    ) -> None:
        check_nonnegative("learning rate", lr)
        if not beta2_decay <= 0.0:
            raise ArgumentError(f"beta2_decay should be <= 0 but is: {beta2_decay}")
        if eps[0] is not None:
            check_nonnegative("epsilon1 value", eps[0])
        check_nonnegative("epsilon2 value", eps[1])
        if not d >= 1.0:
            raise ArgumentError(f"Clipping threshold d should be >= 1 but is: {d}")
        check_nonnegative("weight_decay value", weight_decay)
        defaults = {
            "lr": lr,
            "beta2_decay": beta2_decay,
            "eps": eps,
            "d": d,
            "weight_decay": weight_decay,
            "foreach": foreach,
            "maximize": maximize,
        }
        super().__init__(params, defaults)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group of real parameters."""
        super().add_param_group(param_group)
        if any(p.is_complex() for p in self.param_groups[-1]["params"]):
            self.param_groups.pop()
            raise ArgumentError("Adafactor does not support complex parameters")

    def _rule(self, options: dict[str, Any]) -> AdafactorUpdate:
        return AdafactorUpdate(
            beta2_decay=float(options["beta2_decay"]),
            eps1=float(options["eps"][0] or 0.0),
            eps2=float(options["eps"][1]),
            threshold=float(options["d"]),
            weight_decay=float(options["weight_decay"]),
            maximize=bool(options["maximize"]),
        )

    def _rule_for(self, rule: OptimizerUpdate, param: Tensor) -> OptimizerUpdate:
        return dataclasses.replace(rule, factored=param.ndim > 1)

    def fresh_state(self, param: Tensor, name: str) -> Tensor:
        """Zeros: means over rows and over columns, or of each element of a vector."""
        if name == "step":
            return super().fresh_state(param, name)
        shape = AdafactorUpdate(factored=param.ndim > 1).state_shape(name, tuple(param.shape))
        return dg.zeros(shape, dtype=param.dtype, device=param.device)
