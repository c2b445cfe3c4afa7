"""Placements per second, end to end: from a workload's submission on a real NATS server to its entry on a node's ledger.

A scheduler runs as a process of its own with its default settings; this process submits and follows the ledger, on the
same cores. The clock runs from the first submission to the last placement heard here, so it covers the bus both ways,
the decision, the append with its answer, and the line of the trail that says why.

A restart is from the start of the process to its first answer: machines, the snapshots of all ledgers and, in the
second row, the submissions of everything that runs are read from the bus before that.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

from neap.common.bus.nats import connect
from neap.common.bus.port import Bus, Received
from neap.common.contract.catalogue import CHANNELS, EXPLAIN, PLACEMENTS, STREAMS, TOPOLOGY, WORKLOAD
from neap.common.errors import PortError
from neap.common.model.explanation import ExplainRequest
from neap.common.model.lifecycle import Submitted
from neap.common.model.placement import Checkpoint, Placed
from neap.common.model.qos import QosClass
from neap.common.model.resource import CPU, GPU_CORE, GPU_MEMORY, MEMORY
from neap.common.model.topology import Card, NodeTopology, Zone, ZoneKind
from neap.common.model.workload import Container, Workload
from neap.common.runtime.clock import stopwatch
from neap.common.testing.natsd import NatsServer
from neap.common.units import GIB
from neap.console.shell.stack import spawn
from tests.bench.measure import Row
from tests.bench.samples import a_placement, a_workload, uid

T = TypeVar("T")

ABREAST = 128  # of this process's words under way
LONGEST = 180.0  # seconds of any wait
PODS, NODES = 10_000, 2_000
SHARES, CARDS, CARD_NODES = 1_600, 8, 200
HELD, HOLDERS = 100_000, 10_000
PLACEMENTS_GOAL, SHARES_GOAL, RESTART_GOAL = 2_500.0, 5.0, 5.0


async def rows() -> AsyncIterator[Row]:
    async with a_bus() as (url, bus):
        await describe(bus, (a_node(n) for n in range(NODES)))
        async with a_scheduler(url, bus):
            seconds = await place(bus, [a_workload(n, cores=0.5 + n % 4 / 2) for n in range(PODS)])
    yield Row(name=f"placements over a real ledger, one scheduler, {NODES:,} nodes", value=PODS / seconds,
              unit="placements/s", at_least=PLACEMENTS_GOAL, note=f"{PODS:,} pods in {seconds:.1f} s")  # fmt: skip
    async with a_bus() as (url, bus):
        await describe(bus, (a_node(n, cards=CARDS) for n in range(CARD_NODES)))
        async with a_scheduler(url, bus):
            seconds = await place(bus, [a_share(n) for n in range(SHARES)])
    yield Row(name=f"{SHARES:,} GPU shares at once, {CARD_NODES} nodes x {CARDS} cards", value=seconds, unit="s",
              at_most=SHARES_GOAL)  # fmt: skip
    async with a_bus() as (url, bus):
        await describe(bus, (a_node(n) for n in range(HOLDERS)))
        await each(range(HOLDERS), lambda n: snapshot(bus, n))
        name = f"a scheduler's restart, {HOLDERS:,} nodes, {HELD:,} pods on their ledgers"
        yield Row(name=name, value=await restart(url, bus), unit="s", at_most=RESTART_GOAL,
                  note="from the start of the process to its first answer")  # fmt: skip
        await each(range(HELD), lambda n: submit(bus, a_workload(n)))
        yield Row(name="the same, with the submissions of all of them on the stream", value=await restart(url, bus),
                  unit="s")  # fmt: skip


async def place(bus: Bus, workloads: Sequence[Workload]) -> float:
    """Submit all; seconds until the last one is on a ledger."""
    missing, done = {workload.uid for workload in workloads}, asyncio.Event()

    async def listen() -> None:
        async with bus.follow(PLACEMENTS.only()) as entries:
            async for entry in entries:
                if isinstance(entry, Received) and isinstance(entry.message, Placed):
                    missing.discard(entry.message.placement.workload.uid)
                    if not missing:
                        done.set()

    listening = asyncio.ensure_future(listen())
    began = stopwatch()
    try:
        async with asyncio.timeout(LONGEST):
            await each(workloads, lambda one: submit(bus, one))
            await done.wait()
    except TimeoutError:
        raise RuntimeError(f"{len(missing)} of {len(workloads)} were not placed in {LONGEST:g} s") from None
    finally:
        listening.cancel()
    return stopwatch() - began


async def restart(url: str, bus: Bus) -> float:
    """Seconds until a new scheduler knows what is held by the last node of all."""
    last, began = a_workload(HELD - 1), stopwatch()
    async with a_scheduler(url, bus, until=last):
        return stopwatch() - began


@asynccontextmanager
async def a_bus() -> AsyncIterator[tuple[str, Bus]]:
    """An empty server."""
    async with NatsServer() as server:
        bus = await connect(server.url, name="neap-bench")
        try:
            await bus.ensure(STREAMS, CHANNELS)
            yield server.url, bus
        finally:
            await bus.close()


@asynccontextmanager
async def a_scheduler(url: str, bus: Bus, *, until: Workload | None = None) -> AsyncIterator[None]:
    """A process that has read everything: it answers, about this workload that it is placed."""
    asked = ExplainRequest(namespace=until.namespace if until else "shop", name=until.name if until else "nobody")
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "neap.scheduler", "--set", f"process.nats_url={url}"]
        process = await spawn(command, log=Path(folder) / "log")
        try:
            async with asyncio.timeout(LONGEST):
                while (await answer(bus, asked)) != ("placed" if until else "unknown"):
                    if process.returncode is not None:
                        raise RuntimeError((Path(folder) / "log").read_text()[-2000:])
                    await asyncio.sleep(0.02)
            yield
        finally:
            if process.returncode is None:
                process.terminate()
            async with asyncio.timeout(LONGEST):
                await process.wait()


async def answer(bus: Bus, asked: ExplainRequest) -> str:
    """What the scheduler says of a workload; empty while it says nothing."""
    with suppress(PortError):
        return (await bus.request(EXPLAIN, asked, timeout=1.0)).state
    return ""


async def each(things: Iterable[T], do: Callable[[T], Coroutine[Any, Any, Any]]) -> None:
    """Do it to all of them, some at once."""
    waiting = iter(things)

    async def some() -> None:
        for thing in waiting:
            await do(thing)

    async with asyncio.TaskGroup() as group:
        for _ in range(ABREAST):
            group.create_task(some())


async def describe(bus: Bus, nodes: Iterable[NodeTopology]) -> None:
    """The machines there are."""
    await each(nodes, lambda node: bus.put(TOPOLOGY.at(node=node.node), node))


async def submit(bus: Bus, workload: Workload) -> None:
    """Somebody wants this to run."""
    to = WORKLOAD.at(namespace=workload.namespace, name=workload.name)
    await bus.emit(to, Submitted(at=0.0, source="bench", workload=workload), id=f"{workload.uid}.1.submitted")


async def snapshot(bus: Bus, node: int) -> None:
    """A node's whole ledger in one entry."""
    count = HELD // HOLDERS
    placements = tuple(a_placement(a_workload(node * count + n, cores=0.5 + n % 4 / 2)) for n in range(count))
    entry = Checkpoint(at=1.0, source="scheduler", node=f"n{node}", placements=placements)
    await bus.append(PLACEMENTS.at(node=entry.node), entry, seen=0, id=f"{entry.node}.0.checkpoint")


def a_node(number: int, *, cards: int = 0) -> NodeTopology:
    """64 cores and 256 GiB."""
    amounts = {CPU: 64_000, MEMORY: 256 * GIB}
    return NodeTopology(
        at=0.0, source="reporter", node=f"n{number}", machine=Zone(kind=ZoneKind.MACHINE, index=0), numa=(),
        cards=tuple(Card(index=i, uuid=f"GPU-{number}-{i}", model="A10", memory_mib=24_000) for i in range(cards)),
        capacity=amounts, allocatable=amounts,
    )  # fmt: skip


def a_share(number: int) -> Workload:
    """A part of a card, or a whole one; five sizes, which together take about half of all cards."""
    core = (10, 25, 40, 60, 100)[number % 5]
    memory = {} if core == 100 else {GPU_MEMORY: 200 * core}
    requests = {CPU: 4_000, MEMORY: 8 * GIB, GPU_CORE: core} | memory
    containers = (Container(name="main", requests=requests),)
    return Workload(uid=uid(number), namespace="ml", name=f"share-{number}", qos=QosClass.SHARED, containers=containers)
