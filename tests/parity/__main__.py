"""The command ``python -m tests.parity``; ``--help`` says what it can be asked."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import track
from rich.table import Table

from . import modules, ops, optimizers
from .ops import Outcome

KINDS: dict[str, Any] = {"ops": ops, "modules": modules, "optimizers": optimizers}
DIFFERENCES = Path(__file__).with_name("differences.json")
console = Console()


@click.command()
@click.argument("kinds", nargs=-1, type=click.Choice(list(KINDS)))
@click.option("--only", multiple=True, help="Entries to run, by name.")
@click.option("--different", is_flag=True, help="Only what differences.json lists.")
@click.option("--limit", type=int, help="At most so many samples of each.")
@click.option("--save", type=click.Path(), help="Where to write all that was found, as JSON.")
@click.option("--write", is_flag=True, help="Write differences.json, which the test reads, anew.")
def main(
    kinds: tuple[str, ...],
    only: tuple[str, ...],
    different: bool,
    limit: int | None,
    save: str | None,
    write: bool,
) -> None:
    """How many of PyTorch's ops, modules and optimizers agree with ours, sample by sample."""
    found = {}
    differences = json.loads(DIFFERENCES.read_text()) if DIFFERENCES.exists() else {}
    for kind in kinds or tuple(KINDS):
        source = KINDS[kind]
        names = differences.get(kind, {}) if different else only
        entries = [e for e in source.entries() if not names or source.title(e) in names]
        described = track(entries, description=kind, console=console, transient=True)
        found[kind] = [source.run(entry, limit) for entry in described]
    for kind, outcomes in found.items():
        _print(kind, outcomes)
    if save:
        text = json.dumps({k: [vars(o) for o in v] for k, v in found.items()}, indent=1)
        Path(save).write_text(text)
    if write:
        for kind, outcomes in found.items():
            known = differences.setdefault(kind, {})
            for o in outcomes:
                known.pop(o.name, None)
            known |= {o.name: o.why for o in outcomes if not o.agrees}
            differences[kind] = dict(sorted(known.items()))
        DIFFERENCES.write_text(json.dumps(differences, indent=1) + "\n")


def _print(kind: str, outcomes: list[Outcome]) -> None:
    table = Table(title=kind, title_justify="left")
    table.add_column("name")
    table.add_column("samples", justify="right")
    table.add_column("what differs")
    for o in outcomes:
        if not o.agrees:
            table.add_row(o.name, str(o.samples), o.why)
    console.print(table)
    agreeing = sum(o.agrees for o in outcomes)
    share = 100 * agreeing / max(1, len(outcomes))
    console.print(f"{kind}: {agreeing} of {len(outcomes)} agree ({share:.1f} %)")


if __name__ == "__main__":
    main()
