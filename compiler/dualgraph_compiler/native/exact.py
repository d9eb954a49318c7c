"""Programs whose results are those of the eager kernels, to the last bit.

Compiled is what gives these bits: each lowering rule says whether it does (`lower.registry`). The
rest runs through its eager kernels, and what they read lies in memory as it would without compiled
code: NumPy lays a result out as its operands lie, and the layout decides in which order a sum adds.
Compiled code writes in C order only, so a value that lies otherwise, and is seen by an eager kernel
or the caller, is left to the eager kernels, too. Which values those are, one run has shown.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..dtypes import float32, float64
from ..graph import Graph, Node, Value
from ..ops.base import Kind
from ..ops.eager_steps import EagerCall, EagerGradient
from ..passes.rewrite import Worklist
from .lower.registry import EXACT, ORDER, SIGN_OF_ZERO, why_inexact
from .simpler import exactly_simpler, is_exactly_simpler
from .steps import classify

_LAYOUT = "strict: it does not lie in C order, which later sums follow"


@dataclass(frozen=True, slots=True)
class Exact:
    """What the bits of the eager result depend on beside the graph.

    `strided`: the values of the graph that do not lie in C order where the inputs and params do.
    `second_zero`: whether NumPy's maximum and minimum of 0 and -0 are the second operand, whichever
    that is.
    """

    strided: frozenset[Value] = frozenset()
    second_zero: bool = False


def prepare_exact(graph: Graph, exact: Exact) -> tuple[Graph, dict[Node, str]]:
    """A copy of `graph`, and which of its nodes are left to their eager kernels, each with why."""
    out, new = graph.copy_with_map()
    left = _left(out, {new[v] for v in exact.strided}, exact.second_zero)
    work = Worklist(out)
    for node in work:
        if node in left:
            continue
        with out.inserting_before(node):
            if node.op.decomposes_exactly:
                values = node.op.decompose(*node.inputs)
                work.replace(node, (values,) if node.op.n_outputs == 1 else values)
                continue
            made = exactly_simpler(node)
        if made is not None:
            work.replace(node, (made,))
    return out, left


def _left(graph: Graph, strided: set[Value], second_zero: bool) -> dict[Node, str]:
    """The nodes that eager kernels compute. What is read by compiled code alone may lie anyhow."""
    nodes = list(graph.nodes)
    left = {node: why for node in nodes if (why := _why_not(node, second_zero))}
    shown = set(graph.outputs)
    for node in reversed(nodes):
        seen = any(
            v in strided and (v in shown or any(reader in left for reader in v.uses))
            for v in node.outputs
        )
        if seen and node not in left:
            left[node] = _LAYOUT
            if node.op.is_view:
                _split(graph, node, left)
    return left


def _split(graph: Graph, node: Node, left: dict[Node, str]) -> None:
    """Compiled code that reads a view as well reads through one of its own."""
    readers = [reader for reader in node.output.uses if reader not in left]
    if readers:
        with graph.inserting_before(node):
            view = graph.add_node(node.op, node.inputs, [node.output.type]).output
        for reader in readers:
            graph.set_inputs(reader, [view if v is node.output else v for v in reader.inputs])


def _why_not(node: Node, second_zero: bool) -> str:
    """Why a node is not compiled, as far as that does not depend on its neighbours; or ""."""
    if is_exactly_simpler(node):
        return ""
    if isinstance(node.op, EagerCall | EagerGradient):
        return "strict: eager code has a kernel of its own for it"
    if node.op.decomposes_exactly and node.inputs[0].dtype in (float32, float64):
        return ""
    kind, why = classify(node)
    if node.op.kind is Kind.CONTRACTION:
        why = ORDER
    elif node.op.kind is Kind.COMPOSITE:
        why = "the ops that it is composed of round otherwise than its own kernel"
    elif kind != "interpreted":
        why = why_inexact(node)
    if why == EXACT or (why == SIGN_OF_ZERO and second_zero):
        return ""
    return f"strict: {why}"
