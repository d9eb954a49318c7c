"""Import rules of ai.onnx.preview.training: gradients, and steps of optimizers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .. import graph as _graph  # which imports ops in turn: for use in functions only
from ..errors import OnnxError
from . import f
from .onnx_rules import Import, from_onnx


def _groups(name: str, operands: Sequence[Any], count: int) -> list[tuple[Any, ...]]:
    """For each tensor to optimise: itself, its gradient and what the optimizer keeps for it."""
    n, rest = divmod(len(operands), count)
    if rest:
        raise OnnxError(f"{name}: expected {count} operands for each tensor, got {len(operands)}")
    return [tuple(operands[i + k * n] for k in range(count)) for i in range(n)]


def _listed(found: Sequence[tuple[Any, ...]]) -> list[Any]:
    """All first results, then all second ones, and so on."""
    return [x for column in zip(*found, strict=True) for x in column]


def _scalar(x: Any, like: Any) -> Any:
    """An operand of one element, as a number of another's dtype."""
    return f.cast(f.reshape(x, ()) if x.ndim else x, like.dtype)


def _regularized(ctx: Import, x: Any, g: Any) -> Any:
    return x * f.like(x, ctx.attr("norm_coefficient", 0.0)) + g


@from_onnx("ai.onnx.preview.training::Adagrad")
def _adagrad(ctx: Import, rate: Any, count: Any, *operands: Any) -> Any:
    found = []
    for x, g, h in _groups("Adagrad", operands, 3):
        g = _regularized(ctx, x, g)
        h = h + g * g
        decay = _scalar(count, x) * f.like(x, ctx.attr("decay_factor", 0.0)) + f.like(x, 1)
        slope = g / (f.sqrt(h) + f.like(x, ctx.attr("epsilon", 1e-6)))
        found.append((x - slope * (_scalar(rate, x) / decay), h))
    return _listed(found)


@from_onnx("ai.onnx.preview.training::Adam")
def _adam(ctx: Import, rate: Any, count: Any, *operands: Any) -> Any:
    alpha, beta = ctx.attr("alpha", 0.9), ctx.attr("beta", 0.999)
    found = []
    for x, g, v, h in _groups("Adam", operands, 4):
        one = f.like(x, 1)
        g = _regularized(ctx, x, g)
        v = v * f.like(x, alpha) + g * f.like(x, 1 - alpha)
        h = h * f.like(x, beta) + g * g * f.like(x, 1 - beta)
        steps, r = _scalar(count, x), _scalar(rate, x)
        kept = f.sqrt(one - f.like(x, beta) ** steps) / (one - f.like(x, alpha) ** steps)
        r = f.where(f.greater(steps, 0), r * kept, r)
        new = x - v / (f.sqrt(h) + f.like(x, ctx.attr("epsilon", 1e-6))) * r
        found.append((new * f.like(x, 1 - ctx.attr("norm_coefficient_post", 0.0)), v, h))
    return _listed(found)


@from_onnx("ai.onnx.preview.training::Momentum")
def _momentum(ctx: Import, rate: Any, count: Any, *operands: Any) -> Any:
    mode, alpha = ctx.attr("mode"), ctx.attr("alpha")
    if mode not in ("standard", "nesterov"):
        raise OnnxError(f"Momentum: expected the mode 'standard' or 'nesterov', got {mode!r}")
    found = []
    for x, g, v in _groups("Momentum", operands, 3):
        g = _regularized(ctx, x, g)
        begun = f.greater(_scalar(count, x), 0)
        v = v * f.like(x, alpha) + g * f.where(begun, f.like(x, ctx.attr("beta")), f.like(x, 1))
        way = v if mode == "standard" else g + v * f.like(x, alpha)
        found.append((x - way * _scalar(rate, x), v))
    return _listed(found)


@from_onnx("ai.onnx.preview.training::Gradient")
def _gradient(ctx: Import, *given: Any) -> Any:
    """Gradients of y by each of xs, where xs and zs have the values that are given."""
    names = (*ctx.attr("xs", ()), *ctx.attr("zs", ()))
    if len(given) != len(names):
        raise OnnxError(f"Gradient: expected values of {names}, got {len(given)} operands")
    values = [ctx.named(name) for name in names]
    y = ctx.named(ctx.attr("y", ""))
    places = {v: x for v, x in zip(values, given, strict=True) if v is not x}
    if places:
        y = _repeated(y, dict(zip(values, given, strict=True)))
    xs = list(given[: len(ctx.attr("xs", ()))])
    found = _graph.gradients(ctx.graph, [y], xs)
    return [f.zeros_like(x) if g is None else g for x, g in zip(xs, found, strict=True)]


def _repeated(y: Any, known: dict[Any, Any]) -> Any:
    """What `y` is where values have others in their place: its nodes once more."""
    stack = [y]
    while stack:
        value = stack[-1]
        if value in known or value.node is None:
            known.setdefault(value, value)
            stack.pop()
            continue
        node = value.node
        missing = [v for v in node.inputs if v not in known]
        if missing:
            stack += missing
            continue
        made = node.op(*(known[v] for v in node.inputs)) if node.inputs else node.outputs
        results = made if isinstance(made, tuple | list) else (made,)
        known.update(zip(node.outputs, results, strict=True))
    return known[y]
