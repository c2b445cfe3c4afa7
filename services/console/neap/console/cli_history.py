"""`neap history`: what the planner knows of the time before it came."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from neap.console.options import Nats

history_app = typer.Typer(no_args_is_help=True, help="The planner's past: so that its first day is not blind.")


@history_app.callback()
def history() -> None:
    """The planner's past."""


@history_app.command("import")
def import_(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Prometheus range queries (*.json), or *.csv.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be told.")] = False,
    nats: Nats = "",
) -> None:
    """Tell the planner what was used before it came; what it has seen itself stays as it is.

    The same files as of `neap assess`; files whose name begins with "memory" are bytes, all others cores.
    Importing the same twice changes nothing.
    """
    from neap.console.shell.importing import import_history  # noqa: PLC0415 (a quick `neap --help`)

    typer.echo(asyncio.run(import_history(folder, nats, is_dry=dry_run)))
