"""The import rule of each ONNX operator: a written one, or one that an op's declaration implies."""

from __future__ import annotations

import functools
from dataclasses import MISSING, fields
from typing import TYPE_CHECKING, Any

from ..dtypes import BY_ONNX
from ..errors import OnnxError
from ..graph import Value
from ..ops.base import REGISTRY, Op
from ..ops.onnx_rules import RULES, Rule
from . import (  # noqa: F401 - they register themselves
    control_flow,
    image_rules,
    legacy_rules,
    random_rules,
    resize,
    rules,
    window_rules,
)

if TYPE_CHECKING:
    from .importer import Importer


def rule_for(op_type: str) -> Rule | None:
    """The import rule of an operator: a written one, or one that an op's declaration implies."""
    return RULES.get(op_type) or _declared_rules().get(op_type)


@functools.cache
def _declared_rules() -> dict[str, Rule]:
    """A rule for every op that says which ONNX operator it is, attribute for attribute."""
    found: dict[str, Rule] = {}
    for cls in REGISTRY.values():
        if cls.onnx is not None:
            found.setdefault(cls.onnx.name, functools.partial(_apply_declared, cls))
    return found


def _apply_declared(cls: type[Op], ctx: Importer, *operands: Value | None) -> Any:
    assert cls.onnx is not None
    renamed = dict(cls.onnx.attrs)
    given: dict[str, Any] = {}
    for field in fields(cls):
        value = ctx.attr(renamed.get(field.name, field.name))
        if value is None:
            value = field.default
        if value is MISSING:
            raise OnnxError(f"the attribute {renamed.get(field.name, field.name)!r} is missing")
        if field.type == "bool":
            value = bool(value)
        elif field.type == "DType" and isinstance(value, int):
            value = BY_ONNX[value]
        given[field.name] = value
    while operands and operands[-1] is None:
        operands = operands[:-1]
    return ctx.graph.call(cls(**given), operands)
