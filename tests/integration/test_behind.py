"""Rooms that are slower than what they hear, on a real server: they end up knowing what is true now."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Sequence

from neap.common.bus.nats import connect
from neap.common.bus.port import Bus
from neap.common.contract.catalogue import CHANNELS, HEADROOM, NODE_USAGE, STREAMS
from neap.common.host.memory import MemoryHost
from neap.common.model.advice import Headroom
from neap.common.model.usage import NodeUsage, overtakes
from neap.common.runtime.clock import wall_clock
from neap.common.runtime.inbox import Turns
from neap.common.runtime.machine import Arrived, Event, Instruction, Put
from neap.common.runtime.run import run_service
from neap.common.runtime.service import Outside, Service, on
from neap.common.telemetry.span import NoTracer
from neap.common.testing.natsd import NatsServer
from tests.conftest import SOON

NODES = [f"n{number}" for number in range(1, 21)]
REPORTS = 60  # of each
COST = 0.002  # seconds of a round
SOURCES = tuple(f"source-{number:04}" for number in range(1000))  # makes a report as large as a real one


class Slow:
    """Takes its time for every report, and says which one it was."""

    def __init__(self) -> None:
        self.handled: Counter[str] = Counter()
        self.last: dict[str, int] = {}

    def handle(self, event: Event) -> Sequence[Instruction]:
        if not (isinstance(event, Arrived) and isinstance(event.message, NodeUsage)):
            return ()
        report = event.message
        until = time.perf_counter() + COST
        while time.perf_counter() < until:
            pass
        self.handled[report.node] += 1
        self.last[report.node] = report.seq
        said = Headroom(at=report.at, source="probe", node=report.node, offer={"seq": report.seq}, arithmetic={})
        return (Put(HEADROOM.at(node=report.node), said),)

    def validate(self) -> None:
        """Nothing to check."""


async def test_rooms_that_are_behind_skip_to_the_newest_report_and_the_bus_hears_of_it() -> None:
    async with NatsServer() as server:
        rooms, reporters = await connect(server.url, name="rooms"), await connect(server.url, name="reporters")
        await rooms.ensure(STREAMS, CHANNELS)
        machine, stop, turns = Slow(), asyncio.Event(), Turns()
        outside = Outside(rooms, wall_clock(), MemoryHost(), NoTracer(), turns=turns)
        services = [
            Service("probe", node, machine, (on(NODE_USAGE.only(node=node), overtakes=overtakes),)) for node in NODES
        ]
        running = [
            asyncio.ensure_future(run_service(service, outside, stop=stop, count=lambda *_: None))
            for service in services
        ]
        async with asyncio.timeout(SOON):
            while len(machine.last) < len(NODES):  # until everybody listens
                await _report(reporters, seq=1)
                await asyncio.sleep(0.05)
            for seq in range(2, REPORTS + 2):
                await _report(reporters, seq=seq)
            for node in NODES:
                while await _heard_of(rooms, node) <= REPORTS:  # noqa: ASYNC110  what others do has no event
                    await asyncio.sleep(0.02)
        stop.set()
        await asyncio.gather(*running)
        await rooms.close()
        await reporters.close()
    assert set(machine.last.values()) == {REPORTS + 1}
    assert machine.handled.total() < len(NODES) * REPORTS / 2, f"{machine.handled.total()} rounds"


async def _report(bus: Bus, seq: int) -> None:
    for node in NODES:
        usage = NodeUsage(at=float(seq), source="reporter", node=node, seq=seq, period=1.0, unknown=SOURCES)
        await bus.publish(NODE_USAGE.at(node=node), usage)


async def _heard_of(bus: Bus, node: str) -> int:
    """Which report of a node the bus knows the answer to."""
    found = await bus.get(HEADROOM.at(node=node))
    return 0 if found is None else found.message.offer["seq"]
