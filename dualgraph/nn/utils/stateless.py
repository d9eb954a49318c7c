"""Calling a module with other parameters: the older name of ``dualgraph.func.functional_call``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dualgraph._tensor import Tensor
from dualgraph.nn.modules.module import Module

__all__ = ["functional_call"]


def functional_call(
    module: Module,
    parameters_and_buffers: Mapping[str, Tensor],
    args: Any = None,
    kwargs: dict[str, Any] | None = None,
    *,
    tie_weights: bool = True,
    strict: bool = False,
) -> Any:
    """As ``dualgraph.func.functional_call``."""
    from dualgraph import func  # which imports modules in turn

    return func.functional_call(
        module, parameters_and_buffers, args, kwargs, tie_weights=tie_weights, strict=strict
    )
