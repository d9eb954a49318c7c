"""``dualgraph cache``: what compiled code is kept on disk, and clearing it."""

from __future__ import annotations

import time

import click

from dualgraph.cli.text import byte_size, printable
from dualgraph_runtime.native import cache


@click.group("cache", invoke_without_command=True)
@click.option("--entries", is_flag=True, help="List every file, least recently used first.")
@click.pass_context
def command(context: click.Context, entries: bool) -> None:
    """Show where compiled code is kept and how much there is."""
    if context.invoked_subcommand is not None:
        return
    found = cache.entries()
    size = sum(e.size for e in found)
    limit = cache.limit()
    click.echo(f"folder   {printable(str(cache.folder()))}")
    click.echo(f"files    {len(found)}")
    click.echo(f"size     {byte_size(size)} of {byte_size(limit)} at most")
    if entries:
        click.echo()
        for e in found:
            used = time.strftime("%Y-%m-%d %H:%M", time.localtime(e.used))
            click.echo(f"{used}  {byte_size(e.size):>10}  {printable(e.path.name)}")


@command.command("clear")
def clear() -> None:
    """Remove everything from the cache; running programs keep what they have loaded."""
    removed = cache.clear()
    click.echo(f"removed {len(removed)} files, {byte_size(sum(e.size for e in removed))}")
