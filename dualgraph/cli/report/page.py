"""The sections of the demo's page."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from dualgraph.cli.demo.deploy import SHOWN
from dualgraph.cli.demo.graphs import Optimised
from dualgraph.cli.demo.story import Story
from dualgraph.cli.report.charts import Axis, Line, digit, line_chart
from dualgraph.cli.report.style import STYLE
from dualgraph.cli.text import byte_size, duration
from dualgraph_compiler.graph import Graph, to_text
from dualgraph_compiler.graph.draw import to_svg
from dualgraph_compiler.passes import PassRecord

_UNSURE_SHOWN, _WRONG_SHOWN = 10, 20


def page(story: Story) -> str:
    """The whole page as text."""
    sections = (_training, _predictions, _graphs, _passes, _deployment, _timings)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>dualgraph: digits, both ways</title><style>{STYLE}</style></head>\n"
        f"<body><main>{_head(story)}"
        + "\n".join(f"<section>{section(story)}</section>" for section in sections)
        + f"\n{_foot(story)}</main></body></html>\n"
    )


def _head(story: Story) -> str:
    last = story.training.epochs[-1]
    before, after = len(story.inference.before), len(story.inference.after)
    worst = max(a.largest_difference for a in story.agreements)
    same = all(a.same == a.images for a in story.agreements)
    tiles = [
        (f"{last.accuracy:.2%}", f"of {len(story.split.test_labels)} held-out digits read right"),
        (
            duration(story.training.seconds),
            f"of eager training, {len(story.training.epochs)} epochs",
        ),
        (f"{before} → {after}", "nodes, traced → optimised"),
        ("all equal" if same else "not equal", "predictions: eager, traced, standalone"),
        (f"{worst:.0e}", "largest difference of a score"),
        (byte_size(story.onnx_bytes), f"digits.onnx, {story.training.n_parameters:,} parameters"),
    ]
    shown = "".join(f'<div class="tile"><b>{a}</b><span>{b}</span></div>' for a, b in tiles)
    return (
        "<h1>One model, both ways</h1><p class='soft'>A small convolutional network learns to read "
        "handwritten digits eagerly, is traced into a graph, optimised, exported, and run by a "
        f'runtime that has none of its code.</p><div class="tiles">{shown}</div>'
    )


def _training(story: Story) -> str:
    epochs = story.training.epochs
    train, test = [e.train_loss for e in epochs], [e.test_loss for e in epochs]
    accuracy = [e.accuracy for e in epochs]
    loss = line_chart(
        "Loss",
        [Line("training loss", "train", train), Line("held-out loss", "test", test)],
        Axis.log([*train, *test]),
        "{:.3g}".format,
    )
    right = line_chart(
        "Accuracy",
        [Line("held-out accuracy", "test", accuracy)],
        Axis.percent(accuracy),
        lambda v: f"{v:.4g}".rstrip() if v > 1 else f"{100 * v:.4g} %",
    )
    split = story.split
    return (
        "<h2>Training, eagerly</h2><p>The UCI optical digits: "
        f"{len(split.train_labels):,} images of 8×8 pixels to train on, shifted by up to one pixel "
        f"at random; {len(split.test_labels)} held out, the last 3 of the 14 forms people filled, "
        "so this is handwriting the model has not seen (one writer at most is on both sides). No "
        "choice depends on them. The training loss is taken with dropout on and with smoothed "
        "labels, and so stays higher.</p>"
        f'<div class="row"><div>{loss}</div><div>{right}</div></div>'
    )


def _predictions(story: Story) -> str:
    labels, predicted = story.split.test_labels, story.training.predictions
    certainty = _softmax(story.training.scores).max(1)
    wrong = np.flatnonzero(predicted != labels)
    right = np.flatnonzero(predicted == labels)
    unsure = right[np.argsort(certainty[right], kind="stable")][:_UNSURE_SHOWN]
    some = [int(right[labels[right] == d][0]) for d in range(10) if (labels[right] == d).any()]

    def pictures(indices: Iterable[int]) -> str:
        return "".join(_figure(story, int(i), float(certainty[i])) for i in indices)

    more = f", the first {_WRONG_SHOWN} shown" if len(wrong) > _WRONG_SHOWN else ""
    mistakes = (
        f'<h3>{len(wrong)} read wrongly{more}</h3><div class="digits">'
        f"{pictures(wrong[:_WRONG_SHOWN])}</div>"
        if len(wrong)
        else "<h3>None read wrongly</h3>"
    )
    return (
        '<h2>Predictions on held-out digits</h2><div class="row"><div><h3>One of each</h3>'
        f'<div class="digits">{pictures(some)}</div>'
        f'<h3>Right, and least certain</h3><div class="digits">{pictures(unsure)}</div></div>'
        "<div><h3>Confusion matrix: rows are the digits written, columns those read</h3>"
        f"{_confusion(labels, predicted)}{mistakes}</div></div>"
    )


def _figure(story: Story, index: int, certainty: float) -> str:
    label, read = int(story.split.test_labels[index]), int(story.training.predictions[index])
    image = digit(story.split.test_images[index, 0], f"held-out image {index}: a {label}")
    wrong = label != read
    said = f"<b>{read}</b>, not {label}" if wrong else f"<b>{read}</b>"
    return (
        f'<figure class="{"wrong" if wrong else "right"}">{image}{said}<br>'
        f'<span class="soft">{certainty:.1%}</span></figure>'
    )


def _softmax(scores: npt.NDArray[Any]) -> npt.NDArray[Any]:
    e = np.exp(scores - scores.max(1, keepdims=True))
    shares: npt.NDArray[Any] = e / e.sum(1, keepdims=True)
    return shares


def _confusion(labels: npt.NDArray[Any], predicted: npt.NDArray[Any]) -> str:
    counts = np.zeros((10, 10), int)
    np.add.at(counts, (labels, predicted), 1)
    head = "".join(f"<th>{d}</th>" for d in range(10))
    rows = []
    for d in range(10):
        cells = []
        for p in range(10):
            share = counts[d, p] / max(1, counts[d].sum())
            style = f' style="background:rgb(var(--wash) / {0.08 + 0.42 * share:.2f})"'
            miss = ' class="miss"' if p != d and counts[d, p] else ""
            cells.append(f"<td{miss}{style if counts[d, p] else ''}>{counts[d, p] or ''}</td>")
        rows.append(f"<tr><th>{d}</th>{''.join(cells)}</tr>")
    table = f"<tr><th></th>{head}</tr>{''.join(rows)}"
    return f'<div class="scroll"><table class="confusion">{table}</table></div>'


def _graphs(story: Story) -> str:
    inference = story.inference
    return (
        "<h2>The graph, before and after</h2><p>The very model object that was trained, traced "
        "with an open batch size. Batch norm has gone into the convolutions' weights; the "
        "rest computes as it did. Point at a box for its line of Python.</p>"
        '<div class="row">'
        f"<div><h3>As traced: {len(inference.before)} nodes</h3>{_drawing(inference.before)}</div>"
        f"<div><h3>Optimised: {len(inference.after)} nodes</h3>{_drawing(inference.after)}</div>"
        "</div>"
    )


def _drawing(graph: Graph) -> str:
    return (
        f'<div class="graph">{to_svg(graph)}</div>'
        f"<details><summary>Where each node comes from</summary>{_sources(graph)}</details>"
        f"<details><summary>Text</summary><pre>{escape(to_text(graph))}</pre></details>"
    )


def _sources(graph: Graph) -> str:
    rows = []
    for node in graph.nodes:
        where = f"{Path(node.loc.file).name}:{node.loc.line}" if node.loc else ""
        scope = node.loc.scope if node.loc else ""
        rows.append(
            f"<tr><td>{escape(node.op.name)}</td><td>{escape(scope)}</td>"
            f"<td>{escape(where)}</td></tr>"
        )
    head = "<tr><th>node</th><th>module</th><th>line</th></tr>"
    return f'<div class="scroll"><table>{head}{"".join(rows)}</table></div>'


def _passes(story: Story) -> str:
    return (
        "<h2>What each pass did</h2><p>Nodes after each pass, for the model, and for a training "
        "step of it traced with its loss, two figures to log and all gradients. A kernel is what "
        "one fused loop can compute: pointwise nodes are grouped.</p>"
        f'<div class="scroll">{_pass_table(story.inference, story.training_step)}</div>'
    )


def _pass_table(inference: Optimised, step: Optimised) -> str:
    rows = [
        "<tr><th>pass</th><th>model</th><th>ms</th><th>training step</th><th>ms</th></tr>",
        f"<tr><td>as traced</td><td>{len(inference.before)}</td><td></td>"
        f"<td>{len(step.before)}</td><td></td></tr>",
    ]
    for a, b in zip(inference.report.passes, step.report.passes, strict=True):
        rows.append(f"<tr><td>{escape(a.name)}</td>{_pass_cells(a)}{_pass_cells(b)}</tr>")
    kernels = [
        f"<td>{o.report.kernels} → {len(o.report.grouping.kernels)}</td><td></td>"
        for o in (inference, step)
    ]
    rows.append(f"<tr><td>kernels, before → after</td>{''.join(kernels)}</tr>")
    return f"<table>{''.join(rows)}</table>"


def _pass_cells(record: PassRecord) -> str:
    removed = record.before - record.after
    nodes = f"<b>{record.after}</b>" if removed else str(record.after)
    note = f'<span class="soft">{-removed:+d}</span> ' if removed else ""
    style = "" if record.changed else ' class="none"'
    return f"<td{style}>{note}{nodes}</td><td{style}>{record.seconds * 1e3:.2f}</td>"


def _deployment(story: Story) -> str:
    rows = "".join(
        f"<tr{'' if a.is_good else ' class=bad'}><td>{escape(a.name)}</td>"
        f"<td>{a.same} of {a.images}</td><td>{a.largest_difference:.1e}</td></tr>"
        for a in story.agreements
    )
    head = (
        "<tr><th>compared with eager</th><th>same prediction</th><th>largest difference</th></tr>"
    )
    return (
        "<h2>Run without the model's code</h2><p><code>digits.onnx</code> (opset "
        f"{story.opset}, open batch size, accepted by <code>onnx.checker</code>) was run in a new "
        "process in which <code>dualgraph</code> could not be imported:</p>"
        f"<pre>{escape(SHOWN)}</pre>"
        f'<div class="scroll"><table style="margin-top:14px">{head}{rows}</table></div>'
    )


def _timings(story: Story) -> str:
    parts = []
    for batch, times in story.timings.items():
        longest = max(times.values())
        rows = []
        for name, seconds in times.items():
            ours = "" if name == "onnxruntime" else ' class="ours"'
            bar = f'<i{ours} style="width:{100 * seconds / longest:.1f}%"></i>'
            rows.append(f"<tr><td>{name}</td><td>{bar}</td><td>{duration(seconds)}</td></tr>")
        title = "one image" if batch == 1 else f"{batch} images"
        parts.append(f'<div><h3>{title}</h3><table class="bar">{"".join(rows)}</table></div>')
    threads = "one thread each" if story.one_thread else "default numbers of threads"
    return (
        "<h2>Side by side</h2><p>Median time of a call, contenders taking turns in short blocks, "
        f'{threads}. Shorter is better.</p><div class="row">{"".join(parts)}</div>'
    )


def _foot(story: Story) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in story.versions.items())
    return (
        f"<footer>{escape(versions)}; seed {story.seed}. Data: E. Alpaydin, C. Kaynak, Optical "
        "Recognition of Handwritten Digits, UCI Machine Learning Repository, 1998, "
        "doi:10.24432/C50P49.</footer>"
    )
