"""Fused regions of an exported graph as functions that the model itself defines.

What one kernel would compute stands in one node, and its definition in standard operators beside
the graph: a runtime that knows no such function puts the definition in its place.
"""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING

from ..graph import Graph, Node, Value
from ..passes.group_pointwise import Kernel, group_pointwise

if TYPE_CHECKING:
    import onnx

FUSED = "dualgraph.fused"  # the domain of the functions
FUNCTIONS_SINCE_IR = 8
_INSIDE = 64  # bytes: constants up to this size are part of the definition
_NAMED = 4  # operators in a function's name


class Functions:
    """The functions of one model, and the order in which calls of them and other nodes run.

    Regions that compute the same share a function.
    """

    def __init__(self, graph: Graph, opset: int) -> None:
        self.units: list[Node | Kernel] = _in_order(graph)
        self.protos: list[onnx.FunctionProto] = []
        self._opset = opset
        self._names: dict[bytes, str] = {}

    def define(self, kernel: Kernel) -> tuple[list[Value], str]:
        """The operands of a call that computes `kernel`, and the name of its function."""
        from onnx import helper

        from .export import Exporter

        inside = {v for v in kernel.inputs if v.is_constant and v.data.nbytes <= _INSIDE}
        operands = [v for v in kernel.inputs if v not in inside]
        body = _body(kernel, operands, inside)
        writer = Exporter(body, self._opset, doc=False)
        writer.add_graph()
        written = writer.finish("")
        constants = [
            helper.make_node("Constant", [], [t.name], value=t) for t in written.initializer
        ]
        for node in constants:
            node.attribute[0].t.ClearField("name")
        proto = helper.make_function(
            FUSED,
            "",
            [v.name for v in written.input],
            [v.name for v in written.output],
            [*constants, *written.node],
            [helper.make_opsetid("", self._opset)],
        )
        key = proto.SerializeToString(deterministic=True)
        name = self._names.get(key)
        if name is None:
            done = "_".join(node.op_type for node in written.node[:_NAMED])
            name = self._names[key] = proto.name = f"Fused{len(self.protos)}_{done}"
            self.protos.append(proto)
        return operands, name


def _body(kernel: Kernel, operands: list[Value], inside: set[Value]) -> Graph:
    """The nodes of a kernel as a graph of their own."""
    body = Graph("fused")
    new: dict[Value, Value] = {v: body.add_input(v.type, f"x{i}") for i, v in enumerate(operands)}
    new.update((v, body.constant(v.data)) for v in kernel.inputs if v in inside)
    for node in kernel.nodes:
        result = body.call(node.op, [new[v] for v in node.inputs])
        new[node.outputs[0]] = result
    body.set_outputs(
        [new[v] for v in kernel.outputs], [f"y{i}" for i in range(len(kernel.outputs))]
    )
    return body


def _in_order(graph: Graph) -> list[Node | Kernel]:
    """Kernels of several nodes, and the other nodes, so that each comes after what it reads.

    Of those that are ready, the one whose first node is first in the graph: the order is stable.
    """
    member: dict[Node, Kernel] = {}
    for kernel in group_pointwise(graph).kernels:
        if kernel.is_fused:
            member.update((n, kernel) for n in kernel.nodes)
    units: list[Node | Kernel] = list(dict.fromkeys(member.get(n, n) for n in graph.nodes))
    rank = {unit: i for i, unit in enumerate(units)}
    waits: list[set[int]] = []
    readers: list[list[int]] = [[] for _ in units]
    for i, unit in enumerate(units):
        nodes = (unit,) if isinstance(unit, Node) else unit.nodes
        before = {v.node for n in nodes for v in n.inputs if v.node is not None}
        needed = {rank[member.get(n, n)] for n in before} - {i}
        waits.append(needed)
        for j in needed:
            readers[j].append(i)
    ready = [i for i, needed in enumerate(waits) if not needed]
    out: list[Node | Kernel] = []
    while ready:
        i = heapq.heappop(ready)
        out.append(units[i])
        for j in readers[i]:
            waits[j].discard(i)
            if not waits[j]:
                heapq.heappush(ready, j)
    return out
