"""Averages of a model's weights over training: stochastic weight averaging and moving averages.

Sources: Izmailov et al., "Averaging Weights Leads to Wider Optima and Better Generalization", 2018;
Polyak and Juditsky, "Acceleration of Stochastic Approximation by Averaging", 1992.
"""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeAlias

import dualgraph as dg
from dualgraph import nn
from dualgraph._tensor import Tensor
from dualgraph.nn.modules.norm import _BatchNorm
from dualgraph.optim.lr_scheduler import LRScheduler
from dualgraph.optim.lr_scheduler._base import per_group
from dualgraph.optim.optimizer import Optimizer
from dualgraph_compiler.errors import ArgumentError

__all__ = [
    "SWALR",
    "AveragedModel",
    "get_ema_avg_fn",
    "get_ema_multi_avg_fn",
    "get_swa_avg_fn",
    "get_swa_multi_avg_fn",
    "update_bn",
]

# The new average from the average, the model's value, and how many values it is of so far.
Average: TypeAlias = Callable[[Tensor, Tensor, Any], Tensor]
# The same for lists, in place.
MultiAverage: TypeAlias = Callable[[Sequence[Tensor], Sequence[Tensor], Any], None]


def _check_decay(decay: float) -> None:
    if not 0.0 <= decay <= 1.0:
        raise ArgumentError(
            f"Invalid decay value {decay} provided. Please provide a value in [0,1] range."
        )


def get_ema_avg_fn(decay: float = 0.999) -> Average:
    """An exponential moving average: ``decay * average + (1 - decay) * value``.

    Raises:
        ArgumentError: `decay` is not in [0, 1].
    """
    _check_decay(decay)

    @dg.no_grad()
    def average(ema_param: Tensor, current_param: Tensor, num_averaged: Any) -> Tensor:
        result: Tensor = decay * ema_param + (1 - decay) * current_param
        return result

    return average


def get_swa_avg_fn() -> Average:
    """The plain mean of all values: ``average + (value - average) / (n + 1)``."""

    @dg.no_grad()
    def average(averaged_param: Tensor, current_param: Tensor, num_averaged: Any) -> Tensor:
        result: Tensor = averaged_param + (current_param - averaged_param) / (num_averaged + 1)
        return result

    return average


def _multi(average: Average) -> MultiAverage:
    def in_place(averages: Sequence[Tensor], values: Sequence[Tensor], num_averaged: Any) -> None:
        for old, value in zip(averages, values, strict=True):
            old.copy_(average(old, value, num_averaged))

    return in_place


def get_ema_multi_avg_fn(decay: float = 0.999) -> MultiAverage:
    """:func:`get_ema_avg_fn` of lists of tensors, in place."""
    return _multi(get_ema_avg_fn(decay))


def get_swa_multi_avg_fn() -> MultiAverage:
    """:func:`get_swa_avg_fn` of lists of tensors, in place."""
    return _multi(get_swa_avg_fn())


class AveragedModel(nn.Module):
    """A copy of a model whose parameters are averages of the model's over training.

    Args:
        model: whose parameters to average.
        device: where to keep the averages; where the model is if None.
        avg_fn: the new average from average, value and number of values so far; their mean if
            None.
        multi_avg_fn: the same for lists of tensors, in place of `avg_fn`.
        use_buffers: average buffers, too, instead of copying the model's latest.

    Attributes:
        module: the copy.
        n_averaged: int64 []; of how many values the averages are.

    Raises:
        ArgumentError: both `avg_fn` and `multi_avg_fn`.
    """

    n_averaged: Tensor

    def __init__(
        self,
        model: nn.Module,
        device: Any = None,
        avg_fn: Average | None = None,
        multi_avg_fn: MultiAverage | None = None,
        use_buffers: bool = False,
    ) -> None:
        super().__init__()
        if avg_fn is not None and multi_avg_fn is not None:
            raise ArgumentError("Only one of avg_fn and multi_avg_fn should be provided")
        self.module = copy.deepcopy(model)
        if device is not None:
            self.module = self.module.to(device)
        self.register_buffer("n_averaged", dg.tensor(0, device=device))
        self.avg_fn = avg_fn
        self.multi_avg_fn = multi_avg_fn
        self.use_buffers = use_buffers

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """What the copy computes."""
        return self.module(*args, **kwargs)

    @dg.no_grad()
    def update_parameters(self, model: nn.Module) -> None:
        """Take the model's parameters of now into the averages."""
        averages, values = self._tensors(self.module), self._tensors(model)
        values = [v.to(a.device) for a, v in zip(averages, values, strict=True)]
        if int(self.n_averaged) == 0:
            for average, value in zip(averages, values, strict=True):
                average.copy_(value)
        else:
            given = None if self.avg_fn is None else _multi(self.avg_fn)
            update = self.multi_avg_fn or given or get_swa_multi_avg_fn()
            if averages:
                update(averages, values, self.n_averaged)
        if not self.use_buffers:
            for own, other in zip(self.module.buffers(), model.buffers(), strict=True):
                own.detach().copy_(other.detach().to(own.device))
        self.n_averaged += 1

    def _tensors(self, model: nn.Module) -> list[Tensor]:
        buffers = model.buffers() if self.use_buffers else ()
        return [t.detach() for t in itertools.chain(model.parameters(), buffers)]


@dg.no_grad()
def update_bn(loader: Iterable[Any], model: nn.Module, device: Any = None) -> None:
    """Compute the running statistics of batch norms anew, as their mean over a pass of `loader`.

    Args:
        loader: gives batches: the model's input, or a list or tuple that begins with it.
        model: usually an :class:`AveragedModel`, whose statistics belong to other weights.
        device: where to move inputs.
    """
    norms = [m for m in model.modules() if isinstance(m, _BatchNorm)]
    if not norms:
        return
    momenta = [norm.momentum for norm in norms]
    training = model.training
    model.train()
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the plain mean of all batches
    for batch in loader:
        x = batch[0] if isinstance(batch, list | tuple) else batch
        model(x if device is None else x.to(device))
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    model.train(training)


class SWALR(LRScheduler):
    """Moves the learning rate to `swa_lr` in some epochs and keeps it there.

    Args:
        optimizer: whose learning rates to set.
        swa_lr: the rate to end with, for all groups or one for each.
        anneal_epochs: how many epochs that takes.
        anneal_strategy: "cos" or "linear".
        last_epoch: number of the last epoch of an interrupted run, -1 for a new run.

    Raises:
        ArgumentError: an unknown strategy, or a negative number of epochs.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        swa_lr: float | list[float],
        anneal_epochs: int = 10,
        anneal_strategy: str = "cos",
        last_epoch: int = -1,
    ) -> None:
        rates = per_group("swa_lr", swa_lr, optimizer)
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["swa_lr"] = rate
        if anneal_strategy not in ("cos", "linear"):
            raise ArgumentError(
                f"anneal_strategy must be one of 'cos' or 'linear', instead got {anneal_strategy}"
            )
        if not isinstance(anneal_epochs, int) or anneal_epochs < 0:
            raise ArgumentError(
                f"anneal_epochs must be equal or greater than 0, got {anneal_epochs}"
            )
        self._anneal_strategy = anneal_strategy
        self.anneal_epochs = anneal_epochs
        super().__init__(optimizer, last_epoch)

    def _share(self, step: int) -> float:
        """How much of the final rate there is in that of `step`."""
        t = max(0.0, min(1.0, step / max(1, self.anneal_epochs)))
        return (1 - math.cos(math.pi * t)) / 2 if self._anneal_strategy == "cos" else t

    def get_lr(self) -> list[float]:
        """Return the rates of the step that is being made, from those in force."""
        step = self._step_count - 1
        if self.anneal_epochs == 0:
            step = max(1, step)
        before, now = self._share(step - 1), self._share(step)
        rates = []
        for group in self.optimizer.param_groups:
            rate, last = float(group["lr"]), group["swa_lr"]
            start = last if before == 1 else (rate - before * last) / (1 - before)
            rates.append(last * now + start * (1 - now))
        return rates
