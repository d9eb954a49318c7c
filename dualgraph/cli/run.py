"""``dualgraph run``: one run of an ONNX file, on given or random inputs."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np
from dualgraph_compiler.errors import ArgumentError, FeedError
from rich.console import Console
from rich.table import Table


@click.command("run")
@click.argument("model", type=click.Path(dir_okay=False))
@click.option(
    "--input", "-i", "inputs", multiple=True, metavar="NAME=FILE.npy", help="An input's array."
)
@click.option(
    "--dim", "-d", "dims", multiple=True, metavar="NAME=SIZE", help="A symbolic size; default 1."
)
@click.option("--save", type=click.Path(dir_okay=False), help="Write the outputs to this .npz file.")
@click.option("--seed", default=0, show_default=True, help="For random inputs.")
@click.option("--repeat", default=1, show_default=True, help="Runs to time.")
@click.option("--cuda", is_flag=True, help="Run on the first GPU.")
def command(
    model: str,
    inputs: Sequence[str],
    dims: Sequence[str],
    save: str | None,
    seed: int,
    repeat: int,
    cuda: bool,
) -> None:
    """Run MODEL once and show its outputs. Inputs that are not given are random."""
    from dualgraph_runtime import InferenceSession

    provider = "CUDAExecutionProvider" if cuda else "CPUExecutionProvider"
    session = InferenceSession(model, providers=[provider])
    declared = {a.name: a for a in session.get_inputs()}
    given = _arrays(inputs, declared)
    sizes = {name: _size(name, text) for name, text in _pairs(dims, "--dim", "NAME=SIZE")}
    rng = np.random.default_rng(seed)
    feeds = {
        name: given[name] if name in given else random_input(arg, sizes, rng)
        for name, arg in declared.items()
    }
    results, seconds = session.run(None, feeds), []
    for _ in range(max(repeat, 1)):
        start = time.perf_counter()
        results = session.run(None, feeds)
        seconds.append(time.perf_counter() - start)
    names = [a.name for a in session.get_outputs()]
    _show(Console(), feeds, given, names, results, seconds)
    if save:
        with open(save, "wb") as file:
            np.savez(file, **dict(zip(names, results, strict=True)))


def _pairs(texts: Sequence[str], option: str, form: str) -> list[tuple[str, str]]:
    pairs = []
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals:
            raise ArgumentError(f"{option} expects {form}, got {text!r}")
        pairs.append((name, value))
    return pairs


def _size(name: str, text: str) -> int:
    if not text.isdigit():
        raise ArgumentError(f"--dim {name}: expected a size such as 4, got {text!r}")
    return int(text)


def _arrays(texts: Sequence[str], declared: dict[str, Any]) -> dict[str, Any]:
    """The arrays of ``NAME=FILE.npy`` options."""
    out = {}
    for name, path in _pairs(texts, "--input", "NAME=FILE.npy"):
        if name not in declared:
            raise FeedError(
                f"the model has no input {name!r}; it has {', '.join(map(repr, declared))}"
            )
        if not Path(path).is_file():
            raise ArgumentError(f"--input {name}: no such file: {path}")
        try:
            out[name] = np.load(path, allow_pickle=False)
        except (ValueError, EOFError) as error:
            raise ArgumentError(f"--input {name}: {path} is no .npy file: {error}") from error
    return out


def random_input(arg: Any, sizes: dict[str, int], rng: np.random.Generator) -> Any:
    """Random data for an input: normal for floats, small non-negative integers, coin flips."""
    from dualgraph_compiler.dtypes import BOOL, INT, as_dtype

    names = {"tensor(float)": "float32", "tensor(double)": "float64"}
    dtype = as_dtype(names.get(arg.type, arg.type.removeprefix("tensor(").removesuffix(")")))
    shape = [sizes.get(str(d), 1) if not isinstance(d, int) else d for d in arg.shape]
    if dtype.category == BOOL:
        return rng.integers(0, 2, shape).astype(bool)
    if dtype.category == INT:
        return rng.integers(0, 10, shape).astype(dtype.np)
    return rng.standard_normal(shape).astype(dtype.np)


def _show(
    console: Console,
    feeds: dict[str, Any],
    given: dict[str, Any],
    names: Sequence[str],
    results: Sequence[Any],
    seconds: Sequence[float],
) -> None:
    table = Table(box=None, pad_edge=False)
    for title in ("", "name", "dtype", "shape", "min", "mean", "max", "first elements"):
        table.add_column(title)
    for name, array in feeds.items():
        table.add_row("input" if name in given else "random input", *_row(name, array))
    for name, array in zip(names, results, strict=True):
        table.add_row("output", *_row(name, array))
    console.print(table)
    best = sorted(seconds)[len(seconds) // 2] * 1e3
    runs = f"median of {len(seconds)} runs" if len(seconds) > 1 else "one run after a first"
    console.print(f"\n{best:.3f} ms ({runs})")


def _row(name: str, array: Any) -> list[str]:
    shape = str(list(array.shape)).replace("[", "\\[")
    if not array.size or array.dtype.kind not in "fiu":
        return [name, str(array.dtype), shape, "", "", "", _first(array)]
    x = array.astype(np.float64)
    stats = [f"{v:.4g}" for v in (x.min(), x.mean(), x.max())]
    return [name, str(array.dtype), shape, *stats, _first(array)]


def _first(array: Any) -> str:
    text = " ".join(f"{v:.4g}" if array.dtype.kind == "f" else str(v) for v in array.flat[:4])
    return text + (" ..." if array.size > 4 else "")
