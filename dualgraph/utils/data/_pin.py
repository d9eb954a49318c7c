"""Page-locked host memory, from which copies to a GPU are faster."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from dualgraph._dispatch import make
from dualgraph._tensor import Tensor
from dualgraph.utils.data.collate import map_structure
from dualgraph_runtime.device import Device

__all__ = ["pin_memory"]


def pin_memory(data: Any) -> Any:
    """Copy all CPU tensors in nested containers to page-locked memory.

    Another object, a container or not, that has a method `pin_memory` is replaced by what that
    returns.

    Without a GPU there is no such memory: warns, and returns `data` as it is.
    """
    if not Device("cuda").is_available():
        warnings.warn(
            "'pin_memory' argument is set as true but no accelerator is found, then device pinned "
            "memory won't be used.",
            stacklevel=3,
        )
        return data
    return map_structure(_pin, data, is_leaf=lambda value: hasattr(value, "pin_memory"))


def _pin(value: Any) -> Any:
    if not isinstance(value, Tensor):
        return value.pin_memory() if hasattr(value, "pin_memory") else value
    if not isinstance(value._data, np.ndarray):
        return value
    import cupyx

    pinned = cupyx.empty_pinned(value._data.shape, value._data.dtype)
    pinned[...] = value._data
    return make(pinned)
