"""Reduction when a metric stops improving."""

from __future__ import annotations

import math
from typing import SupportsFloat

from dualgraph.optim.lr_scheduler._base import (
    LRScheduler,
    check_optimizer,
    learning_rates,
    per_group,
    set_learning_rate,
)
from dualgraph.optim.optimizer import Optimizer
from dualgraph_compiler.errors import ArgumentError

__all__ = ["ReduceLROnPlateau"]


class ReduceLROnPlateau(LRScheduler):
    """Multiplies the learning rate by `factor` when a metric has stopped improving.

    Args:
        optimizer: whose learning rates to set.
        mode: `"min"` if the metric should fall, `"max"` if it should rise.
        factor: below 1.
        patience: epochs without improvement that are let pass.
        threshold: how much better than the best counts as improvement.
        threshold_mode: whether `threshold` is relative to the best (`"rel"`) or absolute
            (`"abs"`).
        cooldown: epochs after a reduction during which no epoch counts as bad.
        min_lr: lower bound, for all groups or one for each.
        eps: reductions smaller than this are left out.

    Raises:
        ArgumentError: an unknown mode or a factor that does not reduce.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        mode: str = "min",
        factor: float = 0.1,
        patience: int = 10,
        threshold: float = 1e-4,
        threshold_mode: str = "rel",
        cooldown: int = 0,
        min_lr: float | list[float] = 0,
        eps: float = 1e-8,
    ) -> None:
        if factor >= 1.0:
            raise ArgumentError(f"Factor should be < 1.0, got {factor}")
        if mode not in ("min", "max"):
            raise ArgumentError(f"mode {mode} is unknown!")
        if threshold_mode not in ("rel", "abs"):
            raise ArgumentError(f"threshold mode {threshold_mode} is unknown!")
        check_optimizer(optimizer)
        self.optimizer = optimizer
        self.factor = factor
        self.mode = mode
        self.threshold = threshold
        self.threshold_mode = threshold_mode
        self.min_lr = min_lr
        per_group("min_lr", min_lr, optimizer)  # only checks: groups may be added later
        self.patience = patience
        self.cooldown = cooldown
        self.eps = eps
        self.last_epoch = 0
        self.best = math.inf if mode == "min" else -math.inf
        self.cooldown_counter = 0
        self.num_bad_epochs = 0
        self._last_lr = learning_rates(optimizer)

    def step(self, metrics: SupportsFloat) -> None:  # type: ignore[override]
        """Take in the metric of the epoch that ends, and reduce the rates if it is time to."""
        current = float(metrics)
        self.last_epoch += 1
        if self._is_better(current):
            self.best = current
            self.num_bad_epochs = 0
        else:
            self.num_bad_epochs += 1
        if self.in_cooldown:
            self.cooldown_counter -= 1
            self.num_bad_epochs = 0
        if self.num_bad_epochs > self.patience:
            self._reduce()
            self.cooldown_counter = self.cooldown
            self.num_bad_epochs = 0
        self._last_lr = learning_rates(self.optimizer)

    @property
    def in_cooldown(self) -> bool:
        """Whether a reduction happened less than `cooldown` epochs ago."""
        return self.cooldown_counter > 0

    def _reduce(self) -> None:
        groups = self.optimizer.param_groups
        bounds = per_group("min_lr", self.min_lr, self.optimizer)
        for group, least in zip(groups, bounds, strict=True):
            old = float(group["lr"])
            new = max(old * self.factor, least)
            if old - new > self.eps:
                set_learning_rate(group, new)

    def _is_better(self, current: float) -> bool:
        if self.threshold_mode == "rel":
            if self.mode == "min":
                return current < self.best * (1.0 - self.threshold)
            return current > self.best * (1.0 + self.threshold)
        if self.mode == "min":
            return current < self.best - self.threshold
        return current > self.best + self.threshold
