"""Reductions: what is folded, with which fold, and what is done with the total."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ...dims import product
from ...dtypes import BOOL, INT, DType, bool_, float32
from ...graph import Node
from ...ops.base import REGISTRY
from ..loops import Expr
from ..scalars import NARROW, call, cast, size, truth, widen
from .registry import EXACT, INEXACT, ORDER, ROUNDING, SIGN_OF_FOLDED_ZERO

_FOLDS = {"sum": "sum", "mean": "sum", "prod": "prod", "max": "max", "min": "min"}
_FOLDS |= {"any": "any", "all": "all"}


def _order(node: Node) -> str:
    """Only floats depend on the order in which they are folded."""
    if node.inputs[0].dtype.category in (BOOL, INT):
        return EXACT if node.output.dtype.category in (BOOL, INT) else ROUNDING
    return SIGN_OF_FOLDED_ZERO if node.op.name in ("max", "min") else ORDER


INEXACT.update({REGISTRY[name]: _order for name in _FOLDS})


@dataclass(frozen=True, slots=True)
class Fold:
    """`fold` over elements of `dtype`."""

    fold: str
    dtype: DType


def why_not(node: Node) -> str | None:
    """Why a reduction cannot be lowered; None where it can."""
    if node.op.name not in _FOLDS:
        return f"{node.op.name} has no native form yet"
    if node.inputs[0].dtype.is_complex:
        return "complex numbers have no native form yet"
    return None


def fold_of(node: Node) -> Fold:
    """The fold of a reduction."""
    fold, dtype = _FOLDS[node.op.name], node.inputs[0].dtype
    if fold in ("any", "all") or dtype is bool_:
        return Fold({"max": "any", "min": "all"}.get(fold, fold), bool_)
    return Fold(fold, float32 if dtype in NARROW else dtype)


def before(node: Node, x: Expr) -> Expr:
    """What is folded, for an element of the operand."""
    return truth(x) if fold_of(node).dtype is bool_ else widen(x)


def after(node: Node, total: Expr) -> Expr:
    """The result, from the total."""
    op: Any = node.op
    if op.name == "mean":
        shape = node.inputs[0].shape
        count = size(product(tuple(shape[a] for a in op.axes)), total.dtype)
        total = call("div", total, count)
    return cast(total, node.output.dtype)
