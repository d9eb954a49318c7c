"""Rates that go up and down between two bounds, or fall and start anew."""

from __future__ import annotations

import math
import types
from collections.abc import Callable, Sequence
from typing import Any

from dualgraph._tensor import Tensor
from dualgraph.optim.lr_scheduler._base import (
    LRScheduler,
    check_optimizer,
    per_group,
    set_learning_rate,
)
from dualgraph.optim.optimizer import Optimizer
from dualgraph_compiler.errors import ArgumentError

__all__ = ["CosineAnnealingWarmRestarts", "CyclicLR"]

_MODES = ("triangular", "triangular2", "exp_range")


class CyclicLR(LRScheduler):
    """Moves the learning rate from `base_lr` up to `max_lr` and back, in every cycle.

    Step it after every batch. Momentum (or the first beta of Adam) moves the other way.

    Args:
        optimizer: whose learning rates to set.
        base_lr: the lower bound, for all groups or one for each; the rate at the start.
        max_lr: the upper bound; what is reached also depends on the scale.
        step_size_up: steps of the rise.
        step_size_down: steps of the fall; as many as of the rise if None.
        mode: "triangular" (the same height in every cycle), "triangular2" (half of that of the
            cycle before) or "exp_range" (``gamma**step`` of it).
        gamma: of "exp_range".
        scale_fn: the height's factor, in place of `mode`.
        scale_mode: whether `scale_fn` is given the number of the cycle, from 1 ("cycle"), or of
            the step ("iterations").
        cycle_momentum: whether to move momentum, between `max_momentum` and `base_momentum`.
        base_momentum: momentum where the rate is highest, for all groups or one for each.
        max_momentum: momentum where the rate is lowest.
        last_epoch: number of the last step of an interrupted run, -1 for a new run.

    Raises:
        ArgumentError: an unknown mode, or an optimizer without momentum to move.

    Source: Smith, "Cyclical Learning Rates for Training Neural Networks", 2017.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        base_lr: float | list[float],
        max_lr: float | list[float],
        step_size_up: int = 2000,
        step_size_down: int | None = None,
        mode: str = "triangular",
        gamma: float = 1.0,
        scale_fn: Callable[[float], float] | None = None,
        scale_mode: str = "cycle",
        cycle_momentum: bool = True,
        base_momentum: float | list[float] = 0.8,
        max_momentum: float | list[float] = 0.9,
        last_epoch: int = -1,
    ) -> None:
        check_optimizer(optimizer)
        if mode not in _MODES and scale_fn is None:
            raise ArgumentError("mode is invalid and scale_fn is None")
        base_lrs = per_group("base_lr", base_lr, optimizer)
        self.max_lrs = per_group("max_lr", max_lr, optimizer)
        up = float(step_size_up)
        self.total_size = up + (up if step_size_down is None else float(step_size_down))
        self.step_ratio = up / self.total_size
        self.mode = mode
        self.gamma = gamma
        self._scale_fn_custom = scale_fn
        by_mode = "iterations" if mode == "exp_range" else "cycle"
        self.scale_mode = by_mode if scale_fn is None else scale_mode
        self.cycle_momentum = cycle_momentum
        if last_epoch == -1:
            for group, rate in zip(optimizer.param_groups, base_lrs, strict=True):
                set_learning_rate(group, rate)
        if cycle_momentum:
            self.use_beta1 = "betas" in optimizer.defaults
            if not self.use_beta1 and "momentum" not in optimizer.defaults:
                raise ArgumentError(
                    "optimizer must support momentum or beta1 with `cycle_momentum` option enabled"
                )
            self.base_momentums = per_group("base_momentum", base_momentum, optimizer)
            self.max_momentums = per_group("max_momentum", max_momentum, optimizer)
            if last_epoch == -1:
                ranges = zip(self.base_momentums, self.max_momentums, strict=True)
                for group, (low, high) in zip(optimizer.param_groups, ranges, strict=True):
                    self._set_momentum(group, high)
                    group["max_momentum"] = high
                    group["base_momentum"] = low
        self.optimizer = optimizer
        # The constructor's step to epoch 0 already goes by the bounds, not by the rates so far.
        self.base_lrs = base_lrs
        super().__init__(optimizer, last_epoch)
        self.base_lrs = base_lrs

    def scale_fn(self, x: float) -> float:
        """The factor of a cycle's height, for the cycle or step of number `x`."""
        if self._scale_fn_custom is not None:
            return self._scale_fn_custom(x)
        if self.mode == "triangular2":
            return float(0.5 ** (x - 1))
        return float(self.gamma**x) if self.mode == "exp_range" else 1.0

    def get_lr(self) -> list[float]:
        """Return the rates of step `last_epoch`; also sets the momentum of that step."""
        turns = self.last_epoch / self.total_size
        cycle = math.floor(1 + turns)
        share = 1.0 + turns - cycle
        rising = share <= self.step_ratio
        height = share / self.step_ratio if rising else (share - 1) / (self.step_ratio - 1)
        height *= self.scale_fn(cycle if self.scale_mode == "cycle" else self.last_epoch)
        if self.cycle_momentum:
            ranges = zip(self.base_momentums, self.max_momentums, strict=True)
            for group, (low, high) in zip(self.optimizer.param_groups, ranges, strict=True):
                self._set_momentum(group, high - (high - low) * height)
        return [
            low + (high - low) * height
            for low, high in zip(self.base_lrs, self.max_lrs, strict=True)
        ]

    def _set_momentum(self, group: dict[str, Any], momentum: float) -> None:
        if self.use_beta1:
            group["betas"] = (momentum, *group["betas"][1:])
        else:
            group["momentum"] = momentum

    def state_dict(self) -> dict[str, Any]:
        """Return everything but the optimizer and a plain function, as a dict."""
        state = super().state_dict()
        function = state.pop("_scale_fn_custom")
        plain = function is None or isinstance(function, types.FunctionType)
        state["_scale_fn_custom"] = None if plain else dict(function.__dict__)
        return state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over the result of `state_dict`; a plain function stays as it is."""
        name = "_scale_fn_custom"
        super().load_state_dict({k: v for k, v in state_dict.items() if k != name})
        if state_dict[name] is not None:
            self._scale_fn_custom.__dict__.update(state_dict[name])


class CosineAnnealingWarmRestarts(LRScheduler):
    """Lowers the learning rate along half a cosine wave to `eta_min`, then starts anew.

    Args:
        optimizer: whose learning rates to set.
        T_0: epochs until the first restart.
        T_mult: how many times longer each run is than the one before.
        eta_min: the lowest rate.
        last_epoch: number of the last epoch of an interrupted run, -1 for a new run.

    Raises:
        ArgumentError: `T_0` or `T_mult` are no positive integers, or `eta_min` is no number.

    Source: Loshchilov and Hutter, "SGDR: Stochastic Gradient Descent with Warm Restarts", 2017.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        T_0: int,
        T_mult: int = 1,
        eta_min: float = 0.0,
        last_epoch: int = -1,
    ) -> None:
        if not isinstance(T_0, int) or T_0 <= 0:
            raise ArgumentError(f"Expected positive integer T_0, but got {T_0}")
        if not isinstance(T_mult, int) or T_mult < 1:
            raise ArgumentError(f"Expected integer T_mult >= 1, but got {T_mult}")
        if not isinstance(eta_min, float | int):
            raise ArgumentError(f"Expected float or int eta_min, but got {eta_min!r}")
        self.T_0 = T_0
        self.T_i = T_0
        self.T_mult = T_mult
        self.eta_min = eta_min
        self.T_cur: float = last_epoch
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> Sequence[float | Tensor]:
        """Return the rates for epoch `T_cur` of a run of `T_i` epochs."""
        height = (1 + math.cos(math.pi * self.T_cur / self.T_i)) / 2
        return [self.eta_min + (base - self.eta_min) * height for base in self.base_lrs]

    def step(self, epoch: float | None = None) -> None:
        """Go to the next epoch, or to `epoch`, which may be a fraction: after each batch, say.

        Raises:
            ArgumentError: `epoch` is negative.
        """
        if epoch is None and self.last_epoch >= 0:
            self.last_epoch += 1
            self.T_cur += 1
            if self.T_cur >= self.T_i:
                self.T_cur %= self.T_i
                self.T_i *= self.T_mult
        else:
            self._go_to(epoch or 0)
        self._apply(self.get_lr())

    def _go_to(self, epoch: float) -> None:
        if epoch < 0:
            raise ArgumentError(f"Expected non-negative epoch, but got {epoch}")
        run, started = 0, 0
        if epoch >= self.T_0 and self.T_mult > 1:
            # The runs before number n take T_0 (T_mult**n - 1) / (T_mult - 1) epochs in all.
            run = int(math.log(epoch / self.T_0 * (self.T_mult - 1) + 1, self.T_mult))
            started = self.T_0 * (self.T_mult**run - 1) // (self.T_mult - 1)
        elif epoch >= self.T_0:
            started = int(epoch // self.T_0) * self.T_0
        self.T_cur = epoch - started
        self.T_i = self.T_0 * self.T_mult**run
        self.last_epoch = math.floor(epoch)

    def _restart(self) -> None:
        self.step(0)
