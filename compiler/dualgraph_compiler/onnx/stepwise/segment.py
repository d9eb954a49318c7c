"""Graphs of segments, for what arrives at them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from ...dims import Dim, DimLike
from ...dtypes import DType, as_dtype, bool_
from ...errors import OnnxError
from ...graph import Graph
from ...types import TensorType
from ..importer import GivenSizes, Importer
from ..weights import Weights
from .plan import Plan, Segment

if TYPE_CHECKING:
    import onnx

    from ..load import ModelFile

# Of each dimension of a value: its size where every run has the same, else None.
Sizes: TypeAlias = Sequence[int | None]

_LARGE = 1 << 31  # an element from here on is no size, but stands for "to the end" and the like


@dataclass(frozen=True, slots=True)
class Arrival:
    """What a graph is made for: `key` tells whether another arrival may use the same graph.

    `operands` are the types of its inputs and what it has as constants, by name. The last inputs
    are arrays without elements, `sizes`, whose second sizes are those that no other input has.
    """

    key: tuple[Any, ...]
    operands: dict[str, TensorType | GivenSizes | np.ndarray[Any, Any]]
    sizes: list[np.ndarray[Any, Any]]


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
    operands: dict[str, TensorType | GivenSizes | np.ndarray[Any, Any]] = {}
    symbols: dict[int, Dim] = {}
    contents: set[Dim] = set()
    bound: set[Dim] = set()
    for name, value, known in zip(segment.reads, values, sizes, strict=True):
        if name in segment.sized and value.dtype.kind in "iu":
            found = [_symbol(symbols, n) if 2 <= n < _LARGE else n for n in value.ravel().tolist()]
            contents.update(d for d in found if isinstance(d, Dim))
            elements = np.empty(len(found), dtype=object)
            elements[:] = found
            operands[name] = GivenSizes(elements.reshape(value.shape), _dtype(name, value))
            key.append((value.dtype, value.shape, *map(str, found)))
            continue
        if name in segment.known or name in segment.sized:
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
                dims.append(_symbol(symbols, n))
                kept.append(str(dims[-1]))
        key.append(tuple(kept))
        operands[name] = TensorType(_dtype(name, value), tuple(dims))
        bound.update(d for d in dims if isinstance(d, Dim))
    free = {d: n for n, d in symbols.items() if d in contents - bound}
    operands.update((f"size {d}", TensorType(bool_, (0, d))) for d in free)
    return Arrival(tuple(key), operands, [np.empty((0, n), bool) for n in free.values()])


def _symbol(symbols: dict[int, Dim], size: int) -> Dim:
    """The symbol of a size, the same wherever it occurs."""
    return symbols.setdefault(size, Dim(f"given{len(symbols)}", min=2))


def _dtype(name: str, value: np.ndarray[Any, Any]) -> DType:
    try:
        return as_dtype(value.dtype)
    except TypeError as error:
        raise OnnxError(f"{name!r}: {error}") from error


def import_segment(
    file: ModelFile,
    plan: Plan,
    segment: Segment,
    given: Arrival,
    weights: Weights = "constant",
) -> Graph:
    """The graph of a segment, whose inputs are those of its operands that are no constants.

    Args:
        weights: whether floating-point initializers become constants of the graph or params.

    Raises:
        OnnxError: it cannot be imported for what is given (:meth:`.plan.Plan.learn`).
    """
    importer = Importer(file, Graph("segment"), weights)
    nodes = [plan.nodes[i] for i in segment.nodes]
    importer.add_part(nodes, given.operands, plan.initializers, segment.writes, plan.arrays)
    return importer.graph


def sizes_of(graph: Graph) -> list[Sizes]:
    """What is known of the sizes of a graph's outputs."""
    return [tuple(d if isinstance(d, int) else None for d in v.shape) for v in graph.outputs]


def import_on(
    file: ModelFile,
    node: onnx.NodeProto,
    operands: Mapping[str, TensorType | np.ndarray[Any, Any]],
) -> Graph:
    """The graph of one node, whose inputs are those operands that are types."""
    importer = Importer(file, Graph(node.op_type), "constant")
    importer.add_part([node], operands, {}, [name for name in node.output if name])
    return importer.graph
