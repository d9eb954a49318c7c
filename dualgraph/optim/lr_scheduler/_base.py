"""The base class of the schedules and how they read and write learning rates."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Sequence
from typing import Any

from dualgraph._dispatch import captures
from dualgraph._tensor import Tensor
from dualgraph.optim._group import save_group
from dualgraph.optim.optimizer import Optimizer
from dualgraph_compiler.errors import ArgumentError, TraceError

__all__ = [
    "LRScheduler",
    "_LRScheduler",
    "check_optimizer",
    "learning_rates",
    "per_group",
    "set_learning_rate",
]


class LRScheduler:
    """Changes the learning rate of every parameter group as epochs pass.

    A schedule of your own overrides `get_lr`, which returns the learning rate of each group for
    epoch `self.last_epoch`; the rates in force are in `self.optimizer.param_groups[i]["lr"]`, those
    at the start in `self.base_lrs`. The constructor performs the step to epoch 0.

    In a compiled function `step` takes effect at every call, as eagerly; the learning rates are
    inputs of the graph.

    Args:
        optimizer: whose learning rates to set.
        last_epoch: number of the last epoch of an interrupted run, -1 for a new run.

    Raises:
        TypeError: `optimizer` is not an Optimizer.
        KeyError: `last_epoch` continues a run, but a group lacks `"initial_lr"`.
    """

    _is_initial: bool = False

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "step" in cls.__dict__:
            cls.step = _replayed(cls.__dict__["step"])  # type: ignore[method-assign]

    def __init__(self, optimizer: Optimizer, last_epoch: int = -1) -> None:
        check_optimizer(optimizer)
        self.optimizer = optimizer
        for index, group in enumerate(optimizer.param_groups):
            if last_epoch == -1:
                group.setdefault("initial_lr", float(group["lr"]))
            elif "initial_lr" not in group:
                raise KeyError(
                    f"param 'initial_lr' is not specified in param_groups[{index}] when resuming "
                    "a scheduler with last_epoch >= 0: load the optimizer's state first"
                )
        self.base_lrs = [float(group["initial_lr"]) for group in optimizer.param_groups]
        self.last_epoch = last_epoch
        self._initial_step()

    def _initial_step(self) -> None:
        self._step_count = 0
        self._is_initial = True
        try:
            self.step()
        finally:
            self._is_initial = False

    def step(self, epoch: int | None = None) -> None:
        """Go to the next epoch. Call it after the optimizer's steps of the epoch that ends.

        Args:
            epoch: deprecated; go to that one instead, by the schedule's closed form
                (`_get_closed_form_lr`) if it has one.
        """
        # A class that overrides `Optimizer.step` does its own bookkeeping, or none.
        counted = type(self.optimizer).step is Optimizer.step
        if self._step_count == 1 and counted and not self.optimizer._opt_called:
            warnings.warn(
                "Detected call of `lr_scheduler.step()` before `optimizer.step()`. You should call "
                "them in the opposite order, or the first value of the schedule is skipped.",
                stacklevel=2,
            )
        self._step_count += 1
        if epoch is None:
            self.last_epoch += 1
            self._apply(self.get_lr())
            return
        warnings.warn(
            "The epoch parameter in `scheduler.step()` is deprecated: call it without one",
            UserWarning,
            stacklevel=2,
        )
        self.last_epoch = epoch
        self._apply(getattr(self, "_get_closed_form_lr", self.get_lr)())

    def get_lr(self) -> Sequence[float | Tensor]:
        """Return the learning rate of each group for epoch `last_epoch`."""
        raise NotImplementedError

    def get_last_lr(self) -> list[float]:
        """Return the learning rate of each group that the last step has set."""
        if captures.current is not None:  # a number in Python: the graph is for this one only
            captures.current.guard("get_last_lr()", lambda: list(self._last_lr), self._last_lr)
        return self._last_lr

    def _restart(self) -> None:
        """Begin again at epoch 0, whatever the learning rates are now."""
        self.last_epoch = 0
        self._apply(self._first_lr())

    def _first_lr(self) -> Sequence[float | Tensor]:
        return self.get_lr()

    def _apply(self, rates: Sequence[float | Tensor]) -> None:
        for group, rate in zip(self.optimizer.param_groups, rates, strict=True):
            set_learning_rate(group, float(rate))
        self._last_lr = learning_rates(self.optimizer)

    def state_dict(self) -> dict[str, Any]:
        """Return everything but the optimizer, as a dict."""
        return {key: value for key, value in self.__dict__.items() if key != "optimizer"}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over the result of `state_dict`."""
        self.__dict__.update(state_dict)


def _replayed(step: Callable[..., None]) -> Callable[..., None]:
    """`step`, which in a capture is a change of Python data to be made at every call."""

    @functools.wraps(step)
    def wrapped(self: LRScheduler, *args: Any, **kwargs: Any) -> None:
        capture = captures.current
        if capture is None:
            step(self, *args, **kwargs)
            return
        given = [x for x in (*args, *kwargs.values()) if isinstance(x, Tensor)]
        if given:
            raise TraceError(
                f"{type(self).__name__}.step() decides in Python by the value of a tensor, which "
                "has none while being traced. Call it outside the compiled function"
            )
        capture.effect(lambda: step(self, *args, **kwargs), lambda: _save(self))

    return wrapped


LRScheduler.step = _replayed(LRScheduler.step)  # type: ignore[method-assign]


class _LRScheduler(LRScheduler):
    """The name that the base class had."""


def _save(scheduler: Any) -> Callable[[], None]:
    """A function that gives a scheduler, those it consists of and the groups their state of now."""
    kept = {k: v.copy() if type(v) in (list, dict) else v for k, v in vars(scheduler).items()}
    held = (v if isinstance(v, list | tuple) else (v,) for v in kept.values())
    inner = [_save(s) for found in held for s in found if isinstance(s, LRScheduler)]
    groups = [save_group(group) for group in scheduler.optimizer.param_groups]

    def restore() -> None:
        vars(scheduler).clear()
        vars(scheduler).update(kept)
        for undo in (*inner, *groups):
            undo()

    return restore


def check_optimizer(optimizer: Any) -> None:
    """Raise `TypeError` unless `optimizer` is an Optimizer."""
    if not isinstance(optimizer, Optimizer):
        raise TypeError(f"{type(optimizer).__name__} is not an Optimizer")


def learning_rates(optimizer: Optimizer) -> list[float]:
    """Return the learning rate of each group as a number."""
    return [float(group["lr"]) for group in optimizer.param_groups]


def set_learning_rate(group: dict[str, Any], rate: float) -> None:
    """Set the learning rate of one group; a Tensor keeps its identity."""
    if isinstance(group["lr"], Tensor):
        group["lr"].fill_(rate)
    else:
        group["lr"] = rate


def per_group(name: str, value: Any, optimizer: Optimizer) -> list[Any]:
    """Repeat `value` for each group of `optimizer`, or check that a list has one value for each.

    Raises:
        ArgumentError: a list of another length.
    """
    count = len(optimizer.param_groups)
    if not isinstance(value, list | tuple):
        return [value] * count
    if len(value) != count:
        raise ArgumentError(f"expected {count} values for {name}, got {len(value)}")
    return list(value)
