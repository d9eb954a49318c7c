"""The command line: ``dualgraph COMMAND``, also as ``python -m dualgraph``.

One module a command; each is imported only when it is asked for. Whatever goes wrong with the
user's files or arguments ends in one line on standard error and exit status 2.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from functools import partial
from typing import Any, NoReturn

import click

from dualgraph import __version__
from dualgraph.cli.text import printable
from dualgraph_compiler.errors import DualGraphError

_COMMANDS = {
    "cache": "compiled code kept on disk: where, how much; clear it",
    "convert": "an ONNX file at another opset, in half precision, with weights inside or beside it",
    "contrast": "one computation five ways: code, gradients and timings side by side",
    "demo": "train, trace, optimise, export and run a digit classifier, start to end",
    "env": "versions and hardware, for bug reports",
    "inspect": "what is in an ONNX file",
    "parity": "what of PyTorch's vocabulary is there, module by module",
    "quantize": "write an ONNX file in 8 bits, with a report of what that costs",
    "optimize": "a smaller ONNX file that computes the same",
    "run": "run an ONNX file once, on your arrays or random ones",
    "verify": "run an ONNX file in every engine there is, and find where they part",
}


class _Commands(click.Group):
    """Commands by name, imported when used, with errors in one line."""

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

    def main(self, *args: Any, **options: Any) -> Any:
        if not options.get("standalone_mode", True):
            return super().main(*args, **options)
        options["standalone_mode"] = False
        return _exit_with_one_line(partial(super().main, *args, **options))


def _exit_with_one_line(work: Callable[[], Any]) -> NoReturn:
    """Do `work` and leave the process with its status; no traceback for what the user can fix."""
    try:
        status = work()
    except click.UsageError as error:
        hint = f" (see {error.ctx.command_path} --help)" if error.ctx else ""
        _fail(error.format_message() + hint)
    except click.ClickException as error:
        _fail(error.format_message())
    except (click.Abort, KeyboardInterrupt):
        click.echo("interrupted", err=True)
        sys.exit(130)
    except OSError as error:
        _fail(f"{error.filename}: {error.strerror}" if error.filename else str(error))
    except DualGraphError as error:
        _fail(str(error))
    except MemoryError as error:
        _fail(f"out of memory: {error}".removesuffix(": "))
    sys.exit(status if isinstance(status, int) else 0)


def _fail(message: str) -> NoReturn:
    line = printable(" ".join(message.split())) or "unknown"
    click.echo(f"error: {line}", err=True)
    sys.exit(2)


@click.group("dualgraph", cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="dualgraph")
def main() -> None:
    """dualgraph: train eagerly, trace, optimise, export, and run anywhere."""
