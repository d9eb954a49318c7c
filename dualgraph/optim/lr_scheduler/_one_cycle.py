"""The one-cycle policy."""

from __future__ import annotations

import math
from typing import NamedTuple

from dualgraph.optim.lr_scheduler._base import LRScheduler, check_optimizer, per_group
from dualgraph.optim.optimizer import Optimizer
from dualgraph_compiler.errors import ArgumentError

__all__ = ["OneCycleLR"]


class _Phase(NamedTuple):
    """Where a phase ends, and the group entries its rate and momentum move between."""

    end_step: float
    lr: tuple[str, str]
    momentum: tuple[str, str]


class OneCycleLR(LRScheduler):
    """Raises the learning rate to `max_lr` and lowers it far below its start, once per run.

    Step it after every batch. Momentum (or the first beta of Adam) moves the other way.

    Args:
        optimizer: whose learning rates to set.
        max_lr: the peak, for all groups or one for each.
        total_steps: steps of the cycle; or give `epochs` and `steps_per_epoch`.
        epochs: epochs of the cycle.
        steps_per_epoch: batches of an epoch.
        pct_start: share of the cycle in which the rate rises, a float in [0, 1].
        anneal_strategy: `"cos"` or `"linear"`.
        cycle_momentum: whether to move momentum, between `max_momentum` and `base_momentum`.
        base_momentum: momentum at the peak, for all groups or one for each.
        max_momentum: momentum at both ends.
        div_factor: the peak over the first rate.
        final_div_factor: the first rate over the last one.
        three_phase: return to the first rate before going further down.
        last_epoch: number of the last step of an interrupted run, -1 for a new run.

    Raises:
        ArgumentError: a value outside its range, an optimizer without momentum to move, or a step
            past the end of the cycle.

    Source: Smith and Topin, "Super-Convergence", 2018.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        max_lr: float | list[float],
        total_steps: int | None = None,
        epochs: int | None = None,
        steps_per_epoch: int | None = None,
        pct_start: float = 0.3,
        anneal_strategy: str = "cos",
        cycle_momentum: bool = True,
        base_momentum: float | list[float] = 0.85,
        max_momentum: float | list[float] = 0.95,
        div_factor: float = 25.0,
        final_div_factor: float = 1e4,
        three_phase: bool = False,
        last_epoch: int = -1,
    ) -> None:
        check_optimizer(optimizer)
        self.total_steps = _cycle_length(total_steps, epochs, steps_per_epoch)
        if not isinstance(pct_start, float) or not 0 <= pct_start <= 1:
            raise ArgumentError(f"Expected float between 0 and 1 pct_start, but got {pct_start}")
        if anneal_strategy not in ("cos", "linear"):
            raise ArgumentError(
                f"anneal_strategy must be one of 'cos' or 'linear', instead got {anneal_strategy}"
            )
        self._anneal_func_type = anneal_strategy
        self.cycle_momentum = cycle_momentum
        if cycle_momentum:
            self.use_beta1 = "betas" in optimizer.defaults
            if not self.use_beta1 and "momentum" not in optimizer.defaults:
                raise ArgumentError(
                    "optimizer must support momentum or beta1 with `cycle_momentum` option enabled"
                )
        self._schedule_phases = _phases(self.total_steps, pct_start, three_phase)
        peaks = per_group("max_lr", max_lr, optimizer)
        highs = per_group("max_momentum", max_momentum, optimizer)
        lows = per_group("base_momentum", base_momentum, optimizer)
        if last_epoch == -1:
            for group, peak, high, low in zip(
                optimizer.param_groups, peaks, highs, lows, strict=True
            ):
                group["initial_lr"] = peak / div_factor
                group["max_lr"] = peak
                group["min_lr"] = group["initial_lr"] / final_div_factor
                if cycle_momentum:
                    group["max_momentum"] = high
                    group["base_momentum"] = low
        super().__init__(optimizer, last_epoch)

    def _anneal(self, start: float, end: float, share: float) -> float:
        if self._anneal_func_type == "linear":
            return (end - start) * share + start
        return end + (start - end) / 2.0 * (math.cos(math.pi * share) + 1)

    def get_lr(self) -> list[float]:
        """Return the rates of step `last_epoch`; also sets the momentum of that step."""
        step = self.last_epoch
        if step > self.total_steps:
            raise ArgumentError(
                f"Tried to step {step} times. The specified number of total steps is "
                f"{self.total_steps}"
            )
        start_step = 0.0
        phase = self._schedule_phases[-1]
        for candidate in self._schedule_phases[:-1]:
            if step <= candidate.end_step:
                phase = candidate
                break
            start_step = candidate.end_step
        share = (step - start_step) / (phase.end_step - start_step)
        rates = []
        for group in self.optimizer.param_groups:
            start, end = phase.lr
            rates.append(self._anneal(group[start], group[end], share))
            if self.cycle_momentum:
                start, end = phase.momentum
                momentum = self._anneal(group[start], group[end], share)
                if self.use_beta1:
                    group["betas"] = (momentum, *group["betas"][1:])
                else:
                    group["momentum"] = momentum
        return rates


def _cycle_length(total_steps: int | None, epochs: int | None, steps_per_epoch: int | None) -> int:
    if total_steps is None and (epochs is None or steps_per_epoch is None):
        raise ArgumentError("You must define either total_steps OR (epochs AND steps_per_epoch)")
    given = (
        {"total_steps": total_steps}
        if total_steps is not None
        else {"epochs": epochs, "steps_per_epoch": steps_per_epoch}
    )
    length = 1
    for name, value in given.items():
        if not isinstance(value, int) or value <= 0:
            raise ArgumentError(f"Expected positive integer {name}, but got {value}")
        length *= value
    return length


def _phases(total_steps: int, pct_start: float, three_phase: bool) -> list[_Phase]:
    up = _Phase(
        float(pct_start * total_steps) - 1,
        ("initial_lr", "max_lr"),
        ("max_momentum", "base_momentum"),
    )
    if not three_phase:
        down = _Phase(total_steps - 1, ("max_lr", "min_lr"), ("base_momentum", "max_momentum"))
        return [up, down]
    return [
        up,
        _Phase(
            float(2 * pct_start * total_steps) - 2,
            ("max_lr", "initial_lr"),
            ("base_momentum", "max_momentum"),
        ),
        _Phase(total_steps - 1, ("initial_lr", "min_lr"), ("max_momentum", "max_momentum")),
    ]
