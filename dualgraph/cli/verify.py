"""``dualgraph verify``: one model through every engine there is, and where they part."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click
import numpy as np
from rich.console import Console
from rich.table import Table

from dualgraph.cli.engines import RTOL, Engine, Feeds, difference, engines, random_feeds, read_feeds
from dualgraph.cli.text import literal

if TYPE_CHECKING:
    import onnx


@click.command("verify")
@click.argument("model", type=click.Path())
@click.option("--inputs", type=click.Path(), metavar="FILE.npz", help="Arrays for the inputs.")
@click.option("--dim", "-d", "dims", multiple=True, metavar="NAME=SIZE", help="A size left open.")
@click.option("--seed", default=0, show_default=True, type=click.IntRange(0))
@click.option("--tolerance", default=RTOL, show_default=True, help="Of the largest element.")
def command(
    model: str, inputs: str | None, dims: Sequence[str], seed: int, tolerance: float
) -> int:
    """Run MODEL in every engine and compare; exit status 1 where they differ."""
    from dualgraph.cli.run import sizes_of
    from dualgraph_compiler.onnx import load_model
    from dualgraph_compiler.onnx.rewriting import with_weights

    whole = with_weights(load_model(model))
    feeds = read_feeds(inputs) if inputs else random_feeds(whole, sizes_of(dims), seed)
    return verify(Console(), whole, feeds, engines(), tolerance)


def verify(
    console: Console,
    model: onnx.ModelProto,
    feeds: Feeds,
    ways: dict[str, Engine],
    tolerance: float,
) -> int:
    """Print how the engines' outputs differ from the first's, and the first node that differs.

    Returns 0 if all that could run the model agree, else 1.
    """
    results: dict[str, Sequence[Any]] = {}
    rows: dict[str, str] = {}
    for name, run in ways.items():
        if console.is_terminal:
            console.print(literal(f"running {name} ...".ljust(40)), end="\r")
        try:
            results[name] = run(model, feeds)
        except Exception as error:  # whatever an engine may raise: it takes no part
            if name == next(iter(ways)):
                raise
            rows[name] = f"cannot run it: {' '.join(str(error).split())[:70]}"
    first = next(iter(results))
    apart = {}
    for name, outputs in results.items():
        gap = max(map(difference, outputs, results[first]), default=0.0)
        verdict = "agrees" if gap <= tolerance else "differs"
        rows[name] = "compared with" if name == first else f"{gap:.1e}  {verdict}"
        if gap > tolerance:
            apart[name] = gap
    table = Table(box=None, pad_edge=False)
    table.add_column("engine")
    table.add_column("largest difference of an output", overflow="fold")
    for name in ways:
        table.add_row(literal(name), literal(rows[name]))
    console.print(table)
    for name in apart:
        found = first_diverging(model, feeds, ways[first], ways[name], tolerance)
        console.print()
        _explain(console, model, feeds, found, (first, ways[first]), (name, ways[name]))
    return 1 if apart else 0


def first_diverging(
    model: onnx.ModelProto, feeds: Feeds, one: Engine, other: Engine, tolerance: float
) -> int:
    """The position of the first node with a result that two engines disagree about.

    Found by halving the model: if all that later nodes read of earlier ones agrees, so do those.
    """
    low, high = 0, len(model.graph.node) - 1
    while low < high:
        middle = (low + high) // 2
        if _agree(exposing(model, _frontier(model, middle)), feeds, one, other, tolerance):
            low = middle + 1
        else:
            high = middle
    return low


def _frontier(model: onnx.ModelProto, last: int) -> list[str]:
    """What nodes up to `last` compute and later ones read, or the caller gets."""
    nodes = list(model.graph.node)
    read = {name for node in nodes[last + 1 :] for name in _reads(node)}
    read.update(o.name for o in model.graph.output)
    return [name for node in nodes[: last + 1] for name in node.output if name in read]


def _reads(node: onnx.NodeProto) -> set[str]:
    """The values that a node, or a graph inside it, reads."""
    names = {name for name in node.input if name}
    for a in node.attribute:
        for graph in (*([a.g] if a.HasField("g") else ()), *a.graphs):
            for inner in graph.node:
                names |= _reads(inner)
            names.update(o.name for o in graph.output)
    return names


def _agree(
    part: onnx.ModelProto, feeds: Feeds, one: Engine, other: Engine, tolerance: float
) -> bool:
    """Whether two engines give the same, as far as the first can tell."""
    try:
        expected = one(part, feeds)
    except Exception:  # such as where no other type than the inferred one may be an output
        return True
    try:
        pairs = zip(expected, other(part, feeds), strict=True)
        return all(difference(b, a) <= tolerance for a, b in pairs)
    except Exception:
        return False


def exposing(model: onnx.ModelProto, names: Sequence[str]) -> onnx.ModelProto:
    """A model whose outputs are these values of `model`; what they do not need is left out."""
    import onnx

    out = onnx.ModelProto()
    out.CopyFrom(model)
    wanted = set(names)
    kept = []
    for node in reversed(model.graph.node):
        if wanted & set(node.output):
            kept.append(node)
            wanted |= _reads(node)
    del out.graph.node[:], out.graph.output[:]
    out.graph.node.extend(reversed(kept))
    types = _types(model)
    for name in names:
        out.graph.output.append(types.get(name) or onnx.ValueInfoProto(name=name))
    return out


def _types(model: onnx.ModelProto) -> dict[str, onnx.ValueInfoProto]:
    from onnx import shape_inference

    try:
        graph = shape_inference.infer_shapes(model).graph
    except Exception:  # nothing known then, which engines can do without
        graph = model.graph
    return {i.name: i for i in (*graph.value_info, *graph.output)}


def _explain(
    console: Console,
    model: onnx.ModelProto,
    feeds: Feeds,
    at: int,
    first: tuple[str, Engine],
    other: tuple[str, Engine],
) -> None:
    node = model.graph.node[at]
    console.print(
        literal(
            f"{other[0]} first differs at node {node.name or node.output[0]!r} ({node.op_type})"
        )
    )
    if node.doc_string:
        console.print(literal(f"  source    {node.doc_string.splitlines()[0]}"))
    known = dict(feeds)
    inner = [n for n in node.input if n and n not in known]
    weights = {t.name for t in model.graph.initializer}
    computed = [n for n in inner if n not in weights]
    if computed:
        known.update(zip(computed, first[1](exposing(model, computed), feeds), strict=True))
    for name in node.input:
        if name:
            text = "weight" if name in weights else _described(known[name])
            console.print(literal(f"  operand   {name}: {text}"))
    part = exposing(model, [n for n in node.output if n])
    ours, theirs = first[1](part, feeds), other[1](part, feeds)
    for name, a, b in zip([n for n in node.output if n], ours, theirs, strict=True):
        console.print(literal(f"  result    {name}: {_described(a)} by {first[0]}"))
        console.print(literal(f"            {'':{len(name)}}  {_described(b)} by {other[0]}"))
        console.print(literal(f"  error     {difference(b, a):.1e} of the largest element"))


def _described(x: Any) -> str:
    array = np.asarray(x)
    text = f"{array.dtype}{list(array.shape)}"
    if array.size and array.dtype.kind in "fiu":
        wide = array.astype(np.float64)
        text += f" from {wide.min():.4g} to {wide.max():.4g}"
    return text
