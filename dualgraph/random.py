"""The default generator of random numbers: PyTorch's ``torch.random``."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from ._random import (
    default_generator,
    get_rng_state,
    initial_seed,
    manual_seed,
    seed,
    set_rng_state,
)

__all__ = [
    "default_generator",
    "fork_rng",
    "get_rng_state",
    "initial_seed",
    "manual_seed",
    "seed",
    "set_rng_state",
]


@contextlib.contextmanager
def fork_rng(
    devices: Any = None, enabled: bool = True, *, device_type: str = "cuda"
) -> Iterator[None]:
    """Let draws in a `with` block leave no trace: the generator goes on from where it was.

    `devices` and `device_type` change nothing: one generator serves all devices.
    """
    state = get_rng_state() if enabled else None
    try:
        yield
    finally:
        if state is not None:
            set_rng_state(state)
