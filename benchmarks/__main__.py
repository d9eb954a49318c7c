"""``python -m benchmarks [--threads N] [--rows demo,mlp] [--save FILE]``."""

from __future__ import annotations

import argparse
import datetime
import json
import os
from pathlib import Path
from typing import Any

# Read when NumPy's and the peers' thread pools start, so before any of them is imported.
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def main() -> None:
    """Run the rows and print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--threads", type=int, default=1, help="threads for everyone (default 1)")
    parser.add_argument("--rows", default="", help="comma-separated; default all")
    parser.add_argument("--save", type=Path, help="also write the figures to this JSON file")
    options = parser.parse_args()
    for name in _THREAD_VARIABLES:
        os.environ[name] = str(options.threads)

    from .harness import measure
    from .rows import ROWS

    chosen = [n for n in options.rows.split(",") if n] or list(ROWS)
    unknown = [n for n in chosen if n not in ROWS]
    if unknown:
        parser.error(f"no row named {', '.join(unknown)}; there are {', '.join(ROWS)}")
    done = []
    for name in chosen:
        row = measure(ROWS[name](options.threads))
        show(row)
        done.append(row)
    record = {
        "date": datetime.date.today().isoformat(),
        "machine": machine(),
        "threads": options.threads,
        "versions": versions(),
        "rows": [{"title": r.title, "microseconds": r.microseconds} for r in done],
    }
    print(f"{record['date']}, {record['machine']}, {options.threads} thread(s)")
    print(", ".join(f"{k} {v}" for k, v in record["versions"].items()))
    if options.save:
        options.save.write_text(json.dumps(record, indent=2) + "\n")


def show(row: Any) -> None:
    """Print one row: medians, and each peer's time over each of ours."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title=row.title, title_justify="left", box=None, pad_edge=False)
    table.add_column("")
    table.add_column("median us", justify="right")
    for ours in row.ours:
        table.add_column(f"x {ours.removeprefix('dualgraph ')}", justify="right")
    for name, time in row.microseconds.items():
        ratios = [f"{time / row.microseconds[o]:.2f}" for o in row.ours]
        table.add_row(name, f"{time:,.1f}", *ratios)
    console = Console()
    console.print(table)
    console.print()


def machine() -> str:
    """The machine's class: processor, vector width, usable cores."""
    from dualgraph.cli.env import cpu_name
    from dualgraph_runtime.native.processes import usable_cpus

    return f"{cpu_name()}, {usable_cpus()} cores"


def versions() -> dict[str, str]:
    """Versions of everything that was timed."""
    import importlib.metadata

    out = {}
    for name in ("dualgraph", "numpy", "torch", "jax", "onnxruntime"):
        try:
            out[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return out


if __name__ == "__main__":
    main()
