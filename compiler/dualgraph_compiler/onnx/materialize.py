"""Turns sizes that something reads as data into nodes."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from typing import Any

import numpy as np

from ..dims import Dim, symbols
from ..dtypes import int64
from ..graph import Graph, Value
from ..graph.nested import definitions
from ..ops import f
from ..ops.base import REGISTRY
from .symbolic import Contents


def materialize(graph: Graph, pending: Mapping[Value, Contents]) -> None:
    """Give every value of `pending` that is read nodes that compute its elements.

    Sizes depend on the shapes of the inputs, so those nodes come first in the graph; or after the
    nodes that define them, where some do (see :mod:`..graph.nested`).
    """
    outputs = set(graph.outputs)
    needed = [v for v in pending if v.uses or v in outputs]
    if not needed:
        return
    order = list(graph.nodes)
    definers = {name: v.node for name, (v, _) in definitions(graph).items()}
    for value in needed:
        names = {s.name for d in pending[value].flat for s in symbols(d)}
        after = [order.index(node) + 1 for n in names if (node := definers.get(n)) is not None]
        place = order[max(after, default=0) :]
        graph.loc = None
        with graph.inserting_before(place[0]) if place else nullcontext():
            graph.loc = None
            made = _build(graph, pending[value], value)
        graph.replace_uses(value, made)


def _build(graph: Graph, sizes: Contents, like: Value) -> Value:
    flat = [_element(graph, v) for v in sizes.flat]
    if sizes.ndim == 0:
        made = flat[0]
    else:
        parts = [f.reshape(v, (1,)) for v in flat]
        made = parts[0]
        if len(parts) > 1:
            made = graph.call(REGISTRY["concat"](axis=0), parts)
        made = f.reshape(made, sizes.shape)
    return f.cast(made, like.dtype)  # type: ignore[no-any-return]


def _element(graph: Graph, size: Any) -> Value:
    if isinstance(size, Dim):
        return graph.call(REGISTRY["dim_value"](size), ())  # type: ignore[no-any-return]
    return graph.constant(np.asarray(size, int64.np))
