"""Times our work beside the peers' and prints how they compare."""

from __future__ import annotations

import argparse
import datetime
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .harness import Row

# Read when NumPy's and the peers' thread pools start, so before any of them is imported, and when
# our programs are loaded.
_THREAD_VARIABLES = (
    "DUALGRAPH_NUM_THREADS",
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
)


def main() -> None:
    """Run the rows and print the tables."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--threads", type=int, default=1, help="threads for everyone (default 1)")
    parser.add_argument("--rows", default="", help="comma-separated, or 'list'; default all")
    parser.add_argument("--models", type=Path, help="a folder: each .onnx file in it is a row")
    parser.add_argument("--quick", action="store_true", help="without torch.compile")
    parser.add_argument("--save", type=Path, help="also write the figures to this JSON file")
    options = parser.parse_args()
    for name in _THREAD_VARIABLES:
        os.environ[name] = str(options.threads)
    if options.quick:
        os.environ["BENCHMARKS_QUICK"] = "1"

    from .rows import ROWS
    from .table import record_of

    known = [*ROWS, "starting", "files"]
    if options.rows == "list":
        print("\n".join(known))
        return
    chosen = [n for n in options.rows.split(",") if n] or known
    unknown = [n for n in chosen if n not in known]
    if unknown:
        parser.error(f"no row named {', '.join(unknown)}; there are {', '.join(known)}")
    done = []
    for row in _measured(chosen, options):
        show(row)
        done.append(row)
    summary(done)
    record = {
        "date": datetime.date.today().isoformat(),
        "machine": machine(),
        "threads": options.threads,
        "versions": versions(),
        "rows": [record_of(r) for r in done],
    }
    print(f"{record['date']}, {record['machine']}, {options.threads} thread(s)")
    print(", ".join(f"{k} {v}" for k, v in record["versions"].items()))
    if options.save:
        options.save.write_text(json.dumps(record, indent=2) + "\n")


def _measured(chosen: list[str], options: Any) -> Iterator[Row]:
    """The rows of these names, one after the other."""
    from .harness import measure
    from .rows import ROWS
    from .rows.files import file_row
    from .starting import rows as starting

    for name in chosen:
        if name in ROWS:
            yield measure(ROWS[name](options.threads))
        elif name == "starting":
            yield from starting(options.threads)
        else:
            for path in sorted(options.models.glob("*.onnx")) if options.models else ():
                yield measure(file_row(path, options.threads))


def show(row: Row) -> None:
    """Print one row: medians, and everyone's figure over that of our claim."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title=row.title, title_justify="left", box=None, pad_edge=False)
    table.add_column("")
    table.add_column(f"median {row.unit}", justify="right")
    table.add_column("x ours", justify="right")
    base = row.figures.get(row.claim)
    for name, figure in row.figures.items():
        ratio = f"{figure / base:.2f}" if base else ""
        table.add_row(f"[bold]{name}" if name == row.claim else name, f"{figure:,.1f}", ratio)
    console = Console()
    console.print(table)
    console.print()


def summary(rows: list[Row]) -> None:
    """Print, for each row, how many times faster than the best peer ours is."""
    from rich.console import Console
    from rich.table import Table

    from .table import lines

    table = Table(box=None, pad_edge=False)
    for title in ("", "ours", "best peer", "its figure", "times faster", "aim"):
        table.add_column(title, justify="left" if title in ("", "best peer") else "right")
    for x in lines(rows):
        colour = "green" if x.ratio >= x.target else "red"
        ratio = f"[{colour}]{x.ratio:.2f}"
        table.add_row(x.title, x.ours, x.peer, x.theirs, ratio, f"{x.target:.1f}")
    Console(width=140).print(table)


def machine() -> str:
    """The machine's class: processor, vector width, usable cores."""
    from dualgraph.cli.env import cpu_name
    from dualgraph_runtime.native.cpus import available_cpus

    return f"{cpu_name()}, {available_cpus()} cores"


def versions() -> dict[str, str]:
    """Versions of everything that was timed."""
    import importlib.metadata

    out = {}
    for name in ("dualgraph", "numpy", "torch", "jax", "onnxruntime", "openvino"):
        try:
            out[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return out


if __name__ == "__main__":
    main()
