"""`neap policy` and `neap pause`: settings of rooms that change while they run, for whom, how long, and why."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from neap.common.errors import InputError
from neap.console.options import Nats, Output, wants_json

policy_app = typer.Typer(
    no_args_is_help=True, help="Change settings of rooms while they run: cluster < pool < node < service."
)
pause_app = typer.Typer(no_args_is_help=True, help="Hold something back for a while; it ends by itself.")

Config = Annotated[Path | None, typer.Option(help="TOML file the rooms were started with; policy is laid over it.")]
Files = Annotated[Path | None, typer.Argument(metavar="FILE", help="YAML or JSON; several documents if you like.")]
Name = Annotated[str, typer.Option("--name", help="Of the document, where there is no FILE.")]
RoomName = Annotated[str, typer.Option("--room", help="Whose settings: advisor, evictor.")]
TierName = Annotated[str, typer.Option("--tier", help="cluster, pool=LABEL, node=NAME or service=NAMESPACE/OWNER.")]
Patch = Annotated[list[str] | None, typer.Option("--patch", metavar="KEY=VALUE", help="Such as grow_step=0.2.")]
Canary = Annotated[str, typer.Option("--canary", help="Percent of the nodes, the same ones again when it grows.")]
Schedule = Annotated[str, typer.Option("--schedule", help="Part of the day: '22:00-06:00 fri,sat +02:00'.")]
Begins = Annotated[str, typer.Option("--begins", help="2h from now, or 2026-11-11T00:00:00Z.")]
Expires = Annotated[str, typer.Option("--expires", help="The same.")]
Reason = Annotated[str, typer.Option("--reason", help="Why; shown wherever it takes effect.")]
CLUSTER: Final = "cluster"


@policy_app.command("set")
def policy_set(
    file: Files = None,
    name: Name = "",
    room: RoomName = "",
    tier: TierName = CLUSTER,
    patch: Patch = None,
    canary: Canary = "100",
    schedule: Schedule = "",
    begins: Begins = "",
    expires: Expires = "",
    reason: Reason = "",
    nats: Nats = "",
    config: Config = None,
) -> None:
    """Say a document anew. Checked by the rooms' own rules first: if one key does not hold, nothing is written."""
    from neap.console.shell.policy import set_policy  # noqa: PLC0415 (a quick `neap --help`)

    drafts = _drafts(file, name, room, tier, patch, canary, schedule, begins, expires, reason)
    _tell(asyncio.run(set_policy(drafts, nats, config)))


@policy_app.command("diff")
def policy_diff(
    file: Files = None,
    name: Name = "",
    room: RoomName = "",
    tier: TierName = CLUSTER,
    patch: Patch = None,
    canary: Canary = "100",
    schedule: Schedule = "",
    begins: Begins = "",
    expires: Expires = "",
    reason: Reason = "",
    nats: Nats = "",
    config: Config = None,
) -> None:
    """What `set` would change: in the document, and really, on which nodes. Nothing is written."""
    from neap.console.shell.policy import diff_policy  # noqa: PLC0415

    drafts = _drafts(file, name, room, tier, patch, canary, schedule, begins, expires, reason)
    _tell(asyncio.run(diff_policy(drafts, nats, config)))


@policy_app.command("explain")
def policy_explain(
    node: Annotated[str, typer.Argument(metavar="NODE")],
    key: Annotated[str, typer.Argument(metavar="KEY", help="Such as advisor.grow_step; default: all.")] = "",
    service: Annotated[str, typer.Option(help="For this workload's pods there: NAMESPACE/OWNER.")] = "",
    nats: Nats = "",
    config: Config = None,
    output: Output = "text",
) -> None:
    """What holds on a node: every value, which tier won, what it beat, and what has no effect there, and why."""
    from neap.console.shell.policy import explain_policy  # noqa: PLC0415

    typer.echo(asyncio.run(explain_policy(node, key, nats, service=service, config=config, as_json=wants_json(output))))


@policy_app.command("list")
def policy_list(nats: Nats = "", output: Output = "text") -> None:
    """All documents: for whom, since when, why. JSON has the earlier editions as well."""
    from neap.console.shell.policy import list_policy  # noqa: PLC0415

    typer.echo(asyncio.run(list_policy(nats, as_json=wants_json(output))))


@policy_app.command("rollback")
def policy_rollback(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Of the document, or ROOM/NAME.")], nats: Nats = ""
) -> None:
    """Take back what a document said last; ten editions are kept."""
    from neap.console.shell.policy import roll_back  # noqa: PLC0415

    _tell(asyncio.run(roll_back(name, nats)))


@policy_app.command("remove")
def policy_remove(
    names: Annotated[list[str], typer.Argument(metavar="NAME...", help="Of documents, or ROOM/NAME.")], nats: Nats = ""
) -> None:
    """Take documents away."""
    from neap.console.shell.policy import remove  # noqa: PLC0415

    _tell(asyncio.run(remove(names, nats)))


@pause_app.command("evictions")
def pause_evictions(
    lasts: Annotated[str, typer.Option("--for", help="30m, 2h: it ends by itself.")],
    reason: Annotated[str, typer.Option("--reason", help="Why; said wherever an eviction is held back.")],
    tier: Annotated[str, typer.Option("--tier", help="cluster, pool=LABEL or node=NAME.")] = CLUSTER,
    nats: Nats = "",
) -> None:
    """Nobody is evicted, whatever the pressure; guests are still throttled."""
    from neap.console.shell.policy import pause_evictions as pause  # noqa: PLC0415

    _tell(asyncio.run(pause(lasts, reason, tier, nats)))


@pause_app.command("lift")
def pause_lift(nats: Nats = "") -> None:
    """End every pause now."""
    from neap.console.shell.policy import lift_pause  # noqa: PLC0415

    _tell(asyncio.run(lift_pause(nats)))


def _drafts(
    file: Path | None,
    name: str,
    room: str,
    tier: str,
    patch: list[str] | None,
    canary: str,
    schedule: str,
    begins: str,
    expires: str,
    reason: str,
) -> list[Any]:
    from neap.console.core.policies import Draft  # noqa: PLC0415
    from neap.console.shell.policy import drafts_in  # noqa: PLC0415

    if file is not None:
        if name or room or patch:
            raise InputError("write either a FILE, or --name, --room and --patch")
        return drafts_in(file)
    if not (name and room and patch):
        raise InputError("write a FILE, or --name, --room and --patch KEY=VALUE")
    pairs = [pair.partition("=") for pair in patch]
    for key, equals, _ in pairs:
        if not (key and equals):
            raise InputError(f"--patch {key}: write KEY=VALUE, such as grow_step=0.2")
    values = {key: value for key, _, value in pairs}
    share = f"{canary.strip().removesuffix('%')}%"
    return [
        Draft(
            name=name,
            room=room,
            tier=tier,
            patch=values,
            canary=share,
            schedule=schedule,
            begins=begins,
            expires=expires,
            reason=reason,
        )
    ]


def _tell(lines: list[str]) -> None:
    for line in lines:
        typer.echo(line)
