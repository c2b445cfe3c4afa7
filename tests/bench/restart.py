"""A new planner on everything 100,000 services left on a real server, and lookups of profiles while it works.

Stored first: nodes and topologies, two events of each pod's life, ledgers, the pages of a history of two weeks, a profile
and a recommendation of every service. The planner is a process of its own; it is back when /readyz says that it has
read every stored channel to its end. Lookups are timed at the asker while nothing else comes, and while all nodes
report so that 20,000 samples arrive in a second.

    python -m tests.bench restart
"""

from __future__ import annotations

import asyncio
import sys
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from socket import create_server
from typing import Any, Final

import aiohttp

from neap.common.bus.nats import connect
from neap.common.bus.port import Bus, Stored
from neap.common.contract.catalogue import (
    CHANNELS,
    HISTORY,
    NODE_USAGE,
    NODES,
    PLACEMENTS,
    RECOMMENDATIONS,
    STREAMS,
    TOPOLOGY,
    WORKLOAD,
)
from neap.common.model.lifecycle import Started, Submitted
from neap.common.model.node import NodeObject
from neap.common.model.placement import Placed
from neap.common.model.recommendation import ContainerSize, Recommendation, Sum
from neap.common.model.topology import NodeTopology
from neap.common.runtime.clock import stopwatch, wall_seconds
from neap.common.testing.natsd import NatsServer
from neap.common.units import DAY, HOUR, MIB, MINUTE
from tests.bench import profiles
from tests.bench.history import NOW, PER_NODE, SERVICES, pages
from tests.bench.measure import Row
from tests.bench.planner_world import TEAMS, stored, told

ABREAST: Final = 128
RATE: Final = 20_000  # samples per second while lookups are timed
GOAL: Final = 30.0
SETTLE: Final = 5.0  # of reports, before lookups are timed


async def rows() -> AsyncIterator[Row]:
    """One server, one planner."""
    async with NatsServer() as server:
        bus = await connect(server.url, name="neap-bench")
        try:
            await bus.ensure(STREAMS, CHANNELS)
            began, count = stopwatch(), await _store(bus)
            sys.stderr.write(f"{count:,} messages stored in {stopwatch() - began:.0f} s\n")
        finally:
            await bus.close()
        async with _planner(server.url) as (port, pid):
            began = stopwatch()
            await _ready(port)
            yield Row(name="planner: back after a restart", value=stopwatch() - began, unit="s", at_most=GOAL,
                      note=f"{count:,} messages of {SERVICES:,} services read from a real server")  # fmt: skip
            yield Row(name="planner: memory then", value=profiles.resident(pid), unit="MiB", at_most=1.5 * 1024)
            async for row in profiles.lookups(server.url):
                yield row
            async with _reports(server.url):
                await asyncio.sleep(SETTLE)
                async for row in profiles.lookups(server.url, f", {RATE:,} samples/s folded"):
                    yield row
            yield Row(name="planner: memory at the end", value=profiles.resident(pid), unit="MiB")


# -- what there is ---------------------------------------------------------------------------------------------------------


async def _store(bus: Bus) -> int:
    """Everything a planner reads at its start; how many messages."""
    work: list[Callable[[], Awaitable[Any]]] = []
    ledgers: dict[str, list[Placed]] = defaultdict(list)
    for message in stored(SERVICES):
        match message:
            case NodeTopology(node=node):
                work.append(lambda node=node, message=message: bus.put(TOPOLOGY.at(node=node), message))
            case NodeObject(node=node):
                work.append(lambda node=node, message=message: bus.put(NODES.at(node=node), message))
            case Placed(node=node):
                ledgers[node].append(message)
            case Submitted(workload=one):
                key = WORKLOAD.at(namespace=one.namespace, name=one.name)
                work.append(lambda key=key, message=message: bus.emit(key, message, id=f"{message.workload.uid}.s"))
            case Started(uid=uid):
                work.append(lambda key=key, message=message, uid=uid: bus.emit(key, message, id=f"{uid}.r"))
    work += [lambda node=node, told=told: _append(bus, node, told) for node, told in ledgers.items()]
    work += [lambda page=page: bus.put(HISTORY.at(page=page.page), page) for page in pages()]
    work += [lambda number=number: _recommend(bus, number) for number in range(SERVICES)]
    await _abreast(work)
    await profiles.publish(bus, NOW)
    return len(work) - len(ledgers) + 2 * SERVICES


async def _append(bus: Bus, node: str, told: Iterable[Placed]) -> None:
    seen = 0
    for entry in told:
        stored = await bus.append(PLACEMENTS.at(node=node), entry, seen=seen, id=entry.placement.workload.uid)
        assert isinstance(stored, Stored)
        seen = stored.seq


async def _recommend(bus: Bus, number: int) -> None:
    namespace, name = f"team-{number % TEAMS}", f"service-{number}"
    sums = tuple(
        Sum(resource=kind, now=amount, target=amount * 6 // 10, confidence=0.93, memory=(1.0, 2.5, 0.25),
            arithmetic=f"{amount * 6 // 10} = {amount // 2} (p95 over 14 d) x 1.20, at least 10 by bound")
        for kind, amount in (("cpu", 1000), ("memory", 2048 * MIB))
    )  # fmt: skip
    advice = Recommendation(
        at=NOW, source="planner", namespace=namespace, kind="Deployment", name=name, version=f"{number:012x}", replicas=1,
        window=14 * DAY, containers=(ContainerSize(name="main", requests=sums),), saves={"cpu": 400},
    )  # fmt: skip
    await bus.put(RECOMMENDATIONS.at(namespace=namespace, kind="Deployment", name=name), advice)


async def _abreast(work: Iterable[Callable[[], Awaitable[Any]]]) -> None:
    waiting = iter(work)

    async def go() -> None:
        for each in waiting:
            await each()

    await asyncio.gather(*(go() for _ in range(ABREAST)))


# -- processes -------------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def _planner(url: str) -> AsyncIterator[tuple[int, int]]:
    """Its health port and its process."""
    with create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
    clock = f"process.clock=epoch={NOW + 2 * MINUTE},origin={wall_seconds()},speed=1"
    settings = (f"process.nats_url={url}", f"process.health_port={port}", clock)
    async with _child("-m", "neap.planner", *(part for each in settings for part in ("--set", each))) as pid:
        yield port, pid


@asynccontextmanager
async def _reports(url: str) -> AsyncIterator[None]:
    async with _child("-m", "tests.bench.restart", url):
        yield


@asynccontextmanager
async def _child(*arguments: str) -> AsyncIterator[int]:
    folder = Path(__file__).resolve().parents[2]
    child = await asyncio.create_subprocess_exec(
        sys.executable, *arguments, cwd=folder, stderr=asyncio.subprocess.DEVNULL
    )
    try:
        yield child.pid
    finally:
        with suppress(ProcessLookupError):
            child.terminate()
        await asyncio.wait_for(child.wait(), 60)


async def _ready(port: int) -> None:
    async with asyncio.timeout(180), aiohttp.ClientSession() as session:
        while True:
            with suppress(aiohttp.ClientError):
                async with session.get(f"http://127.0.0.1:{port}/readyz") as answer:
                    if answer.status == 200:
                        return
            await asyncio.sleep(0.1)


async def _tell(url: str) -> None:
    """Reports of all nodes in turns, RATE samples a second, until this process is ended."""
    bus, at, turn, began = await connect(url, name="neap-bench-reports"), NOW + HOUR, 0, stopwatch()
    while turn * PER_NODE < RATE * 600:
        node = turn % (SERVICES // PER_NODE)
        await bus.publish(NODE_USAGE.at(node=f"n{node}"), NODE_USAGE.decode(told(node, at + turn // 100, 1.0)))
        turn += 1
        await asyncio.sleep(max(0.0, turn * PER_NODE / RATE - (stopwatch() - began)))


if __name__ == "__main__":
    asyncio.run(_tell(sys.argv[1]))
