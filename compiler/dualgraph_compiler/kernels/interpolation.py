"""Interpolation along one axis as a matrix of weights."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

_Array = np.ndarray[Any, Any]


def weights(
    x: _Array,
    size: int,
    scale: float,
    *,
    cubic: float | None = None,
    antialias: bool = False,
    exclude_outside: bool = False,
) -> _Array:
    """The weights of `size` elements in values read among them: float64 [len(x), size].

    Args:
        x: where each value lies, in elements.
        scale: how many values there are for each element.
        cubic: the coefficient a of Keys' kernel; None interpolates linearly.
        antialias: average over what a value covers where it is larger than an element.
        exclude_outside: what would be read beyond the ends is left out, and the rest weighs more;
            else the outermost elements stand for it.

    Source: ONNX Resize-19; Keys, "Cubic Convolution Interpolation for Digital Image Processing",
    1981.
    """
    shrink = min(scale, 1.0) if antialias else 1.0
    reach = math.ceil((1 if cubic is None else 2) / shrink)
    first = np.floor(x).astype(np.int64) - reach + 1
    taps = first[:, None] + np.arange(2 * reach)
    distance = np.abs(taps - x[:, None]) * shrink
    found = np.maximum(1 - distance, 0) if cubic is None else _keys(distance, cubic)
    if exclude_outside:
        found = np.where((taps >= 0) & (taps < size), found, 0)
    if exclude_outside or antialias:
        found = found / found.sum(axis=1, keepdims=True)
    matrix = np.zeros((len(x), size))
    rows = np.broadcast_to(np.arange(len(x))[:, None], taps.shape)
    np.add.at(matrix, (rows, np.clip(taps, 0, size - 1)), found)
    return matrix


def _keys(t: _Array, a: float) -> _Array:
    """Keys' cubic convolution kernel at distances `t`."""
    near = ((a + 2) * t - (a + 3)) * t * t + 1
    far = ((a * t - 5 * a) * t + 8 * a) * t - 4 * a
    return np.where(t <= 1, near, np.where(t < 2, far, 0))
