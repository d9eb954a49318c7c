"""The demo's steps in order."""

from __future__ import annotations

import importlib.metadata
import platform
import time
from functools import partial
from pathlib import Path
from typing import Any

import click
import numpy as np
from rich.console import Console

import dualgraph as dg
from dualgraph.cli.demo import deploy, graphs, show
from dualgraph.cli.demo.story import Story, Timings
from dualgraph.cli.demo.train import BATCH, Training, predict, train
from dualgraph.cli.files import writing
from dualgraph.cli.report import page
from dualgraph.cli.timing import Work, interleaved_medians, one_blas_thread
from dualgraph_compiler.errors import DualGraphError
from dualgraph_models.datasets import Split, digits_split

BATCHES = (1, BATCH)  # sizes that inference is timed with


@click.command("demo")
@click.option("--out", default=".", type=click.Path(), metavar="DIR", show_default=True,
              help="Where the files go.")  # fmt: skip
@click.option("--epochs", default=20, show_default=True, type=click.IntRange(1))
@click.option("--seed", default=0, show_default=True, type=click.IntRange(0))
@click.option("--peers/--no-peers", default=True, help="Compare with onnxruntime if installed.")
def command(out: str, epochs: int, seed: int, peers: bool) -> None:
    """Train a digit classifier on real data, trace and optimise it, export it, run it standalone.

    Leaves digits.onnx, digits.safetensors and digits.html (open it in a browser) in DIR.
    """
    start = time.perf_counter()
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    console = Console(highlight=False)
    with one_blas_thread() as one_thread:
        story = _tell(console, folder, epochs, seed, peers, one_thread)
    with writing(folder / "digits.html") as file:
        file.write(page(story).encode())
    show.summary(console, story, folder, time.perf_counter() - start)
    if not all(a.is_good for a in story.agreements):
        raise DualGraphError("the ways of running the model disagree; see the table above")


def _tell(
    console: Console, folder: Path, epochs: int, seed: int, peers: bool, one_thread: bool
) -> Story:
    split = digits_split()
    show.data(console, split)
    with show.training_progress(console, epochs, len(split.train_labels) // BATCH) as on_batch:
        training = train(split, epochs, seed, on_batch)
    show.training(console, training)

    inference = graphs.trace_inference(training.model)
    step = graphs.trace_training_step(training.model)
    show.graphs(console, inference, step)

    onnx_path, weights_path = folder / "digits.onnx", folder / "digits.safetensors"
    proto = deploy.export(training.model, onnx_path)
    dg.save(training.model.state_dict(), weights_path)
    show.exported(console, onnx_path, weights_path, proto)

    other = deploy.onnxruntime_session(onnx_path, one_thread=one_thread) if peers else None
    agreements = _agreements(training, split, onnx_path, other)
    show.agreements(console, agreements, deploy.SHOWN)

    with console.status("timing, contenders taking turns"):
        timings = _timings(training, split, onnx_path, other)
    show.timings(console, timings, one_thread)
    return Story(
        seed=seed,
        split=split,
        training=training,
        inference=inference,
        training_step=step,
        agreements=agreements,
        timings=timings,
        one_thread=one_thread,
        opset=proto.opset_import[0].version,
        onnx_bytes=onnx_path.stat().st_size,
        versions=_versions(),
    )


def _agreements(
    training: Training, split: Split, onnx_path: Path, other: Any | None
) -> list[deploy.Agreement]:
    images, eager = split.test_images, training.scores
    found = [
        deploy.compare("traced: dg.compile(model)",
                       predict(dg.compile(training.model), images).numpy(), eager),
        deploy.compare("standalone: the runtime alone",
                       deploy.run_standalone(onnx_path, images), eager),
    ]  # fmt: skip
    if other is not None:
        (scores,) = other.run(None, {"x": images})
        found.append(deploy.compare("onnxruntime, the same file", scores, eager))
    return found


def _timings(training: Training, split: Split, onnx_path: Path, other: Any | None) -> Timings:
    from dualgraph_runtime import InferenceSession, SessionOptions

    options = SessionOptions()
    if options.execution == "auto":
        options.execution = "native"  # not what runs while that is being built
    session = InferenceSession(onnx_path, options)
    compiled = dg.compile(training.model, execution=options.execution)
    timings: Timings = {}
    for batch in BATCHES:
        images = np.ascontiguousarray(split.test_images[:batch])
        contenders: dict[str, Work] = {
            "eager": partial(predict, training.model, images),
            "traced": partial(predict, compiled, images),
            "runtime": partial(session.run, None, {"x": images}),
        }
        if other is not None:
            contenders["onnxruntime"] = partial(other.run, None, {"x": images})
        timings[batch] = interleaved_medians(contenders)
    return timings


def _versions() -> dict[str, str]:
    """What took part, for the page's foot."""
    found = {"dualgraph": dg.__version__, "python": platform.python_version()}
    for name in ("numpy", "onnx", "onnxruntime"):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
