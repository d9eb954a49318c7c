"""Several schedules, one after the other or all at once."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from typing import Any

from dualgraph.optim.lr_scheduler._base import (
    LRScheduler,
    learning_rates,
    set_learning_rate,
)
from dualgraph.optim.lr_scheduler._plateau import ReduceLROnPlateau
from dualgraph.optim.optimizer import Optimizer
from dualgraph_compiler.errors import ArgumentError

__all__ = ["ChainedScheduler", "SequentialLR"]


class _Several(LRScheduler):
    """A schedule made of others."""

    _schedulers: Sequence[LRScheduler]

    def _adopt(self, schedulers: Sequence[LRScheduler], optimizer: Optimizer) -> None:
        """Check that these are schedules of `optimizer` that are stepped without a metric."""
        name = type(self).__name__
        for index, scheduler in enumerate(schedulers):
            if isinstance(scheduler, ReduceLROnPlateau):
                raise ArgumentError(
                    f"{name} does not support `ReduceLROnPlateau`, whose `step` takes a "
                    f"metric, but got one at index {index}"
                )
            if scheduler.optimizer is not optimizer:
                raise ArgumentError(
                    f"{name} expects all schedulers to belong to the same optimizer, but the "
                    f"{type(scheduler).__name__} at index {index} belongs to another"
                )
        self._schedulers = schedulers
        self.optimizer = optimizer

    def _undo_initial_steps(self) -> None:
        for scheduler in self._schedulers:
            if isinstance(scheduler, _Several):
                scheduler._undo_initial_steps()
            else:
                scheduler.last_epoch -= 1

    def state_dict(self) -> dict[str, Any]:
        """Return the position and the states of all schedules, as a dict."""
        state = {k: v for k, v in super().state_dict().items() if k != "_schedulers"}
        state["_schedulers"] = [scheduler.state_dict() for scheduler in self._schedulers]
        return state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over the result of `state_dict`, of one made of schedules like these."""
        super().load_state_dict({k: v for k, v in state_dict.items() if k != "_schedulers"})
        for scheduler, state in zip(self._schedulers, state_dict["_schedulers"], strict=True):
            scheduler.load_state_dict(state)


class ChainedScheduler(_Several):
    """Steps several schedules at once, so that their factors multiply.

    Args:
        schedulers: schedules of one optimizer.
        optimizer: that optimizer, if it is to be named.

    Raises:
        ArgumentError: no schedules, one that needs a metric, or one of another optimizer.
    """

    def __init__(
        self, schedulers: Sequence[LRScheduler], optimizer: Optimizer | None = None
    ) -> None:
        if not schedulers:
            raise ArgumentError(
                "ChainedScheduler expects at least one scheduler to be chained, but got no "
                "scheduler."
            )
        self._adopt(schedulers, optimizer or schedulers[0].optimizer)
        self._last_lr = learning_rates(self.optimizer)

    def step(self) -> None:  # type: ignore[override]
        """Go to the next epoch of all schedules, in order."""
        for scheduler in self._schedulers:
            scheduler.step()
        self._last_lr = learning_rates(self.optimizer)

    def _initial_step(self) -> None:
        for scheduler in self._schedulers:
            if not isinstance(scheduler, _Several):
                scheduler._step_count = 0  # no step of the optimizer's is due before this one
        self.step()

    def _restart(self) -> None:
        for scheduler in self._schedulers:
            scheduler._restart()
        self._last_lr = learning_rates(self.optimizer)


class SequentialLR(_Several):
    """Follows one schedule until its milestone, then the next one from its beginning.

    Args:
        optimizer: the optimizer that all `schedulers` belong to.
        schedulers: in the order they take over.
        milestones: epochs at which the next schedule takes over, one fewer than schedules.
        last_epoch: number of the last epoch of an interrupted run, -1 for a new run.

    Raises:
        ArgumentError: no schedules, one that needs a metric, one of another optimizer, or the
            wrong number of milestones.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        schedulers: list[LRScheduler],
        milestones: list[int],
        last_epoch: int = -1,
    ) -> None:
        if not schedulers:
            raise ArgumentError("SequentialLR expects at least one scheduler, but got no scheduler")
        if len(milestones) != len(schedulers) - 1:
            raise ArgumentError(
                "SequentialLR expects one scheduler more than milestones, but got "
                f"{len(schedulers)} schedulers and {len(milestones)} milestones"
            )
        self._adopt(schedulers, optimizer)
        self._milestones = milestones
        self.last_epoch = last_epoch + 1
        # Every schedule has made its initial step when it was built: take all of them back, and
        # repeat the one that is in charge of epoch 0.
        for group in optimizer.param_groups:
            set_learning_rate(group, float(group["initial_lr"]))
        self._undo_initial_steps()
        first = schedulers[bisect_right(milestones, 0)]
        first._initial_step()
        self._last_lr = first.get_last_lr()

    def _restart(self) -> None:
        self.last_epoch = 0
        self._schedulers[0]._restart()
        self._last_lr = self._schedulers[0].get_last_lr()

    def _initial_step(self) -> None:
        self._schedulers[0]._initial_step()
        self._last_lr = self._schedulers[0].get_last_lr()

    def step(self) -> None:  # type: ignore[override]
        """Go to the next epoch, and to the next schedule where a milestone says so."""
        self.last_epoch += 1
        index = bisect_right(self._milestones, self.last_epoch)
        scheduler = self._schedulers[index]
        if index > 0 and self._milestones[index - 1] == self.last_epoch:
            scheduler._restart()
        else:
            scheduler.step()
        self._last_lr = scheduler.get_last_lr()
