"""Library steps: ops with a kernel of their own, such as matrix products and convolutions.

A library op registers a `LibraryRule` for its class in `RULES`. The rule says whether it takes a
node, and renders its call. Nothing is registered yet: such ops are interpreted.
"""

from __future__ import annotations

from typing import Any

from ...graph import Node
from ...ops.base import Op

RULES: dict[type[Op], Any] = {}


def why_not(node: Node) -> str | None:
    """Why a node is no library step; None where it is one."""
    if type(node.op) not in RULES:
        return f"{node.op.name} has no native form yet"
    return None
