"""`neap recommend`: what services should ask for, with the arithmetic; applied and taken back on wish."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Annotated

import typer

from neap.common.errors import InputError
from neap.console.options import Nats, Output, wants_json


def recommend(
    name: Annotated[
        str, typer.Argument(metavar="[deploy/NAME|NAMESPACE/KIND/NAME|FILE]", help="Empty: a table of all services.")
    ] = "",
    namespace: Annotated[str, typer.Option("-n", "--namespace")] = "default",
    apply: Annotated[bool, typer.Option("--apply", help="Resize its pods, and watch them afterwards.")] = False,
    undo: Annotated[bool, typer.Option("--undo", help="Take the last change back.")] = False,
    figure: Annotated[Path | None, typer.Option(help="Draw use against request and target (SVG).")] = None,
    rule: Annotated[str, typer.Option(help="Of a FILE: the rule to replay.")] = "snug",
    percentile: Annotated[float, typer.Option(min=0.01, max=1.0, help="Of a FILE.")] = 0.9,
    margin: Annotated[float, typer.Option(min=0.0, max=10.0, help="Of a FILE.")] = 0.15,
    output: Output = "text",
    nats: Nats = "",
) -> None:
    """What containers should ask for: request now, target, arithmetic, saving. Or a rule on a record of your own.

    Such a FILE is a CSV with timestamp and value, or an export as `neap assess` reads it.
    """
    from neap.console.core import sizeview  # noqa: PLC0415 (a quick `neap --help`)
    from neap.console.shell.recommending import Ask, from_file, recommendations  # noqa: PLC0415
    from neap.foresight.rule import Aim  # noqa: PLC0415

    in_json = wants_json(output)
    path = Path(name)
    if name.endswith((".csv", ".json")):
        if apply or undo or in_json:
            raise InputError(f"{name} is a file: --apply, --undo and -o json are for services")
        if not path.is_file():
            raise InputError(f"{name}: no such file")
        typer.echo(from_file(path, figure, rule=rule, aim=Aim(percentile, margin)))
        return
    if (apply or undo or figure) and not name:
        raise InputError(f"name a service: {sizeview.WRITE}")
    if apply and undo:
        raise InputError("--apply or --undo, not both")
    told, says = asyncio.run(recommendations(Ask(name, namespace, apply, undo, figure, nats)))
    if in_json:
        typer.echo(json.dumps(sizeview.as_json(told), indent=2))
        return
    typer.echo(sizeview.text(told[0]) if name else sizeview.table(told))
    for line in (says, f"drawn to {figure}" if figure else ""):
        if line:
            typer.echo(line)
