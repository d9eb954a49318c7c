"""The CPU, under PyTorch's name."""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = ["get_cpu_capability"]


def get_cpu_capability() -> str:
    """The widest vector instructions there are: "AVX512", "AVX2", or "DEFAULT"."""
    config: Any = np.show_config(mode="dicts")
    found = " ".join(config["SIMD Extensions"].get("found", ()))
    return next((name for name in ("AVX512", "AVX2") if name in found), "DEFAULT")
