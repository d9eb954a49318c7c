"""Pillow, which reads and transforms images, where it is installed."""

from __future__ import annotations

from typing import Any

__all__ = ["pillow"]


def pillow(purpose: str) -> Any:
    """The package, with its modules that are used here.

    Raises:
        ModuleNotFoundError: it is not installed; the message says how to install it.
    """
    try:
        import PIL
        import PIL.Image
        import PIL.ImageEnhance
        import PIL.ImageOps
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"Pillow is needed {purpose}; install it with `pip install 'dualgraph[images]'`",
            name=error.name,
        ) from None
    return PIL
