"""The demo in the terminal: one heading a step, progress while it works, a summary at the end."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from rich.columns import Columns
from rich.console import Console
from rich.panel import Panel
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.syntax import Syntax
from rich.table import Table
from rich.text import Text

from dualgraph.cli.demo.deploy import Agreement
from dualgraph.cli.demo.graphs import Optimised, short_text
from dualgraph.cli.demo.story import Story, Timings
from dualgraph.cli.demo.train import Epoch, Training
from dualgraph.cli.text import byte_size, duration, literal
from dualgraph_compiler.graph import Graph
from dualgraph_models.datasets import Split

_INK = " .:-=+*#%@"  # paper to ink
_PICTURES = 6


def _step(console: Console, number: int, title: str) -> None:
    console.print()
    console.rule(f"[bold]{number}. {title}[/]", align="left", style="cyan")


def _paragraph(console: Console, text: str) -> None:
    console.print(text, width=min(console.width, 90))


def data(console: Console, split: Split) -> None:
    """Step 1 begins: the data, with a few pictures of it."""
    _step(console, 1, "Train eagerly")
    _paragraph(
        console,
        f"UCI optical digits, handwritten, 8x8 pixels: {len(split.train_labels):,} to train on, "
        f"{len(split.test_labels)} held out. Held out are the last 3 of the 14 forms that people "
        "filled: handwriting the model has not seen (one writer at most is on both sides).",
    )
    console.print()
    fitting = max(1, console.width // (2 * split.train_images.shape[-1] + 2))
    pictures = [_picture(image[0]) for image in split.train_images[: min(fitting, _PICTURES)]]
    console.print(Columns(pictures, padding=(0, 2)))
    console.print()


def _picture(image: Any) -> Text:
    """An image in characters; each pixel is two wide, as characters are tall."""
    levels = np.clip((image * (len(_INK) - 1)).round().astype(int), 0, len(_INK) - 1)
    return Text("\n".join("".join(_INK[v] * 2 for v in row) for row in levels), "bold")


@contextmanager
def training_progress(
    console: Console, epochs: int, batches: int
) -> Iterator[Callable[[list[Epoch]], None]]:
    """A progress bar over all batches; yields what to call after each."""
    columns = (
        TextColumn("epoch {task.fields[epoch]:>2}/" + str(epochs)),
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        TextColumn("{task.fields[state]}"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("", total=epochs * batches, epoch=1, state="")

        def on_batch(history: list[Epoch]) -> None:
            state = ""
            if history:
                last = history[-1]
                state = f"loss {last.train_loss:.3f}  accuracy {last.accuracy:.1%}"
            progress.update(task, advance=1, epoch=len(history) + 1, state=state)

        yield on_batch


def training(console: Console, result: Training) -> None:
    """Step 1 ends: how training went."""
    table = Table(box=None, pad_edge=False)
    for title in ("epoch", "training loss", "held-out loss", "held-out accuracy"):
        table.add_column(title, justify="right")
    count = len(result.epochs)
    for i in sorted({0, count // 4, count // 2, 3 * count // 4, count - 1}):
        e = result.epochs[i]
        row = [str(i + 1), f"{e.train_loss:.4f}", f"{e.test_loss:.4f}", f"{e.accuracy:.2%}"]
        table.add_row(*row, style="bold" if i == count - 1 else "")
    console.print(table)
    _paragraph(
        console,
        f"{result.n_parameters:,} parameters, {count} epochs in {duration(result.seconds)}: "
        f"[bold green]{result.epochs[-1].accuracy:.2%}[/] of the held-out images read right.",
    )


def graphs(console: Console, inference: Optimised, step: Optimised) -> None:
    """Step 2: the graph before and after, and what each pass did."""
    _step(console, 2, "Trace the same model object, optimise its graph")
    for title, graph in (("Before", inference.before), ("After", inference.after)):
        console.print(f"[bold]{title}: {len(graph)} nodes[/]")
        _print_graph(console, graph)
        console.print()
    _paragraph(
        console,
        "features.0 stands for that layer's weights, features.0' for weights that batch norm was "
        "folded into. Nodes after each pass, of the model and of a training step of it, traced "
        "with its loss and all gradients:",
    )
    console.print()
    console.print(pass_table(inference, step))
    fused = sum(k.is_fused for k in step.report.grouping.kernels)
    console.print()
    _paragraph(
        console,
        f"Pointwise grouping: {inference.report.kernels} kernels become "
        f"{len(inference.report.grouping.kernels)} in the model, {step.report.kernels} become "
        f"{len(step.report.grouping.kernels)} in the training step, where {fused} of them compute "
        "several nodes at once.",
    )


def _print_graph(console: Console, graph: Graph) -> None:
    for line in short_text(graph):
        code, mark, where = line.partition("  # ")
        text = Text("  ").append_text(literal(code))
        text.highlight_regex(r"(?<== )\w+", "bold cyan")
        text.highlight_regex(r"(?<=: )\w+\[[^\]]*\]", "dim")
        text.append(mark + where, "dim green")
        console.print(text, soft_wrap=True)


def pass_table(inference: Optimised, step: Optimised) -> Table:
    """What each pass left, for both graphs."""
    table = Table(box=None, pad_edge=False)
    table.add_column("pass")
    table.add_column("model", justify="right")
    table.add_column("training step", justify="right")
    table.add_row("(as traced)", str(len(inference.before)), str(len(step.before)), style="dim")
    for a, b in zip(inference.report.passes, step.report.passes, strict=True):
        table.add_row(a.name, _after(a), _after(b))
    return table


def _after(record: Any) -> Text:
    removed = record.before - record.after
    note = f"{-removed:+d}  " if removed else ""
    style = "bold" if removed else "" if record.changed else "dim"
    return Text(f"{note}{record.after}", style)


def exported(console: Console, onnx_path: Path, weights_path: Path, proto: Any) -> None:
    """Step 3: the files."""
    _step(console, 3, "Export")
    opset = proto.opset_import[0].version
    for path, what in (
        (onnx_path, f"ONNX opset {opset}, any batch size, accepted by onnx.checker"),
        (weights_path, "the weights alone, for dg.load"),
    ):
        line = literal(path.name, "bold").append(f"  {what}, {byte_size(path.stat().st_size)}", "")
        console.print(line)


def agreements(console: Console, found: Sequence[Agreement], code: str) -> None:
    """Step 4: every way of running it gives the eager answer."""
    _step(console, 4, "Run it without the model's code")
    console.print("In a new process, in which `dualgraph` cannot be imported:", markup=False)
    console.print(Panel(Syntax(code, "python", background_color="default"), border_style="dim"))
    table = Table(box=None, pad_edge=False)
    table.add_column("compared with the eager model")
    table.add_column("same prediction", justify="right")
    table.add_column("largest difference", justify="right")
    for a in found:
        mark = "" if a.is_good else "red"
        difference = f"{a.largest_difference:.1e}"
        table.add_row(a.name, f"{a.same} of {a.images}", difference, style=mark)
    console.print(table)


def timings(console: Console, found: Timings, one_thread: bool) -> None:
    """Step 5: times side by side."""
    _step(console, 5, "Time them side by side")
    table = Table(box=None, pad_edge=False)
    table.add_column("median time of a call")
    for batch in found:
        table.add_column(f"{batch} image{'s' * (batch > 1)}", justify="right")
    for name in next(iter(found.values())):
        table.add_row(name, *(duration(row[name]) for row in found.values()))
    console.print(table)
    note = "one thread each" if one_thread else "default numbers of threads"
    console.print(f"[dim]taking turns in short blocks, {note}[/]")


def summary(console: Console, story: Story, folder: Path, seconds: float) -> None:
    """What to remember, and where the files are."""
    last = story.training.epochs[-1]
    wrong = int((story.training.predictions != story.split.test_labels).sum())
    worst = max(a.largest_difference for a in story.agreements)
    agree = all(a.is_good for a in story.agreements)
    before, after = len(story.inference.before), len(story.inference.after)
    folded = _batch_norms(story.inference.before) - _batch_norms(story.inference.after)
    lines = [
        f"[bold green]{last.accuracy:.2%}[/] on {len(story.split.test_labels)} held-out digits "
        f"({wrong} wrong), trained eagerly in {duration(story.training.seconds)}",
        f"[bold]{before} -> {after}[/] nodes: {folded} batch norms folded into convolutions",
        f"[bold {'green' if agree else 'red'}]{'same' if agree else 'DIFFERENT'} predictions[/] "
        f"traced, standalone{', in onnxruntime' * (len(story.agreements) > 2)}; scores "
        f"within {worst:.0e}",
    ]
    files = ("digits.onnx", "digits.safetensors", "digits.html")
    width = max(len(str(folder / name)) for name in files)
    body = Text.from_markup("\n".join(f"  {line}" for line in lines))
    body.append("\n\n")
    for name, what in zip(files, ("the model", "its weights", "open this one"), strict=True):
        body.append(f"  {folder / name!s:<{width}}", "cyan").append(f"  {what}\n", "dim")
    body.append(f"\n  {duration(seconds)} in all")
    console.print()
    console.print(Panel(body, title="[bold]One model, both ways[/]", border_style="green"))


def _batch_norms(graph: Graph) -> int:
    return sum(node.op.name == "batch_norm" for node in graph.nodes)
