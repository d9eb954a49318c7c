"""Steps: what a graph is partitioned into, and where values are in them."""

from __future__ import annotations

import enum
from collections.abc import Iterable
from dataclasses import dataclass, field

from ..dims import DimLike
from ..graph import Graph, Node, Value
from ..ops.base import Kind
from .control import Control
from .lower import library, movement, nests, pointwise, reduction, routines


class StepKind(enum.Enum):
    """What a step is made of."""

    FUSED = "fused"
    LIBRARY = "library"
    CONCAT = "concat"
    NEST = "nest"
    ROUTINE = "routine"
    CONTROL = "control"
    INTERPRETED = "interpreted"


Place = tuple[int, ...]


@dataclass(eq=False)
class Step:
    """Nodes computed together. `reason`: why it was not joined to what it reads.

    `epoch`: how many of the nodes that define sizes come before it, which it may need to have run.
    """

    kind: StepKind
    nodes: list[Node]
    order: int
    axes: list[DimLike] = field(default_factory=list)
    reduced: frozenset[int] | None = None
    place: dict[Value, Place] = field(default_factory=dict)
    reason: str = ""
    stores: list[Value] = field(default_factory=list)
    epoch: int = 0


@dataclass
class Partition:
    """The steps in the order they run, and where values are.

    `virtual`: nodes that have no memory of their own, and are read through. `aliases`: reshapes of
    a value that share its memory.
    """

    graph: Graph
    steps: list[Step]
    virtual: set[Node]
    aliases: dict[Value, Value]


def classify(node: Node) -> tuple[str, str]:
    """How a node is lowered: a class, and for interpreted ones the reason."""
    op = node.op
    if isinstance(op, Control):
        return "control", ""
    if not op.is_pure and op.name != "barrier":  # which matters only while merging
        return "interpreted", f"{op.name} is not a pure function"
    if any(v.dtype.is_narrow for v in (*node.inputs, *node.outputs)):
        return "interpreted", "narrow dtypes have no native form yet"
    if op.kind is Kind.POINTWISE:
        why = pointwise.why_not(node)
        return ("pointwise", "") if why is None else ("interpreted", why)
    if op.kind is Kind.REDUCTION:
        why = reduction.why_not(node)
        return ("reduction", "") if why is None else ("interpreted", why)
    if op.name == "concat":
        complex_ = node.output.dtype.is_complex
        return (
            ("interpreted", "complex numbers have no native form yet")
            if complex_
            else (
                "concat",
                "",
            )
        )
    if type(op) in movement.RULES:
        why = movement.why_not(node)
        return ("virtual", "") if why is None else ("interpreted", why)
    if type(op) in nests.RULES:
        why = nests.why_not(node)
        return ("nest", "") if why is None else ("interpreted", why)
    if type(op) in routines.RULES:
        why = routines.why_not(node)
        return ("routine", "") if why is None else ("interpreted", why)
    why = library.why_not(node)
    return ("library", "") if why is None else ("interpreted", why)


def real_axes(step: Step) -> set[int]:
    """The axes that are not of size 1."""
    return {i for i, d in enumerate(step.axes) if d != 1}


def renamed(node: Node, place: Place) -> Place | None:
    """The place of a reshape's, permute's or expand's result; None where dimensions are mixed."""
    old, new = node.inputs[0].shape, node.output.shape
    if node.op.name == "permute":
        axes: Iterable[int] = node.op.attributes()["axes"]
        return tuple(place[a] for a in axes)
    if node.op.name == "expand":
        return (-1,) * (len(new) - len(old)) + place
    if [d for d in old if d != 1] != [d for d in new if d != 1]:
        return None
    rest = iter(p for p, d in zip(place, old, strict=True) if d != 1)
    return tuple(-1 if d == 1 else next(rest) for d in new)
