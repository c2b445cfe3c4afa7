"""The commands that ask "what if": `neap sim`, `neap sim day`, `neap sim compare`, `neap assess`. Nothing is touched."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

import typer

from neap.console.options import Length

MACHINE_64: Final = "64amd64-4s2n4ca2co"  # of examples/machines: 64 CPUs, two NUMA nodes to a socket
sim_app = typer.Typer(invoke_without_command=True)


@sim_app.callback()
def sim(
    context: typer.Context,
    nodes: Annotated[int, typer.Option(min=1, max=1000, help="Virtual nodes.")] = 24,
    seed: Annotated[int, typer.Option(help="Of everything random.")] = 1,
    day: Annotated[Path | None, typer.Option(help="A day of your own.")] = None,
    length: Length = 24.0,
    policy: Annotated[
        str, typer.Option(help="As for `neap sim day`; --plain is another word for online-only.")
    ] = "neap",
    plain: Annotated[
        bool, typer.Option("--plain", help="Online services only, as Kubernetes alone runs them.")
    ] = False,
    journal: Annotated[
        Path | None, typer.Option(help="Write every stored message here; same seed, same bytes.")
    ] = None,
    record: Annotated[
        Path | None, typer.Option(help="Write what the scheduler heard and decided, for `neap schedule replay`.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """The same day in one process under virtual time, as fast as it goes; deterministic."""
    if context.invoked_subcommand is not None:
        return
    from neap.console.shell.simulated import simulate_day  # noqa: PLC0415

    simulate_day(
        nodes=nodes, seed=seed, day=day, hours=length, policy="online-only" if plain else policy, journal=journal,
        record=record, as_json=as_json,
    )  # fmt: skip


Nodes = Annotated[int, typer.Option(min=1, max=1000, help="Virtual nodes.")]
Seeds = Annotated[
    list[int] | None, typer.Option("--seed", help="Of everything random; several times for several days. Default: 1.")
]
Machine = Annotated[str, typer.Option(help="Every node is this machine of examples/machines; empty: all of them.")]
Online = Annotated[float, typer.Option(min=0.0, max=1.0, help="Day average of what owners use, of all CPUs.")]
Trace = Annotated[
    Path | None, typer.Option(help="A day of your own (TOML, JSON), or a folder like examples/ with your curves.")
]
Jobs = Annotated[int, typer.Option(min=1, max=64, help="Days lived through at once, a process each.")]
Out = Annotated[Path, typer.Option(help="Where report and figure go.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the report as JSON.")]


@sim_app.command("day")
def sim_day(
    policy: Annotated[
        list[str] | None,
        typer.Option(
            help="neap, neap+planner, peer, static, online-only, or NAME,SECTION.KEY=VALUE; several times."
            " Default: all but neap+planner."
        ),
    ] = None,
    nodes: Nodes = 100,
    seed: Seeds = None,
    length: Length = 24.0,
    machine: Machine = MACHINE_64,
    online: Online = 0.23,
    trace: Trace = None,
    jobs: Jobs = 1,
    out: Out = Path("build"),
    as_json: AsJson = False,
) -> None:
    """A day with an endless queue of guests under lending policies: utilisation and what owners paid for it."""
    from neap.console.shell.simulated import Ask, compare_policies  # noqa: PLC0415

    ask = Ask(
        policies=tuple(policy or ("neap", "peer", "static", "online-only")), nodes=nodes, seeds=tuple(seed or (1,)),
        hours=length, machine=machine, online=online, trace=trace, jobs=jobs, out=out,
    )  # fmt: skip
    compare_policies(ask, in_json=as_json)


@sim_app.command("compare")
def sim_compare(
    one: Annotated[str, typer.Argument(metavar="A", help="A policy, as for `neap sim day --policy`.")],
    other: Annotated[str, typer.Argument(metavar="B")],
    nodes: Nodes = 24,
    seed: Seeds = None,
    length: Length = 24.0,
    machine: Machine = MACHINE_64,
    online: Online = 0.23,
    trace: Trace = None,
    jobs: Jobs = 1,
    out: Out = Path("build"),
    as_json: AsJson = False,
) -> None:
    """Two policies on the same day, and what the second one changes."""
    from neap.console.shell.simulated import Ask, compare_policies  # noqa: PLC0415

    ask = Ask(
        policies=(one, other), nodes=nodes, seeds=tuple(seed or (1,)), hours=length, machine=machine, online=online,
        trace=trace, jobs=jobs, out=out,
    )  # fmt: skip
    compare_policies(ask, in_json=as_json, against=True)


def assess(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Usage export; see examples/README.md.")],
    strategy: Annotated[
        list[str] | None,
        typer.Option(help="Only this, in full: lend, sizes, overcommit, scaling, tide, forecast. Several times."),
    ] = None,
    cores: Annotated[
        int, typer.Option(min=0, max=4096, help="CPUs of a node whose capacity the export does not name.")
    ] = 0,
    policy: Annotated[list[str] | None, typer.Option(help="To lend by. Default: static, peer, neap.")] = None,
    period: Annotated[
        float, typer.Option(min=0.0, max=3600.0, help="Seconds between two reports of lending; 0: as the export.")
    ] = 0.0,
    nodes: Annotated[
        int, typer.Option(min=0, max=100_000, help="Nodes lending is replayed on; 0: as many as take 15 s.")
    ] = 0,
    days: Annotated[float, typer.Option(min=0.0, max=28.0, help="Newest days lending is replayed on; 0: two.")] = 0.0,
    output: Annotated[str, typer.Option("-o", "--output", help="text or json")] = "text",
    as_json: Annotated[bool, typer.Option("--json", help="The same as -o json.")] = False,
) -> None:
    """What each strategy would have given on your cluster, at what risk, from your own usage export. Touches nothing."""
    from neap.common.errors import InputError  # noqa: PLC0415
    from neap.console.core.strategies.lending import Ask  # noqa: PLC0415
    from neap.console.shell.assessing import assess_folder  # noqa: PLC0415

    if output not in ("text", "json"):
        raise InputError(f"-o {output}: text or json")
    policies = policy or ["static", "peer", "neap"]
    ask = Ask(cores=cores, policies=len(policies), nodes=nodes, days=days, period=max(period, 1.0) if period else 0.0)
    told = assess_folder(
        folder, ask=ask, policies=policies, strategies=strategy or [], in_json=as_json or output == "json"
    )
    typer.echo(told)
