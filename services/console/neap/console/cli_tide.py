"""`neap tide`: pools of nodes that change sides."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Annotated

import typer

from neap.console.options import Nats, Output, wants_json

tide_app = typer.Typer(
    no_args_is_help=True, help="Pools of nodes that change sides: online services by day, guests by night."
)


@tide_app.callback()
def _tide() -> None:
    """A command of its own for each question."""


@tide_app.command("status")
def tide_status(
    pool: Annotated[str, typer.Argument(metavar="POOL", help="Label neap.io/pool of its nodes; default: all.")] = "",
    figure: Annotated[Path | None, typer.Option(help="Draw the pool's last two days and its next one (SVG).")] = None,
    output: Output = "text",
    nats: Nats = "",
) -> None:
    """Who is on which side, who turns, when nodes return next, who is at risk and by whose pod. Status 1: alerts."""
    from neap.console.core import tideview  # noqa: PLC0415 (a quick `neap --help`)
    from neap.console.shell.tide import read_tides, write_figure  # noqa: PLC0415

    in_json = wants_json(output)
    pools, now = asyncio.run(read_tides(pool, nats))
    if figure is not None:
        write_figure(pools, now, figure)
    typer.echo(json.dumps(tideview.as_json(pools, now), indent=2) if in_json else tideview.text(pools, now))
    if any(one.alerts for one in pools):
        raise typer.Exit(1)
