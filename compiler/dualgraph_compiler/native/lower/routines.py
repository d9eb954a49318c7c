"""Ops computed by a routine of their own, with nothing fused behind it, such as sorting.

A rule makes the routine of a node (see `library.Routine`), whose operands are contiguous in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

from ...dtypes import float32, float64
from ...graph import Node
from ...ops.base import Op
from ..kept_boxes import KeptBoxes
from .library import Routine
from .registry import EXACT, ORDER, registering, unlisted

if TYPE_CHECKING:
    from ..render.prelude import Prelude
    from ..schedule import Context

Rule: TypeAlias = "Callable[[Node, Context, Prelude, Mapping[str, int]], Routine]"
RULES: dict[type[Op], Rule] = {}
_rule = registering(RULES, ORDER)


def why_not(node: Node) -> str | None:
    """Why a node has no routine; None where it has one."""
    why = unlisted(node, RULES)
    dtype = node.inputs[0].dtype
    if why is None and node.op.name in _MATRICES and dtype not in (float32, float64):
        return f"{node.op.name} of {dtype.name} has no native form yet"
    return why


def _in_order(node: Node) -> str:
    op: Any = node.op
    return EXACT if op.name == "sort" or op.sorted else "NumPy leaves them in an order of its own"


@_rule("sort", "top_k", inexact=_in_order)
def _sort(node: Node, context: Context, prelude: Prelude, symbols: Mapping[str, int]) -> Routine:
    from ..render.sort import Sort

    return Sort(node, context, prelude, symbols)


@_rule("tree_ensemble")
def _trees(node: Node, context: Context, prelude: Prelude, symbols: Mapping[str, int]) -> Routine:
    from ..render.trees import Trees

    return Trees(node, context, prelude, symbols)


@_rule("roi_align", "roi_align_max")
def _roi_align(
    node: Node, context: Context, prelude: Prelude, symbols: Mapping[str, int]
) -> Routine:
    from ..render.regions import roi_align

    return roi_align(node, context, prelude, symbols)


@_rule("max_roi_pool")
def _max_roi_pool(
    node: Node, context: Context, prelude: Prelude, symbols: Mapping[str, int]
) -> Routine:
    from ..render.regions import max_roi_pool

    return max_roi_pool(node, context, prelude, symbols)


_MATRICES = ("lu_factor", "cholesky", "solve_triangular")


@_rule(*_MATRICES, "pivots_to_permutation")
def _matrices(
    node: Node, context: Context, prelude: Prelude, symbols: Mapping[str, int]
) -> Routine:
    from ..render import matrices

    made = {
        "lu_factor": matrices.lu_factor,
        "cholesky": matrices.cholesky,
        "solve_triangular": matrices.solve_triangular,
        "pivots_to_permutation": matrices.permutation,
    }[node.op.name]
    return made(node, context, prelude, symbols)


def _kept_boxes(
    node: Node, context: Context, prelude: Prelude, symbols: Mapping[str, int]
) -> Routine:
    from ..render.kept_boxes import KeptBoxesRoutine

    return KeptBoxesRoutine(node, context, prelude, symbols)


RULES[KeptBoxes] = _kept_boxes
