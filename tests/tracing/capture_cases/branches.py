"""Python branches on the values of tensors."""

from __future__ import annotations

from .harness import Cases

cases = Cases()
