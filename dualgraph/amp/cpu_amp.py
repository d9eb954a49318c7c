"""``torch.cpu.amp``: the names of before ``torch.amp``, for CPUs alone."""

from __future__ import annotations

from dualgraph_compiler.dtypes import DType, bfloat16

from . import autocast_mode
from .grad_scaler import GradScaler

__all__ = ["GradScaler", "autocast"]


class autocast(autocast_mode.autocast):
    """``amp.autocast("cpu", ...)``."""

    def __init__(
        self, enabled: bool = True, dtype: DType = bfloat16, cache_enabled: bool = True
    ) -> None:
        super().__init__("cpu", dtype, enabled, cache_enabled)
