"""Scaling losses so that gradients in float16 do not vanish."""

from __future__ import annotations

import enum
import warnings
from collections.abc import Iterable
from typing import Any

import numpy as np

from dualgraph_compiler import dtypes as dt

from .. import functions
from .._dispatch import make
from .._tensor import Tensor
from ..autograd.grad_mode import no_grad


class OptState(enum.Enum):
    """How far a step of one optimizer is."""

    READY = 0
    UNSCALED = 1
    STEPPED = 2


class GradScaler:
    """Scales losses up and gradients down, and skips steps whose gradients overflowed.

        scaler.scale(loss).backward(); scaler.step(optimizer); scaler.update()

    The scale falls by `backoff_factor` after a step with an infinite or NaN gradient, and grows by
    `growth_factor` after `growth_interval` steps without. With bfloat16, which has the range of
    float32, none is needed.

    Args:
        device: accepted; gradients are looked at wherever they are.
        enabled: False makes every method do as if there was no scaler.
    """

    def __init__(
        self,
        device: str = "cuda",
        init_scale: float = 2.0**16,
        growth_factor: float = 2.0,
        backoff_factor: float = 0.5,
        growth_interval: int = 2000,
        enabled: bool = True,
    ) -> None:
        self._device = device
        self._enabled = enabled
        if not enabled:
            return
        if growth_factor <= 1.0:
            raise ValueError("The growth factor must be > 1.0.")
        if backoff_factor >= 1.0:
            raise ValueError("The backoff factor must be < 1.0.")
        self._scale = float(init_scale)
        self._growth_factor = growth_factor
        self._backoff_factor = backoff_factor
        self._growth_interval = growth_interval
        self._growth_tracker = 0
        self._found: dict[int, tuple[Any, OptState, bool]] = {}  # by optimizer: it, state, overflow

    def scale(self, outputs: Any) -> Any:
        """A loss, or several in lists and tuples, times the scale.

        Raises:
            ValueError: not a tensor, nor an iterable of tensors.
        """
        if not self._enabled:
            return outputs
        if isinstance(outputs, Tensor):
            factor = make(np.asarray(self._scale, np.float32))
            return outputs * factor.to(outputs.device)
        if isinstance(outputs, list | tuple):
            return type(outputs)(self.scale(x) for x in outputs)
        if isinstance(outputs, Iterable):
            return map(self.scale, outputs)
        raise ValueError("outputs must be a Tensor or an iterable of Tensors")

    def _state(self, optimizer: Any) -> OptState:
        return self._found.get(id(optimizer), (None, OptState.READY, False))[1]

    def unscale_(self, optimizer: Any) -> None:
        """Divide the gradients of the optimizer's parameters by the scale, once for each step.

        Raises:
            RuntimeError: it was done already since the last update, or after the step.
            ValueError: a gradient is float16, whose parameters cannot be trained like this.
        """
        if not self._enabled:
            return
        state = self._state(optimizer)
        if state is OptState.UNSCALED:
            raise RuntimeError(
                "unscale_() has already been called on this optimizer since the last update()."
            )
        if state is OptState.STEPPED:
            raise RuntimeError("unscale_() is being called after step().")
        overflowed = self._unscale(optimizer)
        self._found[id(optimizer)] = (optimizer, OptState.UNSCALED, overflowed)

    def _unscale(self, optimizer: Any) -> bool:
        """Divide, and say whether a gradient is infinite or NaN."""
        inverse = 1.0 / self._scale
        sound = None
        with no_grad():
            for group in optimizer.param_groups:
                for p in group["params"]:
                    if p.grad is None:
                        continue
                    if p.grad.dtype is dt.float16:
                        raise ValueError("Attempting to unscale FP16 gradients.")
                    p.grad.mul_(inverse)
                    finite = functions.isfinite(p.grad).all()
                    sound = finite if sound is None else sound & finite.to(sound.device)
        return sound is not None and not bool(sound)

    def step(self, optimizer: Any, *args: Any, **kwargs: Any) -> Any:
        """``optimizer.step(*args)``, unless a gradient overflowed; what that returns, or None.

        Raises:
            RuntimeError: called twice since the last update, or with a closure.
        """
        if not self._enabled:
            return optimizer.step(*args, **kwargs)
        if "closure" in kwargs:
            raise RuntimeError("Closure use is not currently supported if GradScaler is enabled.")
        state = self._state(optimizer)
        if state is OptState.STEPPED:
            raise RuntimeError("step() has already been called since the last update().")
        if state is OptState.READY:
            self.unscale_(optimizer)
        overflowed = self._found[id(optimizer)][2]
        found = None if overflowed else optimizer.step(*args, **kwargs)
        self._found[id(optimizer)] = (optimizer, OptState.STEPPED, overflowed)
        return found

    def update(self, new_scale: float | Tensor | None = None) -> None:
        """Adjust the scale, once an iteration; or set it."""
        if not self._enabled:
            return
        if new_scale is not None:
            self._scale = float(new_scale)
        elif not self._found:
            raise AssertionError("No inf checks were recorded prior to update.")
        elif any(overflowed for _, _, overflowed in self._found.values()):
            self._scale *= self._backoff_factor
            self._growth_tracker = 0
        else:
            self._growth_tracker += 1
            if self._growth_tracker == self._growth_interval:
                grown = self._scale * self._growth_factor
                if np.isfinite(np.float32(grown)):
                    self._scale = grown
                self._growth_tracker = 0
        self._found.clear()

    def get_scale(self) -> float:
        """The scale; 1 if not enabled."""
        return self._scale if self._enabled else 1.0

    def is_enabled(self) -> bool:
        """Whether it does anything."""
        return self._enabled

    def get_growth_factor(self) -> float:
        """What the scale grows by."""
        return self._growth_factor

    def set_growth_factor(self, new_factor: float) -> None:
        """Set what the scale grows by."""
        self._growth_factor = new_factor

    def get_backoff_factor(self) -> float:
        """What the scale falls by."""
        return self._backoff_factor

    def set_backoff_factor(self, new_factor: float) -> None:
        """Set what the scale falls by."""
        self._backoff_factor = new_factor

    def get_growth_interval(self) -> int:
        """After how many steps the scale grows."""
        return self._growth_interval

    def set_growth_interval(self, new_interval: int) -> None:
        """Set after how many steps the scale grows."""
        self._growth_interval = new_interval

    def state_dict(self) -> dict[str, Any]:
        """Scale, factors and counter; empty if not enabled."""
        if not self._enabled:
            return {}
        return {
            "scale": self.get_scale(),
            "growth_factor": self._growth_factor,
            "backoff_factor": self._backoff_factor,
            "growth_interval": self._growth_interval,
            "_growth_tracker": self._growth_tracker,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go back to a state that `state_dict` gave.

        Raises:
            RuntimeError: it is that of a scaler that was not enabled.
        """
        if not self._enabled:
            return
        if not state_dict:
            raise RuntimeError(
                "The source state dict is empty, possibly because it was saved from a disabled "
                "instance of GradScaler."
            )
        self._scale = float(state_dict["scale"])
        self._growth_factor = state_dict["growth_factor"]
        self._backoff_factor = state_dict["backoff_factor"]
        self._growth_interval = state_dict["growth_interval"]
        self._growth_tracker = state_dict["_growth_tracker"]

    def __getstate__(self) -> dict[str, Any]:
        if self._enabled and self._found:
            warnings.warn(
                "A GradScaler instance may only be pickled at the beginning of an iteration, or at "
                "the end after scaler.update().",
                stacklevel=2,
            )
        return {**self.__dict__, **({"_found": {}} if self._enabled else {})}
