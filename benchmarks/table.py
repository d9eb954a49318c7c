"""The comparison as a table: ``python -m benchmarks.table RESULT.json`` prints it as Markdown."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .harness import Row


@dataclass(frozen=True, slots=True)
class Line:
    """Ours beside the best peer of a row; `ratio` is the peer's figure over ours."""

    title: str
    ours: str
    peer: str
    theirs: str
    ratio: float
    target: float


def lines(rows: list[Row]) -> Iterator[Line]:
    """A line for each row that has a peer."""
    for row in rows:
        if row.best_peer is None or row.ratio is None:
            continue
        ours, theirs = row.figures[row.claim], row.figures[row.best_peer]
        yield Line(
            row.title,
            _figure(ours, row.unit),
            row.best_peer,
            _figure(theirs, row.unit),
            row.ratio,
            row.target,
        )


def _figure(value: float, unit: str) -> str:
    """Three significant digits, in the unit that suits them."""
    if unit == "us" and value >= 1000:
        value, unit = value / 1000, "ms"
    digits = max(0, 2 - len(str(int(value))) + 1)
    return f"{value:,.{digits}f} {'µs' if unit == 'us' else unit}"


def record_of(row: Row) -> dict[str, Any]:
    """A row as it is saved."""
    return {
        "title": row.title,
        "claim": row.claim,
        "target": row.target,
        "unit": row.unit,
        "figures": row.figures,
    }


def markdown(rows: list[Row]) -> str:
    """The table with a line for each row."""
    text = ["| | ours | best peer | | times faster |", "| --- | ---: | --- | ---: | ---: |"]
    for x in lines(rows):
        title = x.title.replace("*", r"\*")
        text.append(f"| {title} | {x.ours} | {x.peer} | {x.theirs} | {x.ratio:.2f} |")
    return "\n".join(text)


if __name__ == "__main__":
    saved = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    print(markdown([Row(contenders={}, **r) for r in saved["rows"]]))
