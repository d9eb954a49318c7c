"""``dualgraph optimize``: a smaller ONNX file that computes the same."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.table import Table

from dualgraph.cli.compared import compare_models
from dualgraph.cli.files import require_writable
from dualgraph.cli.text import byte_size, literal
from dualgraph_compiler.errors import OnnxError

if TYPE_CHECKING:
    from dualgraph_compiler.onnx import ModelFile


@click.command("optimize")
@click.argument("model", type=click.Path())
@click.argument("to", type=click.Path())
@click.option(
    "--opset", type=int, help="Of the new file; the model's own, 13 at least, if not given."
)
@click.option("--external", is_flag=True, help="Put the weights into a file beside it.")
@click.option("--check/--no-check", default=True, help="Compare results on random inputs.")
def command(model: str, to: str, opset: int | None, external: bool, check: bool) -> int:
    """Write MODEL to TO with constants folded, operators merged and what nobody reads left out.

    Of a model that runs in steps, operators stay what they are; equal ones become one.
    """
    from dualgraph_compiler.compile import optimize
    from dualgraph_compiler.onnx import export_graph, import_model, load_model, save_model
    from dualgraph_compiler.onnx.cleaning import cleaned
    from dualgraph_compiler.onnx.lift import opset_of
    from dualgraph_compiler.onnx.rewriting import node_counts, to_opset, with_weights

    require_writable("TO", to)
    file = load_model(model)
    try:
        graph = optimize(import_model(file))
    except OnnxError as error:  # no single graph, perhaps
        _require_steps(file, error)
        made = cleaned(file)
        if opset is not None:
            made = to_opset(file.with_proto(made), opset)
    else:
        made = export_graph(
            graph,
            opset=max(opset_of(file.proto), 13) if opset is None else opset,
            producer_name=file.proto.producer_name or "dualgraph",
            metadata={p.key: p.value for p in file.proto.metadata_props},
        )
    worst = compare_models(with_weights(file), made) if check else None
    save_model(made, to, external_data=external)
    before, after = node_counts(file.proto), node_counts(made)
    table = Table(box=None, pad_edge=False)
    for title in ("", "before", "after"):
        table.add_column(title, justify="left" if not title else "right")
    for op in sorted({*before, *after}):
        if before.get(op, 0) != after.get(op, 0):
            table.add_row(literal(op), str(before.get(op, 0)), str(after.get(op, 0)))
    table.add_row("nodes", str(sum(before.values())), str(sum(after.values())), style="bold")
    sizes = [byte_size(Path(p).stat().st_size) for p in (model, to)]
    table.add_row("file", *sizes, style="bold")
    console = Console()
    console.print(table)
    if worst is not None:
        console.print(literal(f"results differ by {worst:.1e} of the largest element at most"))
    return 0


def _require_steps(file: ModelFile, error: OnnxError) -> None:
    """Raise `error` if the model does not run in steps either."""
    from dualgraph_runtime import CPU, SessionOptions
    from dualgraph_runtime.stepwise import Steps

    Steps(file, error, SessionOptions(), CPU, "interpreter")
