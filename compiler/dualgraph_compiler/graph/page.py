"""A self-contained HTML page of a graph: drawing, the user's code, and the passes as steps.

The page loads nothing, and its policy forbids everything but its own style and script. All that
comes from the graph is text or an escaped attribute: names may come from files nobody has vetted.
Without scripts the page shows the first and the last step.
"""

from __future__ import annotations

import base64
import hashlib
import os
import sys
import tempfile
import webbrowser
from collections.abc import Sequence
from html import escape
from pathlib import Path

from .core import Graph, Location
from .draw import COLOURS, escaped, svg_of
from .page_assets import SCRIPT, STYLE
from .source import snippet
from .steps import Step, single_step, steps_of

_LARGEST_STEPPED = 20_000  # nodes; of larger graphs the passes are not shown


def to_html(graph: Graph, before: Graph | None = None, title: str | None = None) -> str:
    """A page of one graph; with `before`, also of the graph it was made from, to flip between."""
    steps = [single_step(graph, "after" if before is not None else "graph")]
    if before is not None:
        steps.insert(0, single_step(before, "before"))
    return render(steps, title or graph.name)


def show(
    graph: Graph, path: str | None = None, *, open: bool | None = None, passes: bool = True
) -> str:
    """Write a page about `graph` and return its path; see :meth:`Graph.show`."""
    stepped = passes and len(graph) <= _LARGEST_STEPPED
    page = render(steps_of(graph) if stepped else [single_step(graph)], graph.name)
    if path is None:
        with tempfile.NamedTemporaryFile(prefix="dualgraph-", suffix=".html", delete=False) as file:
            path = file.name
    Path(path).write_text(page, encoding="utf-8")
    if _is_interactive() if open is None else open:
        webbrowser.open(Path(path).resolve().as_uri())
    return os.fspath(path)


def _is_interactive() -> bool:
    """Whether somebody sits at the prompt who would look at a page."""
    return hasattr(sys, "ps1") or bool(sys.flags.interactive)


def notebook_html(graph: Graph) -> str:
    """The page for a notebook's cell: in a frame of its own, so that neither styles the other."""
    page = render([single_step(graph)], graph.name)
    return (
        f'<iframe srcdoc="{escape(page)}" sandbox="allow-scripts" '
        'style="width: 100%; height: 560px; border: 1px solid #dde3ea"></iframe>'
    )


def render(steps: Sequence[Step], title: str) -> str:
    """The page for these steps."""
    digest = base64.b64encode(hashlib.sha256(SCRIPT.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
    sources = _Sources()
    panels = "".join(_panel(i, step, title, sources) for i, step in _shown(steps))
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escaped(title)}</title><style>{STYLE}</style></head>\n<body><header>"
        f'<h1>{escaped(title)}</h1><div class="facts">{_summary(steps)}</div>'
        f'<div class="legend">{_legend(steps)}</div>{_stepper(steps)}</header>\n'
        f'<main>{panels}<aside><div id="about"><p class="hint">Point at a node for its line and '
        "your code; click to keep it here.</p></div></aside></main>\n"
        f'<div hidden id="sources">{sources.html()}</div><script>{SCRIPT}</script></body></html>\n'
    )


def _shown(steps: Sequence[Step]) -> list[tuple[int, Step]]:
    return [(i, s) for i, s in enumerate(steps) if s.drawn is not None]


class _Sources:
    """The code around every line that nodes were made at, each once."""

    def __init__(self) -> None:
        self.numbers: dict[Location, int] = {}
        self._html: dict[tuple[str, int], tuple[int, str]] = {}

    def add(self, loc: Location) -> None:
        if loc in self.numbers:
            return
        key = loc.file, loc.line
        if key not in self._html:
            lines = [
                f"<span{' class=here' if n == loc.line else ''}><i>{n}</i>{escaped(text)}</span>"
                for n, text in snippet(loc)
            ]
            place = escaped(f"{loc.file}:{loc.line}")
            html = f"<b>{place}</b><pre>{''.join(lines)}</pre>" if lines else ""
            self._html[key] = len(self._html), html
        self.numbers[loc] = self._html[key][0]

    def html(self) -> str:
        return "".join(f'<div id="s{i}">{html}</div>' for i, html in self._html.values())


def _panel(index: int, step: Step, title: str, sources: _Sources) -> str:
    """One step: what it did, the drawing, the text."""
    assert step.drawn is not None
    drawings = [step.drawn, *(drawn for _, drawn in step.nested)]
    for box in (b for drawn in drawings for b in drawn.boxes):
        if len(box.nodes) == 1 and box.nodes[0].loc is not None:
            sources.add(box.nodes[0].loc)
    svg = svg_of(step.drawn, title, step.marks, sources.numbers)
    nested = "".join(
        f"<details><summary>{escaped(name)}</summary>"
        f'<div class="drawing">{svg_of(drawn, name, None, sources.numbers)}</div></details>'
        for name, drawn in step.nested
    )
    removed = ""
    if step.removed:
        lines = "\n".join(line.splitlines()[0] for line in step.removed)
        removed = (
            '<details class="removed"><summary>Removed</summary>'
            f"<pre>{escaped(lines)}</pre></details>"
        )
    return (
        f'<section class="step" data-step="{index}"><h2>{escaped(step.title)}</h2>'
        f'<div class="facts">{_facts(step)}</div>{removed}<div class="drawing">{svg}</div>{nested}'
        f"<details><summary>Text</summary><pre>{escaped(step.text)}</pre></details></section>"
    )


def _facts(step: Step) -> str:
    parts = [f"{step.nodes} nodes" + (f": {escaped(step.ops)}" if step.ops else "")]
    for mark, word in (("added", "new"), ("changed", "changed")):
        if step.count(mark):
            parts.append(f'<b class="{mark}">{step.count(mark)} {word}</b>')
    if step.count("going"):
        parts.append(f'<b class="going">{step.count("going")} removed by the next change</b>')
    return " · ".join(parts)


def _summary(steps: Sequence[Step]) -> str:
    if len(steps) == 1:
        return f"{steps[0].nodes} nodes"
    total = sum(s.milliseconds for s in steps)
    spent = f", {total:.1f} ms in passes" if total else ""
    return f"{steps[0].nodes} nodes before, {steps[-1].nodes} after{spent}"


def _legend(steps: Sequence[Step]) -> str:
    shown = {box.kind for step in steps if step.drawn for box in step.drawn.boxes}
    return "".join(
        f'<span><i style="background:{fill};border-color:{ink}"></i>{kind}</span>'
        for kind, (fill, ink) in COLOURS.items()
        if kind in shown and kind not in ("input", "output")
    )


def _stepper(steps: Sequence[Step]) -> str:
    """Buttons, a slider, and one chip a step; steps without a drawing changed nothing."""
    if len(steps) == 1:
        return ""
    chips = []
    for i, step in enumerate(steps):
        time = f" <small>{step.milliseconds:.1f} ms</small>" if step.milliseconds else ""
        if step.drawn is None:
            chips.append(f'<span class="idle" title="no change">{escaped(step.title)}{time}</span>')
        else:
            chips.append(
                f'<button type="button" data-go="{i}">{escaped(step.title)} '
                f"<em>{step.nodes}</em>{time}</button>"
            )
    most = len(_shown(steps)) - 1
    return (
        '<nav><button type="button" id="back" title="previous step (left arrow)">‹</button>'
        f'<input id="slider" type="range" min="0" max="{most}" value="0" aria-label="step">'
        '<button type="button" id="forth" title="next step (right arrow)">›</button>'
        f'<div class="chips">{"".join(chips)}</div></nav>'
    )
