"""What the models' own training runs share: their options, and what they show while they work."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

import dualgraph as dg

_MEMORY = 0.95  # of the running mean of the loss


def options(name: str, description: str | None, *, steps: int, batch: int) -> argparse.Namespace:
    """Read the command line of ``python -m dualgraph_models.name``, and set the seed.

    Gives `steps`, `batch`, `seed` and `eager`.
    """
    parser = argparse.ArgumentParser(
        prog=f"python -m dualgraph_models.{name}", description=description
    )
    parser.add_argument("--steps", type=int, default=steps, help=f"of training; default {steps}")
    parser.add_argument("--batch", type=int, default=batch, help=f"its size; default {batch}")
    parser.add_argument("--seed", type=int, default=0, help="default 0")
    parser.add_argument("--eager", action="store_true", help="run without dg.compile")
    found = parser.parse_args()
    dg.manual_seed(found.seed)
    return found


@contextmanager
def progress(total: int) -> Iterator[Callable[[float], None]]:
    """A progress bar on standard error, gone at the end; yields what is told each step's loss."""
    columns = (
        TextColumn("training"),
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        TextColumn("{task.fields[state]}"),
        TimeElapsedColumn(),
    )
    mean: float | None = None
    with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
        task = bars.add_task("", total=total, state="")

        def report(loss: float) -> None:
            nonlocal mean
            mean = loss if mean is None else _MEMORY * mean + (1 - _MEMORY) * loss
            bars.update(task, advance=1, state=f"loss {mean:.3f}")

        yield report
