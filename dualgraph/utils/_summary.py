"""What a model is made of: its layers, what comes out of each, and what they cost."""

from __future__ import annotations

import io
import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import dualgraph as dg
from dualgraph import nn
from dualgraph_compiler.graph import Graph, Node
from dualgraph_compiler.ops.conv import Conv, ConvInputGrad, ConvWeightGrad
from dualgraph_compiler.ops.conv_transpose import ConvTranspose
from dualgraph_compiler.ops.linalg import Linear, Matmul
from dualgraph_compiler.ops.recurrent import Recurrent
from dualgraph_compiler.ops.scan import Scan

__all__ = ["Row", "Summary", "multiply_adds", "summary"]


@dataclass(frozen=True)
class Row:
    """One module.

    Attributes:
        path: its name in the model, such as ``layer1.0.conv1``; "" for the model itself.
        kind: its class.
        shape: of the (first) tensor it returns, None where it was not called.
        parameters: numbers in it, those of the modules inside included, shared ones once.
        multiply_adds: of matrix products and convolutions in it, again with those inside.
    """

    path: str
    kind: str
    shape: tuple[int, ...] | None
    parameters: int
    multiply_adds: int

    @property
    def depth(self) -> int:
        """How many modules it is inside of."""
        return self.path.count(".") + 1 if self.path else 0


@dataclass(frozen=True)
class Summary:
    """The modules of a model, each before those inside it; printed, a table.

    Attributes:
        rows: the modules that were called, and those around them.
        trainable: parameters that gradients are computed for.
        bytes: of all parameters and buffers.
    """

    rows: tuple[Row, ...]
    trainable: int
    bytes: int

    @property
    def parameters(self) -> int:
        """Numbers in all parameters."""
        return self.rows[0].parameters

    @property
    def multiply_adds(self) -> int:
        """Multiplications with an addition each, in matrix products and convolutions."""
        return self.rows[0].multiply_adds

    def __str__(self) -> str:
        from rich.console import Console

        text = io.StringIO()
        Console(file=text, width=110, color_system=None).print(self)
        return "\n".join(line.rstrip() for line in text.getvalue().splitlines())

    def __rich__(self) -> Any:
        from rich.console import Group
        from rich.table import Table
        from rich.text import Text

        table = Table(box=None, pad_edge=False)
        table.add_column("layer", no_wrap=True)
        table.add_column("kind", no_wrap=True)
        table.add_column("output", no_wrap=True)
        table.add_column("parameters", justify="right")
        table.add_column("multiply-adds", justify="right")
        for row in self.rows:
            name = row.path.rpartition(".")[2] or "model"
            table.add_row(
                "  " * row.depth + name,
                row.kind,
                "" if row.shape is None else str(list(row.shape)),
                f"{row.parameters:,}" if row.parameters else "",
                _short(row.multiply_adds) if row.multiply_adds else "",
            )
        totals = (
            f"{self.parameters:,} parameters ({self.trainable:,} trainable), "
            f"{self.bytes / 1e6:,.1f} MB; {_short(self.multiply_adds)} multiply-adds"
        )
        return Group(table, Text(f"\n{totals}"))


def summary(model: nn.Module, *inputs: Any, depth: int | None = None) -> Summary:
    """The modules of `model` with the shapes of their results, parameters and multiply-adds.

    The model is traced once, as it is in evaluation; nothing is computed. Work is counted where it
    is done, in functions a module calls as well as in layers; that of loops whose number of steps
    only a run tells, once.

    Args:
        model: any module.
        inputs: what to call it with.
        depth: how many levels of modules to show, by default all.

    Raises:
        TraceError: the model cannot be captured in a graph.
    """
    shapes: dict[int, tuple[int, ...] | None] = {}

    def note(module: nn.Module, _: Any, result: Any) -> None:
        shapes[id(module)] = _first_shape(result)

    modules = list(model.modules())
    training = [m for m in modules if m.training]
    hooks = [m.register_forward_hook(note) for m in modules]
    model.eval()
    try:
        graph = dg.trace(model, *inputs)
    finally:
        for hook in hooks:
            hook.remove()
        for module in training:
            module.training = True
    work: Counter[str] = Counter()
    for node in graph.nodes:
        count = multiply_adds(node)
        for path in _with_parents(node.loc.scope if count and node.loc else ""):
            work[path] += count
    rows = tuple(
        Row(
            path,
            type(module).__name__,
            shapes.get(id(module)),
            sum(p.numel() for p in module.parameters()),
            work[path],
        )
        for path, module in model.named_modules()
        if depth is None or not path or path.count(".") < depth
    )
    trainable = sum(p.numel() for p in model.parameters() if p.requires_grad)
    held = {id(t): t for t in [*model.parameters(), *model.buffers()]}.values()
    return Summary(rows, trainable, sum(t.numel() * t.element_size() for t in held))


def _first_shape(result: Any) -> tuple[int, ...] | None:
    """The shape of a tensor, or of the first one in what a module returns."""
    if isinstance(result, dg.Tensor):
        return tuple(result.shape)
    items = result.values() if isinstance(result, dict) else result
    if not isinstance(result, dict | list | tuple):
        return None
    return next((shape for shape in map(_first_shape, items) if shape is not None), None)


def _with_parents(path: str) -> Iterator[str]:
    yield ""
    end = path.find(".")
    while end >= 0:
        yield path[:end]
        end = path.find(".", end + 1)
    if path:
        yield path


def multiply_adds(node: Node) -> int:
    """Multiplications with an addition each that a node of a graph does; 0 for pointwise work.

    Sizes that are not known count as 1.
    """
    op = node.op
    shapes = [v.type.shape for v in node.inputs]
    if isinstance(op, Matmul):
        return _size(node.output.type.shape) * _size(shapes[0][-1:])
    if isinstance(op, Linear):
        return _size(node.output.type.shape) * _size(shapes[1][-1:])
    if isinstance(op, Conv):
        return _size(node.output.type.shape) * _size(shapes[1][1:])
    if isinstance(op, ConvTranspose | ConvInputGrad):
        return _size(shapes[0]) * _size(shapes[1][1:])
    if isinstance(op, ConvWeightGrad):
        return _size(node.output.type.shape[1:]) * _size(shapes[0])
    if isinstance(op, Recurrent):
        steps, batch = shapes[0][:2]
        return _size((steps, batch)) * sum(map(_size, shapes[op.states + 1 : op.states + 3]))
    if isinstance(op, Scan):
        return _size((op.length,)) * _total(op.body)
    bodies = (getattr(op, name) for name in getattr(op, "bodies", ()))
    return max(map(_total, bodies), default=0)  # of a branch, the longer way


def _total(graph: Graph) -> int:
    return sum(multiply_adds(node) for node in graph.nodes)


def _size(shape: Any) -> int:
    return math.prod(d if isinstance(d, int) else 1 for d in shape)


def _short(count: int) -> str:
    """A count with three digits: 11.7 M."""
    for factor, unit in ((10**12, "T"), (10**9, "G"), (10**6, "M"), (10**3, "k")):
        if count >= factor:
            return f"{count / factor:.3g} {unit}"
    return str(count)
