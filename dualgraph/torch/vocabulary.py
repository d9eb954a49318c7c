"""PyTorch's public names, by module, as a file that was generated from PyTorch itself.

``python -m tests.parity.names`` writes it anew.
"""

from __future__ import annotations

import functools
import json
from importlib.resources import files

__all__ = ["VERSION", "vocabulary"]

VERSION = "2.13"


@functools.cache
def vocabulary() -> dict[str, list[str]]:
    """PyTorch's public names by module; the class ``torch.Tensor`` counts as one."""
    text = files(__package__).joinpath("names.json").read_text(encoding="utf-8")
    found: dict[str, list[str]] = json.loads(text)
    return found
