"""`neap profile`, `neap predict`, `neap machine-types`, `neap waste`: what services use, and what they ask for."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Annotated, Final

import typer

from neap.common.errors import InputError
from neap.console.options import Nats, Output, wants_json

Service = Annotated[str, typer.Argument(metavar="NAMESPACE/KIND/NAME", help="Such as shop/Deployment/cart.")]
OUTPUTS: Final = ("text", "yaml", "json")


def profile(
    name: Service,
    nats: Nats = "",
    output: Annotated[
        str, typer.Option("-o", "--output", help="text, json, or yaml: Katalyst's ServiceProfileDescriptor")
    ] = "text",
) -> None:
    """What a service uses of what it does not ask for, at which hours, and how sure that is. Status 1: no profile."""
    from neap.console.shell.profiles import show_profile  # noqa: PLC0415 (a quick `neap --help`)

    if output not in OUTPUTS:
        raise InputError(f"-o {output}: {', '.join(OUTPUTS)}")
    told, is_known = asyncio.run(show_profile(name, nats, output))
    typer.echo(told.rstrip("\n"))
    if not is_known:
        sys.exit(1)


def predict(
    name: Service,
    on: Annotated[str, typer.Option("--on", metavar="TYPE", help="Machine type, see `neap machine-types`.")],
    cpu: Annotated[float, typer.Option("--cpu", help="Cores the pod asks for.")] = 1.0,
    nats: Nats = "",
) -> None:
    """What a pod of a service would use on a machine type, with the arithmetic."""
    from neap.console.shell.profiles import predict as work_out  # noqa: PLC0415

    typer.echo(asyncio.run(work_out(name, on, cpu, nats)))


def machine_types(nats: Nats = "", output: Output = "text") -> None:
    """Machine types: how fast, what a service seen on one uses on another, and how many nodes there are of each.

    Adding one is a row: neap policy set --room planner --name m4 --patch 'profiling.machines.M4={"neap.io/memory-bandwidth": 3000}'
    """
    from neap.console.core import profileview  # noqa: PLC0415
    from neap.console.shell.profiles import show_machine_types  # noqa: PLC0415

    as_json = wants_json(output)
    machines, labels = asyncio.run(show_machine_types(nats))
    told = profileview.machine_types_json(machines, labels) if as_json else None
    typer.echo(json.dumps(told, indent=2) if as_json else profileview.machine_types(machines, labels))


def waste(
    by: Annotated[str, typer.Option("--by", help="namespace or service")] = "namespace",
    of: Annotated[str, typer.Option("--of", help="cpu (in cores) or memory")] = "cpu",
    nats: Nats = "",
    output: Output = "text",
) -> None:
    """What owners ask for and do not use: requests against the 99th percentile of their use."""
    from neap.console.core import waste as view  # noqa: PLC0415
    from neap.console.shell.profiles import find_waste  # noqa: PLC0415

    if by not in {"namespace", "service"}:
        raise InputError(f"--by {by}: namespace or service")
    as_json = wants_json(output)
    services, offered = asyncio.run(find_waste(nats, of))
    rows = view.by_namespace(services) if by == "namespace" else services
    told = view.as_json(rows, of) if as_json else None
    typer.echo(json.dumps(told, indent=2) if as_json else view.text(rows, of, offered, by.upper()))
