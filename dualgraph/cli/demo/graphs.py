"""The trained model as a graph, before and after optimisation."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dualgraph as dg
import dualgraph.nn.functional as F
from dualgraph_compiler.compile import Report, optimize_with_report
from dualgraph_compiler.graph import Graph, Node, Value
from dualgraph_compiler.graph.text import Namer
from dualgraph_models.digits_cnn import DigitsCNN, example_inputs


@dataclass(frozen=True, slots=True)
class Optimised:
    """A graph before and after optimisation, and what each pass did."""

    before: Graph
    after: Graph
    report: Report


def trace_inference(model: DigitsCNN) -> Optimised:
    """The model as it is deployed: weights constant, batch size open."""
    model.eval()
    graph = dg.trace(model, *example_inputs(), dynamic_shapes={"x": {0: "batch"}})
    return Optimised(graph, *optimize_with_report(graph, freeze=True))


def trace_training_step(model: DigitsCNN) -> Optimised:
    """The same model once more, now with its loss, two figures to log, and all its gradients."""
    parameters = list(model.parameters())

    def training_step(x: dg.Tensor, y: dg.Tensor) -> Any:
        scores = model(x)
        loss = F.cross_entropy(scores, y)
        certainty = F.softmax(scores, 1).amax(1).mean()
        accuracy = (scores.argmax(1) == y).float().mean()
        return loss, certainty, accuracy, dg.autograd.grad(loss, parameters)

    model.train()
    try:
        images, labels = dg.rand(2, 1, 8, 8), dg.tensor([0, 1])
        batch = {0: "batch"}
        graph = dg.trace(training_step, images, labels, dynamic_shapes={"x": batch, "y": batch})
    finally:
        model.eval()
    return Optimised(graph, *optimize_with_report(graph))


def short_text(graph: Graph) -> Iterator[str]:
    """One line a node, for a terminal: attributes left out, a layer's weights as one operand."""
    names = Namer(graph)
    lines = [_short_line(node, names) for node in graph.nodes]
    width = max(map(len, lines), default=0)
    for line, node in zip(lines, graph.nodes, strict=True):
        where = f"{Path(node.loc.file).name}:{node.loc.line}" if node.loc is not None else ""
        yield f"{line:<{width}}  # {where}" if where else line


def _short_line(node: Node, names: Namer) -> str:
    operands = dict.fromkeys(_operand(v, names) for v in node.inputs)
    results = ", ".join(f"{names[v]}: {v.type}" for v in node.outputs)
    return f"{results} = {node.op.name}({', '.join(operands)})"


def _operand(value: Value, names: Namer) -> str:
    """A weight by its layer: ``features.0``, ``features.0'`` where a pass has changed it."""
    match = re.fullmatch(r"%(.+)\.\w+?(_folded)?", names[value])
    if value.node is not None or match is None:
        return names[value]
    return match[1] + ("'" if match[2] else "")
