"""`neap forecast`: what is expected of a service, a node, a pool, the cluster, or a column of a file."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from neap.common.units import parse_duration
from neap.console.options import Nats, Output, wants_json


def forecast(
    what: Annotated[
        str, typer.Argument(metavar="WHAT", help="NAMESPACE/KIND/NAME, node/NAME, pool/NAME, cluster, or FILE.csv.")
    ],
    resource: Annotated[str, typer.Option(help="cpu or memory; of a file, a column.")] = "cpu",
    ahead: Annotated[str, typer.Option(help="How far, of a file.")] = "1d",
    figure: Annotated[Path | None, typer.Option(help="Draw it here (SVG).")] = None,
    nats: Nats = "",
    output: Output = "text",
) -> None:
    """What is to be expected, within which bands, and how good such forecasts were on the past of this very series.

    A file needs a header, a column of times (timestamp: seconds or ISO 8601) and one of values; no bus is needed.
    """
    from neap.console.shell.forecasting import forecast_file, show_forecast  # noqa: PLC0415 (a quick `neap --help`)

    in_json = wants_json(output)
    if what.endswith(".csv"):
        typer.echo(forecast_file(Path(what), resource, parse_duration(ahead), figure=figure, in_json=in_json))
    else:
        typer.echo(asyncio.run(show_forecast(what, resource, nats, figure=figure, in_json=in_json)))
