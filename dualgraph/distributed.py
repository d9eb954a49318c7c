"""Training in several processes, which there is not: what programs ask first says so.

Programs that would also run in one process import these names and do not call them.
"""

from __future__ import annotations

import enum
from typing import Any, NoReturn

from dualgraph_compiler.errors import DualGraphError

__all__ = [
    "ReduceOp",
    "all_gather",
    "all_reduce",
    "barrier",
    "broadcast",
    "destroy_process_group",
    "get_rank",
    "get_world_size",
    "init_process_group",
    "is_available",
    "is_gloo_available",
    "is_initialized",
    "is_mpi_available",
    "is_nccl_available",
    "is_torchelastic_launched",
    "reduce",
]


class ReduceOp(enum.Enum):
    """How values of several processes would be put together."""

    SUM = 0
    AVG = 1
    PRODUCT = 2
    MIN = 3
    MAX = 4


def is_available() -> bool:
    """Whether processes can train together: no."""
    return False


def is_initialized() -> bool:
    """Whether a process group exists: never."""
    return False


def is_torchelastic_launched() -> bool:
    """Whether started by ``torchrun``: never."""
    return False


is_gloo_available = is_mpi_available = is_nccl_available = is_available


def refuse(*args: Any, **kwargs: Any) -> NoReturn:
    """Raise DualGraphError: there is no process group.

    Raises:
        DualGraphError: always.
    """
    raise DualGraphError(
        "Default process group has not been initialized: dualgraph trains in one process "
        "(torch.distributed.is_available() is False)"
    )


init_process_group = destroy_process_group = get_rank = get_world_size = refuse
all_gather = all_reduce = barrier = broadcast = reduce = refuse
