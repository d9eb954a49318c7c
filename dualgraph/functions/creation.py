"""Making tensors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from .._dispatch import make

if TYPE_CHECKING:
    from .._tensor import Tensor


def zeros_like(input: Tensor) -> Tensor:
    """Zeros of the input's shape."""
    return make(np.zeros_like(input._data))


def ones_like(input: Tensor) -> Tensor:
    """Ones of the input's shape."""
    return make(np.ones_like(input._data))
