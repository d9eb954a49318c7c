"""Versions, under PyTorch's names; ``__version__`` is that of the vocabulary."""

from __future__ import annotations

from typing import Any

__all__ = ["__version__", "cuda", "debug", "git_version", "hip"]

# PyTorch's, whose names and behaviour programs ask for by version; dualgraph's own follows.
__version__ = "2.13.0+dualgraph"
debug = False
git_version = "Unknown"
hip = None
cuda: str | None  # asked for when first read


def __getattr__(name: str) -> Any:
    if name == "cuda":
        return _cuda()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def _cuda() -> str | None:
    """The version of CUDA in use as text, None without a GPU."""
    from dualgraph_runtime.device import Device

    where = Device("cuda")
    if not where.is_available():
        return None
    number = int(where.xp.cuda.runtime.runtimeGetVersion())
    return f"{number // 1000}.{number % 1000 // 10}"
