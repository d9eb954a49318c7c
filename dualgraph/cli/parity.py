"""``dualgraph parity``: what of PyTorch's vocabulary is there, module by module."""

from __future__ import annotations

import importlib.util
import subprocess
import sys

import click
from rich.console import Console
from rich.table import Table

from dualgraph.torch.coverage import Coverage, coverage
from dualgraph.torch.vocabulary import VERSION
from dualgraph_compiler.errors import DualGraphError


@click.command("parity")
@click.argument("modules", nargs=-1)
@click.option("--left-out", is_flag=True, help="Show what is left out on purpose, too, and why.")
@click.option("--measure", is_flag=True, help="Compare results and gradients with PyTorch itself.")
def command(modules: tuple[str, ...], left_out: bool, measure: bool) -> None:
    """What of PyTorch's vocabulary is there: public names present, missing, left out.

    MODULES ("torch.nn.functional") are those to show in full; without any, all are counted. The
    names are those of a list made from PyTorch, so PyTorch is not needed. With --measure its
    databases of operators, modules and optimizers are run here and there, sample by sample.
    """
    if measure:
        sys.exit(_measure())
    found = {c.module: c for c in coverage()}
    unknown = [m for m in modules if m not in found]
    if unknown:
        raise click.BadParameter(f"{unknown[0]}: not among {', '.join(found)}")
    console = Console(highlight=False)
    shown = [found[m] for m in modules] or [c for c in found.values() if c.wanted]
    console.print(_table(shown))
    for c in shown:
        if modules or c.missing:
            names = " ".join(c.missing) or "nothing"
            console.print(f"[bold]{c.module}[/bold] misses {names}", soft_wrap=True)
    for c in [found[m] for m in modules] or list(found.values()) if left_out else ():
        for name, why in c.left_out.items():
            console.print(f"{c.module}.{name}: {why}", soft_wrap=True)


def _table(shown: list[Coverage]) -> Table:
    table = Table(title=f"public names of PyTorch {VERSION}", title_justify="left")
    for column in ("module", "present", "missing", "share", "left out"):
        table.add_column(column, justify="left" if column == "module" else "right")
    rows = [(c.module, (len(c.present), len(c.missing), len(c.left_out))) for c in shown]
    present, missing, out = (sum(numbers[i] for _, numbers in rows) for i in range(3))
    for name, (n, absent, excluded) in [*rows, ("all", (present, missing, out))]:
        share = f"{100 * n / max(1, n + absent):.0f} %"
        table.add_row(name, str(n), str(absent), share, str(excluded))
    return table


def _measure() -> int:
    """Run the comparison that belongs to the tests; the status it ends with."""
    for package in ("torch", "expecttest"):
        if importlib.util.find_spec(package) is None:
            raise DualGraphError(
                f"--measure compares with PyTorch, and {package} is not installed: "
                "pip install 'dualgraph[parity]'"
            )
    if (
        importlib.util.find_spec("tests") is None
        or importlib.util.find_spec("tests.parity") is None
    ):
        raise DualGraphError(
            "the comparison is part of dualgraph's tests: run `python -m tests.parity` in a "
            "checkout of the repository"
        )
    return subprocess.run([sys.executable, "-m", "tests.parity"], check=False).returncode
