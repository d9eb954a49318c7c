"""How ops are written in the framework's own vocabulary; others are called by name.

A form gives the expression of a node, or None where the plain spelling would mean something else.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np

from dualgraph_compiler.dims import DimLike
from dualgraph_compiler.graph import Node, Value


class Printer(Protocol):
    """What a form may use."""

    def operand(self, v: Value) -> str:
        """A tensor as an expression."""

    def scalar(self, v: Value) -> str | None:
        """A 0-d constant as a Python number, or None."""

    def value(self, x: Any) -> str:
        """An attribute as an expression."""

    def size(self, d: DimLike) -> str:
        """A size as an expression."""


Form = Callable[[Any, Node], str | None]
FORMS: dict[str, Form] = {}


def form(*names: str) -> Callable[[Form], Form]:
    """Register the form of some ops."""

    def register(function: Form) -> Form:
        FORMS.update(dict.fromkeys(names, function))
        return function

    return register


def number(array: Any) -> str:
    """A 0-d array as a Python literal that gives the same value in its dtype."""
    array = np.asarray(array)
    if array.dtype.kind in "biu":
        return repr(array.item())
    if array.dtype.kind == "c":
        return repr(complex(array))
    value = float(array)
    if not math.isfinite(value):
        return f"float({str(value)!r})"
    if array.dtype.kind != "f":  # bfloat16 and narrower ones, which are short as they are
        return repr(value)
    return repr(float(np.format_float_scientific(array[()], unique=True)))


# -- operators -------------------------------------------------------------------------------------

_INFIX = {
    "add": "+",
    "sub": "-",
    "mul": "*",
    "pow": "**",
    "matmul": "@",
    "less": "<",
    "less_equal": "<=",
    "greater": ">",
    "greater_equal": ">=",
    "equal": "==",
    "not_equal": "!=",
    "bitwise_and": "&",
    "bitwise_or": "|",
    "bitwise_xor": "^",
}


@form(*_INFIX, "div")
def _infix(p: Printer, node: Node) -> str | None:
    if node.op.name == "div" and not node.inputs[0].dtype.is_differentiable:
        return None  # which would give floats
    a, b = node.inputs
    sign = _INFIX.get(node.op.name, "/")
    left, right = p.operand(a), p.operand(b)
    if node.op.name != "matmul" and a.dtype.is_floating_point:
        if (plain := p.scalar(b)) is not None:
            right = plain if not plain.startswith("-") else f"({plain})"
        elif (plain := p.scalar(a)) is not None and node.op.name in ("add", "sub", "mul", "div"):
            left = plain if not plain.startswith("-") else f"({plain})"
    return f"{left} {sign} {right}"


@form("neg")
def _neg(p: Printer, node: Node) -> str:
    return f"-{p.operand(node.inputs[0])}"


@form("logical_and", "logical_or", "logical_xor", "logical_not", "clip", "hardtanh")
def _function(p: Printer, node: Node) -> str | None:
    limits = node.op.attributes().values()
    if limits and (not node.inputs[0].dtype.is_floating_point or set(limits) == {None}):
        return None  # the limits of integers may be floats
    name = {"clip": "dg.clamp", "hardtanh": "F.hardtanh"}.get(node.op.name, f"dg.{node.op.name}")
    parts = [*map(p.operand, node.inputs), *map(p.value, limits)]
    return f"{name}({', '.join(parts)})"


@form("bitwise_not")
def _not(p: Printer, node: Node) -> str:
    return f"~{p.operand(node.inputs[0])}"


_SAME_NAME = """
    abs exp exp2 expm1 log log2 log10 log1p sqrt rsqrt reciprocal sin cos tan asin acos atan
    sinh cosh tanh asinh acosh atanh sigmoid erf floor ceil round sign trunc isnan isinf
    isfinite maximum minimum where atan2
"""


@form(*_SAME_NAME.split())
def _plain(p: Printer, node: Node) -> str | None:
    name, dtype = node.op.name, node.inputs[-1].dtype
    if node.op.attributes() or (name != "where" and not dtype.is_differentiable):
        return None  # integers may become floats there
    return f"dg.{name}({', '.join(map(p.operand, node.inputs))})"


_ACTIVATIONS: dict[str, tuple[str, tuple[tuple[str, str], ...]]] = {
    "relu": ("relu", ()),
    "silu": ("silu", ()),
    "mish": ("mish", ()),
    "hard_swish": ("hardswish", ()),
    "softsign": ("softsign", ()),
    "log_sigmoid": ("logsigmoid", ()),
    "prelu": ("prelu", ()),
    "gelu": ("gelu", (("approximate", "approximate"),)),
    "elu": ("elu", (("alpha", "alpha"),)),
    "celu": ("celu", (("alpha", "alpha"),)),
    "leaky_relu": ("leaky_relu", (("alpha", "negative_slope"),)),
    "softmax": ("softmax", (("axis", "dim"),)),
    "log_softmax": ("log_softmax", (("axis", "dim"),)),
    "linear": ("linear", ()),
}


@form(*_ACTIVATIONS)
def _activation(p: Printer, node: Node) -> str | None:
    name, attributes = _ACTIVATIONS[node.op.name]
    if name == "prelu" or node.inputs[0].dtype.is_complex:
        return None  # of weights that broadcast
    if name == "linear" and node.inputs[0].ndim < 2:
        return None
    parts = [*map(p.operand, node.inputs)]
    parts += [f"{theirs}={p.value(getattr(node.op, ours))}" for ours, theirs in attributes]
    return f"F.{name}({', '.join(parts)})"


# -- movement --------------------------------------------------------------------------------------


@form("reshape", "expand", "permute")
def _method(p: Printer, node: Node) -> str:
    (given,) = node.op.attributes().values()
    shown = ", ".join(map(p.value, given)) if given else "()"
    return f"{p.operand(node.inputs[0])}.{node.op.name}({shown})"


@form("concat")
def _concat(p: Printer, node: Node) -> str:
    operands = ", ".join(map(p.operand, node.inputs))
    return f"dg.cat([{operands}], dim={node.op.axis})"  # type: ignore[attr-defined]


@form("slice")
def _slice(p: Printer, node: Node) -> str | None:
    op: Any = node.op
    x = node.inputs[0]
    if x.ndim == 0 or any(s < 0 for s in op.steps):
        return None
    parts = []
    for size, start, stop, step in zip(x.shape, op.starts, op.stops, op.steps, strict=True):
        low = "" if start == 0 and isinstance(start, int) else p.size(start)
        high = "" if stop == size else p.size(stop)
        parts.append(f"{low}:{high}" + (f":{step}" if step != 1 else ""))
    while len(parts) > 1 and parts[-1] == ":":
        parts.pop()
    return f"{p.operand(x)}[{', '.join(parts)}]"


@form("flip")
def _flip(p: Printer, node: Node) -> str:
    return f"dg.flip({p.operand(node.inputs[0])}, {p.value(node.op.axes)})"  # type: ignore[attr-defined]


@form("cast")
def _cast(p: Printer, node: Node) -> str | None:
    to = node.op.dtype  # type: ignore[attr-defined]
    if node.inputs[0].dtype.is_complex or to.is_complex:
        return None
    return f"{p.operand(node.inputs[0])}.to({p.value(to)})"


@form("pad")
def _pad(p: Printer, node: Node) -> str | None:
    op: Any = node.op
    if not node.inputs[0].dtype.is_floating_point or not op.pads:
        return None
    amounts = [a for pair in reversed(op.pads) for a in pair]
    while len(amounts) > 2 and amounts[-2:] == [0, 0]:
        del amounts[-2:]
    value = f", value={p.value(op.value)}" if op.value else ""
    return f"F.pad({p.operand(node.inputs[0])}, {p.value(tuple(amounts))}{value})"


@form("embedding")
def _embedding(p: Printer, node: Node) -> str:
    weight, index = map(p.operand, node.inputs)
    idle = node.op.padding_idx  # type: ignore[attr-defined]
    return f"F.embedding({index}, {weight}{'' if idle is None else f', padding_idx={idle}'})"


@form("index_select")
def _index_select(p: Printer, node: Node) -> str | None:
    x, index = node.inputs
    if index.ndim != 1:
        return None
    return f"dg.index_select({p.operand(x)}, {node.op.axis}, {p.operand(index)})"  # type: ignore[attr-defined]


@form("full")
def _full(p: Printer, node: Node) -> str:
    op: Any = node.op
    return f"dg.full({p.value(op.shape)}, {p.value(op.value)}, dtype={p.value(op.dtype)})"


@form("arg_max", "arg_min")
def _position(p: Printer, node: Node) -> str | None:
    op: Any = node.op
    if node.inputs[0].ndim == 0:
        return None
    keep = ", keepdim=True" if op.keepdims else ""
    return f"{p.operand(node.inputs[0])}.{op.name.replace('_', '')}({op.axis}{keep})"


@form("tril", "triu")
def _triangle(p: Printer, node: Node) -> str:
    return f"dg.{node.op.name}({p.operand(node.inputs[0])}, {node.op.diagonal})"  # type: ignore[attr-defined]


@form("gather")
def _gather(p: Printer, node: Node) -> str | None:
    x, index = node.inputs
    if x.ndim == 0:
        return None
    return f"dg.gather({p.operand(x)}, {node.op.axis}, {p.operand(index)})"  # type: ignore[attr-defined]


# -- reductions ------------------------------------------------------------------------------------

_REDUCTIONS = {"sum": "sum", "mean": "mean", "max": "amax", "min": "amin"}


@form(*_REDUCTIONS)
def _reduction(p: Printer, node: Node) -> str | None:
    op: Any = node.op
    x = node.inputs[0]
    if not op.axes or not x.dtype.is_floating_point:
        return None  # no axes are all of them there, and sums of integers are int64
    keep = ", keepdim=True" if op.keepdims else ""
    return f"{p.operand(x)}.{_REDUCTIONS[op.name]}({p.value(op.axes)}{keep})"


# -- layers ----------------------------------------------------------------------------------------


def _symmetric(pads: Sequence[Any]) -> tuple[Any, ...] | None:
    """One amount an axis, where both ends have the same."""
    if any(not isinstance(lo, int) or lo != hi for lo, hi in pads):
        return None
    return tuple(lo for lo, _ in pads)


@form("conv")
def _conv(p: Printer, node: Node) -> str | None:
    op: Any = node.op
    rank = len(op.stride)
    padding = _symmetric(op.padding)
    if padding is None or rank not in (1, 2, 3):
        return None
    parts = [*map(p.operand, node.inputs)]
    for name, value, default in (
        ("stride", op.stride, 1),
        ("padding", padding, 0),
        ("dilation", op.dilation, 1),
    ):
        if any(v != default for v in value):
            parts.append(f"{name}={_shortest(value)}")
    if op.groups != 1:
        parts.append(f"groups={op.groups}")
    return f"F.conv{rank}d({', '.join(parts)})"


def _shortest(values: Sequence[Any]) -> str:
    return str(values[0]) if len(set(values)) == 1 else str(tuple(values))


@form("max_pool", "avg_pool")
def _pool(p: Printer, node: Node) -> str | None:
    op: Any = node.op
    rank, padding = len(op.kernel), _symmetric(op.padding)
    half = padding is not None and all(2 * a <= k for a, k in zip(padding, op.kernel, strict=True))
    if not half or rank not in (1, 2, 3) or not node.inputs[0].dtype.is_floating_point:
        return None
    assert padding is not None
    parts = [p.operand(node.inputs[0]), _shortest(op.kernel), f"stride={_shortest(op.stride)}"]
    if any(padding):
        parts.append(f"padding={_shortest(padding)}")
    if op.name == "max_pool" and any(d != 1 for d in op.dilation):
        parts.append(f"dilation={_shortest(op.dilation)}")
    if op.ceil_mode:
        parts.append("ceil_mode=True")
    if op.name == "avg_pool":
        if op.divisor is not None:
            return None
        parts += [] if op.count_include_pad else ["count_include_pad=False"]
    return f"F.{op.name}{rank}d({', '.join(parts)})"


@form("adaptive_avg_pool")
def _adaptive(p: Printer, node: Node) -> str | None:
    sizes = node.op.output_size  # type: ignore[attr-defined]
    if len(sizes) not in (1, 2, 3):
        return None
    return f"F.adaptive_avg_pool{len(sizes)}d({p.operand(node.inputs[0])}, {p.value(sizes)})"


@form("batch_norm")
def _batch_norm(p: Printer, node: Node) -> str:
    x, *affine, mean, var = map(p.operand, node.inputs)
    parts = [x, mean, var, *affine, f"eps={p.value(node.op.eps)}"]  # type: ignore[attr-defined]
    return f"F.batch_norm({', '.join(parts)})"


@form("layer_norm")
def _layer_norm(p: Printer, node: Node) -> str:
    op: Any = node.op
    x = node.inputs[0]
    shape = p.value(tuple(x.shape[x.ndim - op.dims :]))
    first, *affine = map(p.operand, node.inputs)
    return f"F.layer_norm({', '.join([first, shape, *affine, f'eps={p.value(op.eps)}'])})"


@form("group_norm")
def _group_norm(p: Printer, node: Node) -> str | None:
    op: Any = node.op
    if not isinstance(op.groups, int) or len(node.inputs) != 3:
        return None
    x, *affine = map(p.operand, node.inputs)
    return f"F.group_norm({', '.join([x, str(op.groups), *affine, f'eps={p.value(op.eps)}'])})"
