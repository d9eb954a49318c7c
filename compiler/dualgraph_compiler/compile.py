"""The whole compilation pipeline, top to bottom.

``optimize`` takes a graph and returns a better one that computes the same; the input stays as it
is. ``optimize_with_report`` also says what each pass did.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np

from .errors import ArgumentError
from .graph import Graph
from .memory import Placement, plan_memory
from .passes import (
    Decompose,
    FoldBatchNorm,
    FoldConstants,
    IntegerProducts,
    MergeCommon,
    Pass,
    PassManager,
    PassRecord,
    Rematerialize,
    RemoveDeadCode,
    Requantization,
    Simplify,
    SimplifyControl,
)
from .passes.group_pointwise import Grouping, group_pointwise

Numerics: TypeAlias = Literal["standard", "strict"]


def pipeline(*, numerics: Numerics = "standard", decompose: bool = False) -> list[Pass]:
    """The passes, in order.

    Args:
        numerics: "standard" lets results differ by rounding, as where batch norm is folded into
            weights, and in the sign of zero; "strict" keeps every bit of the eager result.
        decompose: replace composite ops by simpler ones. Not for a graph that is to be exported or
            run by the interpreter: both know the composites, and handle them better whole.
    """
    exact = _is_strict(numerics)
    passes: list[Pass] = [
        RemoveDeadCode(),  # traces leave nodes nobody reads; no later pass should spend time there
    ]
    if not exact:  # before folding, which dequantises weights
        passes += [IntegerProducts(), Requantization()]
    passes += [
        FoldConstants(),  # shape arithmetic and transposed weights become constants
        MergeCommon(),  # repeated work is done once, and rules see equal operands as one value
        SimplifyControl(),  # decided branches and constants inside bodies are work for the rules
    ]
    if decompose:
        passes.append(Decompose())  # before the rules, which see through ops but not composites
    passes += [
        Simplify(exact),  # identities, views of views, conversions that change nothing
        MergeCommon(),  # what has become equal is read once, which folding asks for
    ]
    if not exact:
        passes.append(FoldBatchNorm())  # per-channel affine maps disappear into frozen weights
    passes += [
        FoldConstants(),  # rules and folding leave arithmetic on constants behind
        RemoveDeadCode(),  # constants that folding replaced are not worth carrying along
        Rematerialize(),  # last, since merging would undo it: memory, once the work is settled
    ]
    return passes


def optimize(
    graph: Graph,
    *,
    freeze: bool = False,
    numerics: Numerics = "standard",
    decompose: bool = False,
    verify: bool | None = None,
) -> Graph:
    """An optimised copy of `graph`, which itself stays untouched.

    Args:
        freeze: take the params' present data as constant, so that passes may compute with it; the
            result no longer follows later changes to the model's weights.
        numerics, decompose: see :func:`pipeline`.
        verify: check the graph after every pass (default: the variable ``DUALGRAPH_VERIFY``).
    """
    return _optimize(graph, freeze, pipeline(numerics=numerics, decompose=decompose), verify)[0]


def optimize_with_report(
    graph: Graph,
    *,
    freeze: bool = False,
    numerics: Numerics = "standard",
    decompose: bool = False,
    verify: bool | None = None,
    snapshots: bool = False,
) -> tuple[Graph, Report]:
    """`optimize`, and what each pass did; `snapshots` keeps the graph's text after every pass."""
    passes = pipeline(numerics=numerics, decompose=decompose)
    out, records = _optimize(graph, freeze, passes, verify, snapshots)
    frozen = tuple(v.name for v in graph.params) if freeze else ()
    before = group_pointwise(graph)
    grouping = group_pointwise(out)
    return out, Report(records, frozen, len(graph), len(before.kernels), grouping, _memory(out))


@dataclass(frozen=True, slots=True)
class Report:
    """What compilation did. Prints as a table.

    `passes` in the order they ran; `frozen`, the names of params that became constants; `nodes`
    and `kernels` of the input graph; `grouping`, which nodes of the result one kernel computes;
    `memory`, where intermediate values of the result would lie if each node ran by itself (None
    where sizes are symbolic).
    """

    passes: list[PassRecord]
    frozen: tuple[str, ...]
    nodes: int
    kernels: int
    grouping: Grouping
    memory: Placement | None = None

    @property
    def seconds(self) -> float:
        """Time spent in passes."""
        return sum(p.seconds for p in self.passes)

    def __str__(self) -> str:
        width = max(len(p.name) for p in self.passes)
        lines = [f"{'pass':<{width}}  {'nodes':>15}  {'ms':>8}"]
        lines += [_row(p, width) for p in self.passes]
        after = self.passes[-1].after
        lines.append("-" * len(lines[0]))
        total = f"{self.nodes:>6} -> {after:<5}"
        lines.append(f"{'total':<{width}}  {total:>15}  {self.seconds * 1e3:>8.2f}")
        if self.frozen:
            lines.append(f"{len(self.frozen)} params taken as constants")
        lines.append(f"kernels: {self.kernels} before, {self.grouping.summary()} after")
        if self.memory is not None:
            lines.append(f"memory: {self.memory}")
        return "\n".join(lines)


def _row(p: PassRecord, width: int) -> str:
    nodes = f"{p.before:>6} -> {p.after:<5}" if p.before != p.after else f"{p.after:>6}{'':9}"
    mark = "" if p.changed else "  no change"
    return f"{p.name:<{width}}  {nodes:>15}  {p.seconds * 1e3:>8.2f}{mark}"


def _optimize(
    graph: Graph, freeze: bool, passes: list[Pass], verify: bool | None, snapshots: bool = False
) -> tuple[Graph, list[PassRecord]]:
    out = graph.copy()
    if freeze:
        out.freeze({v.name: _host_copy(v.data) for v in out.params if v.data is not None})
    records = PassManager(passes, verify=verify, snapshots=snapshots).run(out)
    return out, records


def _memory(graph: Graph) -> Placement | None:
    """Where values lie, kernels writing their results in rows; None where sizes are symbolic."""
    plan = plan_memory(graph, row_major=True)
    return plan.place() if all(isinstance(s.size, int) for s in plan.storages) else None


def _host_copy(data: Any) -> np.ndarray[Any, Any]:
    """A copy, because training goes on in the model's own array; on the host, as constants are."""
    return np.array(data.get() if hasattr(data, "get") else data)


def _is_strict(numerics: str) -> bool:
    if numerics not in ("standard", "strict"):
        raise ArgumentError(f"numerics must be 'standard' or 'strict', got {numerics!r}")
    return numerics == "strict"
