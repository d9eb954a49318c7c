"""The command line: ``dualgraph COMMAND``, also as ``python -m dualgraph``.

One file a command; each is imported only when it is asked for. Whatever goes wrong with the user's
files or arguments ends in one line on standard error and exit status 2.
"""

from __future__ import annotations

import importlib
import sys
from typing import Any

import click
from dualgraph_compiler.errors import DualGraphError

_COMMANDS = {
    "contrast": "one computation five ways: code, gradients and timings side by side",
    "demo": "train, trace, export and deploy a digit classifier, start to end",
    "env": "versions and hardware, for bug reports",
    "inspect": "what is in an ONNX file",
    "run": "run an ONNX file once",
}


class _Commands(click.Group):
    """Commands by name, imported when used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(_COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in _COMMANDS:
            return None
        module = importlib.import_module(f"{__name__}.{name}")
        command: click.Command = module.command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(sorted(_COMMANDS.items()))

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except (DualGraphError, OSError) as error:
            lines = str(error).splitlines() or [type(error).__name__]
            click.echo(f"error: {lines[0]}", err=True)
            sys.exit(2)


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="dualgraph")
def main() -> None:
    """dualgraph: train eagerly, trace, optimise, export, and run anywhere."""
