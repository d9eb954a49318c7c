"""Gradients that a model asks for. Source: ai.onnx.preview.training Gradient-1."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import OnnxError
from ..graph import Value
from ..graph.gradients import gradients
from ..ops import f
from ..ops.onnx_rules import from_onnx

if TYPE_CHECKING:
    from .importer import Importer


@from_onnx("ai.onnx.preview.training::Gradient")
def _gradient(ctx: Importer, *operands: Value) -> list[Value]:
    """The gradient of the tensor that `y` names by those that `xs` names, others held fixed."""
    names = (*ctx.attr("xs"), *(ctx.attr("zs") or ()))
    if len(names) != len(operands):
        raise OnnxError(f"xs and zs name {len(names)} tensors, but there are {len(operands)}")
    for name, value in zip(names, operands, strict=True):
        if ctx.named(name) is not value:
            raise OnnxError(f"expected {name!r} itself as the operand for it")
    xs = operands[: len(ctx.attr("xs"))]
    found = gradients(ctx.graph, [ctx.named(ctx.attr("y"))], xs)
    return [f.zeros_like(x) if g is None else g for x, g in zip(xs, found, strict=True)]
