"""The graph as the code generator wants it: composites taken apart, some reductions spelled out."""

from __future__ import annotations

import math
from typing import Any

from ..compile import optimize
from ..graph import Graph, Node, Value
from ..ops import f
from ..ops.base import REGISTRY
from ..passes import MergeCommon
from ..passes.rewrite import Worklist
from .attention import attention
from .bins import binned
from .complex import split_complex
from .control import compiled_control
from .conv_gradient import input_gradient
from .kept_boxes import kept_boxes
from .layout import choose_layouts
from .pool_gradient import pool_gradient, with_indices
from .products import sum_of_products
from .recurrent import recurrent
from .simpler import simpler
from .softmax import cheaper
from .sparse import sparse_product
from .systems import by_factors
from .target import Target
from .windows import global_maximum, pooled
from .words import integer_product, plain_integer_conv


def prepare(graph: Graph, target: Target) -> Graph:
    """An optimised copy in which composite ops are made of simpler ones."""
    out = optimize(graph, decompose=True)
    work = Worklist(out)
    for node in work:
        if node.op.name == "conv" and len(node.inputs) == 3:
            with out.inserting_before(node):
                work.replace(node, (_conv_and_bias(node),))
        with out.inserting_before(node):
            integers = integer_product(node)
        if integers is not None:
            work.replace(node, (integers,))
        whole = attention(out, node)
        if whole is not None:
            work.replace(node, (whole,))
        if node.op.name in ("conv_input_grad", "conv_transpose"):
            with out.inserting_before(node):
                gradient = input_gradient(node)
            if gradient is not None:
                work.replace(node, (gradient,))
        with out.inserting_before(node):
            layer = recurrent(node, set(out.outputs))
        if layer is not None:
            work.replace(node, layer)
        if node.op.name == "max_pool":
            with out.inserting_before(node):
                both = with_indices(node)
            if both is not None:
                work.replace(node, (both,))
        if node.op.name == "adaptive_max_pool":
            with out.inserting_before(node):
                top = global_maximum(node)
            if top is not None:
                work.replace(node, (top, node.outputs[1]))
    MergeCommon().run(out)
    choose_layouts(out, target.vector_bytes // 4)
    work = Worklist(out)
    for node in work:
        pool = _pooled(out, node)
        if pool is not None:
            work.replace(node, (pool,))
        elif node.op.name.startswith("adaptive"):
            with out.inserting_before(node):
                results = binned(node)
            if results is not None:
                work.replace(node, results)
        if node.op.name == "vector_norm" and not node.inputs[0].dtype.is_complex:
            with out.inserting_before(node):
                work.replace(node, (vector_norm(node.op, node.inputs[0]),))
        with out.inserting_before(node):
            made: Value | list[Value] | None = plain_integer_conv(node)
            made = sparse_product(node) if made is None else made
            made = by_factors(node) if made is None else made
            made = simpler(node) if made is None else made
            made = kept_boxes(node) if made is None else made
            made = sum_of_products(node) if made is None else made
        if made is not None:
            work.replace(node, made if isinstance(made, list) else (made,))
        cheap = cheaper(out, node)
        if cheap is not None:
            work.replace(node, (cheap,))
        if node.op.name == "log_sum_exp":
            with out.inserting_before(node):
                work.replace(node, (_log_sum_exp(node.op, node.inputs[0]),))
    split_complex(out)
    MergeCommon().run(out)
    work = Worklist(out)
    for node in work:
        with out.inserting_before(node):
            results = compiled_control(node, lambda body: prepare(body, target), _is_native)
        if results is not None:
            work.replace(node, results if isinstance(results, tuple) else (results,))
    return out


def _is_native(graph: Graph) -> bool:
    """Whether all nodes of a prepared graph can be compiled."""
    from .fuse import StepKind, partition

    return all(step.kind is not StepKind.INTERPRETED for step in partition(graph).steps)


def _pooled(graph: Graph, node: Node) -> Value | None:
    if "pool" not in node.op.name:
        return None
    with graph.inserting_before(node):
        return pool_gradient(node) if node.op.name.endswith("_grad") else pooled(node)


def _conv_and_bias(node: Node) -> Value:
    """A convolution without bias, and the bias added: pointwise, so that it is fused."""
    x, w, bias = node.inputs
    y = node.op(x, w)
    return y + f.reshape(bias, (*bias.shape, *(1,) * (y.ndim - 2)))  # type: ignore[no-any-return]


def _log_sum_exp(op: Any, x: Value) -> Value:
    """log(sum(exp(x - top))) + top, where top is the maximum, or 0 where that is infinite."""
    if not op.axes:
        return x
    wide = f.cast(x, _wide(x))
    if any(x.shape[a] == 0 for a in op.axes):
        zeros = f.sum(wide, op.axes, op.keepdims)
        return f.cast(zeros + f.like(zeros, -math.inf), x.dtype)  # type: ignore[no-any-return]
    top = f.max(wide, op.axes, True)
    top = f.where(REGISTRY["isinf"]()(top), 0, top)
    total = f.log(f.sum(f.exp(wide - top), op.axes, True)) + top
    if not op.keepdims:
        kept = tuple(d for i, d in enumerate(total.shape) if i not in op.axes)
        total = f.reshape(total, kept)
    return f.cast(total, x.dtype)  # type: ignore[no-any-return]


def vector_norm(op: Any, x: Value) -> Value:
    """The norm of all elements, as reductions."""
    x, axes, order = f.cast(x, _wide(x)), tuple(range(x.ndim)), op.order
    if any(d == 0 for d in x.shape):
        return f.zeros(x, ())  # type: ignore[no-any-return]
    if math.isinf(order):
        return REGISTRY["max" if order > 0 else "min"](axes=axes)(f.abs(x))  # type: ignore[no-any-return]
    if order == 0:
        return f.sum(f.where(f.equal(x, f.like(x, 0)), f.like(x, 0), f.like(x, 1)), axes)  # type: ignore[no-any-return]
    if order == 1:
        return f.sum(f.abs(x), axes)  # type: ignore[no-any-return]
    if order == 2:
        return f.sqrt(f.sum(x * x, axes))  # type: ignore[no-any-return]
    return f.sum(f.abs(x) ** order, axes) ** (1 / order)  # type: ignore[no-any-return]


def _wide(x: Value) -> Any:
    from ..ops.norm import wide_dtype

    return wide_dtype(x.dtype)
