"""Drawings of graphs: DOT text and SVG. :mod:`.page` puts them on an HTML page.

Boxes are coloured by the op's kind and say what it computes; params and constants stand in the box
of the op that reads them. Everything that comes from the graph is escaped: names may come from
files nobody has vetted.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from html import escape

from ..types import TensorType
from .core import Graph, Location, Node, Value
from .groups import groups_of
from .layout import layout
from .text import Namer, nested_lines, node_text

# More nodes than anyone follows in a drawing: beyond, those of one module are drawn as one.
MAX_DRAWN = 400
_MAX_GROUPS = 150

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
# Kinds of ops, those that say most of a group first.
_TELLING = (
    "contraction", "composite", "control", "library",
    "reduction", "pointwise", "movement", "creation",
)  # fmt: skip
_NODES_LISTED = 12  # of a group, in its tooltip


@dataclass(frozen=True, slots=True)
class Box:
    """One box: `kind` gives its colours, `lines` stand under the title, `tip` is the tooltip."""

    kind: str
    title: str
    lines: tuple[str, ...]
    tip: str
    nodes: tuple[Node, ...] = ()  # those it stands for

    @property
    def size(self) -> tuple[float, float]:
        # Generous estimates: which font the viewer has is not known.
        width = max([len(self.title) * 7.4, *(len(line) * 6.5 for line in self.lines)])
        height = 16.0 + _LINE_HEIGHT * len(self.lines) + _PADDING
        return max(width + 2 * _PADDING, 44.0), height


@dataclass(frozen=True, slots=True)
class Drawing:
    """What is drawn of a graph: boxes, and the edges between them."""

    boxes: list[Box]
    edges: list[tuple[int, int]]


def drawing(graph: Graph) -> Drawing:
    """The boxes of a graph: one for each input, node and output; of large graphs, for each module.

    At most `MAX_DRAWN` nodes are drawn one by one.
    """
    names = Namer(graph)
    boxes: list[Box] = []
    at: dict[Value, int] = {}
    edges: dict[tuple[int, int], None] = {}
    for v in graph.inputs:
        at[v] = len(boxes)
        tip = f"input {v!r}" + _place_text(v.loc)
        boxes.append(Box("input", _short(v.name or names[v]), (_short(v.type),), tip))
    if len(graph) <= MAX_DRAWN:
        runs = [("", [node]) for node in graph.nodes]
    else:
        runs = groups_of(list(graph.nodes), _MAX_GROUPS)
    for title, run in runs:
        for node in run:
            for v in node.inputs:
                if v in at and at[v] != len(boxes):
                    edges[at[v], len(boxes)] = None
            for v in node.outputs:
                at[v] = len(boxes)
        single = len(graph) <= MAX_DRAWN
        boxes.append(_node_box(run[0], names) if single else _group_box(title, run, names))
    for v, name in zip(graph.outputs, graph.output_names, strict=True):
        if v in at:
            edges[at[v], len(boxes)] = None
        tip = f"output {name}: {v.type}"
        boxes.append(Box("output", _short(name), (_short(v.type),), tip))
    return Drawing(boxes, list(edges))


def _node_box(node: Node, names: Namer) -> Box:
    stored = [v for v in node.inputs if v.node is None and v.data is not None]
    lines = [_short(_stored(v)) for v in stored[:_OPERANDS_SHOWN]]
    if len(stored) > _OPERANDS_SHOWN:
        lines.append(f"and {len(stored) - _OPERANDS_SHOWN} more")
    lines += [f"{name}: {len(getattr(node.op, name))} nodes" for name in node.op.bodies]
    results = [_short(f"→ {v.type}") for v in node.outputs[:3]]
    tip = node_tip(node, names)
    return Box(node.op.kind.value, node.op.name, (*lines, *results), tip, (node,))


def node_tip(node: Node, names: Namer) -> str:
    """All that is known of a node, as text."""
    return "\n".join([node_text(node, names), *nested_lines(node)]) + _place_text(node.loc)


def _place_text(loc: Location | None) -> str:
    if loc is None:
        return ""
    function = f" in {loc.function}" if loc.function else ""
    module = f"\nmodule {loc.scope}" if loc.scope else ""
    return f"\n{loc.file}:{loc.line}{function}{module}"


def _group_box(title: str, run: list[Node], names: Namer) -> Box:
    """One box for neighbouring nodes; its kind is that of the most telling op in it."""
    ops = Counter(node.op.name for node in run)
    kinds = {node.op.kind.value for node in run}
    kind = next(k for k in _TELLING if k in kinds)
    lines = [f"{len(run)} nodes", *(f"{name} ×{n}" for name, n in ops.most_common(3))]
    tip = [title or "nodes of no module", *(node_text(node, names) for node in run[:_NODES_LISTED])]
    if len(run) > _NODES_LISTED:
        tip.append(f"... and {len(run) - _NODES_LISTED} more")
    return Box(
        kind,
        _short(title or f"from {names[run[0].outputs[0]]}"),
        tuple(map(_short, lines)),
        "\n".join(tip),
        tuple(run),
    )


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
    drawn = drawing(graph)
    lines = [
        "digraph {",
        '  node [shape=box, style="rounded,filled", fontname="Helvetica", fontsize=11];',
        '  edge [color="#8795a5", arrowsize=0.7];',
    ]
    for i, box in enumerate(drawn.boxes):
        fill, ink = COLOURS[box.kind]
        label = "\\n".join(map(_dot, (box.title, *box.lines)))
        font = "#ffffff" if box.kind == "output" else "#22303f"
        lines.append(
            f'  n{i} [label="{label}", tooltip="{_dot(box.tip)}", fillcolor="{fill}", '
            f'color="{ink}", fontcolor="{font}"];'
        )
    lines += [f"  n{a} -> n{b};" for a, b in drawn.edges]
    return "\n".join([*lines, "}"])


def _dot(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


# -- SVG ------------------------------------------------------------------------------------------


def to_svg(graph: Graph) -> str:
    """The drawing as an ``<svg>`` element that needs nothing else; any number fit on one page."""
    return svg_of(drawing(graph), graph.name)


def svg_of(
    drawn: Drawing,
    label: str,
    marks: Mapping[Node, str] | None = None,
    sources: Mapping[Location, int] | None = None,
) -> str:
    """A drawing as SVG; nodes' marks become classes, the numbers of their sources attributes."""
    placed = layout([box.size for box in drawn.boxes], drawn.edges)
    width, height = placed.width + 2 * _MARGIN, placed.height + 2 * _MARGIN
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height:.0f}" '
        f'viewBox="{-_MARGIN:.0f} {-_MARGIN:.0f} {width:.0f} {height:.0f}" role="img" '
        f'aria-label="{escaped(label)}" font-family="{_FONT}">'
    ]
    parts += [_edge(route) for route in placed.routes]
    for box, (x, y) in zip(drawn.boxes, placed.centres, strict=True):
        parts.append(_box(box, x, y, _attributes(box, marks or {}, sources or {})))
    return "\n".join([*parts, "</svg>"])


def _attributes(box: Box, marks: Mapping[Node, str], sources: Mapping[Location, int]) -> str:
    found = {marks[n] for n in box.nodes if n in marks}
    out = f' class="{" ".join(sorted(found))}"' if found else ""
    if len(box.nodes) == 1 and (loc := box.nodes[0].loc) in sources:
        assert loc is not None
        out += f' data-source="{sources[loc]}"'
    return out


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


def _box(box: Box, x: float, y: float, attributes: str = "") -> str:
    (width, height), (fill, ink) = box.size, COLOURS[box.kind]
    left, top = x - width / 2, y - height / 2
    is_port = box.kind in ("input", "output")
    title = "#ffffff" if box.kind == "output" else ink
    line = "#d5dde6" if box.kind == "output" else "#3d4b5a"
    parts = [
        f"<g{attributes}><title>{escaped(box.tip)}</title>",
        f'<rect x="{left:.1f}" y="{top:.1f}" width="{width:.1f}" height="{height:.1f}" '
        f'rx="{height / 2 if is_port else 5:.1f}" fill="{fill}" stroke="{ink}" '
        f'stroke-width="1.1"/>',
        f'<text x="{x:.1f}" y="{top + 16:.1f}" text-anchor="middle" font-size="{_TITLE_SIZE}" '
        f'font-weight="600" fill="{title}">{escaped(box.title)}</text>',
    ]
    for i, text in enumerate(box.lines):
        parts.append(
            f'<text x="{x:.1f}" y="{top + 16 + _LINE_HEIGHT * (i + 1):.1f}" text-anchor="middle" '
            f'font-family="{_MONO}" font-size="{_LINE_SIZE}" fill="{line}">{escaped(text)}</text>'
        )
    return "".join([*parts, "</g>"])


def escaped(text: str) -> str:
    """Escaped, and without characters that XML does not allow."""
    return escape("".join(ch if ch.isprintable() or ch == "\n" else "?" for ch in text))
