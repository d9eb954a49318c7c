"""Library steps of max pooling with positions and of its gradient."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from ...dtypes import BOOL, float32, float64
from ...graph import Node
from ...ops.base import REGISTRY
from ..scalars import NARROW
from .library import RULES, LibraryRule, Routine

if TYPE_CHECKING:
    from ..fuse import Step
    from ..render.prelude import Prelude
    from ..schedule import Context


class _MaxPoolIndices(LibraryRule):
    def why_not(self, node: Node) -> str | None:
        dtype = node.inputs[0].dtype
        if dtype in NARROW or dtype.category == BOOL:
            return f"max_pool_indices of {dtype.name} has no native form yet"
        return None

    def routine(
        self, step: Step, context: Context, prelude: Prelude, symbols: Mapping[str, int]
    ) -> Routine:
        from ..render.max_pool import MaxPoolIndices

        return MaxPoolIndices(step, context, prelude, symbols)


class _MaxPoolGradient(LibraryRule):
    def why_not(self, node: Node) -> str | None:
        if node.output.dtype not in (float32, float64):
            return f"max_pool_grad of {node.output.dtype.name} has no native form yet"
        return None

    def routine(
        self, step: Step, context: Context, prelude: Prelude, symbols: Mapping[str, int]
    ) -> Routine:
        from ..render.max_pool import MaxPoolGradient

        return MaxPoolGradient(step, context, prelude, symbols)


RULES[REGISTRY["max_pool_indices"]] = _MaxPoolIndices()
RULES[REGISTRY["max_pool_grad"]] = _MaxPoolGradient()
