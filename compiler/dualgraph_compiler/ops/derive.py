"""What follows from an op's `decompose`: a gradient rule, and ONNX nodes.

A fused op states its formula once, in simpler ops. Differentiating that formula as a graph and
replaying the result on the operands at hand (arrays, Values or Tensors) gives a gradient rule that
can itself be differentiated.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from ..dtypes import dtype_of
from ..types import TensorType, type_of
from . import f
from .base import Array, Grad, Op, array_module
from .onnx_rules import Export

if TYPE_CHECKING:
    from ..graph import Graph, Value


@lru_cache(maxsize=256)
def _derivative(
    op: Op, types: tuple[TensorType, ...], given: tuple[bool, ...]
) -> tuple[list[Value], list[Value], list[Value | None]]:
    """Inputs, output gradients and input gradients of the op's formula as a graph.

    `given` says which outputs have a gradient.
    """
    from ..graph import gradients

    graph, xs, ys = _formula(op, types)
    chosen = [y for y, wanted in zip(ys, given, strict=True) if wanted]
    gs = [graph.add_input(y.type) for y in chosen]
    active = [x for x in xs if x.dtype.is_differentiable]
    found = dict(zip(active, gradients(graph, chosen, active, gs), strict=True))
    return xs, gs, [found.get(x) for x in xs]


def _formula(
    op: Op, types: Sequence[TensorType], formula: Callable[..., Any] | None = None
) -> tuple[Graph, list[Value], tuple[Value, ...]]:
    from ..graph import Graph

    graph = Graph(op.name)
    xs = [graph.add_input(t) for t in types]
    ys = (formula or op.decompose)(*xs)
    return graph, xs, ys if isinstance(ys, tuple) else (ys,)


def derived_vjp(op: Op, grads: Sequence[Array | None], inputs: Sequence[Array]) -> tuple[Grad, ...]:
    """The gradients of `inputs`, from `grads` of the op's outputs (None where there is none)."""
    given = tuple(g is not None for g in grads)
    if not any(given):
        return tuple(None for _ in inputs)
    xs, gs, outs = _derivative(op, tuple(map(type_of, inputs)), given)
    known: dict[Value, Array] = dict(zip(xs, inputs, strict=True))
    known.update(zip(gs, (g for g in grads if g is not None), strict=True))

    def grad(v: Value) -> Grad:
        return lambda: _replay(v, known, inputs[0])

    return tuple(None if v is None else grad(v) for v in outs)


def _replay(wanted: Value, known: dict[Value, Array], beside: Array) -> Array:
    """The value of `wanted`, computed on the operands in `known`, which grows by what is found."""
    pending = [wanted]
    while pending:
        v = pending[-1]
        if v in known:
            pending.pop()
        elif v.node is None:
            known[v] = _constant(v.data, beside)
        else:
            missing = [x for x in v.node.inputs if x not in known]
            if missing:
                pending += missing
                continue
            results = v.node.op(*(known[x] for x in v.node.inputs))
            many = results if len(v.node.outputs) > 1 else (results,)
            known.update(zip(v.node.outputs, many, strict=True))
    return known[wanted]


def _constant(data: Any, beside: Array) -> Array:
    """A constant of the formula as an operand beside `beside`."""
    xp = array_module(beside)
    # A number alone would not tell a GPU's ops where to compute.
    if xp is np and data.ndim == 0 and dtype_of(data) is dtype_of(beside):
        return f.like(beside, data.item())
    return xp.asarray(data)


class _Typed:
    """An Export that knows the types of the values inside a formula as well."""

    def __init__(self, ctx: Export) -> None:
        self._ctx = ctx
        self._types: dict[str, TensorType] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._ctx, name)

    def type(self, name: str) -> TensorType:
        return self._types[name] if name in self._types else self._ctx.type(name)

    def define(self, name: str, t: TensorType) -> None:
        self._types[name] = t


def export_formula(
    ctx: Export, op: Op, *inputs: str, formula: Callable[..., Any] | None = None
) -> Any:
    """ONNX nodes for the op's formula; the name or names of its results.

    The formula is `decompose`, unless one is given for an op that is better kept whole elsewhere.
    """
    graph, xs, ys = _formula(op, [ctx.type(name) for name in inputs], formula)
    typed: Any = _Typed(ctx)
    names = dict(zip(xs, inputs, strict=True))

    def write_constants(values: Iterable[Value]) -> None:
        for v in values:
            if v.is_constant and v not in names:
                names[v] = ctx.constant(v.data, v.dtype)
                typed.define(names[v], v.type)

    write_constants(ys)
    for node in graph.nodes:
        write_constants(node.inputs)
        results = node.op.to_onnx(typed, *(names[v] for v in node.inputs))
        many = (results,) if isinstance(results, str) else results
        for v, name in zip(node.outputs, many, strict=True):
            names[v] = name
            typed.define(name, v.type)
    found = tuple(names[y] for y in ys)
    return found if len(found) > 1 else found[0]
