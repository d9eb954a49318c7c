"""Intel's MKL: whether NumPy computes with it."""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = ["is_available"]


def is_available() -> bool:
    """Whether NumPy's BLAS is MKL."""
    config: Any = np.show_config(mode="dicts")
    return "mkl" in str(config["Build Dependencies"]["blas"]["name"])
