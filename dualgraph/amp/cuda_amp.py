"""``torch.cuda.amp``: the names of before ``torch.amp``, for GPUs alone."""

from __future__ import annotations

import functools
from typing import Any

from dualgraph_compiler.dtypes import DType, float16

from . import autocast_mode
from .grad_scaler import GradScaler

__all__ = ["GradScaler", "autocast", "custom_bwd", "custom_fwd"]


class autocast(autocast_mode.autocast):
    """``amp.autocast("cuda", ...)``."""

    def __init__(
        self, enabled: bool = True, dtype: DType = float16, cache_enabled: bool = True
    ) -> None:
        super().__init__("cuda", dtype, enabled, cache_enabled)


custom_fwd: Any = functools.partial(autocast_mode.custom_fwd, device_type="cuda")
custom_bwd: Any = functools.partial(autocast_mode.custom_bwd, device_type="cuda")
