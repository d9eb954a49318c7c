"""``dualgraph quantize``: an ONNX model in 8 bits."""

from __future__ import annotations

from typing import Any

import click

from dualgraph.cli.files import require_writable
from dualgraph.cli.text import printable


@click.command("quantize")
@click.argument("model", type=click.Path())
@click.argument("out", type=click.Path())
@click.option("--data", type=click.Path(), metavar="DIR", help="Inputs to measure ranges with.")
@click.option(
    "--method",
    type=click.Choice(["minmax", "percentile", "entropy"]),
    default="minmax",
    show_default=True,
    help="What of the measured numbers counts.",
)
@click.option(
    "--least-snr",
    type=float,
    default=15.0,
    show_default=True,
    metavar="DB",
    help="Layers of which less would be left stay in float32.",
)
@click.option("--opset", type=int, default=21, show_default=True, help="Version of ai.onnx.")
def command(
    model: str, out: str, data: str | None, method: Any, least_snr: float, opset: int
) -> None:
    """Write MODEL to OUT with its layers in 8 bits, as standard operators.

    With --data, a folder of .npy files (of a single input) or .npz files (arrays by name), ranges
    are those of these inputs, and the report compares results on them; without, each run finds its
    own.
    """
    from dualgraph_compiler.onnx import load_model
    from dualgraph_runtime.quantization import folder_feeds, quantize

    require_writable("OUT", out)
    file = load_model(model)
    weights = {t.name for t in file.proto.graph.initializer}
    inputs = [v.name for v in file.proto.graph.input if v.name not in weights]
    feeds = None if data is None else folder_feeds(data, inputs)
    made = quantize(file, feeds, method=method, least_snr=least_snr, opset=opset)
    made.save(out)
    click.echo("\n".join(map(printable, str(made).splitlines())))
    click.echo(f"wrote {printable(out)}")
