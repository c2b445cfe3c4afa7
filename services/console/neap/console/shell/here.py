"""Commands about this machine and this installation: its topology, what is submitted, what is set."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Final

import msgspec

from neap.common.bus.memory import MemoryBroker
from neap.common.bus.port import Bus, Received
from neap.common.contract.catalogue import CHANNELS, NODE_USAGE, STREAMS, TOPOLOGY
from neap.common.errors import InputError, SettingsError
from neap.common.host.memory import MemoryHost
from neap.common.host.port import HostFs
from neap.common.host.real import RealHost
from neap.common.model.describe import describe_tree, describe_usage
from neap.common.model.topology import NodeTopology
from neap.common.model.usage import NodeUsage
from neap.common.runtime.clock import wall_clock, wall_seconds
from neap.common.runtime.launch import build_services, find_room
from neap.common.runtime.run import Running
from neap.common.runtime.service import Outside
from neap.common.runtime.settings import PROCESS, ProcessSettings, Sources, process_environment
from neap.common.telemetry.otel import make_tracer
from neap.common.telemetry.span import NoTracer
from neap.common.units import Seconds
from neap.console.core.picture import draw_machine
from neap.console.shell.reading import open_bus
from neap.console.shell.submitting import cluster_clock, read_workloads, submit
from neap.virtual.snapshot import load_snapshot

PATIENCE: Final[Seconds] = 10.0
REPORTS: Final = 2  # the first has no rates
NODE_OUTPUTS: Final = ("text", "tree", "svg", "json")


async def show_node(root: Path, *, output: str) -> str:
    """Run the reporter on a machine until it has said everything once.

    root: a directory that stands for /, or an archive of one (.tar.bz2, .tar.xz).
    output: "text" (topology and usage), "tree" (topology), "svg" (topology as a picture), or "json" (all of it).

    Raises:
        InputError: nothing could be read below `root`, or no such output.
    """
    if output not in NODE_OUTPUTS:
        raise InputError(f"-o {output}: choose one of {', '.join(NODE_OUTPUTS)}")
    topology, usage = await _look(_host(root), root)
    match output:
        case "tree":
            return describe_tree(topology)
        case "svg":
            return draw_machine(topology)
        case "json":
            return msgspec.json.format(msgspec.json.encode({"topology": topology, "usage": usage})).decode()
    return f"{describe_tree(topology)}\n\n{describe_usage(usage, topology)}"


def _host(root: Path) -> HostFs:
    if root.is_dir():
        return RealHost(str(root))
    if not root.is_file():
        raise InputError(f"--root {root}: no such directory or archive")
    return MemoryHost(shared=load_snapshot(root).tree)


async def _look(host: HostFs, root: Path) -> tuple[NodeTopology, NodeUsage]:
    broker, clock, room = MemoryBroker(), wall_clock(), find_room("reporter")
    bus, mine = broker.bus("reporter"), broker.bus("console")
    await bus.ensure(STREAMS, CHANNELS)
    outside = Outside(bus=bus, clock=clock, host=host, tracer=NoTracer())
    whole = {f"{room.name}.full_every": "1"}  # each report lists every container
    settings = {room.name: Sources(overrides=whole).load(room.settings, room.name)}
    [(service, _)] = build_services([room], settings, lambda *_: outside, nodes=["here"])
    stop = asyncio.Event()
    running = asyncio.ensure_future(Running(service, outside, count=lambda *_: None).run(stop))
    try:
        async with asyncio.timeout(PATIENCE):
            return await asyncio.gather(_topology(mine), _usage(mine))
    except TimeoutError:
        raise InputError(f"{root}: the reporter found no topology there within {PATIENCE:.0f} s") from None
    finally:
        stop.set()
        await running


async def _topology(bus: Bus) -> NodeTopology:
    async with bus.watch(TOPOLOGY.only()) as items:
        async for item in items:
            if isinstance(item, Received):
                return item.message
    raise InputError("the reporter ended")


async def _usage(bus: Bus) -> NodeUsage:
    """The first report with rates; where nothing moves, the second report is all there is."""
    reports = 0
    async with bus.subscribe(NODE_USAGE.only()) as items:
        async for item in items:
            if isinstance(item, Received):
                reports += 1
                if item.message.cpu is not None or reports >= REPORTS:
                    return item.message
    raise InputError("the reporter ended")


async def submit_file(file: Path, url: str) -> list[str]:
    """Submit what a manifest asks for; one line each.

    Raises:
        InputError: names file, place and what is wrong; nothing was submitted then.
    """
    workloads, passed = read_workloads(file, salt=f"{wall_seconds():.3f}")
    tracer = make_tracer("console", process_environment())
    async with open_bus(url) as bus:
        clock = await cluster_clock(bus)
        for workload in workloads:
            await submit(workload, bus, clock, tracer)
    await asyncio.to_thread(tracer.close)
    lines = [f"submitted {workload.key} ({workload.qos}), uid {workload.uid}" for workload in workloads]
    return lines + [f"passed through: {kind}" for kind in passed]


def explain_settings(sections: list[str], config: Path | None, *, as_json: bool) -> str:
    """Every setting of the named services.

    Raises:
        SettingsError: an unknown service, or a setting that does not hold.
    """
    sources = Sources(file=config, environment=process_environment(), overrides={})
    rows = []
    for name in sections or (PROCESS, *installed()):
        kind = ProcessSettings if name == PROCESS else find_room(name).settings
        rows += sources.explain(kind, name)
    if as_json:
        return json.dumps([msgspec.to_builtins(row) for row in rows], indent=2)
    lines = []
    for row in rows:
        lines.append(f"{row.key} = {row.value}   [{row.origin}]")
        lines.append(f"    {row.doc or '(no description)'}  (allowed: {row.allowed})")
    return "\n".join(lines)


def installed() -> list[str]:
    """The services that are installed here."""
    from neap.common.contract.catalogue import SERVICES  # noqa: PLC0415

    found = []
    for name in SERVICES:
        try:
            find_room(name)
        except SettingsError:
            continue
        found.append(name)
    return found
