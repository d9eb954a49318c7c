"""Drawings of graphs: DOT text, SVG, and a self-contained HTML page.

Boxes are coloured by the op's kind and say what it computes; params and constants stand in the box
of the op that reads them. Everything that comes from the graph is escaped: names may come from
files nobody has vetted.
"""

from __future__ import annotations

import re
import tempfile
import webbrowser
from collections import Counter
from dataclasses import dataclass
from html import escape
from pathlib import Path

from ..types import TensorType
from .core import Graph, Node, Value
from .layout import layout
from .text import Namer, nested_lines, node_text, to_text

# More nodes than anyone follows in a drawing: the page shows the text alone.
MAX_DRAWN = 600

# kind: (fill, outline and heading)
COLOURS = {
    "contraction": ("#dfe9fb", "#2f5fb3"),
    "pointwise": ("#e2f3e4", "#2f7d43"),
    "reduction": ("#fdf0d3", "#a26a06"),
    "movement": ("#eceff3", "#5a6b7d"),
    "library": ("#efe4f8", "#7a45a6"),
    "composite": ("#fce4e6", "#b23a4a"),
    "creation": ("#f3eddf", "#7d6a3c"),
    "control": ("#dff3f1", "#1f7a74"),
    "input": ("#ffffff", "#22303f"),
    "output": ("#22303f", "#22303f"),
}
_FONT = "ui-sans-serif, system-ui, -apple-system, 'Segoe UI', 'DejaVu Sans', sans-serif"
_MONO = "ui-monospace, SFMono-Regular, Menlo, Consolas, 'DejaVu Sans Mono', monospace"
_TITLE_SIZE, _LINE_SIZE = 12, 10.5
_LINE_HEIGHT, _PADDING, _MARGIN = 14.0, 9.0, 12.0
_OPERANDS_SHOWN = 4
_LONGEST = 34  # characters of a line in a box


@dataclass(frozen=True, slots=True)
class Box:
    """One box: `kind` gives its colours, `lines` stand under the title, `tip` is the tooltip."""

    kind: str
    title: str
    lines: tuple[str, ...]
    tip: str

    @property
    def size(self) -> tuple[float, float]:
        # Generous estimates: which font the viewer has is not known.
        width = max([len(self.title) * 7.4, *(len(line) * 6.5 for line in self.lines)])
        height = 16.0 + _LINE_HEIGHT * len(self.lines) + _PADDING
        return max(width + 2 * _PADDING, 44.0), height


def _boxes(graph: Graph) -> tuple[list[Box], list[tuple[int, int]]]:
    """The boxes of a drawing and the edges between them."""
    names = Namer(graph)
    boxes: list[Box] = []
    at: dict[Value, int] = {}
    edges: dict[tuple[int, int], None] = {}
    for v in graph.inputs:
        at[v] = len(boxes)
        boxes.append(Box("input", _short(v.name or names[v]), (_short(v.type),), f"input {v!r}"))
    for node in graph.nodes:
        for v in node.inputs:
            if v in at:
                edges[at[v], len(boxes)] = None
        for v in node.outputs:
            at[v] = len(boxes)
        boxes.append(_node_box(node, names))
    for v, name in zip(graph.outputs, graph.output_names, strict=True):
        if v in at:
            edges[at[v], len(boxes)] = None
        tip = f"output {name}: {v.type}"
        boxes.append(Box("output", _short(name), (_short(v.type),), tip))
    return boxes, list(edges)


def _node_box(node: Node, names: Namer) -> Box:
    stored = [v for v in node.inputs if v.node is None and v.data is not None]
    lines = [_short(_stored(v)) for v in stored[:_OPERANDS_SHOWN]]
    if len(stored) > _OPERANDS_SHOWN:
        lines.append(f"and {len(stored) - _OPERANDS_SHOWN} more")
    lines += [f"{name}: {len(getattr(node.op, name))} nodes" for name in node.op.bodies]
    results = [_short(f"→ {v.type}") for v in node.outputs[:3]]
    tip = [node_text(node, names), *nested_lines(node)]
    if node.loc is not None:
        function = f" in {node.loc.function}" if node.loc.function else ""
        tip.append(f"{node.loc.file}:{node.loc.line}{function}")
        tip += [f"module {node.loc.scope}"] if node.loc.scope else []
    return Box(node.op.kind.value, node.op.name, (*lines, *results), "\n".join(tip))


def _stored(value: Value) -> str:
    """A param by its own name, without its path; a single number by its value."""
    if value.is_constant and value.size == 1 and not value.name:
        return f"{value.data.reshape(-1)[0].item():.6g}"
    name = re.split(r"[./]", value.name)[-1]
    size = str(value.type)
    return f"{_short(name, _LONGEST - len(size) - 2)}: {size}" if name else size


def _short(text: str | TensorType, longest: int = _LONGEST) -> str:
    text = "".join(ch if ch.isprintable() else "?" for ch in str(text))
    return text if len(text) <= longest else text[: max(longest - 1, 0)] + "…"


# -- DOT ------------------------------------------------------------------------------------------


def to_dot(graph: Graph) -> str:
    """The drawing as Graphviz DOT text."""
    boxes, edges = _boxes(graph)
    lines = [
        "digraph {",
        '  node [shape=box, style="rounded,filled", fontname="Helvetica", fontsize=11];',
        '  edge [color="#8795a5", arrowsize=0.7];',
    ]
    for i, box in enumerate(boxes):
        fill, ink = COLOURS[box.kind]
        label = "\\n".join(map(_dot, (box.title, *box.lines)))
        font = "#ffffff" if box.kind == "output" else "#22303f"
        lines.append(
            f'  n{i} [label="{label}", tooltip="{_dot(box.tip)}", fillcolor="{fill}", '
            f'color="{ink}", fontcolor="{font}"];'
        )
    lines += [f"  n{a} -> n{b};" for a, b in edges]
    return "\n".join([*lines, "}"])


def _dot(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


# -- SVG ------------------------------------------------------------------------------------------


def to_svg(graph: Graph) -> str:
    """The drawing as an ``<svg>`` element that needs nothing else; any number fit on one page."""
    boxes, edges = _boxes(graph)
    placed = layout([box.size for box in boxes], edges)
    width, height = placed.width + 2 * _MARGIN, placed.height + 2 * _MARGIN
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height:.0f}" '
        f'viewBox="{-_MARGIN:.0f} {-_MARGIN:.0f} {width:.0f} {height:.0f}" role="img" '
        f'aria-label="{_text(graph.name)}" font-family="{_FONT}">'
    ]
    parts += [_edge(route) for route in placed.routes]
    parts += [_box(box, x, y) for box, (x, y) in zip(boxes, placed.centres, strict=True)]
    return "\n".join([*parts, "</svg>"])


def _edge(route: list[tuple[float, float]]) -> str:
    """A smooth line, vertical at every point it runs through, with an arrow head."""
    (x, y), *rest = route
    path = [f"M{x:.1f} {y:.1f}"]
    for i, (to_x, to_y) in enumerate(rest):
        if i == len(rest) - 1:
            to_y -= 5.0  # where the head begins
        if abs(to_x - x) < 0.5:
            path.append(f"V{to_y:.1f}")
        else:
            middle = (y + to_y) / 2
            path.append(f"C{x:.1f} {middle:.1f} {to_x:.1f} {middle:.1f} {to_x:.1f} {to_y:.1f}")
        x, y = to_x, to_y
    head = f"M{x:.1f} {y + 5:.1f}l-3.5 -6.5h7z"
    return (
        f'<path d="{"".join(path)}" fill="none" stroke="#9aa7b5" stroke-width="1.3"/>'
        f'<path d="{head}" fill="#9aa7b5"/>'
    )


def _box(box: Box, x: float, y: float) -> str:
    (width, height), (fill, ink) = box.size, COLOURS[box.kind]
    left, top = x - width / 2, y - height / 2
    is_port = box.kind in ("input", "output")
    title = "#ffffff" if box.kind == "output" else ink
    line = "#d5dde6" if box.kind == "output" else "#3d4b5a"
    parts = [
        f"<g><title>{_text(box.tip)}</title>",
        f'<rect x="{left:.1f}" y="{top:.1f}" width="{width:.1f}" height="{height:.1f}" '
        f'rx="{height / 2 if is_port else 5:.1f}" fill="{fill}" stroke="{ink}" '
        f'stroke-width="1.1"/>',
        f'<text x="{x:.1f}" y="{top + 16:.1f}" text-anchor="middle" font-size="{_TITLE_SIZE}" '
        f'font-weight="600" fill="{title}">{_text(box.title)}</text>',
    ]
    for i, text in enumerate(box.lines):
        parts.append(
            f'<text x="{x:.1f}" y="{top + 16 + _LINE_HEIGHT * (i + 1):.1f}" text-anchor="middle" '
            f'font-family="{_MONO}" font-size="{_LINE_SIZE}" fill="{line}">{_text(text)}</text>'
        )
    return "".join([*parts, "</g>"])


def _text(text: str) -> str:
    """Escaped, and without characters that XML does not allow."""
    return escape("".join(ch if ch.isprintable() or ch == "\n" else "?" for ch in text))


# -- HTML -----------------------------------------------------------------------------------------

_STYLE = """
:root { color-scheme: light; }
body { margin: 0; font: 14px/1.5 FONT; color: #22303f; background: #f6f8fa; }
header { padding: 20px 28px 12px; background: #fff; border-bottom: 1px solid #dde3ea; }
h1 { font-size: 20px; margin: 0 0 4px; } h2 { font-size: 15px; margin: 0; }
.facts { color: #5a6b7d; }
.legend { display: flex; flex-wrap: wrap; gap: 6px 16px; margin-top: 10px; font-size: 12.5px; }
.legend i { display: inline-block; width: 12px; height: 12px; border-radius: 3px;
  border: 1px solid; margin-right: 6px; vertical-align: -1px; }
main { display: flex; flex-wrap: wrap; gap: 20px; padding: 20px 28px; align-items: flex-start; }
section { background: #fff; border: 1px solid #dde3ea; border-radius: 8px; padding: 14px 18px;
  flex: 1 1 380px; min-width: 0; }
.drawing { overflow: auto; max-height: 80vh; margin: 10px 0; text-align: center; }
svg g:hover rect { stroke-width: 2.4; }
pre { overflow: auto; max-height: 80vh; font: 12px/1.5 MONO; margin: 8px 0 0; }
summary { cursor: pointer; color: #2f5fb3; }
""".replace("FONT", _FONT).replace("MONO", _MONO)


def to_html(graph: Graph, before: Graph | None = None, title: str | None = None) -> str:
    """A page that needs no other file: the drawing, a legend, the text.

    With `before`, that graph stands beside `graph`, as what it was made from.
    """
    title = title or graph.name
    sections = [_section(graph, "After" if before is not None else "Graph")]
    if before is not None:
        sections.insert(0, _section(before, "Before"))
    shown = Counter(n.op.kind.value for g in (before or graph, graph) for n in g.nodes)
    legend = "".join(
        f'<span><i style="background:{COLOURS[kind][0]};border-color:{COLOURS[kind][1]}"></i>'
        f"{kind}</span>"
        for kind in COLOURS
        if kind in shown
    )
    facts = _facts(graph) if before is None else f"{len(before)} nodes before, {len(graph)} after"
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{_text(title)}</title><style>{_STYLE}</style></head>\n<body><header>"
        f'<h1>{_text(title)}</h1><div class="facts">{facts}</div>'
        f'<div class="legend">{legend}</div></header>\n<main>'
        + "\n".join(sections)
        + "</main></body></html>\n"
    )


def _section(graph: Graph, heading: str) -> str:
    drawn = len(graph) <= MAX_DRAWN
    drawing = f'<div class="drawing">{to_svg(graph)}</div>' if drawn else ""
    state = "" if drawn else " open"
    text = _text(to_text(graph))
    return (
        f'<section><h2>{heading}</h2><div class="facts">{_facts(graph)}</div>{drawing}'
        f"<details{state}><summary>Text</summary><pre>{text}</pre></details></section>"
    )


def _facts(graph: Graph) -> str:
    ops = Counter(node.op.name for node in graph.nodes)
    common = ", ".join(f"{_text(name)} ×{n}" for name, n in ops.most_common(6))
    more = f", {len(ops) - 6} other ops" if len(ops) > 6 else ""
    return f"{len(graph)} nodes" + (f": {common}{more}" if ops else "")


def show(graph: Graph, path: str | None = None, *, open_browser: bool = True) -> str:
    """Write `to_html(graph)` to `path` (default: a temporary file), open it, return the path."""
    if path is None:
        with tempfile.NamedTemporaryFile(prefix="dualgraph-", suffix=".html", delete=False) as file:
            path = file.name
    Path(path).write_text(to_html(graph), encoding="utf-8")
    if open_browser:
        webbrowser.open(Path(path).resolve().as_uri())
    return path
