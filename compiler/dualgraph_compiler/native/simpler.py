"""Ops spelled out by others for the code generator, with the eager ops' results."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np

from ..dims import DimLike
from ..dtypes import bfloat16, bool_, float16, float32, int32, int64, uint8
from ..graph import Node, Value
from ..ops import f
from ..ops.base import REGISTRY, Op
from ..ops.creation import Arange
from ..ops.indexing import IndexSelectGrad
from ..ops.sorting import Sort
from .classes import with_classes
from .lower.random import RandomKeys

Rule: TypeAlias = Callable[[Any, Node], Value | list[Value] | None]
_RULES: dict[type[Op], Rule] = {}
_EXACT: set[type[Op]] = set()


def _rule(*names: str, exact: bool = False) -> Callable[[Rule], Rule]:
    """Enters a rule; with `exact` what it makes is compiled to the bits of the op's eager kernel.

    Then it makes one value, whatever the node.
    """

    def add(made: Rule) -> Rule:
        for name in names:
            _RULES[REGISTRY[name]] = made
            if exact:
                _EXACT.add(REGISTRY[name])
        return made

    return add


def simpler(node: Node) -> Value | list[Value] | None:
    """The result, or results, of a node by simpler nodes; None where there is nothing to do."""
    rule = _RULES.get(type(node.op))
    return rule(node.op, node) if rule is not None else with_classes(node)


def is_exactly_simpler(node: Node) -> bool:
    """Whether simpler nodes give the bits of a node's eager kernel."""
    return type(node.op) in _EXACT and not node.inputs[0].dtype.is_narrow


def exactly_simpler(node: Node) -> Value | None:
    """`simpler`, where it is to the last bit."""
    if not is_exactly_simpler(node):
        return None
    made = _RULES[type(node.op)](node.op, node)
    assert isinstance(made, Value)
    return made


def _is_narrow(x: Value) -> bool:
    return x.dtype in (float16, bfloat16)


def _widened(op: Op, *inputs: Value) -> Value:
    """`op` computed in float32, rounded once at the end."""
    narrow = inputs[0].dtype
    wide = [f.cast(v, float32) if _is_narrow(v) else v for v in inputs]
    return f.cast(op(*wide), narrow)  # type: ignore[no-any-return]


def _is_zero(x: Value) -> bool:
    """Whether all elements are known to be 0."""
    node = x.node
    if node is not None and node.op.name in ("expand", "reshape", "permute"):
        return _is_zero(node.inputs[0])
    return x.is_constant and x.data.size == 1 and not np.any(x.data)


def _added(x: Value, y: Value) -> Value:
    return y if _is_zero(x) else x + y


@_rule("index_select_grad", "embedding_grad", "scatter_add", "scatter_reduce", "prod_others")
@_rule("roi_align", "roi_align_max", "max_roi_pool")
def _in_wide(op: Op, node: Node) -> Value | None:
    return _widened(op, *node.inputs) if _is_narrow(node.inputs[0]) else None


@_rule("max_pool_indices")
def _max_pool_indices(op: Op, node: Node) -> list[Value] | None:
    """In float32, where every narrow number has its place."""
    (x,) = node.inputs
    if not _is_narrow(x):
        return None
    values, at = op(f.cast(x, float32))
    return [f.cast(values, x.dtype), at]


@_rule("index_add")
def _index_add(op: Any, node: Node) -> Value:
    x, index, src = node.inputs
    return _added(x, IndexSelectGrad(op.axis, x.shape[op.axis])(src, index))


@_rule("index_put")
def _index_put(op: Any, node: Node) -> Value | None:
    x, values, *indices = node.inputs
    if not op.accumulate or (_is_zero(x) and not _is_narrow(x)):
        return None
    zeros = f.zeros(x, x.shape)
    made = (
        op(zeros, values, *indices) if not _is_narrow(x) else _widened(op, zeros, values, *indices)
    )
    return _added(x, made)


@_rule("pad_mode_grad")
def _pad_mode_grad(op: Any, node: Node) -> Value:
    """Axis by axis: what was padded, added to the elements that it repeats."""
    (g,) = node.inputs
    for axis, (lo, hi) in enumerate(op.pads):
        if lo != 0 or hi != 0:
            g = _unpadded(g, axis, lo, hi, op.mode)
    return g


def _unpadded(g: Value, axis: int, lo: DimLike, hi: DimLike, mode: str) -> Value:
    end = g.shape[axis]
    n = end - lo - hi
    y: Value = f.slice_axis(g, axis, lo, lo + n)
    for first, last in ((0, lo), (lo + n, end)):
        width = last - first
        if width == 0:
            continue
        edge = f.slice_axis(g, axis, first, last)
        if mode == "replicate":
            edge, width = f.sum(edge, (axis,), True), 1
        if mode == "reflect":
            edge = f.flip(edge, (axis,))
        start = {
            "replicate": 0 if first == 0 else n - 1,
            "reflect": 1 if first == 0 else n - 1 - width,
            "circular": n - width if first == 0 else 0,
        }[mode]
        pads: list[tuple[DimLike, DimLike]] = [(0, 0)] * g.ndim
        pads[axis] = (start, n - width - start)
        y = y + f.pad(edge, pads)
    return y


@_rule("random_permutation")
def _permutation(op: Any, node: Node) -> Value | None:
    """Random keys put in order: the positions in their low bits are permuted."""
    if not isinstance(op.n, int):
        return None
    keys = RandomKeys(op.n)
    ordered, _ = Sort(0)(keys(*node.inputs))
    return f.cast(REGISTRY["bitwise_and"]()(ordered, f.like(ordered, keys.low)), int64)  # type: ignore[no-any-return]


@_rule("equal", "not_equal", "less", "less_equal", "greater", "greater_equal")
def _compared(op: Op, node: Node) -> Value | None:
    """Integers that were widened and constants that fit: as they were before."""
    for i, v in enumerate(node.inputs):
        other = node.inputs[1 - i]
        if v.node is None or v.node.op.name != "cast" or not other.is_constant:
            continue
        before = v.node.inputs[0]
        if v.dtype is not int64 or before.dtype is not int32 or not other.data.size:
            continue
        if np.abs(other.data.astype(np.float64)).max() < 2**31:
            narrow = node.graph.constant(other.data.astype(np.int32))
            return op(*((narrow, before) if i else (before, narrow)))  # type: ignore[no-any-return]
    return None


@_rule("arg_max", "arg_min", exact=True)
def _position(op: Any, node: Node) -> Value | None:
    """The first place of what is equal to the extreme element, or NaN."""
    (x,) = node.inputs
    if x.ndim == 0:
        return f.reshape(f.like(f.cast(x, int64), 0), ())  # type: ignore[no-any-return]
    axis, n = op.axis, x.shape[op.axis]
    x = f.cast(x, uint8) if x.dtype is bool_ else x
    fold = REGISTRY["max" if op.name == "arg_max" else "min"]
    top = fold(axes=(axis,), keepdims=True)(x)
    hit = f.equal(x, top)
    if x.dtype.is_floating_point:
        hit = f.logical_or(hit, f.not_equal(x, x))
    short = isinstance(n, int) and n < 2**31
    kind = int32 if short else int64
    at = f.reshape(x.graph.call(Arange(0, n, 1, kind), ()), (n, *(1,) * (x.ndim - 1 - axis)))
    far = f.like(at, 2**31 - 1 if short else 2**63 - 1)
    found = REGISTRY["min"](axes=(axis,), keepdims=op.keepdims)(f.where(hit, at, far))
    return f.cast(found, int64)  # type: ignore[no-any-return]
