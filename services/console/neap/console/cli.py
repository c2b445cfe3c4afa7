"""The `neap` command. Exit status: 0 done, 1 it failed, 2 the question or a setting does not hold."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Coroutine
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from neap.common.errors import InputError, NeapError, SettingsError
from neap.console.cli_forecast import forecast
from neap.console.cli_history import history_app
from neap.console.cli_overcommit import overcommit_app
from neap.console.cli_policy import pause_app, policy_app
from neap.console.cli_profile import machine_types, predict, profile, waste
from neap.console.cli_recommend import recommend
from neap.console.cli_scaling import scaling
from neap.console.cli_sim import assess, sim_app
from neap.console.cli_tide import tide_app
from neap.console.options import Length, Nats, Output, wants_json

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, add_completion=True, help=__doc__)
why_app = typer.Typer(no_args_is_help=True, help="Why is it so? The trail of an object: what, when, why, numbers, who.")
bus_app = typer.Typer(no_args_is_help=True, help="Look at the bus.")
config_app = typer.Typer(no_args_is_help=True, help="Settings.")
schedule_app = typer.Typer(no_args_is_help=True, help="Where would it go? Dry runs, saved states, and lives replayed.")
app.add_typer(why_app, name="why")
app.add_typer(bus_app, name="bus")
app.add_typer(config_app, name="config")
app.add_typer(schedule_app, name="schedule")
app.add_typer(history_app, name="history")
app.add_typer(overcommit_app, name="overcommit")
app.add_typer(policy_app, name="policy")
app.add_typer(pause_app, name="pause")
app.add_typer(sim_app, name="sim")
app.add_typer(tide_app, name="tide")
app.command()(assess)
app.command()(recommend)
app.command()(forecast)
app.command()(machine_types)
app.command()(predict)
app.command()(profile)
app.command()(scaling)
app.command()(waste)

PER_CPU: Final = 4  # virtual nodes whose accelerated day, services included, a CPU can follow
MOST_BY_DEFAULT: Final = 16
NODE_ROOMS: Final = "reporter,advisor,enforcer,evictor,gpushare"


def main() -> None:
    """The console script."""
    try:
        app()
    except (InputError, SettingsError) as error:
        typer.echo(f"neap: {error}", err=True)
        sys.exit(2)
    except NeapError as error:
        typer.echo(f"neap: {error}", err=True)
        sys.exit(1)


def _run(work: Coroutine[Any, Any, Any]) -> Any:
    with suppress(KeyboardInterrupt, asyncio.CancelledError):
        return asyncio.run(work)
    return None


def _cpus() -> int:
    """CPUs this process may use; where the system does not tell, all there are."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@app.command()
def up(
    nodes: Annotated[
        int | None, typer.Option(min=1, max=1000, help="Virtual nodes; default: 4 for each CPU here, at most 16.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the day, the machines and the noise.")] = 1,
    speed: Annotated[float, typer.Option(min=1.0, max=5000.0, help="Virtual seconds per second.")] = 800.0,
    day: Annotated[Path | None, typer.Option(help="A day of your own (TOML or JSON, see examples/README.md).")] = None,
    length: Length = 24.0,
    out: Annotated[Path | None, typer.Option(help="Where journal, report and logs go.")] = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Of the embedded NATS server; 0: any.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print the outcome as JSON.")] = False,
    in_process: Annotated[bool, typer.Option("--in-process", help="All services on one loop, without NATS.")] = False,
    planner: Annotated[bool, typer.Option(help="The planner beside the other services.")] = True,
) -> None:
    """Live through a day on a cluster of virtual nodes, with every service running, and show what it came to."""
    from neap.console.shell.up import Ask, live_through  # noqa: PLC0415 (a quick `neap --help`)

    ask = Ask(
        nodes=nodes or min(PER_CPU * _cpus(), MOST_BY_DEFAULT),
        seed=seed,
        speed=speed,
        day=day,
        hours=length,
        out=out,
        port=port,
        as_json=as_json,
        in_process=in_process,
        planner=planner,
    )
    status = _run(live_through(ask))
    sys.exit(130 if status is None else status)


@app.command()
def node(
    name: Annotated[str, typer.Argument(help="A node of the cluster; empty: this machine.")] = "",
    output: Annotated[str, typer.Option("-o", "--output", help="text, tree, svg or json (of a machine)")] = "text",
    root: Annotated[Path, typer.Option(help="A directory or archive (.tar.xz) that stands for this machine.")] = Path(
        "/"
    ),
    nats: Nats = "",
) -> None:
    """A node: its pools, what it can give and why, how advice reaches it. Without a name this machine, read only."""
    from neap.console.shell.here import show_node  # noqa: PLC0415
    from neap.console.shell.node import show_cluster_node  # noqa: PLC0415

    typer.echo(_run(show_cluster_node(name, nats) if name else show_node(root, output=output)))


@app.command()
def agent(
    rooms: Annotated[str, typer.Option(help="Services to host, comma separated.")] = NODE_ROOMS,
    config: Annotated[Path | None, typer.Option(help="TOML file.")] = None,
    set_: Annotated[list[str] | None, typer.Option("--set", metavar="SECTION.KEY=VALUE")] = None,
) -> None:
    """Host any set of services in one process, on one event loop.

    Rooms of a node have a local bus of their own in front of NATS, and go on for a while when that is away
    (process.alone.*).
    """
    from neap.common.runtime.main import main as run_services  # noqa: PLC0415

    arguments = [part for pair in set_ or () for part in ("--set", pair)]
    run_services(
        *(name.strip() for name in rooms.split(",")), argv=[*(["--config", str(config)] if config else []), *arguments]
    )


@app.command()
def submit(file: Path, nats: Nats = "") -> None:
    """Submit the pods of a manifest (Pod, Deployment, StatefulSet, DaemonSet, Job, List)."""
    from neap.console.shell.here import submit_file  # noqa: PLC0415

    for line in _run(submit_file(file, nats)) or ():
        typer.echo(line)


@app.command()
def top(nats: Nats = "", once: Annotated[bool, typer.Option(help="One look, no screen.")] = False) -> None:
    """Nodes, live: busy cores, owners, guests, offer, stall."""
    from neap.console.shell.top import show_top  # noqa: PLC0415

    _run(show_top(nats, once=once))


@app.command()
def api(nats: Nats = "", output: Output = "text") -> None:
    """How the Kubernetes API fares: endpoints, rates, what is known of each kind, who leads. Status 1: ill."""
    from neap.console.core import apiview  # noqa: PLC0415
    from neap.console.shell.api import ask_api  # noqa: PLC0415

    state = asyncio.run(ask_api(nats))
    typer.echo(json.dumps(apiview.as_json(state), indent=2) if wants_json(output) else apiview.text(state))
    if not apiview.is_well(state):
        sys.exit(1)


@why_app.command("pod")
def why_pod(
    name: Annotated[str, typer.Argument(metavar="NAMESPACE/NAME")],
    nats: Nats = "",
    tree: Annotated[bool, typer.Option("--tree", help="Among the pods of its owner.")] = False,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="With the ranking of all who could have left.")
    ] = False,
    output: Output = "text",
    journal: Annotated[Path | None, typer.Option(help="Read a journal instead of the bus.")] = None,
) -> None:
    """Where a pod is and why, what would have to change; then what was done about it, by whom."""
    from neap.console.core import explained, story  # noqa: PLC0415
    from neap.console.shell.reading import read_trail  # noqa: PLC0415
    from neap.console.shell.schedule import explain_pod  # noqa: PLC0415

    namespace, slash, pod = name.partition("/")
    if not slash or not namespace or not pod:
        raise InputError(f"{name!r}: write NAMESPACE/NAME, such as shop/cart-1")
    found, source = asyncio.run(read_trail(namespace, "" if tree else pod, url=nats, journal=journal))
    mine = [entry for entry in found if entry.about.name == pod]
    now = asyncio.run(explain_pod(namespace, pod, nats)) if source == "bus" else None
    if wants_json(output):
        typer.echo(json.dumps(story.as_json(mine), indent=2))
    else:
        if now is not None and now.found:
            typer.echo(explained.text(now) + "\n")
        typer.echo(story.tree(pod, found) if tree and mine else story.tell(name, mine, verbose=verbose))
        if source != "bus":
            typer.echo(f"(read from {source})")
    if not mine:
        sys.exit(1)


@schedule_app.command("explain")
def schedule_explain(
    file: Path,
    nats: Nats = "",
    state: Annotated[Path | None, typer.Option(help="Ask a state saved by `neap schedule save`.")] = None,
    config: Annotated[Path | None, typer.Option(help="TOML file with the scheduler's settings, for --state.")] = None,
    output: Output = "text",
) -> None:
    """Where the pods of a manifest would go now, and why; nothing is placed. Status 0: all would run."""
    from neap.console.core import explained  # noqa: PLC0415
    from neap.console.shell.schedule import dry_run  # noqa: PLC0415

    told, where = asyncio.run(dry_run(file, nats, state, config))
    if wants_json(output):
        typer.echo(json.dumps(explained.as_json(told.answers), indent=2))
    else:
        typer.echo(explained.dry_run(told.answers, where))
    if any(answer.state != "fits" for answer in told.answers):
        sys.exit(1)


@schedule_app.command("save")
def schedule_save(file: Path, nats: Nats = "") -> None:
    """Save what the scheduler knows of the cluster now: nodes, offers, ledgers, use."""
    from neap.console.shell.schedule import save_state  # noqa: PLC0415

    typer.echo(asyncio.run(save_state(file, nats)))


@schedule_app.command("replay")
def schedule_replay(
    journal: Path,
    set_: Annotated[list[str] | None, typer.Option("--set", metavar="PLUGIN.weight=NUMBER|PLUGIN.KEY=VALUE")] = None,
    output: Output = "text",
) -> None:
    """Live a recorded life of the scheduler again: as it was, and with other settings; who would be elsewhere?"""
    from neap.console.shell.schedule import replay  # noqa: PLC0415

    typer.echo(asyncio.run(replay(journal, set_ or [], in_json=wants_json(output))))


@bus_app.command("tail")
def bus_tail(
    wanted: Annotated[
        str, typer.Argument(metavar="PATTERN", help="Such as 'neap.v1.trail.*' or 'neap-advice/*'.")
    ] = "*",
    nats: Nats = "",
    history: Annotated[bool, typer.Option(help="Begin with what is stored.")] = False,
) -> None:
    """Every message, decoded, as it comes."""
    from neap.console.shell.reading import open_bus  # noqa: PLC0415
    from neap.console.shell.tail import tail  # noqa: PLC0415

    async def work() -> None:
        async with open_bus(nats) as bus:
            await tail(bus, wanted, history=history, say=typer.echo)

    _run(work())


@config_app.command("explain")
def config_explain(
    sections: Annotated[list[str] | None, typer.Argument(help="Services; default: all.")] = None,
    config: Annotated[Path | None, typer.Option(help="TOML file.")] = None,
    output: Output = "text",
) -> None:
    """Every setting: value, where it comes from, what it means, what is allowed."""
    from neap.console.shell.here import explain_settings  # noqa: PLC0415

    typer.echo(explain_settings(sections or [], config, as_json=wants_json(output)))
