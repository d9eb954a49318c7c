"""Names for annotations: PyTorch's ``torch.types``."""

from __future__ import annotations

import os
from typing import IO, Any, TypeAlias

from dualgraph_runtime.device import Device as _Device

__all__ = ["Device", "FileLike", "Number"]

Device: TypeAlias = _Device | str | int | None
FileLike: TypeAlias = str | os.PathLike[str] | IO[Any]
Number: TypeAlias = int | float | bool
