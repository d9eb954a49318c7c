"""Post-training quantisation of ONNX models: calibration, choice of layers, report.

The model stays one of standard operators. A layer is left in float32, and the report says why,
where 8 bits would be slower or would lose too much of what it computes.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np

from dualgraph_compiler.compile import optimize
from dualgraph_compiler.errors import ArgumentError, FeedError
from dualgraph_compiler.graph import Graph, Interpreter, Value
from dualgraph_compiler.onnx import export_graph, import_model, save_model
from dualgraph_compiler.onnx.load import ModelSource
from dualgraph_compiler.quantization import (
    Layer,
    Range,
    activation,
    layers,
    quantize_graph,
    quantized_weight,
)

if TYPE_CHECKING:
    import onnx

Array: TypeAlias = np.ndarray[Any, Any]
Feed: TypeAlias = Mapping[str, Any]
Method: TypeAlias = Literal["minmax", "percentile", "entropy"]

_BINS = 2048
_KEPT = 0.9999  # of the numbers, by "percentile"
_LEAST = 15.0  # dB: what is left of a layer's result by 8 bits, at least


@dataclass(frozen=True, slots=True)
class OutputReport:
    """How an output differs: `largest` error, `snr` in dB, and in how many of the rows the largest
    element is the same one (None where an output has no rows of several elements)."""

    name: str
    largest: float
    snr: float
    top1: float | None


@dataclass(frozen=True, slots=True)
class Quantization:
    """A quantised model and what it took. Prints as a report.

    `layers` has a line for each product: its name, and why it stays in float32, or what is left of
    its result (empty for dynamic quantisation, which sees no data).
    """

    model: onnx.ModelProto
    layers: tuple[tuple[str, str], ...]
    quantized: tuple[str, ...]
    outputs: tuple[OutputReport, ...]
    bytes_before: int
    bytes_after: int

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the model to `path`: completely, or not at all."""
        save_model(self.model, path)

    def __str__(self) -> str:
        lines = [
            f"{len(self.quantized)} of {len(self.layers)} layers in 8 bits; weights of "
            f"{self.bytes_before / 1e6:.2f} MB take {self.bytes_after / 1e6:.2f} MB"
        ]
        for name, note in self.layers:
            kind = "int8" if name in self.quantized else "float32"
            lines.append(f"  {name}: {kind}{f' ({note})' if note else ''}")
        for o in self.outputs:
            top = f", top-1 agrees in {100 * o.top1:.2f} %" if o.top1 is not None else ""
            lines.append(f"  output {o.name}: error {o.largest:.3g}, {o.snr:.1f} dB{top}")
        return "\n".join(lines)


def quantize(
    model: ModelSource,
    calibration: Iterable[Feed] | None = None,
    *,
    method: Method = "minmax",
    least_snr: float = _LEAST,
    opset: int = 21,
) -> Quantization:
    """Quantise the convolutions, linear layers and matrix products of an ONNX model to 8 bits.

    Args:
        model: a path, bytes, a binary file or a ModelProto.
        calibration: inputs as the model will see them, by name: their ranges become fixed (static
            quantisation). None: ranges are found in each run (dynamic quantisation).
        method: what range counts: "minmax", all of it; "percentile", 99.99 % of the numbers;
            "entropy", the part whose distribution 8 bits keep best (Kullback and Leibler's
            divergence).
        least_snr: a layer stays in float32 whose result would be less than so many dB above the
            error that 8 bits bring to it. Static quantisation only.
        opset: the version of ai.onnx written, 13 to 28.

    Raises:
        ArgumentError: `calibration` is empty, or `method` unknown.
        FeedError: it lacks an input, or one does not suit the model.
        OnnxError: the model cannot be read or written.
    """
    if method not in ("minmax", "percentile", "entropy"):
        raise ArgumentError(f"method must be 'minmax', 'percentile' or 'entropy', got {method!r}")
    graph = optimize(import_model(model))
    found = layers(graph)
    notes = {layer.name: layer.refused for layer in found}
    chosen: dict[str, Range | None] = {n: None for n, why in notes.items() if not why}
    feeds: list[list[Any]] = []
    if calibration is not None:
        feeds = [_arrays(graph, feed) for feed in calibration]
        if not feeds:
            raise ArgumentError("calibration: expected at least one set of inputs")
        chosen = {}
        for layer, bounds, seen in _measured(graph, found, feeds, method):
            snr = _snr_of_layer(layer, bounds, seen)
            notes[layer.name] = f"{snr:.1f} dB"
            if snr >= least_snr:
                chosen[layer.name] = bounds
            else:
                notes[layer.name] = f"lossy: {snr:.1f} dB would be left"
    made = quantize_graph(graph, chosen)
    return Quantization(
        export_graph(made, opset=opset),
        tuple(notes.items()),
        tuple(n for n in notes if n in chosen),
        tuple(_compared(graph, made, feeds)) if feeds else (),
        _weight_bytes(graph),
        _weight_bytes(made),
    )


def folder_feeds(folder: str | os.PathLike[str], inputs: Sequence[str]) -> Iterator[dict[str, Any]]:
    """The inputs kept in a folder, in order of the names of its files.

    An .npz file has an array for each input, by name; an .npy file the array of the only input.

    Raises:
        ArgumentError: there are no such files, or one cannot be read.
    """
    files = sorted(p for p in Path(folder).glob("*") if p.suffix in (".npy", ".npz"))
    if not files:
        raise ArgumentError(f"{folder}: expected a folder with .npy or .npz files")
    for path in files:
        try:
            data = np.load(path, allow_pickle=False)
        except (OSError, ValueError) as error:
            raise ArgumentError(f"{path}: {error}") from error
        if path.suffix == ".npz":
            with data:
                yield {name: data[name] for name in data.files}
        elif len(inputs) == 1:
            yield {inputs[0]: data}
        else:
            raise ArgumentError(f"{path}: the model has {len(inputs)} inputs; use .npz files")


def _arrays(graph: Graph, feed: Feed) -> list[Any]:
    """A feed in the order of the graph's inputs."""
    names = [v.name for v in graph.inputs]
    if missing := [n for n in names if n not in feed]:
        raise FeedError(f"calibration: the input {missing[0]!r} is missing")
    if unknown := [n for n in feed if n not in names]:
        listed = ", ".join(map(repr, names))
        raise FeedError(f"calibration: the model has no input {unknown[0]!r}; it has {listed}")
    return [np.asarray(feed[v.name]).astype(v.dtype.np, copy=False) for v in graph.inputs]


# -- calibration ----------------------------------------------------------------------------------


def _measured(
    graph: Graph, found: Sequence[Layer], feeds: Sequence[list[Any]], method: Method
) -> Iterator[tuple[Layer, Range, Array]]:
    """The layers that may be quantised, the range of what each reads, and what it read first."""
    wanted = [layer for layer in found if not layer.refused]
    read = list(dict.fromkeys(layer.x for layer in wanted))
    watched = _watching(graph, read)
    lows, highs = np.full(len(read), np.inf), np.full(len(read), -np.inf)
    first: list[Array] = []
    for feed in feeds:
        seen = watched(feed)
        first = first or seen
        for i, x in enumerate(seen):
            lows[i] = min(lows[i], np.min(x, initial=np.inf))
            highs[i] = max(highs[i], np.max(x, initial=-np.inf))
    ranges = [(float(a), float(b)) for a, b in zip(lows, highs, strict=True)]
    if method != "minmax":
        counts = np.zeros((len(read), _BINS))
        for feed in feeds:
            for i, x in enumerate(watched(feed)):
                counts[i] += np.histogram(x, _BINS, ranges[i])[0]
        narrowed = _percentile if method == "percentile" else _least_divergence
        ranges = [narrowed(c, *r) for c, r in zip(counts, ranges, strict=True)]
    at = {v: i for i, v in enumerate(read)}
    for layer in wanted:
        yield layer, ranges[at[layer.x]], first[at[layer.x]]


def _watching(graph: Graph, values: Sequence[Value]) -> Any:
    """A function from inputs to the values themselves."""
    where = {v: i for i, v in enumerate(_values(graph))}
    copy = graph.copy()
    copied = _values(copy)
    copy.set_outputs([copied[where[v]] for v in values])
    run = Interpreter(copy).run
    return lambda feed: [np.asarray(x) for x in run(feed)]


def _values(graph: Graph) -> list[Value]:
    made = [v for node in graph.nodes for v in node.outputs]
    return [*graph.inputs, *graph.params, *made]


def _percentile(counts: Array, low: float, high: float) -> Range:
    """The range without the outermost numbers on either side."""
    total = np.cumsum(counts) / max(1.0, counts.sum())
    edges = np.linspace(low, high, _BINS + 1)
    outside = (1 - _KEPT) / 2
    first = int(np.searchsorted(total, outside, "right"))
    last = int(np.searchsorted(total, 1 - outside, "left"))
    return float(edges[min(first, _BINS - 1)]), float(edges[min(last, _BINS - 1) + 1])


def _least_divergence(counts: Array, low: float, high: float) -> Range:
    """Of ranges that leave more and more out, the one whose 256 levels lie closest to the numbers'
    distribution, those outside counted to its ends."""
    edges = np.linspace(low, high, _BINS + 1)
    zero = int(np.clip(np.searchsorted(edges, 0.0), 0, _BINS))
    at = min(zero, _BINS - 1)
    counts = counts.copy()
    counts[at] = counts[at + 1 if at + 1 < _BINS else at - 1]  # 0 itself is kept by any range
    best, found = np.inf, (low, high)
    for part in np.linspace(1.0, 0.2, 41):
        a = int(zero - round(part * zero))
        b = int(zero + round(part * (_BINS - zero)))
        if b - a < 256:
            break
        inside = counts[a:b].copy()
        inside[0] += counts[:a].sum()
        inside[-1] += counts[b:].sum()
        level = np.arange(b - a) * 256 // (b - a)
        used = (counts[a:b] > 0).astype(float)
        each = np.bincount(level, counts[a:b]) / np.maximum(1, np.bincount(level, used))
        q = each[level] * used
        p, q = inside / max(1.0, inside.sum()), q / max(1.0, q.sum())
        some = p > 0
        divergence = float(np.sum(p[some] * np.log(p[some] / np.maximum(q[some], 1e-10))))
        if divergence < best:
            best, found = divergence, (float(edges[a]), float(edges[b]))
    return found


# -- accuracy -------------------------------------------------------------------------------------


def decibels(wanted: Array, got: Array) -> float:
    """How far a result is above its error."""
    wanted, got = wanted.astype(np.float64), got.astype(np.float64)
    error = float(np.sum((got - wanted) ** 2))
    return float("inf") if error == 0 else float(10 * np.log10(np.sum(wanted**2) / error + 1e-30))


def _snr_of_layer(layer: Layer, bounds: Range, x: Array) -> float:
    """What is left of a layer's result when it alone is quantised."""
    scale, zero = activation(*bounds)
    steps = np.clip(np.rint(x / scale) + np.float32(zero), 0, 255) - np.float32(zero)
    data, scales = quantized_weight(layer.weight, layer.axis)
    shape = [-1 if i == layer.axis else 1 for i in range(data.ndim)]
    rounded = (data * scales.reshape(shape)).astype(np.float32)
    op: Any = layer.node.op
    wanted = op(x, layer.weight)
    return decibels(wanted, op((steps * scale).astype(np.float32), rounded))


def _compared(graph: Graph, made: Graph, feeds: Sequence[list[Any]]) -> Iterator[OutputReport]:
    before, after = Interpreter(graph).run, Interpreter(made).run
    pairs = [(before(feed), after(feed)) for feed in feeds]
    for i, name in enumerate(graph.output_names):
        wanted = [np.asarray(a[i]) for a, _ in pairs]
        got = [np.asarray(b[i]) for _, b in pairs]
        flat, other = (np.concatenate([x.ravel() for x in xs]) for xs in (wanted, got))
        largest = float(np.max(np.abs(flat.astype(float) - other.astype(float)), initial=0.0))
        yield OutputReport(name, largest, decibels(flat, other), _top1(wanted, got))


def _top1(wanted: Sequence[Array], got: Sequence[Array]) -> float | None:
    """In how many rows the largest element is at the same place."""
    if wanted[0].ndim < 2 or wanted[0].shape[1] < 2 or wanted[0].dtype.kind != "f":
        return None
    same = [a.argmax(1) == b.argmax(1) for a, b in zip(wanted, got, strict=True)]
    return float(np.mean(np.concatenate([s.ravel() for s in same])))


def _weight_bytes(graph: Graph) -> int:
    return sum(v.data.nbytes for v in graph.constants)
