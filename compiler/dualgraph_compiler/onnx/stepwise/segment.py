"""Graphs of segments, for what arrives at them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from ...dims import Dim, DimLike
from ...dtypes import DType, as_dtype
from ...errors import OnnxError
from ...graph import Graph
from ...types import TensorType
from ..importer import Importer
from .plan import Plan, Segment

if TYPE_CHECKING:
    import onnx

    from ..load import ModelFile

# Of each dimension of a value: its size where every run has the same, else None.
Sizes: TypeAlias = Sequence[int | None]


@dataclass(frozen=True, slots=True)
class Arrival:
    """What a graph is made for: `key` tells whether another arrival may use the same graph.

    `operands` are the types of its inputs and the arrays that it has as constants, by name.
    """

    key: tuple[Any, ...]
    operands: dict[str, TensorType | np.ndarray[Any, Any]]


def arrival(
    segment: Segment, values: Sequence[np.ndarray[Any, Any]], sizes: Sequence[Sizes | None]
) -> Arrival:
    """What a segment is to be imported for, given its operands.

    Sizes that differ from run to run become symbols, one for all that are equal now, unless the
    segment needs numbers. 0 and 1 stay numbers: they say whether there is anything and what is
    broadcast.

    Args:
        values: the operands, in the segment's order.
        sizes: what is known of their sizes; None for nothing.
    """
    key: list[Any] = []
    operands: dict[str, TensorType | np.ndarray[Any, Any]] = {}
    symbols: dict[int, int] = {}
    for name, value, known in zip(segment.reads, values, sizes, strict=True):
        if name in segment.known:
            operands[name] = value
            key.append((value.dtype, value.shape, value.tobytes()))
            continue
        dims: list[DimLike] = []
        kept: list[Any] = [value.dtype]
        for axis, n in enumerate(value.shape):
            fixed = segment.fixed or n < 2 or (known is not None and known[axis] is not None)
            if fixed:
                dims.append(n)
                kept.append(n)
            else:
                number = symbols.setdefault(n, len(symbols))
                dims.append(Dim(f"given{number}", min=2))
                kept.append(f"given{number}")
        key.append(tuple(kept))
        operands[name] = TensorType(_dtype(name, value), tuple(dims))
    return Arrival(tuple(key), operands)


def _dtype(name: str, value: np.ndarray[Any, Any]) -> DType:
    try:
        return as_dtype(value.dtype)
    except TypeError as error:
        raise OnnxError(f"{name!r}: {error}") from error


def import_segment(file: ModelFile, plan: Plan, segment: Segment, given: Arrival) -> Graph:
    """The graph of a segment, whose inputs are those of its operands that are no constants.

    Raises:
        OnnxError: it cannot be imported for what is given (:meth:`.plan.Plan.learn`).
    """
    importer = Importer(file, Graph("segment"), "constant")
    nodes = [plan.nodes[i] for i in segment.nodes]
    importer.add_part(nodes, given.operands, plan.initializers, segment.writes)
    return importer.graph


def sizes_of(graph: Graph) -> list[Sizes]:
    """What is known of the sizes of a graph's outputs."""
    return [tuple(d if isinstance(d, int) else None for d in v.shape) for v in graph.outputs]


def import_on(
    file: ModelFile, node: onnx.NodeProto, operands: Mapping[str, np.ndarray[Any, Any]]
) -> Graph:
    """The graph of one node on these arrays, which has no inputs."""
    importer = Importer(file, Graph(node.op_type), "constant")
    importer.add_part([node], operands, {}, [name for name in node.output if name])
    return importer.graph
