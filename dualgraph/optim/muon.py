"""Muon."""

from __future__ import annotations

from typing import Any

from dualgraph._tensor import Tensor
from dualgraph.optim.optimizer import Optimizer, ParamsT, check_nonnegative
from dualgraph_compiler.errors import ArgumentError
from dualgraph_compiler.ops.optimizer_composed import MuonUpdate

__all__ = ["Muon"]

_MOST_STEPS = 100  # PyTorch's limit, too


class Muon(Optimizer):
    """Momentum whose direction is made orthogonal, for the matrices of hidden layers.

    Args:
        params: matrices, or groups of them, as for `Optimizer`. Embeddings, biases and the like
            belong to another optimizer.
        lr: learning rate.
        weight_decay: share of the parameter taken off at each step, times `lr`.
        momentum: decay rate of the running mean of gradients.
        nesterov: look one step of momentum ahead.
        ns_coefficients: the odd polynomial a x + b x**3 + c x**5 of the iteration.
        eps: the least norm that a direction is divided by.
        ns_steps: how many iterations.
        adjust_lr_fn: how the learning rate follows a matrix's shape: "original", or
            "match_rms_adamw", with which learning rates found for AdamW carry over.

    Raises:
        ArgumentError: a value outside its range, or a parameter that is no matrix.

    Source: Jordan et al., "Muon: An optimizer for hidden layers in neural networks", 2024; Liu et
    al., "Muon is Scalable for LLM Training", 2025 (match_rms_adamw).
    """

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 1e-3,
        weight_decay: float = 0.1,
        momentum: float = 0.95,
        nesterov: bool = True,
        ns_coefficients: tuple[float, float, float] = (3.4445, -4.775, 2.0315),
        eps: float = 1e-7,
        ns_steps: int = 5,
        adjust_lr_fn: str | None = None,
    ) -> None:
        check_nonnegative("learning rate", lr)
        check_nonnegative("momentum value", momentum)
        check_nonnegative("weight_decay value", weight_decay)
        if adjust_lr_fn not in (None, "original", "match_rms_adamw"):
            raise ArgumentError(f"Adjust learning rate function {adjust_lr_fn} is not supported")
        if not 0 <= ns_steps < _MOST_STEPS or len(ns_coefficients) != 3:
            raise ArgumentError(
                f"expected fewer than {_MOST_STEPS} iterations and 3 coefficients, "
                f"got {ns_steps} and {ns_coefficients}"
            )
        defaults = {
            "lr": lr,
            "weight_decay": weight_decay,
            "momentum": momentum,
            "nesterov": nesterov,
            "ns_coefficients": ns_coefficients,
            "eps": eps,
            "ns_steps": ns_steps,
            "adjust_lr_fn": adjust_lr_fn,
        }
        super().__init__(params, defaults)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group of matrices."""
        super().add_param_group(param_group)
        for param in self.param_groups[-1]["params"]:
            if param.ndim != 2:
                self.param_groups.pop()
                raise ArgumentError(
                    "Muon only supports 2D parameters whereas we found a parameter with size: "
                    f"{param.size()}"
                )

    def _rule(self, options: dict[str, Any]) -> MuonUpdate:
        return MuonUpdate(
            momentum=float(options["momentum"]),
            nesterov=bool(options["nesterov"]),
            weight_decay=float(options["weight_decay"]),
            coefficients=tuple(float(c) for c in options["ns_coefficients"]),
            eps=float(options["eps"]),
            steps=int(options["ns_steps"]),
            match_rms=options["adjust_lr_fn"] == "match_rms_adamw",
        )
