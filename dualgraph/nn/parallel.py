"""Models on several devices at once, as far as one device is enough for them."""

from __future__ import annotations

from typing import Any

from dualgraph.distributed import refuse
from dualgraph.nn.modules.distributed import DataParallel
from dualgraph.nn.modules.module import Module

__all__ = ["DataParallel", "DistributedDataParallel"]


class DistributedDataParallel(Module):
    """A module trained by several processes, which there is not.

    Raises:
        DualGraphError: always; see ``dualgraph.distributed``.
    """

    def __init__(self, module: Module, *args: Any, **kwargs: Any) -> None:
        super().__init__()
        refuse()
