"""``dualgraph convert``: the same ONNX model in another form."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click
from rich.console import Console

from dualgraph.cli.compared import compare_models
from dualgraph.cli.files import require_writable
from dualgraph.cli.text import byte_size, literal
from dualgraph_compiler.errors import ArgumentError

_HALF_TOLERANCE = {"float16": 2e-2, "bfloat16": 1e-1}


@click.command("convert")
@click.argument("model", type=click.Path())
@click.argument("to", type=click.Path())
@click.option("--opset", type=int, help="Bring it to this newer operator set.")
@click.option("--float16", "half", flag_value="float16", help="Compute in float16.")
@click.option("--bfloat16", "half", flag_value="bfloat16", help="Compute in bfloat16.")
@click.option("--keep", multiple=True, metavar="NAME", help="A node or operator left in float32.")
@click.option(
    "--external/--internal", default=False, help="Weights in a file beside it, or inside."
)
@click.option("--check/--no-check", default=True, help="Compare results on random inputs.")
@click.option("--tolerance", type=float, help="Of the largest element; what the form allows.")
def command(
    model: str,
    to: str,
    opset: int | None,
    half: str | None,
    keep: Sequence[str],
    external: bool,
    check: bool,
    tolerance: float | None,
) -> int:
    """Write MODEL to TO at another opset, in half precision, or with its weights elsewhere."""
    from dualgraph_compiler.dtypes import as_dtype
    from dualgraph_compiler.onnx import load_model, save_model
    from dualgraph_compiler.onnx.rewriting import to_half, to_opset, with_weights

    require_writable("TO", to)
    if keep and half is None:
        raise ArgumentError("--keep says what stays float32, which needs --float16 or --bfloat16")
    file = load_model(model)
    made = with_weights(file) if opset is None else to_opset(file, opset)
    if half is not None:
        made = to_half(file.with_proto(made), as_dtype(half), keep)
    worst = None
    if check:
        allowed = tolerance or _HALF_TOLERANCE.get(half or "", 1e-4)
        worst = compare_models(with_weights(file), made, allowed)
    save_model(made, to, external_data=external)
    console = Console()
    sizes = " -> ".join(byte_size(_bytes(p)) for p in (model, to))
    console.print(literal(f"wrote {to}: {sizes}"), soft_wrap=True)
    if worst is not None:
        console.print(literal(f"results differ by {worst:.1e} of the largest element at most"))
    return 0


def _bytes(path: str) -> int:
    """The size of a model file and of the data that belongs to it."""
    beside = Path(f"{path}.data")
    return Path(path).stat().st_size + (beside.stat().st_size if beside.is_file() else 0)
