"""Values that depend on constants only, computed when an import rule must know them."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..graph import Value
from ..types import is_static

_MAX_ELEMENTS = 65536  # per result; what rules ask for are axes, sizes and the like
_MAX_DEPTH = 100


class Folder:
    """Remembers what it computed, and what turned out to depend on inputs."""

    def __init__(self) -> None:
        self._known: dict[Value, np.ndarray[Any, Any] | None] = {}

    def array(self, value: Value, depth: int = 0) -> np.ndarray[Any, Any] | None:
        """The data of `value`, or None if it depends on inputs or params."""
        if value.is_constant:
            return np.asarray(value.data)
        node = value.node
        if node is None or depth > _MAX_DEPTH:
            return None
        if value not in self._known:
            results = self._compute(node, depth)
            for i, output in enumerate(node.outputs):
                self._known[output] = results[i] if results is not None else None
        return self._known[value]

    def _compute(self, node: Any, depth: int) -> list[np.ndarray[Any, Any]] | None:
        """Results of a node on NumPy arrays, or None."""
        shapes = [v.shape for v in node.outputs]
        if node.op.bodies or not node.op.is_pure or node.op.symbols():
            return None
        if not all(map(is_static, shapes)):
            return None
        if any(v.size > _MAX_ELEMENTS for v in node.outputs):
            return None
        operands = [self.array(v, depth + 1) for v in node.inputs]
        if any(a is None for a in operands):
            return None
        with np.errstate(all="ignore"):
            out = node.op.eager(np, *operands)
        return [np.asarray(out)] if node.op.n_outputs == 1 else [np.asarray(a) for a in out]
