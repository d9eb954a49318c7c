"""Turns sizes that something reads as data into nodes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ..dims import Dim
from ..dtypes import int64
from ..graph import Graph, Value
from ..ops import f
from ..ops.base import REGISTRY
from .symbolic import Contents


def materialize(graph: Graph, pending: Mapping[Value, Contents]) -> None:
    """Give every value of `pending` that is read nodes that compute its elements.

    Sizes depend on nothing but the shapes of the inputs, so those nodes come first in the graph.
    """
    outputs = set(graph.outputs)
    needed = [v for v in pending if v.uses or v in outputs]
    first = next(graph.nodes, None)
    if first is None:
        for value in needed:
            graph.replace_uses(value, _build(graph, pending[value], value))
        return
    with graph.inserting_before(first):
        graph.loc = None
        for value in needed:
            graph.replace_uses(value, _build(graph, pending[value], value))


def _build(graph: Graph, sizes: Contents, like: Value) -> Value:
    flat = [_element(graph, v) for v in sizes.flat]
    if sizes.ndim == 0:
        made = flat[0]
    else:
        parts = [f.reshape(v, (1,)) for v in flat]
        made = parts[0]
        if len(parts) > 1:
            made = graph.call(REGISTRY["concat"](axis=0), parts)  # type: ignore[call-arg]
        made = f.reshape(made, sizes.shape)
    return f.cast(made, like.dtype)  # type: ignore[no-any-return]


def _element(graph: Graph, size: Any) -> Value:
    if isinstance(size, Dim):
        return graph.call(REGISTRY["dim_value"](size), ())  # type: ignore[call-arg,no-any-return]
    return graph.constant(np.asarray(size, int64.np))
