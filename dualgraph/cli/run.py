"""``dualgraph run``: one run of an ONNX file, on given or random inputs."""

from __future__ import annotations

import math
import statistics
import time
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import click
import numpy as np
from rich.console import Console
from rich.table import Table

from dualgraph.cli.files import require_writable, writing
from dualgraph.cli.text import byte_size, duration, literal, printable
from dualgraph_compiler.errors import ArgumentError, FeedError

if TYPE_CHECKING:
    from dualgraph_runtime import NodeArg

Array: TypeAlias = np.ndarray[Any, Any]

MAX_RANDOM_BYTES = 4 << 30  # a random input larger than this is a slip of the pen
_SHOWN = 12  # elements of an output that are printed in full


@click.command("run")
@click.argument("model", type=click.Path())
@click.option(
    "--input",
    "-i",
    "inputs",
    multiple=True,
    metavar="NAME=FILE.npy",
    help="The array for an input; the others are random.",
)
@click.option(
    "--dim",
    "-d",
    "dims",
    multiple=True,
    metavar="NAME=SIZE",
    help="A size the model leaves open, for random inputs; 1 where not given.",
)
@click.option("--save", type=click.Path(), metavar="FILE.npz", help="Write the outputs there.")
@click.option(
    "--seed", default=0, show_default=True, type=click.IntRange(0), help="Of random inputs."
)
@click.option(
    "--repeat",
    default=1,
    show_default=True,
    type=click.IntRange(1),
    help="Runs to time, after a first that is not timed.",
)
@click.option(
    "--profile", is_flag=True, help="Show where the time of the runs goes, kernel by kernel."
)
@click.option("--cuda", is_flag=True, help="Run on the first GPU.")
def command(
    model: str,
    inputs: Sequence[str],
    dims: Sequence[str],
    save: str | None,
    seed: int,
    repeat: int,
    profile: bool,
    cuda: bool,
) -> None:
    """Run MODEL and show its outputs."""
    from dualgraph_runtime import InferenceSession, SessionOptions

    require_writable("--save", save)
    provider = "CUDAExecutionProvider" if cuda else "CPUExecutionProvider"
    options = SessionOptions()
    options.enable_profiling = profile
    session = InferenceSession(model, options, [provider])
    declared = {a.name: a for a in session.get_inputs()}
    given = _given_arrays(inputs, declared)
    sizes = _sizes(dims, declared)
    rng = np.random.default_rng(seed)
    feeds = {
        name: given[name] if name in given else random_input(arg, sizes, rng)
        for name, arg in declared.items()
    }
    results = session.run(None, feeds)
    table = str(session.profile(feeds, repeat)) if profile else ""
    seconds = []
    for _ in range(repeat):
        start = time.perf_counter()
        session.run(None, feeds)
        seconds.append(time.perf_counter() - start)
    outputs = dict(zip((a.name for a in session.get_outputs()), results, strict=True))
    console = Console()
    _show(console, feeds, given, outputs, seconds)
    if table:
        console.print()
        console.print(
            "\n".join(map(printable, table.splitlines())),
            markup=False,
            highlight=False,
            soft_wrap=True,
        )
    if save is not None:
        save_arrays(save, outputs)


def _pairs(texts: Sequence[str], option: str, form: str) -> dict[str, str]:
    pairs: dict[str, str] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not (name and equals and value):
            raise ArgumentError(f"{option} expects {form}, got {text!r}")
        if name in pairs:
            raise ArgumentError(f"{option} {name} is given twice")
        pairs[name] = value
    return pairs


def _sizes(texts: Sequence[str], declared: Mapping[str, NodeArg]) -> dict[str, int]:
    """The sizes of ``NAME=SIZE`` options."""
    open_sizes = [d for a in declared.values() for d in a.shape if isinstance(d, str)]
    known = dict.fromkeys([*open_sizes, *(n for d in open_sizes for n in _names(d))])
    sizes = sizes_of(texts)
    for name in sizes:
        if name not in known:
            have = ", ".join(map(repr, known)) or "none"
            raise ArgumentError(f"--dim {name}: the model has no such open size; it has {have}")
    return sizes


def sizes_of(texts: Sequence[str]) -> dict[str, int]:
    """The sizes of ``NAME=SIZE`` options, whatever the model."""
    sizes = {}
    for name, text in _pairs(texts, "--dim", "NAME=SIZE").items():
        if not (text.isascii() and text.isdigit() and len(text) < 19):
            raise ArgumentError(f"--dim {name}: expected a size such as 4, got {text!r}")
        sizes[name] = int(text)
    return sizes


def _given_arrays(texts: Sequence[str], declared: Mapping[str, NodeArg]) -> dict[str, Array]:
    """The arrays of ``NAME=FILE.npy`` options."""
    out = {}
    for name, path in _pairs(texts, "--input", "NAME=FILE.npy").items():
        if name not in declared:
            have = ", ".join(map(repr, declared)) or "none"
            raise FeedError(f"--input {name}: the model has no such input; it has {have}")
        try:
            out[name] = read_npy(path)
        except ArgumentError as error:
            raise ArgumentError(f"--input {name}: {error}") from error
    return out


def read_npy(path: str) -> Array:
    """The array in a .npy file.

    Mapped before it is copied: a header that claims more than the file holds costs no memory.

    Raises:
        ArgumentError: there is no such file, or it holds no array of plain values.
    """
    if not Path(path).is_file():
        raise ArgumentError(f"{path}: no such file")
    try:
        data = np.load(path, mmap_mode="r", allow_pickle=False)
    except OSError as error:
        raise ArgumentError(f"{path}: {error.strerror or error}") from error
    except Exception as error:  # a header that is not what it should be fails in many ways
        reason = "" if "pickle" in str(error) else f" ({error})"
        raise ArgumentError(f"{path}: not a .npy file of plain values{reason}") from error
    if not isinstance(data, np.ndarray):
        data.close()
        raise ArgumentError(f"{path}: an archive; expected a single array as np.save writes it")
    return np.array(data)


def random_input(arg: NodeArg, sizes: Mapping[str, int], rng: np.random.Generator) -> Array:
    """Random data for an input: normal for floats, integers from 0 to 9, coin flips for booleans.

    Raises:
        ArgumentError: the shape would take more memory than `MAX_RANDOM_BYTES`.
    """
    from dualgraph_compiler.dtypes import BOOL, INT, as_dtype

    names = {"float": "float32", "double": "float64"}
    name = arg.type.removeprefix("tensor(").removesuffix(")")
    dtype = as_dtype(names.get(name, name))
    shape = [_size(d, sizes) for d in arg.shape]
    needed = math.prod(shape) * 8
    if needed > MAX_RANDOM_BYTES:
        raise ArgumentError(
            f"input {arg.name!r} of shape {shape} needs {byte_size(needed)} of random numbers; "
            "give an array with --input, or sizes with --dim"
        )
    if dtype.category == BOOL:
        return rng.integers(0, 2, shape).astype(bool)
    if dtype.category == INT:
        return rng.integers(0, 10, shape).astype(dtype.np)
    return rng.standard_normal(shape).astype(dtype.np)


def _names(text: str) -> list[str]:
    """The names in a size that is an expression, such as ``2*batch``; none in any other text."""
    from dualgraph_compiler.dims import parse_dim, symbols
    from dualgraph_compiler.errors import ShapeError

    try:
        return [s.name for s in symbols(parse_dim(text))]
    except ShapeError:  # any text may stand in a file
        return []


def _size(d: int | str | None, sizes: Mapping[str, int]) -> int:
    """The size of a dimension: its name's, or an expression's of names; 1 if none is given."""
    from dualgraph_compiler.dims import evaluate, parse_dim

    if isinstance(d, int):
        return d
    if d is None or d in sizes or not _names(d):
        return sizes.get(str(d), 1)
    return max(evaluate(parse_dim(d), {n: sizes.get(n, 1) for n in _names(d)}), 0)


def save_arrays(path: str, arrays: Mapping[str, Array]) -> None:
    """Write arrays to an .npz file, completely or not at all. Any name is fine."""
    with writing(path) as file, zipfile.ZipFile(file, "w") as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as entry:
                np.lib.format.write_array(entry, np.asarray(array), allow_pickle=False)


def _show(
    console: Console,
    feeds: Mapping[str, Array],
    given: Mapping[str, Array],
    outputs: Mapping[str, Array],
    seconds: Sequence[float],
) -> None:
    table = Table(box=None, pad_edge=False)
    table.add_column("")
    table.add_column("tensor", overflow="fold")
    for title in ("min", "mean", "max"):
        table.add_column(title, justify="right", no_wrap=True)
    for name, array in feeds.items():
        table.add_row("input" if name in given else "random input", *_row(name, array))
    for name, array in outputs.items():
        table.add_row("output", *_row(name, array), style="bold")
    console.print(table)
    for name, array in outputs.items():
        console.print()
        console.print(literal(f"{name} ="))
        console.print(_values(array), markup=False, highlight=False, soft_wrap=True)
    runs = f"median of {len(seconds)} runs" if len(seconds) > 1 else "the second run"
    console.print(f"\n{duration(statistics.median(seconds))} ({runs})", highlight=False)


def _row(name: str, array: Array) -> list[Any]:
    title = literal(f"{name}: {array.dtype}{list(array.shape)}")
    if not array.size or array.dtype.kind not in "fiu":
        return [title, "", "", ""]
    x = array.astype(np.float64)
    return [title, *(f"{v:.4g}" for v in (x.min(), x.mean(), x.max()))]


def _values(array: Array) -> str:
    """All of a small array, the corners of a large one."""
    large = array.size > _SHOWN
    return np.array2string(
        array,
        precision=4,
        threshold=_SHOWN if large else array.size + 1,
        edgeitems=2 if array.ndim > 1 else 3,
        max_line_width=78,
    )
