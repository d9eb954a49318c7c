"""The choice among ways to compute attention: PyTorch's ``torch.nn.attention``.

There is one computation here, which the native engine fuses; what is chosen changes nothing.
"""

from __future__ import annotations

import contextlib
import enum
from collections.abc import Iterator, Sequence

__all__ = ["SDPBackend", "sdpa_kernel"]


class SDPBackend(enum.IntEnum):
    """PyTorch's ways to compute ``scaled_dot_product_attention``."""

    ERROR = -1
    MATH = 0
    FLASH_ATTENTION = 1
    EFFICIENT_ATTENTION = 2
    CUDNN_ATTENTION = 3
    OVERRIDEABLE = 4


@contextlib.contextmanager
def sdpa_kernel(
    backends: SDPBackend | Sequence[SDPBackend], set_priority: bool = False
) -> Iterator[None]:
    """The ways to choose from in a `with` block: kept to itself.

    Raises:
        TypeError: something other than members of :class:`SDPBackend`.
    """
    given = [backends] if isinstance(backends, SDPBackend) else list(backends)
    if not given or not all(isinstance(b, SDPBackend) for b in given):
        raise TypeError("Backend must be an instance of SDPBackend or a list of SDPBackend")
    yield
