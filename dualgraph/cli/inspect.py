"""``dualgraph inspect``: what is in an ONNX file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from dualgraph.cli.files import require_writable, writing
from dualgraph.cli.text import byte_size, literal, printable
from dualgraph_compiler.dims import evaluate, symbols
from dualgraph_compiler.errors import OnnxError
from dualgraph_compiler.graph import Graph, Node, Value


@click.command("inspect")
@click.argument("model", type=click.Path())
@click.option("--graph/--no-graph", default=True, help="Print the graph's text.")
@click.option("--optimized", is_flag=True, help="Show the graph as the runtime runs it.")
@click.option("--kernels", is_flag=True, help="Show which nodes become which compiled kernel.")
@click.option("--html", type=click.Path(), metavar="FILE.html", help="Write a drawing there.")
def command(model: str, graph: bool, optimized: bool, kernels: bool, html: str | None) -> None:
    """Show MODEL's inputs, outputs, operators, parameters, memory and graph."""
    from dualgraph_compiler.compile import optimize
    from dualgraph_compiler.onnx import import_model, load_model

    require_writable("--html", html)
    file = load_model(model)
    console = Console()
    try:
        original = import_model(file)
    except OnnxError as error:
        if optimized or kernels or html is not None:  # which are of a graph
            raise
        _print_steps(console, file, error)
        return
    shown = optimize(original) if optimized else original
    _print_summary(console, file.proto, shown, optimized)
    if graph:
        text = "\n".join(map(printable, str(shown).splitlines()))
        console.print()
        console.print(text, markup=False, highlight=False, soft_wrap=True)
    if kernels:
        from dualgraph_compiler.native import build

        report = build(optimize(original)).report()
        console.print()
        text = "\n".join(map(printable, report.splitlines()))
        console.print(text, markup=False, highlight=False, soft_wrap=True)
    if html is not None:
        from dualgraph_compiler.graph.page import to_html

        page = to_html(shown, original if optimized else None)
        with writing(html) as out:
            out.write(page.encode())
        console.print()
        console.print(literal(f"wrote {html}"), soft_wrap=True)


def _print_steps(console: Console, file: Any, error: OnnxError) -> None:
    """What a model is that is no single graph, and the way each node takes; or raise `error`."""
    from dualgraph_runtime import CPU, SessionOptions
    from dualgraph_runtime.stepwise import Steps

    steps = Steps(file, error, SessionOptions(), CPU, "interpreter")
    rows = [
        *_origin(file.proto),
        *(("input", f"{a.name}: {a.type} {a.shape}") for a in steps.model.inputs),
        *(("output", f"{a.name}: {a.type} {a.shape}") for a in steps.model.outputs),
        ("operators", _operators(file.proto)),
    ]
    _print_table(console, rows)
    console.print()
    text = "\n".join(map(printable, steps.report().splitlines()))
    console.print(text, markup=False, highlight=False, soft_wrap=True)


def _origin(proto: Any) -> list[tuple[str, str]]:
    opsets = ", ".join(f"{o.domain or 'ai.onnx'} {o.version}" for o in proto.opset_import)
    producer = f"{proto.producer_name} {proto.producer_version}".strip() or "unknown"
    return [
        ("model", proto.graph.name or "graph"),
        ("producer", producer),
        ("opset", f"{opsets} (IR version {proto.ir_version})"),
    ]


def _operators(proto: Any) -> str:
    counts = Counter(
        f"{n.domain}::{n.op_type}" if n.domain else n.op_type for n in proto.graph.node
    )
    ops = ", ".join(f"{n} x {op}" if n > 1 else op for op, n in counts.most_common())
    return f"{sum(counts.values())}: {ops}"


def _print_summary(console: Console, proto: Any, graph: Graph, optimized: bool) -> None:
    weights = [v for v in [*graph.params, *graph.constants] if v.ndim]
    elements = sum(int(v.data.size) for v in weights)
    size = sum(int(v.data.nbytes) for v in weights)
    after = " after optimisation" if optimized else ""
    rows = [
        *_origin(proto),
        *(("input", f"{v.name}: {v.type}") for v in graph.inputs),
        *(
            ("output", f"{name}: {v.type}")
            for v, name in zip(graph.outputs, graph.output_names, strict=True)
        ),
        ("operators", _operators(proto)),
        ("graph", f"{len(graph)} nodes{after}"),
        ("parameters", f"{elements:,} in {len(weights)} tensors, {byte_size(size)}"),
        ("memory", _memory(graph, size)),
    ]
    _print_table(console, rows)


def _print_table(console: Console, rows: Iterable[tuple[str, str]]) -> None:
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for key, value in rows:
        table.add_row(key, literal(value))
    console.print(table)


def _memory(graph: Graph, weights: int) -> str:
    peak = peak_bytes(graph)
    names = sorted({s.name for v in graph.inputs for d in v.shape for s in symbols(d)})
    note = f" with {', '.join(names)} = 1" if names else ""
    return (
        f"{byte_size(weights + peak)}: weights {byte_size(weights)}, values {byte_size(peak)}{note}"
    )


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
    size = int(v.dtype.itemsize)
    for d in v.shape:
        size *= evaluate(d, {s.name: 1 for s in symbols(d)})
    return size
