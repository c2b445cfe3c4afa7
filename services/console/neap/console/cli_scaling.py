"""`neap scaling`: how many replicas services should have, now and when what is coming has come."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

from neap.console.options import Nats, Output, wants_json


def scaling(
    service: Annotated[
        str, typer.Argument(metavar="[NAMESPACE/KIND/NAME]", help="One service, with its chart; default: all.")
    ] = "",
    nats: Nats = "",
    output: Output = "text",
) -> None:
    """Replicas: now, by use, by what is coming and when; what prediction would have come to, and what is done."""
    from neap.console.shell.scaling import show_scaling  # noqa: PLC0415 (a quick `neap --help`)

    typer.echo(asyncio.run(show_scaling(service, nats, in_json=wants_json(output))))
