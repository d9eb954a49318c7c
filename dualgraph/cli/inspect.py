"""``dualgraph inspect``: what is in an ONNX file."""

from __future__ import annotations

from collections import Counter
from typing import Any

import click
from dualgraph_compiler.dims import Dim, symbols
from dualgraph_compiler.graph import Graph, Node, Value
from rich.console import Console
from rich.table import Table


@click.command("inspect")
@click.argument("model", type=click.Path(dir_okay=False))
@click.option("--graph/--no-graph", default=True, help="Print the graph's text.")
@click.option("--optimized", is_flag=True, help="Show the graph as the runtime runs it.")
@click.option("--html", type=click.Path(dir_okay=False), help="Write a drawing to this page.")
def command(model: str, graph: bool, optimized: bool, html: str | None) -> None:
    """Show MODEL's inputs, outputs, operators, parameters, memory and graph."""
    from dualgraph_compiler.compile import optimize
    from dualgraph_compiler.onnx import import_model, load_model

    file = load_model(model)
    shown = import_model(file)
    if optimized:
        shown = optimize(shown)
    console = Console()
    _print_summary(console, file.proto, shown)
    if graph:
        console.print()
        console.print(str(shown), markup=False, highlight=False, soft_wrap=True)
    if html:
        from dualgraph_compiler.graph.draw import show

        console.print(f"\nwrote {show(shown, html, open_browser=False)}")


def _print_summary(console: Console, proto: Any, graph: Graph) -> None:
    opsets = ", ".join(f"{o.domain or 'ai.onnx'} {o.version}" for o in proto.opset_import)
    producer = f"{proto.producer_name} {proto.producer_version}".strip() or "unknown"
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_row("model", graph.name)
    table.add_row("producer", producer)
    table.add_row("opset", f"{opsets} (IR version {proto.ir_version})")
    for v in graph.inputs:
        table.add_row("input", _typed(v, v.name))
    for v, name in zip(graph.outputs, graph.output_names, strict=True):
        table.add_row("output", _typed(v, name))
    counts = Counter(
        f"{n.domain}::{n.op_type}" if n.domain else n.op_type for n in proto.graph.node
    )
    ops = ", ".join(f"{n} x {op}" if n > 1 else op for op, n in counts.most_common())
    table.add_row("operators", f"{sum(counts.values())}: {ops}")
    table.add_row("graph", f"{len(graph)} nodes")
    weights = [v for v in [*graph.params, *graph.constants] if v.ndim]
    elements = sum(int(v.data.size) for v in weights)
    size = sum(int(v.data.nbytes) for v in weights)
    table.add_row("parameters", f"{elements:,} elements in {len(weights)} tensors, {_bytes(size)}")
    table.add_row("memory", _memory(graph, size))
    console.print(table, highlight=False)


def _typed(v: Value, name: str) -> str:
    return f"{name}: {v.type}".replace("[", "\\[")


def _memory(graph: Graph, weights: int) -> str:
    """Weights and the largest sum of values alive at once, symbolic sizes counted as 1."""
    peak = peak_bytes(graph)
    names = sorted({s.name for v in graph.inputs for d in v.shape for s in symbols(d)})
    note = f" with {', '.join(names)} = 1" if names else ""
    return f"{_bytes(weights + peak)}: weights {_bytes(weights)}, values {_bytes(peak)}{note}"


def peak_bytes(graph: Graph) -> int:
    """The largest sum of bytes of values alive at once, running nodes in order.

    Symbolic sizes count as 1, constants and params not at all.
    """
    last: dict[Value, Node] = {}
    for node in graph.nodes:
        for v in [*node.inputs, *node.outputs]:
            last[v] = node
    kept = set(graph.outputs)
    live = set(graph.inputs)
    alive = peak = sum(_value_bytes(v) for v in live)
    for node in graph.nodes:
        live.update(node.outputs)
        alive += sum(_value_bytes(v) for v in node.outputs)
        peak = max(peak, alive)
        for v in {*node.inputs, *node.outputs}:
            if last[v] is node and v in live and v not in kept:
                live.remove(v)
                alive -= _value_bytes(v)
    return peak


def _value_bytes(v: Value) -> int:
    size = v.dtype.itemsize
    for d in v.shape:
        size *= 1 if isinstance(d, Dim) else d
    return size


def _bytes(n: float) -> str:
    for unit in ("B", "KiB", "MiB"):
        if n < 1024:
            return f"{n:.0f} {unit}" if unit == "B" else f"{n:.1f} {unit}"
        n /= 1024
    return f"{n:.1f} GiB"
