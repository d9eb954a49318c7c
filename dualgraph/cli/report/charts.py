"""Small pictures as SVG elements, coloured by the page's style sheet.

Written out rather than drawn by a plotting library: two line charts are all there is, their colours
have to follow the reader's light or dark setting, and matplotlib with what it needs would more than
double the size of an installation.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np

_WIDTH, _HEIGHT = 460, 250
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 12, 30, 40


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a chart, a value for each epoch; `style` is a class of the style sheet."""

    name: str
    style: str
    values: Sequence[float]


def line_chart(
    title: str, lines: Sequence[Line], axis: Axis, show: Callable[[float], str] = "{:g}".format
) -> str:
    """Values over epochs 1, 2, ..., with a grid, a legend and each point's value as a tooltip."""
    count = max(len(line.values) for line in lines)
    right, bottom = _WIDTH - _RIGHT, _HEIGHT - _BOTTOM

    def x_of(i: int) -> float:
        return _LEFT + (right - _LEFT) * (i / (count - 1) if count > 1 else 0.5)

    def y_of(value: float) -> float:
        return bottom - (bottom - _TOP) * axis.place(value)

    clip = f"inside-{title.lower()}"
    parts = [
        f'<svg class="chart" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" '
        f'aria-label="{escape(title)} by epoch"><clipPath id="{clip}"><rect x="{_LEFT - 4}" '
        f'y="{_TOP - 4}" width="{right - _LEFT + 8}" height="{bottom - _TOP + 4}"/></clipPath>'
    ]
    for tick in axis.ticks:
        y = y_of(tick)
        parts.append(f'<path class="grid" d="M{_LEFT} {y:.1f}H{right}"/>')
        parts.append(f'<text class="tick" x="{_LEFT - 8}" y="{y + 4:.1f}">{show(tick)}</text>')
    for i in _epoch_ticks(count):
        parts.append(f'<text class="tick mid" x="{x_of(i):.1f}" y="{bottom + 17}">{i + 1}</text>')
    parts.append(f'<text class="tick mid" x="{(_LEFT + right) / 2}" y="{_HEIGHT - 6}">epoch</text>')
    at = float(_LEFT)
    for line in lines:
        points = [(x_of(i), y_of(v)) for i, v in enumerate(line.values)]
        path = "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
        parts.append(f'<g class="{line.style}"><g clip-path="url(#{clip})">')
        parts.append(f'<path class="line" d="M{path}"/>')
        for i, ((x, y), v) in enumerate(zip(points, line.values, strict=True)):
            tip = f"{escape(line.name)}, epoch {i + 1}: {show(v)}"
            parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3"><title>{tip}</title></circle>')
        parts.append(f'</g><path class="line" d="M{at:.0f} 12h16"/></g>')
        parts.append(f'<text class="key" x="{at + 22:.0f}" y="16">{escape(line.name)}</text>')
        at += 40 + 7 * len(line.name)
    return "".join([*parts, "</svg>"])


def _epoch_ticks(count: int) -> list[int]:
    """At most eight epochs to label, from the first one on, evenly spaced."""
    return list(range(0, count, max(1, math.ceil((count - 1) / 7))))


@dataclass(frozen=True, slots=True)
class Axis:
    """A range of values with round ticks."""

    low: float
    high: float
    ticks: Sequence[float]
    is_log: bool = False

    def place(self, value: float) -> float:
        """Where `value` stands: 0 at the low end, 1 at the high end."""
        low, high = self.low, self.high
        if self.is_log:
            low, high, value = math.log(low), math.log(high), math.log(max(value, 1e-12))
        return (value - low) / (high - low)

    @staticmethod
    def log(values: Sequence[float]) -> Axis:
        """A logarithmic axis around `values`, ticks at 1, 2 and 5 times powers of ten."""
        low, high = max(min(values), 1e-9) / 1.15, max(*values, 2e-9) * 1.15
        powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
        ticks = [m * 10.0**p for p in powers for m in (1, 2, 5)]
        inside = [t for t in ticks if low <= t <= high]
        if len(inside) > 6:
            inside = [t for t in inside if f"{t:e}"[0] == "1"]
        return Axis(low, high, inside, is_log=True)

    @staticmethod
    def percent(values: Sequence[float]) -> Axis:
        """An axis for shares up to 100 %, with room for all but the worst quarter of them."""
        least = sorted(values)[len(values) // 4]
        choices = ((0.95, 0.01), (0.9, 0.02), (0.75, 0.05), (0.5, 0.1), (0.0, 0.2))
        low, step = next((low, step) for low, step in choices if low <= least)
        return Axis(low, 1.0, [low + step * i for i in range(round((1 - low) / step) + 1)])


def digit(image: Any, label: str) -> str:
    """An 8x8 image, ink in the text's colour; `label` is its tooltip."""
    rows, columns = image.shape
    parts = [
        f'<svg class="digit" viewBox="0 0 {columns} {rows}" shape-rendering="crispEdges" '
        f'fill="currentColor" role="img"><title>{escape(label)}</title>'
    ]
    for y, x in np.argwhere(image > 0):
        ink = f"{image[y, x]:.2f}".rstrip("0").rstrip(".")
        parts.append(f'<path opacity="{ink}" d="M{x} {y}h1v1h-1z"/>')
    return "".join([*parts, "</svg>"])
