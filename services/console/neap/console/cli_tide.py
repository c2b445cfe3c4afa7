"""`neap tide`: pools of nodes that change sides."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Annotated

import typer

from neap.common.errors import InputError

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
    output: Annotated[str, typer.Option("-o", "--output", help="text or json")] = "text",
    nats: Annotated[str, typer.Option("--nats", help="Address of the bus; default: a `neap up` that runs here.")] = "",
) -> None:
    """Who is on which side, who turns, when nodes return next, who is at risk and by whose pod. Status 1: alerts."""
    from neap.console.core import tideview  # noqa: PLC0415 (a quick `neap --help`)
    from neap.console.shell.tide import read_tides, write_figure  # noqa: PLC0415

    if output not in {"text", "json"}:
        raise InputError(f"-o {output}: text or json")
    pools, now = asyncio.run(read_tides(pool, nats))
    if figure is not None:
        write_figure(pools, now, figure)
    typer.echo(json.dumps(tideview.as_json(pools, now), indent=2) if output == "json" else tideview.text(pools, now))
    if any(one.alerts for one in pools):
        raise typer.Exit(1)
